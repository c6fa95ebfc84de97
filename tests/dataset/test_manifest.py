"""Finalizing and publishing: what must be true of a complete version, and LATEST."""

import dataclasses
import json

import pytest
from blocks import Job

from embedkit.dataset.commit import commit_block, end_split
from embedkit.dataset.committed import SplitEnd, committed
from embedkit.dataset.describe import describe
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import Manifest, read_manifest, seal
from embedkit.dataset.mend import mend
from embedkit.dataset.parquet import write_part
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.publication import publish
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version, latest
from embedkit.errors import ConfigError, IntegrityError, ResumableError
from embedkit.formats.canonical import canonical_json, sha256, with_checksum


@pytest.fixture
def written(version, job):
    """All blocks committed, nothing finalized."""
    job.write(version)
    return version


def test_the_manifest_adds_up(written, job):
    manifest = finalize(written, job.splits, job.description)
    records = committed(written)
    assert [part.path for part in manifest.parts] == [
        "data/part-00000-00000.parquet",
        "data/part-00000-00001.parquet",
        "data/part-00002-00000.parquet",
    ]
    for name in ("documents", "rows", "rejects", "tokens", "n_tokens", "truncated"):
        assert getattr(manifest, name) == sum(getattr(r, name) for r in records.values())
    assert (manifest.documents, manifest.rows, manifest.rejects) == (15, 12, 3)
    assert (manifest.splits, manifest.blocks) == (3, 4)
    for part in manifest.parts:
        data = written.store.read(written.key(part.path))
        assert (part.size, part.sha256) == (len(data), sha256(data))
    assert manifest.description == job.description


@pytest.mark.parametrize("blocks", [10**6, 10**12])
def test_finalize_takes_no_end_at_its_word(written, job, blocks):
    end = json.loads(written.store.read(written.split_key("00000")))
    forged = canonical_json(with_checksum(end | {"blocks": blocks}))
    written.store.replace(written.split_key("00000"), forged)
    said = rf"{blocks - 2} of {blocks + 2} blocks are not committed, the first is 00000-00002; run"
    with pytest.raises(ResumableError, match=said):
        finalize(written, job.splits, job.description)


def test_finalize_writes_nothing_and_can_be_repeated(written, job):
    before = list(written.store.list(""))
    first = finalize(written, job.splits, job.description)
    assert finalize(written, job.splits, job.description) == first
    assert list(written.store.list("")) == before


def test_the_manifest_is_the_same_whatever_the_order_of_work(version, job, tmp_path, make_job):
    job.complete(version)
    other = Version(str(tmp_path / "other"), "v1")
    turned = make_job(list(reversed(job.blocks)))
    turned.write(other)
    seal(other, finalize(other, job.splits, job.description), lambda _: "# card\n")
    publish(other)
    for key in version.store.list(""):
        assert version.store.read(key) == other.store.read(key), key


def test_a_round_trip_of_the_manifest(complete):
    manifest = read_manifest(complete)
    assert Manifest.from_json(manifest.to_json(), "x") == manifest


def test_a_split_that_has_not_ended(written, job):
    written.store.remove(written.split_key("00001"))
    with pytest.raises(ResumableError, match=r"1 of 3 splits have not ended.*00001; run the same"):
        finalize(written, job.splits, job.description)


def test_a_block_that_is_not_committed(written, job):
    written.store.remove(written.commit_key("00000-00001"))
    with pytest.raises(ResumableError, match=r"1 of 4 blocks are not committed.*00000-00001; run"):
        finalize(written, job.splits, job.description)


def test_a_split_or_block_that_the_plan_does_not_have(written, job, make_block):
    end_split(written, SplitEnd("00009", 1, 5))
    with pytest.raises(IntegrityError, match=r"_meta/splits/00009\.json: of a split that the plan"):
        finalize(written, job.splits, job.description)
    written.store.remove(written.split_key("00009"))
    commit_block(written, make_block(0, 2, last=False), job.options, 32, b"{}")
    with pytest.raises(
        IntegrityError, match=r"_meta/commits/00000-00002\.json.*no committed block"
    ):
        finalize(written, job.splits, job.description)


@pytest.mark.parametrize(
    "path",
    [
        "data/part-00000-00002.parquet",
        "data/notes.txt",
        "data/sub/part-00000-00000.parquet",
        "rejects/00000-00000.jsonl",
        "_meta/commits/x.json",
        "_meta/stats/00000-00002.json",
    ],
)
def test_a_foreign_file(written, job, path):
    written.store.create(written.key(path), b"x")
    with pytest.raises(IntegrityError, match="move it out of the version") as caught:
        finalize(written, job.splits, job.description)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    "path",
    [
        "data/part-00000-00001.parquet",
        "rejects/00001-00000.jsonl",
        "_meta/stats/00000-00000.json",
    ],
)
def test_a_committed_file_that_is_gone(written, job, path):
    written.store.remove(written.key(path))
    with pytest.raises(IntegrityError, match="committed, but gone") as caught:
        finalize(written, job.splits, job.description)
    assert path in str(caught.value)


