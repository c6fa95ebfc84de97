"""The calibration of a version: made once, the same bits for all, restored from the parts."""

import json

import numpy as np
import pytest
from blocks import DESCRIPTION, Job, build_block, in_codes, make_options

from embedkit.dataset.calibration import (
    StandingCalibration,
    check_calibration,
    create_calibration,
    described_calibration,
    read_calibration,
    restore_calibration,
    take_calibration,
)
from embedkit.dataset.committed import committed
from embedkit.dataset.finalize import Totals
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import sha256
from embedkit.quantization import Calibration, StoredAs

VECTORS = np.random.default_rng(3).normal(size=(150, 8)).astype(np.float32)
HOW = StoredAs("int8", 8, Calibration.of(VECTORS))


def ranges(calibration):
    return calibration.rows, calibration.ranges.low.tobytes(), calibration.ranges.high.tobytes()


@pytest.fixture
def version(tmp_path):
    return Version(str(tmp_path), "v1")


def test_the_first_calibration_stays_and_is_read_bit_for_bit(version):
    assert read_calibration(version) is None
    create_calibration(version, HOW.calibration)
    create_calibration(version, Calibration.of(2 * VECTORS))
    assert ranges(read_calibration(version)) == ranges(HOW.calibration)
    standing = StandingCalibration(version)
    assert ranges(standing()) == ranges(HOW.calibration)
    assert standing() is standing()


def test_whoever_knows_the_formula_gets_the_vectors_from_the_file(version):
    create_calibration(version, HOW.calibration)
    said = json.loads(version.store.read(version.calibration_key))
    low, high = (np.array(said[name], np.float32) for name in ("low", "high"))
    codes = HOW.stored(VECTORS)
    found = low + (codes + np.float32(128.5)) * ((high - low) / np.float32(255))
    np.testing.assert_array_equal(found.astype(np.float32), HOW.floats(codes))


def code_block(vectors, how=HOW, **changes):
    texts = [f"text {changes} {n}" for n in range(len(vectors))]
    return in_codes(build_block(texts, vectors, **changes), how)


def test_a_calibration_that_is_gone_is_restored_from_a_part(version):
    create_calibration(version, HOW.calibration)
    before = version.store.read(version.calibration_key)
    version.store.remove(version.calibration_key)
    assert not restore_calibration(version)
    Job([code_block(VECTORS[:5])], make_options(vector_dtype="int8")).write(version)
    assert restore_calibration(version)
    assert version.store.read(version.calibration_key) == before


def test_what_is_damaged_is_refused_with_its_name(version):
    with pytest.raises(IntegrityError, match=r"calibration\.json: gone"):
        StandingCalibration(version)()
    create_calibration(version, HOW.calibration)
    data = version.store.read(version.calibration_key)
    said = json.loads(data)
    for changed in (
        b"{",
        data.replace(b'"rows": 150', b'"rows": 151'),
        json.dumps({"dimension": 8, "rows": 1, "low": said["low"], "high": [1.0]}).encode(),
    ):
        version.store.replace(version.calibration_key, changed)
        with pytest.raises(IntegrityError, match=r"calibration\.json: not the calibration"):
            read_calibration(version)


def test_a_calibration_is_taken_over_unless_there_is_one(version, tmp_path):
    earlier, other = Version(str(tmp_path), "v0"), Version(str(tmp_path), "v2")
    assert "is gone" in take_calibration(version, earlier)
    create_calibration(earlier, HOW.calibration)
    assert take_calibration(version, earlier) is None
    assert take_calibration(version, earlier) is None
    assert ranges(read_calibration(version)) == ranges(HOW.calibration)
    create_calibration(other, Calibration.of(2 * VECTORS))
    assert "another calibration" in take_calibration(other, earlier)
    assert ranges(read_calibration(other)) == ranges(Calibration.of(2 * VECTORS))


def test_the_calibration_of_an_earlier_version_is_in_its_parts_as_well(version, tmp_path):
    earlier = Version(str(tmp_path), "v0")
    create_calibration(earlier, HOW.calibration)
    Job([code_block(VECTORS[:5])], make_options(vector_dtype="int8")).write(earlier)
    earlier.store.remove(earlier.calibration_key)
    assert take_calibration(version, earlier) is None
    assert ranges(read_calibration(version)) == ranges(HOW.calibration)


def test_a_calibration_that_is_not_of_the_codes_is_refused(version):
    create_calibration(version, HOW.calibration)
    Job([code_block(VECTORS[:5])], make_options(vector_dtype="int8")).write(version)
    parts = Totals.of(tuple(committed(version).values())).parts
    check_calibration(version, parts)
    check_calibration(version, ())
    version.store.remove(version.calibration_key)
    create_calibration(version, Calibration.of(2 * VECTORS))
    with pytest.raises(IntegrityError, match=r"calibration\.json: not what the codes of data/part"):
        check_calibration(version, parts)


@pytest.mark.parametrize("rows", [0, 1, 99])
def test_a_calibration_of_few_vectors_is_good_for_no_other_version(version, tmp_path, rows):
    earlier = Version(str(tmp_path), "v0")
    create_calibration(earlier, Calibration.of(VECTORS[:rows]))
    assert f"with {rows} of at least 100 vectors" in take_calibration(version, earlier)
    assert read_calibration(version) is None


def test_the_manifest_names_the_file_and_its_checksum(version):
    create_calibration(version, HOW.calibration)
    said = described_calibration(version)
    assert said["rows"] == 150 and said["file"] == "_meta/calibration.json"
    assert said["sha256"] == sha256(version.store.read(version.calibration_key))


def test_parts_of_different_calibrations_are_found_wrong(version):
    other = StoredAs("int8", 8, Calibration.of(2 * VECTORS))
    blocks = [
        code_block(VECTORS[:5], split=0),
        code_block(VECTORS[5:9], other, split=1),
    ]
    described = DESCRIPTION | {"vector_dtype": "int8"}
    Job(blocks, make_options(vector_dtype="int8"), described).seal(version)
    problems = "\n".join(map(str, validate(version).problems))
    assert "part-00001-00000" in problems and "its columns are not those" in problems


def test_an_attempt_with_another_calibration_is_refused(version):
    other = StoredAs("int8", 8, Calibration.of(2 * VECTORS))
    Job([code_block(VECTORS[:5])], make_options(vector_dtype="int8")).write(version)
    version.store.remove(version.commit_key("00000-00000"))
    with pytest.raises(IntegrityError, match="the calibration of its codes differs"):
        Job([code_block(VECTORS[:5], other)], make_options(vector_dtype="int8")).write(version)
