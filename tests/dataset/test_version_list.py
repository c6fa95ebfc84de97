"""What is told of the versions of a root, and at what cost."""

import json
import os
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from blocks import Job, make_block
from calling import call
from releases import FIXTURES, copy_of_root, releases

from embedkit.dataset import version as version_module
from embedkit.dataset import version_list
from embedkit.dataset.commit import commit_block
from embedkit.dataset.committed import committed_blocks
from embedkit.dataset.growing import Growth
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.recipe import recipe_of
from embedkit.dataset.removal import claim_removal
from embedkit.dataset.stores import open_store
from embedkit.dataset.version import Version
from embedkit.dataset.version_list import list_versions
from embedkit.errors import ConfigError
from embedkit.flow.diff import diff_versions
from embedkit.flow.rejected import list_rejects

pytestmark = pytest.mark.usefixtures("logging_restored")

VECTORS = {"weights": "a" * 32, "pooling": "mean", "precision": "float32"}


@pytest.fixture
def root(tmp_path: Path, job: Job) -> Path:
    """One published version, one that is complete only, one that grows, one that is begun."""
    path = tmp_path / "root"
    job.complete(Version(str(path), "first"))
    job.description |= {"recipe": "b" * 32, "trial": 12}
    job.seal(Version(str(path), "second"))
    third = Version(str(path), "third")
    plan = VersionPlan("f" * 32, vectors=VECTORS, job={"limit": 7}, corpus={"splits": [0, 1, 2]})
    create_or_check_plan(third, plan)
    for block in job.blocks[:3]:
        commit_block(third, block, job.options, 32, b"{}")
    create_or_check_plan(Version(str(path), "begun"), VersionPlan("f" * 32))
    for number, name in enumerate(("first", "second", "third", "begun")):
        for file in ("manifest.json", "plan.json"):
            if (path / name / "_meta" / file).exists():
                os.utime(path / name / "_meta" / file, (1e9 + number, 1e9 + number))
    return path


def told(root: Path | str) -> dict[str, dict]:
    return {one.version: one.to_dict() for one in list_versions(root)}


def test_every_version_is_told_of_newest_first(root):
    found = told(root)
    assert list(found) == ["begun", "third", "second", "first"]
    size = sum(path.stat().st_size for path in (root / "first" / "data").iterdir())
    whole = {"complete": True, "rows": 12, "rejects": 3, "size": size, "model": "tiny-model",
             "blocks": 4, "splits": 3, "splits_ended": 3, "fault": None,
             "removing": False}  # fmt: skip
    first = whole | {"published": 1, "latest": True, "recipe": None, "trial": None}
    second = whole | {"published": None, "latest": False, "recipe": "b" * 32, "trial": 12}
    assert found["first"] == first | {
        "version": "first", "url": f"{root}/first", "date": "2001-09-09T01:46:40+00:00",
    }  # fmt: skip
    assert found["second"].items() >= second.items()
    third = {"complete": False, "published": None, "rows": 8, "rejects": 3, "blocks": 3,
             "splits": 3, "splits_ended": 2, "recipe": recipe_of(VECTORS), "trial": 7,
             "model": None, "date": "2001-09-09T01:46:42+00:00"}  # fmt: skip
    assert found["third"].items() >= third.items()
    begun = {"complete": False, "rows": 0, "blocks": 0, "splits": None, "fault": None}
    assert found["begun"].items() >= begun.items()


def test_versions_of_an_earlier_release(tmp_path):
    for release in releases():
        root = copy_of_root(release, tmp_path / release)
        found = told(root)
        assert set(found) == set(
            json.loads((FIXTURES / release / "versions.json").read_text()).values()
        )
        assert sum(one["complete"] for one in found.values()) == 1
        assert all(len(one["recipe"]) == 32 and one["fault"] is None for one in found.values())