def test_the_remedy_for_a_part_that_is_gone_works(written, job):
    written.store.remove("v1/data/part-00000-00001.parquet")
    with pytest.raises(IntegrityError, match=r"remove _meta/commits/00000-00001\.json and run"):
        finalize(written, job.splits, job.description)
    written.store.remove("v1/_meta/commits/00000-00001.json")
    job.complete(written)


def test_a_part_of_a_dead_attempt_is_taken_up_and_nothing_is_left_over(version, job):
    data = write_part(job.blocks[0], job.options)
    version.store.create(version.part_key("00000-00000"), data)
    job.complete(version)


def test_documents_must_reconcile_with_what_was_read(written, job):
    written.store.replace(
        written.split_key("00000"),
        json.dumps({"split_id": "00000", "blocks": 2, "documents": 11}).encode(),
    )
    with pytest.raises(IntegrityError, match=r"11 documents were read, but its blocks .* for 10"):
        finalize(written, job.splits, job.description)


def test_the_description_must_serve_the_readers(written, job):
    with pytest.raises(ConfigError, match="lacks dimension, normalized"):
        finalize(written, job.splits, {"metric": "cosine"})


def test_no_rows_at_all(version, make_job, make_block):
    manifest = make_job([make_block(rows=0, rejects=2)]).complete(version)
    assert (manifest.rows, manifest.rejects, manifest.parts) == (0, 2, ())
    assert version.is_complete()


def test_the_marks_are_written_last(written, job):
    manifest = finalize(written, job.splits, job.description)
    order = []
    store = written.store

    class Watched:
        def __getattr__(self, name):
            operation = getattr(store, name)
            if name not in ("create", "replace"):
                return operation

            def call(key, data):
                order.append(key)
                return operation(key, data)

            return call

    watched = Version(written.root, written.name)
    watched.__dict__["store"] = Watched()
    seal(watched, manifest, lambda _: "# card\n")
    assert order == ["v1/_meta/manifest.json", "v1/README.md", "v1/_SUCCESS"]
    del order[:]
    publish(watched)
    assert order == [".numbers/00000001", "v1/_PUBLISHED", "LATEST"]


def test_a_complete_version_is_never_changed(complete, job):
    before = {key: complete.store.read(key) for key in complete.store.list("")}
    manifest = finalize(complete, job.splits, {**job.description, "device": "another"})
    standing = seal(complete, manifest, lambda _: "# another card\n")
    assert standing.description == job.description
    assert {key: complete.store.read(key) for key in complete.store.list("")} == before


def test_the_card_is_that_of_the_manifest_which_stands(written, job):
    first = finalize(written, job.splits, {**job.description, "model": "first"})
    written.store.create(written.manifest_key, first.to_json())
    second = finalize(written, job.splits, {**job.description, "model": "second"})
    seal(written, second, lambda manifest: manifest.description["model"])
    assert written.store.read(written.card_key) == b"first"


def test_a_manifest_of_other_parts_is_not_published(written, job):
    manifest = finalize(written, job.splits, job.description)
    fewer = dataclasses.replace(manifest, parts=manifest.parts[1:])
    written.store.create(written.manifest_key, fewer.to_json())
    with pytest.raises(IntegrityError, match="lists other parts than are committed"):
        seal(written, manifest, lambda _: "# card\n")
    assert not written.is_complete()


class TestLatest:
    @pytest.mark.parametrize("text", [b"../../etc", b"", b"v1\nv2", b"\xff\xfe", b"a/b", b"LATEST"])
    def test_a_damaged_one_is_an_error_and_no_path(self, complete, text):
        complete.store.replace("LATEST", text)
        with pytest.raises(IntegrityError, match=r"LATEST holds .* which names no version"):
            latest(complete.root)

    def test_none(self, tmp_path):
        with pytest.raises(ConfigError, match="no LATEST there"):
            latest(str(tmp_path / "nothing"))


class TestOpenVersion:
    def test_by_root_and_by_path(self, complete, job):
        other = Version(complete.root, "v0")
        job.write(other)
        assert find_version(complete.root) == complete
        assert find_version(complete.url + "/") == complete
        assert find_version(other.url) == other

    def test_neither(self, tmp_path):
        with pytest.raises(ConfigError, match="neither a version nor a root"):
            find_version(str(tmp_path))
        with pytest.raises(ConfigError, match="neither a version nor a root"):
            find_version(str(tmp_path / "none" / "v1"))

    def test_by_url(self, tmp_path, job):
        version = Version(f"memory://{tmp_path.name}", "v1")
        job.complete(version)
        assert find_version(version.root) == find_version(version.url) == version


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", ".x", "_x", "LATEST", "é", "x" * 101]
)
def test_names_that_no_version_can_have(tmp_path, name):
    with pytest.raises(ConfigError, match="version"):
        Version(str(tmp_path), name)


