"""The growing listing: what it says is committed, whoever makes it and whatever came before."""

import json
from dataclasses import replace

import pytest
from blocks import MAX_TOKENS

from embedkit.dataset.commit import commit_block
from embedkit.dataset.committed import Reused, committed
from embedkit.dataset.finalize import Totals
from embedkit.dataset.growing import Growth, growing_listing
from embedkit.dataset.mend import mend
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import sha256

DESCRIPTION = {"recipe": "r" * 32, "dimension": 8}


@pytest.fixture
def growing(version, job):
    """The version with its plan and first two blocks."""
    create_or_check_plan(version, VersionPlan("f" * 32))
    for block in job.blocks[:2]:
        commit_block(version, block, job.options, MAX_TOKENS, b"{}")
    return version


def listed(version, now=1000.0):
    growth = Growth(version, DESCRIPTION, 3)
    growth.look()
    growth.write(now, 0.5)
    return growing_listing(version)


def check(version, listing):
    """It says what the commit records do, and every part is there as it says."""
    totals = Totals.of(list(committed(version).values()))
    assert [part.path for part in listing.parts] == [part.path for part in totals.parts]
    for name in ("documents", "rows", "rejects", "tokens", "tokens_encoded"):
        assert getattr(listing, name) == totals.counts[name], name
    assert (listing.blocks, listing.size) == (totals.blocks, sum(p.size for p in totals.parts))
    for part in listing.parts:
        data = version.store.read(version.key(part.path))
        assert (len(data), sha256(data)) == (part.size, part.sha256)


def test_it_says_what_is_committed(growing, job):
    assert growing_listing(growing) is None
    listing = listed(growing)
    check(growing, listing)
    assert (listing.rows, listing.documents, listing.rejects, listing.splits) == (8, 10, 2, 3)
    assert (listing.description, listing.complete) == (DESCRIPTION, False)
    assert json.loads(growing.store.read(growing.growing_key))["complete"] is False


def test_without_a_committed_block_there_is_none(version):
    create_or_check_plan(version, VersionPlan("f" * 32))
    assert listed(version) is None


def test_it_grows_by_what_is_new_and_reads_nothing_twice(growing, job, monkeypatch):
    growth = Growth(growing, DESCRIPTION, 3)
    growth.look()
    growth.write(1000.0, 0.5)
    # The last split first, and one without rows.
    commit_block(growing, job.blocks[3], job.options, MAX_TOKENS, b"{}")
    commit_block(growing, job.blocks[2], job.options, MAX_TOKENS, b"{}")
    read = growing.store.read
    asked = []
    monkeypatch.setattr(growing.store, "read", lambda key: asked.append(key) or read(key))
    growth.look()
    growth.write(1030.0, 0.5)
    assert sorted(asked) == [growing.commit_key("00001-00000"), growing.commit_key("00002-00000")]
    listing = growing_listing(growing)
    check(growing, listing)
    assert listing.without_rows == ("00001-00000",)
    assert [(one.time, one.blocks, one.rows) for one in listing.moments] == [
        (1000.0, 2, 8),
        (1030.0, 4, 12),
    ]


def test_another_process_goes_on_from_it(growing, job):
    first = listed(growing)
    commit_block(growing, job.blocks[2], job.options, MAX_TOKENS, b"{}")
    commit_block(growing, job.blocks[3], job.options, MAX_TOKENS, b"{}")
    growth = Growth(growing, DESCRIPTION, 3)
    growth.go_on_from(first)
    growth.look()
    growth.write(2000.0, 0.1)
    check(growing, growing_listing(growing))


def test_rows_that_were_taken_over_are_told(growing):
    growth = Growth(growing, DESCRIPTION, None)
    records = list(committed(growing).values())
    growth.add([replace(records[0], reused=Reused("v0", rows=3, tokens=21)), records[1]])
    assert (growth.listing.rows_reused, growth.listing.tokens_saved) == (3, 21)


def test_a_resumed_run_takes_back_what_it_finds_damaged(growing, job):
    """Before the record goes, so that no reader is told of a part that is not committed."""
    listed(growing)
    part = growing.part_key("00000-00001")
    data = growing.store.read(part)
    growing.store.replace(part, data[:-7])
    # Nobody has found it yet, but the reader sees that it is not what was written.
    assert [one.path for one in growing_listing(growing).parts] == ["data/part-00000-00000.parquet"]
    assert growing_listing(growing).rows == 5
    assert len(mend(growing)) == 1
    assert growing_listing(growing) is None
    check(growing, listed(growing))
    commit_block(growing, job.blocks[1], job.options, MAX_TOKENS, b"{}")
    check(growing, listed(growing))


def test_of_a_complete_version_the_manifest_says_all(version, job):
    job.write(version)
    listed(version)
    assert growing_listing(version).rows == 12
    job.complete(version)
    assert growing_listing(version) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data[:-5],
        lambda data: data.replace(b'"rows": 8', b'"rows": 9'),
        lambda data: b"[]",
        lambda data: b"",
    ],
)
def test_a_damaged_one_is_named(growing, spoil):
    listed(growing)
    data = growing.store.read(growing.growing_key)
    growing.store.replace(growing.growing_key, spoil(data))
    with pytest.raises(IntegrityError, match=r"_meta/growing.json: .*; remove it, a run of"):
        growing_listing(growing)
