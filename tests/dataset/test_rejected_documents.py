"""Blocks of a document that was rejected whole, as other runs and kills may leave them."""

from dataclasses import replace

import pytest
from blocks import Job, make_block

from embedkit.dataset.commit import commit_block
from embedkit.dataset.committed import CommitRecord, committed, record_without_rows
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.mend import mend
from embedkit.dataset.stores import read_all
from embedkit.dataset.version import Version
from embedkit.errors import GoneError, ResumableError
from embedkit.formats.canonical import sha256
from embedkit.vectors import EmbeddingBlock

STATS = b'{"stats": 1}'


@pytest.fixture
def large() -> Job:
    """A document in three blocks, of which the second has made a reject."""
    first = make_block(0, 0, 3, last=False)
    first = replace(first, documents=1, rows=one_document(first))
    second = make_block(0, 1, 0, rejects=1, last=False, before=1)
    third = make_block(0, 2, 2, before=1)
    continued = [replace(second, documents=0, continues=True), third]
    continued[1] = replace(third, documents=0, continues=True, rows=one_document(third))
    return Job([first, *continued])


def one_document(block: EmbeddingBlock):
    index = block.rows.schema.get_field_index("doc_id")
    ids = block.rows.column("doc_id")
    return block.rows.set_column(
        index, block.rows.schema.field(index), ids.take([0] * block.rows.num_rows)
    )


def empty(version: Version, block: str, reject: bytes = b"") -> None:
    """Makes the record of a block say what it says of a document that was rejected whole."""
    record = record_without_rows(block, int(bool(reject)), int(bool(reject)))
    record = replace(record.with_statistics(STATS), rejects_sha256=sha256(reject) if reject else "")
    version.store.replace(version.stats_key(block), STATS)
    version.store.replace(version.commit_key(block), record.to_json())


@pytest.fixture
def rejected(version: Version, large: Job) -> Version:
    """The version as a run leaves it that was killed while it took the files away."""
    large.write(version)
    line = version.store.read(version.reject_key("00000-00001"))
    version.store.replace(version.reject_key("00000-00000"), line)
    empty(version, "00000-00000", line)
    empty(version, "00000-00001")
    empty(version, "00000-00002")
    return version


def files(version: Version) -> list[str]:
    return [*version.store.list("v1/data/"), *version.store.list("v1/rejects/")]


def test_files_that_their_records_know_nothing_of_are_taken_away(rejected, large):
    assert len(files(rejected)) == 4
    assert [line.partition(": ")[2] for line in mend(rejected)] == [
        "of a block that has no such file; made anew"
    ] * 3
    assert files(rejected) == ["v1/rejects/00000-00000.jsonl"]
    manifest = finalize(rejected, ["00000"], large.description)
    assert (manifest.documents, manifest.rows, manifest.rejects) == (1, 0, 1)


def test_a_document_whose_reject_is_gone_is_encoded_once_more(rejected, large):
    mend(rejected)
    rejected.store.remove("v1/rejects/00000-00000.jsonl")
    mend(rejected)
    assert committed(rejected) == {}


@pytest.mark.parametrize("apart", ["first", "second", "third"])
def test_a_document_is_never_in_some_of_its_blocks_only(rejected, large, apart):
    """One block was taken back by another run, and encoded again."""
    mend(rejected)
    block = large.blocks[["first", "second", "third"].index(apart)]
    rejected.store.remove(rejected.commit_key(block.block_id))
    if not (apart == "second"):
        rejected.store.remove(rejected.reject_key(block.block_id))
    commit_block(rejected, block, large.options, 32, b'{"rows": 3, "documents": 1}')
    with pytest.raises(ResumableError, match="rejected in some of its blocks only"):
        finalize(rejected, ["00000"], large.description)


def test_a_late_attempt_leaves_no_rejects_of_a_block_that_has_none(version, large, monkeypatch):
    create = type(version.store).create

    def after_another(self, key, data):
        if key == version.commit_key("00000-00001"):
            empty(version, "00000-00001")
        return create(self, key, data)

    monkeypatch.setattr(type(version.store), "create", after_another)
    commit_block(version, large.blocks[1], large.options, 32, STATS)
    assert list(version.store.list("v1/rejects/")) == []


def test_statistics_of_the_rejected_document_are_not_those_of_its_rows(version, large):
    version.store.create(version.stats_key("00000-00000"), b'{"rows": 0, "documents": 1}')
    ours = b'{"rows": 3, "documents": 1}'
    record = commit_block(version, large.blocks[0], large.options, 32, ours)
    assert isinstance(record, CommitRecord)
    assert version.store.read(version.stats_key("00000-00000")) == ours
    assert record.stats_sha256 == sha256(ours)


def test_a_record_that_another_run_changes_meanwhile_stays(version, large, monkeypatch):
    """It empties a block while this run looks what is torn."""
    large.write(version)
    sizes = type(version.store).sizes

    def emptied_meanwhile(self, prefix):
        empty(version, "00000-00002")
        version.store.remove(version.part_key("00000-00002"))
        return sizes(self, prefix)

    monkeypatch.setattr(type(version.store), "sizes", emptied_meanwhile)
    mend(version)
    assert committed(version)["00000-00002"].rows == 0


def test_a_version_that_another_run_completes_meanwhile_stays_complete(version, job, monkeypatch):
    """The second run looks for what marks it just before the first one writes that."""
    job.write(version)
    looked_for = type(version.store).size

    def completed_behind(self, key):
        found = looked_for(self, key)
        if key in (version.manifest_key, version.success_key):
            monkeypatch.setattr(type(version.store), "size", looked_for)
            job.complete(version)
        return found

    monkeypatch.setattr(type(version.store), "size", completed_behind)
    mend(version)
    assert version.is_complete()
    assert read_manifest(version).rows == 12


def test_what_is_gone_when_it_is_to_be_read_is_a_matter_of_running_again(version, job):
    job.write(version)
    with pytest.raises(GoneError, match=r"v1/none\.json: gone; run the same command again"):
        list(read_all(version.store, ["v1/none.json"]))