@pytest.mark.parametrize("block", ["", "../x", "0-0", "00000", "00000-00000/..", "00000-00000\n"])
def test_ids_that_no_block_can_have(version, block):
    for key in (version.part_key, version.commit_key, version.reject_key, version.stats_key):
        with pytest.raises(ConfigError, match="no id of a block or split"):
            key(block)
    with pytest.raises(ConfigError, match="no id of a block or split"):
        version.split_key("../x")


def test_a_manifest_of_another_release_lacks_fields_and_has_others(complete):
    manifest = read_manifest(complete)
    stored = manifest.to_dict()
    for name in ("reject_reasons", "nulled", "lines", "input_format", "line_ranges"):
        del stored[name]
    for part in stored["parts"]:
        del part["sources"], part["source_range"]
    read = Manifest.from_json(canonical_json(stored), "manifest.json")
    assert (read.parts, read.rows) == (manifest.parts, manifest.rows)
    assert (read.reject_reasons, read.lines, read.input_format) == ({}, {}, "")
    stored |= {"gates": [{"name": "drift"}]}
    stored["parts"][0]["origin"] = {"version": "v0"}
    written = json.loads(Manifest.from_json(canonical_json(stored), "manifest.json").to_json())
    assert written["gates"] == [{"name": "drift"}]
    assert written["parts"][0]["origin"] == {"version": "v0"}
    with pytest.raises(IntegrityError, match="wrong or missing fields rows"):
        Manifest.from_json(canonical_json({**stored, "rows": None}), "manifest.json")


def test_the_plan_is_created_once(version):
    plan = VersionPlan("a", "b", "c", job={"note": 1})
    assert create_or_check_plan(version, plan) == plan
    assert create_or_check_plan(version, dataclasses.replace(plan, job={"note": 2})) == plan
    for name, what in (
        ("fingerprint", "another model"),
        ("inputs_digest", "other inputs"),
        ("job_digest", "other settings"),
    ):
        other = dataclasses.replace(plan, **{name: "z"})
        with pytest.raises(ConfigError, match=f"begun with {what}.* another version name"):
            create_or_check_plan(version, other)
    version.store.replace(version.plan_key, b"{")
    with pytest.raises(IntegrityError, match=r"plan\.json: not valid JSON"):
        create_or_check_plan(version, plan)


def test_describe_a_complete_and_a_growing_version(complete, job, tmp_path):
    found = describe(complete)
    assert found["complete"] is True
    assert (found["documents"], found["rows"], found["rejects"], found["parts"]) == (15, 12, 3, 3)
    assert found["model"] == "tiny-model"
    growing = Version(str(tmp_path / "growing"), "v1")
    commit_block(growing, job.blocks[0], job.options, 32, b"{}")
    found = describe(growing)
    assert found["complete"] is False
    assert (found["rows"], found["blocks"], found["splits_ended"]) == (5, 1, 0)
    json.dumps(found)


def test_reading_the_manifest_of_a_growing_version(written):
    with pytest.raises(ConfigError, match="not complete yet"):
        read_manifest(written)


@pytest.mark.parametrize(
    "change",
    [
        b"{",
        b"[]",
        b'{"format": "2"}',
        {"parts": [{"path": "../../x", "size": 1, "sha256": "", "rows": 1}]},
        {"parts": [{"path": "data/part-00000-00000.parquet"}]},
    ],
)
def test_a_damaged_manifest_is_named(complete, change):
    if isinstance(change, dict):
        change = json.dumps(
            json.loads(complete.store.read(complete.manifest_key)) | change
        ).encode()
    complete.store.replace(complete.manifest_key, change)
    with pytest.raises(IntegrityError, match=r"_meta/manifest\.json: not a manifest of format 1"):
        read_manifest(complete)


def test_a_manifest_of_parts_that_were_taken_back_is_written_anew(version, job, make_block):
    """A run was killed before it sealed the version, and a part was torn, as by a power loss."""
    job.complete(version)
    version.store.remove(version.success_key)
    version.store.remove(version.commit_key("00002-00000"))
    version.store.remove(version.part_key("00002-00000"))
    other = make_block(2, 0, 4, seed=5)
    again = Job([*job.blocks[:3], other])
    assert [line.partition(": ")[2] for line in mend(version)] == [
        "lists other parts than are committed; made anew"
    ]
    manifest = again.seal(version)
    assert manifest.rows == 12
    assert validate(version).problems == ()
