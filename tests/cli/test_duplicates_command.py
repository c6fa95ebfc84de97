"""``embedkit duplicates``, on complete versions."""

import json

import pytest
from blocks import make_block, make_options, small_job
from calling import call
from near_rows import read_groups

from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version

EQUAL = {frozenset({f"doc-{block}-0", f"doc-{block}-1"}) for block in ("0-0", "0-1", "2-0")}


@pytest.fixture
def version(tmp_path):
    version = Version(str(tmp_path / "root"), "v1")
    job = small_job()
    job.options = make_options(store_text=True)
    job.complete(version)
    return version


def test_the_newest_version_of_a_root(version):
    answer = call("duplicates", version.root, "--json")
    assert answer.code == 0
    said = answer.json
    assert said["version"] == "v1"
    assert (said["groups"], said["rows"], said["removable"], said["equal_texts"]) == (3, 6, 3, 3)
    assert said["share"] == 3 / 12
    assert (said["recall"], said["exact"]) == (1.0, True)
    assert said["largest"][0]["shown"][0]["text"] == "text 0 0 1 ü"
    assert said["file"] == f"{version.url}/report/near_duplicates.arrow"
    assert read_groups(version) == EQUAL
    assert [one for one in validate(version).problems if "near" in one] == []


def test_a_version_by_its_name_with_a_threshold_and_for_a_person(version):
    answer = call(
        "duplicates", version.root, "--version", "v1", "--threshold", "0.5", "--no-report-text"
    )
    assert "rows that could go" in answer.out
    assert "threshold               0.5" in answer.out
    assert "rows, such as" in answer.out
    assert "text 0" not in answer.out
    figures = json.loads(version.store.read(version.key("report/near_duplicates.json")))
    assert figures["threshold"] == 0.5
    assert b"text 0" not in version.store.read(version.key("report/near_duplicates.json"))


def test_no_texts_are_put_beside_a_report_without_texts(version):
    version.store.replace(version.key("report/report.json"), b'{"texts": false}')
    assert "text 0" not in call("duplicates", version.root).out
    assert b"text 0" not in version.store.read(version.key("report/near_duplicates.json"))


@pytest.mark.parametrize("threshold", ["0", "-1", "1.5", "nan"])
def test_a_threshold_that_is_no_cosine(version, threshold):
    answer = call("duplicates", version.root, "--threshold", threshold)
    assert answer.code == 2
    assert "no cosine above 0, and at most 1" in answer.error


def test_a_version_that_is_not_complete_or_not_there(version):
    unfinished = version.sibling("v2")
    job = small_job()
    job.write(unfinished)
    answer = call("duplicates", version.root, "--version", "v2")
    assert (answer.code, "not complete" in answer.error) == (2, True)
    assert call("duplicates", version.root, "--version", "v3").code == 2


def test_a_damaged_part_is_named(version):
    key = version.part_key(make_block(2, 0).block_id)
    version.store.replace(key, b"PAR1")
    answer = call("duplicates", version.root)
    assert answer.code == 4
    assert "part-00002-00000.parquet" in answer.error
