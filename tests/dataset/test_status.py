"""Status: counts, shares and rates of a version that grows, by a few requests."""

import time

import pytest
from blocks import MAX_TOKENS, make_block, make_options

from embedkit.corpus.plan import FileRange, Plan, Split
from embedkit.dataset import status as status_module
from embedkit.dataset.commit import commit_block
from embedkit.dataset.committed import committed
from embedkit.dataset.growing import Growth, Moment
from embedkit.dataset.heartbeat import Heartbeat
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.removal import claim_removal
from embedkit.dataset.status import status, status_of
from embedkit.dataset.version import Version

OPTIONS = make_options()


def planned(version, sizes):
    """A version of splits of so many bytes, one file each."""
    splits = tuple(
        Split(
            f"{number:05d}",
            (
                FileRange(
                    f"{number}.jsonl", f"/{number}.jsonl", size, "e", "jsonl", "none", 0, size, size
                ),
            ),
        )
        for number, size in enumerate(sizes)
    )
    plan = Plan("/", (), splits, len(sizes), sum(sizes), "d" * 32)
    create_or_check_plan(version, VersionPlan("f" * 32, corpus=plan.to_dict()))
    return version


def commit(version, split, seq=0, last=True, rows=5, before=0):
    block = make_block(split, seq, rows, last=last, before=before)
    commit_block(version, block, OPTIONS, MAX_TOKENS, b"{}")


def beaten(version, ago=0.0):
    said = Heartbeat(time.time() - ago, "there", "0", 30.0)
    version.store.replace(version.heartbeat_key, said.to_json())


@pytest.fixture
def growing():
    return planned(Version("memory://status", f"v{time.monotonic_ns()}"), [4000, 1000, 3000])


def test_nothing_is_there_yet(growing):
    told = status(growing)
    assert (told.state, told.splits, told.splits_ended, told.blocks) == ("stopped", 3, 0, 0)
    assert (told.rows, told.share, told.heartbeat_seconds) == (0, 0.0, None)


def test_shares_are_by_bytes_and_of_a_split_in_hand_by_its_blocks(growing):
    commit(growing, 0, 0, last=False)
    # Nobody knows yet how many blocks a split has.
    assert status(growing).share == 0.0
    commit(growing, 1)
    # 1,000 bytes a block: that of split 1, and one of split 0.
    assert status(growing).share == pytest.approx(2000 / 8000)
    commit(growing, 0, 1, last=False, before=5)
    assert status(growing).share == pytest.approx(3000 / 8000)
    commit(growing, 0, 2, before=10)
    # Four blocks for 5,000 bytes.
    commit(growing, 2, 0, last=False)
    told = status(growing)
    assert told.share == pytest.approx((5000 + 1250) / 8000)
    assert (told.splits_ended, told.blocks, told.rows, told.rows_encoded) == (2, 5, 25, 25)


def test_a_heartbeat_tells_who_writes_it(growing):
    beaten(growing, 20)
    told = status(growing)
    assert (told.state, told.host) == ("running", "there")
    # The store's own clock is the later one.
    assert told.heartbeat_seconds < 20
    assert status(growing, time.time() + 3600).state == "stopped"
    claim_removal(growing, "prune", time.time)
    assert status(growing).state == "removed"


def test_rates_are_of_the_last_minutes_without_a_pause(growing):
    for split in range(2):
        commit(growing, split)
    growth = Growth(growing, {}, 3)
    growth.look()
    now = time.time()
    listing = growth.listing
    moments = (
        Moment(now - 9000, 1, 1, 1, 10),
        Moment(now - 8970, 1, 2, 2, 20),
        Moment(now - 90, 1, 4, 3, 40),
        Moment(now - 60, 1, 5, 4, 50),
        Moment(now - 30, 2, 10, 9, 100),
    )
    object.__setattr__(listing, "moments", moments)
    growing.store.replace(growing.growing_key, listing.to_json())
    assert status(growing).seconds_left is None
    beaten(growing)
    told = status(growing)
    assert told.rows_per_second == pytest.approx(6 / 60)
    assert told.tokens_per_second == pytest.approx(60 / 60)
    # 10 documents are 5,000 of 8,000 bytes, so 6 are left, at 6 a minute.
    assert told.seconds_left == pytest.approx(60)


def test_few_requests_however_many_blocks_there_are(growing, monkeypatch):
    for seq in range(12):
        commit(growing, 0, seq, last=seq == 11, before=5 * seq)
    growth = Growth(growing, {}, 3)
    growth.look()
    growth.write(time.time(), 0.1)
    commit(growing, 1)
    asked = []

    class Counted:
        def __init__(self, store):
            self._store = store

        def __getattr__(self, name):
            operation = getattr(self._store, name)
            return lambda *args: asked.append((name, *args)) or operation(*args)

    version = Version(growing.root, growing.name)
    version.__dict__["store"] = Counted(growing.store)
    assert status(version).rows == 65
    assert len([one for one in asked if one[0] == "read" and "/commits/" in one[1]]) == 1
    assert len(asked) < 16

    # Without a listing, as of an earlier release, no more records are read than are worth it.
    growing.store.remove(growing.growing_key)
    monkeypatch.setattr(status_module, "_MOST_RECORDS", 4)
    told = status(growing)
    assert (told.blocks, told.blocks_uncounted, told.rows) == (13, 9, 20)


def test_a_listing_of_what_is_not_committed_any_more_is_not_believed(growing):
    commit(growing, 0)
    commit(growing, 1)
    growth = Growth(growing, {}, 3)
    growth.look()
    growth.write(time.time(), 0.1)
    growing.store.remove(growing.commit_key("00001-00000"))
    assert status(growing).rows == 5
    assert len(committed(growing)) == 1


def test_a_root_tells_of_what_grows_and_of_the_latest(tmp_path, job):
    root = str(tmp_path / "root")
    for name in ("v1", "v2"):
        job.complete(Version(root, name))
    planned(Version(root, "v3"), [10])
    assert [(one.version, one.state) for one in status_of(root)] == [
        ("v3", "stopped"),
        ("v2", "complete"),
    ]
    assert [one.version for one in status_of(f"{root}/v1")] == ["v1"]
    assert [one.rows for one in status_of(root)] == [0, 12]
