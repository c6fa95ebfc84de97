"""Codes of few bytes against sentence-transformers' own, and their errors against their bounds."""

import base64

import faiss
import numpy as np
import pytest
from sentence_transformers.util.quantization import quantize_embeddings

from embedkit.quantization import (
    QUANTIZED,
    Calibration,
    Ranges,
    StoredAs,
    bytes_of_bits,
    from_bits,
    from_int8,
    from_uint8,
    to_bits,
    to_int8,
    to_uint8,
)

RANDOM = np.random.default_rng(2)
CALIBRATION = RANDOM.normal(size=(500, 37)).astype(np.float32)
OTHERS = (1.5 * RANDOM.normal(size=(200, 37))).astype(np.float32)


def ranges() -> Ranges:
    return Ranges.of(CALIBRATION)


@pytest.mark.parametrize("vectors", [CALIBRATION, OTHERS], ids=["calibration", "others"])
@pytest.mark.parametrize(("precision", "codes"), [("uint8", to_uint8), ("int8", to_int8)])
def test_codes_are_sentence_transformers_own(vectors, precision, codes):
    both = np.stack([CALIBRATION.min(axis=0), CALIBRATION.max(axis=0)])
    expected = quantize_embeddings(vectors, precision=precision, ranges=both)
    found = codes(vectors, ranges())
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_codes_are_faiss_s_own_and_read_back_alike():
    quantizer = faiss.ScalarQuantizer(37, faiss.ScalarQuantizer.QT_8bit)
    quantizer.train(CALIBRATION)
    expected = quantizer.compute_codes(OTHERS)
    found = to_uint8(OTHERS, ranges())
    # It multiplies where others divide: a value at the edge of a step may fall to its other side.
    apart = np.abs(found.astype(int) - expected.astype(int))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.001
    np.testing.assert_allclose(
        from_uint8(expected, ranges()), quantizer.decode(expected), rtol=0, atol=1e-6
    )


def test_bits_are_sentence_transformers_own():
    vectors = np.where(np.abs(OTHERS) < 0.1, 0, OTHERS)
    found = to_bits(vectors)
    np.testing.assert_array_equal(found, quantize_embeddings(vectors, precision="ubinary"))
    assert found.shape == (200, bytes_of_bits(37)) == (200, 5)
    np.testing.assert_array_equal(from_bits(found, 37), np.where(vectors > 0, 1, -1))


@pytest.mark.parametrize(
    ("codes", "back"), [(to_uint8, from_uint8), (to_int8, from_int8)], ids=["uint8", "int8"]
)
def test_what_is_read_back_is_half_a_step_off_at_most(codes, back):
    error = np.abs(back(codes(CALIBRATION, ranges()), ranges()) - CALIBRATION)
    assert (error <= ranges().steps * 0.5001).all()
    # No code is wasted: nearly the whole half step occurs.
    assert (error.max(axis=0) > ranges().steps * 0.45).all()
    outside = ranges().clipped(OTHERS)
    assert 0 < outside.sum() < outside.size
    error = np.abs(back(codes(OTHERS, ranges()), ranges()) - OTHERS)
    assert (error[~outside] <= (np.ones_like(OTHERS) * ranges().steps * 0.5001)[~outside]).all()
    assert not ranges().clipped(CALIBRATION).any()


def test_a_constant_component_comes_back_as_it_was():
    vectors = CALIBRATION.copy()
    vectors[:, 3] = np.float32(0.7)
    constant = Ranges.of(vectors)
    back = from_int8(to_int8(vectors, constant), constant)[:, 3]
    np.testing.assert_array_equal(back, np.float32(0.7))


def test_ranges_of_parts_are_those_of_the_whole():
    pieces = [Ranges.of(piece) for piece in np.array_split(CALIBRATION, 7)]
    for order in (pieces, pieces[::-1]):
        total = order[0]
        for piece in order[1:]:
            total += piece
        np.testing.assert_array_equal(total.low, CALIBRATION.min(axis=0))
        np.testing.assert_array_equal(total.high, CALIBRATION.max(axis=0))


