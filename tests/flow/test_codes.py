"""Codes of blocks: made of new rows, taken over of others, and what they cost."""

import numpy as np
import pytest

from embedkit.errors import ConfigError, IntegrityError
from embedkit.flow.codes import codes_of, floats_of, how_stored, loss_of
from embedkit.flow.earlier_rows import Taken
from embedkit.formats.storage_loss import StorageLoss
from embedkit.quantization import QUANTIZED, Calibration, StoredAs
from embedkit.vectors import Vectors

RANDOM = np.random.default_rng(4)
VECTORS = RANDOM.normal(size=(3000, 16)).astype(np.float32)
VECTORS[1000:] *= 1.3
SAMPLE = VECTORS[:1000]


def how(dtype):
    return StoredAs(dtype, 16, None if dtype == "binary" else Calibration.of(SAMPLE))


def measured(vectors, stored):
    return loss_of(vectors, stored.stored(vectors), stored)


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


@pytest.mark.parametrize("dtype", QUANTIZED)
def test_the_loss_is_what_brute_force_finds(dtype):
    stored = how(dtype)
    codes, loss = codes_of(Vectors.from_matrix(VECTORS), stored, None, None)
    np.testing.assert_array_equal(codes.matrix, stored.stored(VECTORS))
    expected = cosines(VECTORS, stored.floats(stored.stored(VECTORS)))
    assert (loss.rows, loss.components, loss.directed) == (3000, 48000, 3000)
    assert loss.mean_cosine == pytest.approx(expected.mean(), abs=1e-12)
    assert loss.least_cosine == pytest.approx(expected.min(), abs=1e-12)
    # Exact however rows are grouped into blocks.
    cuts = [1, 700, 701, 2049]
    split = zip(np.split(VECTORS, cuts), np.split(codes.matrix, cuts), strict=True)
    pieces = [loss_of(piece, theirs, stored) for piece, theirs in split]
    assert sum(pieces[::-1], StorageLoss()) == loss
    low, high = SAMPLE.min(axis=0), SAMPLE.max(axis=0)
    more = 0.2 * (high - low)
    half = 1.4 * (high - low) / 510
    outside = (VECTORS < low - more - half) | (VECTORS > high + more + half)
    assert loss.clipped == (0 if dtype == "binary" else outside.sum())
    assert dtype == "binary" or 0 < loss.clipped < 300


def test_a_vector_without_direction_has_no_cosine():
    zeros = np.zeros((2, 16), np.float32)
    loss = measured(np.concatenate([zeros, VECTORS[:1]]), how("binary"))
    assert (loss.rows, loss.directed) == (3, 1)
    assert (measured(zeros, how("binary")).mean_cosine, StorageLoss().mean_cosine) == (None, None)
    assert measured(zeros[:0], how("int8")).rows == 0


@pytest.mark.parametrize("kept", [None, np.arange(10) % 3 != 1], ids=["all", "some"])
def test_codes_that_were_taken_over_stand_bit_for_bit_and_are_not_counted(kept):
    stored = how("int8")
    # Codes that no vector of this run has, in two pieces.
    marks = RANDOM.integers(-128, 128, size=(5, 16)).astype(np.int8)
    pieces = [
        (np.array([1, 4, 8]), Vectors.from_matrix(marks[:3])),
        (np.array([0, 9]), Vectors.from_matrix(marks[3:])),
    ]
    nobody = np.zeros(10, np.bool_)
    taken = Taken(pieces, nobody, nobody)
    in_floats = floats_of(taken, stored)
    found = VECTORS[:10].copy()
    for rows, vectors in in_floats.pieces:
        np.testing.assert_array_equal(stored.stored(vectors.matrix), dict(_pairs(pieces))[rows[0]])
        found[rows] = vectors.matrix
    mask = np.ones(10, np.bool_) if kept is None else kept
    codes, loss = codes_of(Vectors.from_matrix(found[mask]), stored, taken, kept)
    expected = stored.stored(found)
    expected[[1, 4, 8, 0, 9]] = marks
    np.testing.assert_array_equal(codes.matrix, expected[mask])
    assert loss.rows == np.count_nonzero(mask & ~np.isin(np.arange(10), [1, 4, 8, 0, 9]))


def _pairs(pieces):
    return [(int(rows[0]), vectors.matrix) for rows, vectors in pieces]


def test_codes_need_a_calibration_with_vectors():
    with pytest.raises(ConfigError, match="vector_dtype: int8 needs the calibration"):
        how_stored("int8", 16, None)
    with pytest.raises(IntegrityError, match="ranges of 16 components, but vectors have 8"):
        how_stored("int8", 8, lambda: Calibration.of(SAMPLE))
    nothing = StoredAs("int8", 16, Calibration.of(VECTORS[:0]))
    with pytest.raises(ConfigError, match="cannot be calibrated"):
        codes_of(Vectors.from_matrix(VECTORS), nothing, None, None)
    codes, _ = codes_of(Vectors.from_matrix(VECTORS[:0]), nothing, None, None)
    assert len(codes) == 0
