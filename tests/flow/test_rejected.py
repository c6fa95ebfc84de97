"""What a version could not embed: by reason, and where each record stands."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from blocks import Job, make_block, small_job
from calling import call
from releases import FIXTURES, copy_of_root, releases, version_of

from embedkit.dataset.local_store import LocalStore
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.flow.rejected import list_rejects
from embedkit.records import Reject

pytestmark = pytest.mark.usefixtures("logging_restored")


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return Version(str(tmp_path / "root"), "v1")


def lines_of(version: Version) -> list[dict]:
    """All lines of all files of rejects, read with the json module alone."""
    files = sorted(Path(version.url, "rejects").iterdir())
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def many_rejects() -> Job:
    """Twelve splits of one block each, of which every third has rejects of two reasons."""
    blocks = []
    for split in range(12):
        block = make_block(split, 0, 2, rejects=3 if split % 3 == 0 else 0)
        rejects = [
            Reject(one.source, one.row_index, ("empty_text", "not_utf8")[n % 2], "x", f"id {n}")
            for n, one in enumerate(block.rejects)
        ]
        blocks.append(replace(block, rejects=tuple(rejects)))
    return Job(blocks)


def test_counts_of_a_complete_version_are_its_manifests_and_nothing_is_read(version, monkeypatch):
    small_job().complete(version)
    read = LocalStore.read

    def refuse(store, key):
        assert "/rejects/" not in key
        return read(store, key)

    monkeypatch.setattr(LocalStore, "read", refuse)
    assert list_rejects(version.root).to_dict() == {
        "version": "v1", "url": version.url, "complete": True, "documents": 15, "rejects": 3,
        "reasons": {"empty_text": 3},
    }  # fmt: skip


def test_records_are_those_of_the_files_in_the_order_of_the_blocks(version):
    small_job().complete(version)
    found = [one.to_dict() for one in list_rejects(version.url).records()]
    places = [f"row_index {one['row_index']}" for one in found]
    assert found == [
        one | {"place": place} for one, place in zip(lines_of(version), places, strict=True)
    ]
    assert len(found) == 3


@pytest.mark.parametrize("release", releases())
def test_lines_are_those_of_the_whole_file(release, tmp_path):
    root = copy_of_root(release, tmp_path / "root")
    found = list(list_rejects(root).records())
    assert len(found) == 3
    for one in found:
        lines = (FIXTURES / "inputs" / one.reject.source).read_text().splitlines()
        assert one.place == f"line {one.reject.line}"
        assert lines[one.reject.line - 1] == one.reject.excerpt
    # Of one of them the version itself knows but the line in a range of the file.
    assert [one["line_in_range"] for one in lines_of(Version(str(root), root_name(release)))] == [
        None, None, 3,
    ]  # fmt: skip


def root_name(release: str) -> str:
    return version_of(release, "complete")


def test_of_an_unfinished_version_what_is_committed_counts(version):
    job = small_job()
    plan = VersionPlan("f" * 32, job={"format": "auto"})
    create_or_check_plan(version, plan)
    Job(job.blocks[:2]).write(version)
    # Of a block that nobody has committed yet.
    version.store.create(version.reject_key("00001-00000"), b"half a li")
    found = list_rejects(version.url)
    assert (found.complete, found.documents, found.reasons) == (False, None, {"empty_text": 2})
    assert [one.place for one in found.records()] == ["byte 1000", "byte 1001"]


def test_a_version_without_rejects(version):
    Job([make_block()]).complete(version)
    found = list_rejects(version.url)
    assert (found.rejects, found.reasons, list(found.records())) == (0, {}, [])
    answer = call("rejects", version.root, "--list")
    assert answer.out == f"{version.url}: 0 rejects of 5 documents\n"
    with pytest.raises(ConfigError, match="no rejects of reason 'x'; there are none"):
        found.records("x")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b'{"reason": "empty_text"', "1 lines, expected 2 rejects as JSON"),
        (b"\xff\n\xff\n", "2 lines, expected 2 rejects as JSON"),
        (b'{"reason": "empty_text"}\n{"reason": "empty_text"}\n', "its SHA-256 is not"),
    ],
)
def test_a_damaged_file_is_named(version, data, fault):
    small_job().complete(version)
    key = version.reject_key("00000-00001")
    version.store.replace(key, data)
    with pytest.raises(IntegrityError, match=rf"00000-00001\.jsonl: {fault}"):
        list(list_rejects(version.url).records())
    answer = call("rejects", version.url, "--list", "--json")
    assert answer.code == 4
    assert answer.error.startswith(f"{version.url_of(key)}: ")


def test_a_file_that_is_gone_is_noticed(version):
    small_job().complete(version)
    version.store.remove(version.reject_key("00000-00001"))
    with pytest.raises(IntegrityError, match="1 rejects, but its manifest says 3"):
        list(list_rejects(version.url).records())
    version.store.remove(version.commit_key("00001-00000"))
    with pytest.raises(IntegrityError, match=r"is gone \(.*00001-00000"):
        list(list_rejects(version.url).records())


def test_a_program_gets_the_counts_and_then_a_line_for_each_record(version):
    job = many_rejects()
    job.complete(version)
    counts, *found = map(
        json.loads, call("rejects", version.root, "--list", "--json").out.splitlines()
    )
    assert counts["reasons"] == {"empty_text": 8, "not_utf8": 4}
    assert list(counts["reasons"]) == ["empty_text", "not_utf8"]
    assert [{**one, "place": None} for one in found] == [
        {**one, "place": None} for one in lines_of(version)
    ]
    only = call("rejects", version.root, "--reason", "not_utf8", "--json").out.splitlines()
    assert [json.loads(line) for line in only[1:]] == [
        one for one in found if one["reason"] == "not_utf8"
    ]
    assert call("rejects", version.root, "--json").json == counts
    wrong = call("rejects", version.root, "--reason", "not_utf9", "--json")
    assert (wrong.code, wrong.out) == (2, "")
    assert "no rejects of reason 'not_utf9'; there are empty_text, not_utf8" in wrong.error


def test_a_person_gets_a_table(version):
    block = make_block(0, 0, 2, rejects=1)
    reject = Reject("a.jsonl", 40, "invalid_json", "not JSON", None, '{"two\nlines', 3)
    Job([replace(block, rejects=(reject,))]).complete(version)
    assert call("rejects", version.root, "--list").out.splitlines() == [
        f"{version.url}: 1 rejects of 3 documents",
        "reason        rejects",
        "invalid_json        1",
        "invalid_json  a.jsonl, line 3: not JSON",
        r'    {"two\nlines',
    ]