@pytest.mark.parametrize(
    ("path", "data"),
    [
        ("_meta/manifest.json", b"{"),
        ("_meta/manifest.json", None),
        ("_SUCCESS", b"{}"),
        ("_PUBLISHED", b"one"),
    ],
)
def test_a_damaged_version_is_listed_with_its_fault_and_hides_no_other(root, path, data):
    changed = root / "first" / path
    if data is None:
        text = changed.read_text()
        changed.write_text(text.replace('"documents": 15', '"documents": 16'))
        assert changed.read_text() != text
    else:
        changed.write_bytes(data)
    found = told(root)
    assert set(found) == {"first", "second", "third", "begun"}
    assert found["first"]["fault"].startswith(f"{changed}: ")
    assert [name for name, one in found.items() if one["fault"]] == ["first"]
    assert found["first"]["latest"]


def test_a_damaged_record_of_an_unfinished_version_is_its_fault(root):
    record = root / "third" / "_meta" / "commits" / "00000-00001.json"
    record.write_bytes(record.read_bytes()[:-20])
    found = told(root)
    assert found["third"]["fault"].startswith(f"{record}: not valid JSON")
    assert found["second"]["fault"] is None


def test_a_directory_in_the_place_of_a_file_is_a_fault_of_its_version_alone(root):
    plan = root / "begun" / "_meta" / "plan.json"
    plan.unlink()
    plan.mkdir()
    assert "a directory stands in the place of a file" in told(root)["begun"]["fault"]


def test_a_version_that_has_lost_its_plan_and_its_mark_is_named(root):
    (root / "first" / "_SUCCESS").unlink()
    (root / "first" / "_meta" / "plan.json").unlink()
    assert "plan.json: gone; restore it" in told(root)["first"]["fault"]


def test_a_version_that_is_being_removed_is_said_to_be(root):
    removal = claim_removal(Version(str(root), "second"), "run", time.time)
    # A claim may be withdrawn, and the version is whole.
    assert told(root)["second"]["rows"] == 12
    removal.begin()
    (root / "second" / "_meta" / "manifest.json").unlink()
    found = told(root)["second"]
    assert (found["removing"], found["rows"], found["fault"]) == (True, None, None)
    assert "being removed; the next prune goes on with it" in call("versions", str(root)).out


def test_other_folders_are_no_versions(root):
    (root / "notes").mkdir()
    (root / "notes" / "readme.txt").write_text("x")
    (root / ".hidden" / "_meta").mkdir(parents=True)
    (root / ".hidden" / "_meta" / "plan.json").write_text("{}")
    assert set(told(root)) == {"first", "second", "third", "begun"}


def test_a_latest_that_names_nothing_hides_no_version(root, caplog):
    (root / "LATEST").write_text("../first")
    assert not any(one["latest"] for one in told(root).values())
    assert "LATEST holds '../first', which names no version" in caplog.text


def test_what_is_no_root_is_said_in_one_line(root, tmp_path):
    with pytest.raises(ConfigError, match=rf"second: one version, and no root; its root is {root}"):
        list_versions(root / "second")
    with pytest.raises(ConfigError, match="neither a version nor a root"):
        list_versions(tmp_path)
    with pytest.raises(ConfigError, match="there is no such directory"):
        list_versions(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="it is a file"):
        list_versions(root / "LATEST")


class Counting:
    """A store that counts what is asked of it by the version that it is about."""

    def __init__(self, root: str, asked: Counter) -> None:
        self._store = open_store(root)
        self._asked = asked

    def __getattr__(self, name):
        operation = getattr(self._store, name)
        if name == "url":
            return operation

        def counted(key="", *rest):
            self._asked[key.partition("/")[0]] += 1
            return operation(key, *rest)

        return counted


