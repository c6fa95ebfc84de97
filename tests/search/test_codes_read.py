"""Whoever reads vectors of a version gets floats, however they are stored."""

import numpy as np
import pytest
from blocks import DESCRIPTION, Job, build_block, in_codes, make_options

from embedkit.config import EvaluationConfig
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.flow.diff import diff_versions
from embedkit.flow.examine import examine_rows
from embedkit.flow.near_duplicates import find_near_duplicates
from embedkit.quantization import Calibration, StoredAs
from embedkit.search.evaluate.evaluate import evaluate_version
from embedkit.search.export.export import export_version
from embedkit.search.export.source import Source
from embedkit.search.reader import open_version
from embedkit.vectors import stored_as, stored_of, vectors_of

VECTORS = np.random.default_rng(6).normal(size=(60, 8)).astype(np.float32)
VECTORS[50:] = VECTORS[:10]


def stored(dtype, vectors=VECTORS):
    return StoredAs(dtype, 8, None if dtype == "binary" else Calibration.of(vectors))


def write(root, how, name="v1"):
    """Writes a version of two parts."""
    version = Version(str(root), name)
    texts = [f"text {n % 50}" for n in range(60)]
    ids = [f"row-{n}" for n in range(60)]
    blocks = [
        in_codes(build_block(texts[:40], VECTORS[:40], ids=ids[:40], split=0), how),
        in_codes(build_block(texts[40:], VECTORS[40:], ids=ids[40:], split=1), how),
    ]
    described = DESCRIPTION | {"vector_dtype": how.dtype}
    Job(blocks, make_options(vector_dtype=how.dtype), described).complete(version)
    return version


@pytest.mark.parametrize("dtype", ["int8", "uint8", "binary"])
def test_readers_get_what_the_codes_stand_for(tmp_path, dtype):
    how = stored(dtype)
    version = write(tmp_path, how)
    expected = how.floats(how.stored(VECTORS))
    np.testing.assert_array_equal(open_version(version.url).vectors()[1], expected)
    source = Source.of(version)
    batches = list(source.batches(["source"]))
    np.testing.assert_array_equal(np.concatenate([one.vectors for one in batches]), expected)
    assert source.dtype == np.float32
    assert source.schema.field("embedding") == batches[0].columns.schema.field("embedding")
    parts = read_manifest(version).parts
    examined = examine_rows(version, parts)
    np.testing.assert_array_equal(examined.moments.low, expected.min(axis=0))
    near = find_near_duplicates(version, parts, "0.999")
    assert near.equal_texts == 10
    rows = list(open_version(version.url).to_batches(["embedding"]))
    assert stored_of(rows[0]).values.dtype == how.number
    assert stored_as(rows[0].schema).is_as(how)


def test_an_export_has_the_floats(tmp_path):
    how = stored("int8")
    version = write(tmp_path / "root", how)
    export_version(version.url, "npy", tmp_path / "out")
    found = np.load(next((tmp_path / "out").rglob("*vectors*.npy")))
    np.testing.assert_array_equal(found, how.floats(how.stored(VECTORS)))


def test_codes_of_other_ranges_are_other_vectors(tmp_path):
    one, same, other = (
        write(tmp_path, how, name)
        for name, how in (
            ("a", stored("int8")), ("b", stored("int8")), ("c", stored("int8", 2 * VECTORS))
        )
    )  # fmt: skip
    assert diff_versions(one.url, same.url).re_encoded == 0
    assert diff_versions(one.url, other.url).re_encoded == 60


def test_what_codes_are_compared_with_is_gone(tmp_path):
    version = write(tmp_path, stored("int8"))
    with pytest.raises(ConfigError, match="storage: v1 stores int8, and not the floats"):
        evaluate_version(version.url, EvaluationConfig(storage=True))


def test_codes_without_their_metadata_are_refused(tmp_path):
    rows = next(open_version(write(tmp_path, stored("int8")).url).to_batches())
    bare = rows.replace_schema_metadata(None)
    place = bare.schema.get_field_index("embedding")
    field = bare.schema.field(place).remove_metadata()
    bare = bare.set_column(place, field, bare.column(place))
    with pytest.raises(IntegrityError, match="its metadata does not say of what"):
        vectors_of(bare)
    damaged = stored("int8").to_metadata() | {b"embedkit.low": b"***"}
    bare = bare.set_column(place, field.with_metadata(damaged), bare.column(place))
    with pytest.raises(IntegrityError, match="the metadata of column 'embedding' is damaged"):
        vectors_of(bare)
    wide = StoredAs("binary", 24).to_metadata()
    bare = bare.set_column(place, field.with_metadata(wide), bare.column(place))
    with pytest.raises(IntegrityError, match="8 codes of each, but the column's metadata says 3"):
        vectors_of(bare)