def stored_as(dtype: str) -> StoredAs:
    calibration = None if dtype == "binary" else Calibration.of(CALIBRATION)
    return StoredAs(dtype, 37, calibration)


@pytest.mark.parametrize("dtype", QUANTIZED)
def test_what_a_column_s_metadata_says_makes_the_same_floats(dtype):
    how = stored_as(dtype)
    codes = how.stored(OTHERS)
    assert (codes.dtype, codes.shape) == (how.number, (200, how.width))
    back = StoredAs.of_metadata({b"other": b"things", **how.to_metadata()})
    assert back is not None and back.is_as(how)
    np.testing.assert_array_equal(back.floats(codes), how.floats(codes))
    # Read back and stored again, codes are the same.
    np.testing.assert_array_equal(how.stored(how.floats(codes)), codes)


def test_codes_of_other_ranges_are_not_the_same():
    others = StoredAs("int8", 37, Calibration.of(OTHERS))
    assert not others.is_as(stored_as("int8"))
    assert not stored_as("uint8").is_as(stored_as("int8"))
    assert StoredAs("float32", 8).is_as(StoredAs("float32", 8))
    assert not StoredAs("float32", 8).is_as(StoredAs("float16", 8))


def test_bits_stand_for_vectors_of_length_1():
    back = stored_as("binary").floats(stored_as("binary").stored(OTHERS))
    np.testing.assert_array_equal(np.sign(back), np.where(OTHERS > 0, 1, -1))
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, rtol=1e-6)


def test_floats_are_stored_as_they_are():
    assert StoredAs("float32", 37).stored(OTHERS) is OTHERS
    assert StoredAs("float32", 37).to_metadata() == {}
    assert StoredAs.of_metadata({b"other": b"things"}) is None
    assert StoredAs("float16", 1).stored(np.array([[1e6]], np.float32)) == np.inf


def test_a_component_is_clipped_that_lies_farther_outside_than_half_a_step():
    ranges = Ranges(np.zeros(2, np.float32), np.full(2, 255, np.float32))
    how = StoredAs("int8", 2, Calibration(ranges, 9))
    vectors = np.array([[-0.4, 255.4], [-0.6, 255.6], [3, 300]], np.float32)
    assert how.clipped(vectors) == 3
    assert StoredAs("binary", 2).clipped(vectors) == 0


def test_a_calibration_reaches_a_fifth_farther_than_its_sample():
    assert Calibration.of(CALIBRATION[:0]).rows == 0
    found = Calibration.of(CALIBRATION)
    low, high = CALIBRATION.min(axis=0), CALIBRATION.max(axis=0)
    assert found.rows == 500
    np.testing.assert_allclose(found.ranges.low, low - 0.2 * (high - low), rtol=1e-5)
    np.testing.assert_allclose(found.ranges.high, high + 0.2 * (high - low), rtol=1e-5)
    # What others of the same kind have outside of it costs less than what a wider step does.
    outside = Ranges(low, high).clipped(OTHERS / 1.5).mean()
    assert found.ranges.clipped(OTHERS / 1.5).mean() < outside / 10


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("vector_dtype", b"int4", "stored as"),
        ("dimension", b"38", "38 components"),
        ("dimension", b"many", "many"),
        ("low", b"AAAA", "cut short"),
        ("low", b"****", "base64"),
        ("high", base64.b64encode(np.full(37, np.inf, "<f4").tobytes()), "not finite"),
        ("low", None, "no embedkit.low"),
    ],
)
def test_damaged_metadata_is_refused(name, value, said):
    metadata = stored_as("int8").to_metadata()
    metadata[f"embedkit.{name}".encode()] = value
    if value is None:
        del metadata[f"embedkit.{name}".encode()]
    with pytest.raises(ValueError, match=said):
        StoredAs.of_metadata(metadata)