def test_a_version_costs_a_few_requests_however_large_it_is(monkeypatch, tmp_path):
    root = f"memory://{tmp_path.name}"
    blocks = [make_block(0, seq, 1, last=seq == 69, before=seq) for seq in range(70)]
    Job(blocks).complete(Version(root, "complete"))
    Job(blocks[:-1]).write(Version(root, "growing"))
    for number in range(20):
        Job(blocks[:1]).write(Version(root, f"small-{number}"))
    asked: Counter = Counter()
    monkeypatch.setattr(version_module, "open_store", lambda root: Counting(root, asked))
    found = told(root)
    assert (found["complete"]["rows"], found["growing"]["rows"]) == (70, None)
    assert (found["growing"]["blocks"], found["growing"]["splits_ended"]) == (69, 0)
    assert found["small-7"]["rows"] == 1
    assert asked["complete"] <= 4
    # The record of its one block as well.
    assert max(asked.values()) <= 7


def test_a_record_that_is_taken_back_meanwhile_is_not_counted(root, monkeypatch):
    def with_another(version):
        return [*committed_blocks(version), "00009-00000"]

    monkeypatch.setattr(version_list, "committed_blocks", with_another)
    assert (told(root)["third"]["rows"], told(root)["third"]["fault"]) == (8, None)


def test_versions_in_s3(bucket, job):
    root = f"s3://{bucket}/root"
    job.complete(Version(root, "first"))
    Job(job.blocks[:2]).write(Version(root, "second"))
    found = told(root)
    assert {name: (one["complete"], one["rows"]) for name, one in found.items()} == {
        "first": (True, 12),
        "second": (False, 8),
    }
    diff = diff_versions(root, f"{root}/second")
    assert (diff.unchanged, diff.removed) == (8, 4)
    assert [one.id for one in diff.rows()] == [f"doc-2-0-{n}" for n in range(4)]
    assert len(list(list_rejects(f"{root}/second").records())) == 2


def test_a_version_that_grows_is_told_by_its_listing(monkeypatch, tmp_path):
    root = f"memory://{tmp_path.name}"
    version = Version(root, "growing")
    blocks = [make_block(0, seq, 2, before=2 * seq, last=False) for seq in range(70)]
    Job(blocks[:69]).write(version)
    growth = Growth(version, {"model": "tiny-model"}, 3)
    growth.look()
    growth.write(1e9, 0.1)
    Job(blocks).write(version)
    asked: Counter = Counter()
    monkeypatch.setattr(version_module, "open_store", lambda root: Counting(root, asked))
    # The records of the blocks are not read, so the rows are as old as the listing.
    found = told(root)["growing"]
    assert (found["rows"], found["blocks"], found["model"]) == (138, 70, "tiny-model")
    size = sum(size for _, size in version.store.sizes("growing/data/"))
    assert 0 < found["size"] < size
    assert asked["growing"] <= 6
    version.store.replace(version.growing_key, b"{")
    assert "growing.json: " in told(root)["growing"]["fault"]


def test_a_person_sees_columns_and_a_program_the_same(root):
    answer = call("versions", str(root))
    head, *lines = answer.out.splitlines()
    assert head.split() == ["version", "date", "rows", "size", "recipe", "model", "state"]
    assert [line.split()[0] for line in lines] == ["begun", "third", "second", "first"]
    assert lines[1].endswith(
        "unfinished: 2 of 3 splits, 3 blocks committed, a trial of 7 documents"
    )
    assert lines[2].endswith("b" * 12 + "  tiny-model  complete, a trial of 12 documents")
    assert lines[3].startswith("first    2001-09-09 01:46:40    12  ")
    assert lines[3].endswith("complete, published as number 1, latest")
    assert {line.index(" 2001-") for line in lines} == {head.index(" date")}
    said = call("versions", str(root), "--json").json
    assert {one["version"]: one for one in said["versions"]} == told(root)
    shutil.rmtree(root / "first" / "_meta")
    damaged = call("versions", str(root))
    assert damaged.code == 0
    assert "damaged: " in damaged.out
