"""Heartbeats and listings of a driver and of workers, whatever the store does."""

import json
import logging
import pickle
import time

import pytest
from blocks import MAX_TOKENS, small_job

from embedkit.dataset.commit import commit_block
from embedkit.dataset.growing import Growth, growing_listing
from embedkit.dataset.heartbeat import last_heard
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.removal import claim_removal
from embedkit.dataset.version import Version
from embedkit.errors import RemovedError, StoreError
from embedkit.flow import beats
from embedkit.flow.beats import BeatAtCommit, Beats

JOB = small_job()


@pytest.fixture
def version(tmp_path):
    version = Version(str(tmp_path / "root"), "v1")
    create_or_check_plan(version, VersionPlan("f" * 32))
    return version


def commit(version, number):
    return commit_block(version, JOB.blocks[number], JOB.options, MAX_TOKENS, b"{}")


def driver(version, reuses=None):
    return Beats(version, Growth(version, {"recipe": "r"}, 3), reuses)


class Refusing:
    """A store that refuses to write."""

    def __init__(self, store):
        self._store = store
        self.refuses = True

    def __getattr__(self, name):
        if name == "replace" and self.refuses:
            return self._refuse
        return getattr(self._store, name)

    def _refuse(self, key, data):
        raise StoreError(f"{key}: quota")


def test_a_driver_beats_and_lists(version, monkeypatch):
    monkeypatch.setattr(beats.time, "monotonic", lambda: clock[0])
    clock = [100.0]
    kept = driver(version, "v0")
    kept.beat()
    heard = last_heard(version)
    assert abs(heard.at - time.time()) < 60
    assert (heard.beat.reuses, heard.beat.interval) == ("v0", 30.0)
    assert growing_listing(version) is None
    commit(version, 0)
    clock[0] += 30
    kept.beat()
    assert growing_listing(version).rows == 5
    # Once it is completed, what is committed may be taken back.
    kept.stop_listing()
    commit(version, 1)
    clock[0] += 30
    kept.beat()
    assert growing_listing(version).rows == 5


def test_a_store_that_refuses_is_said_once_and_nothing_else(version, caplog, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(beats.time, "monotonic", lambda: clock[0])
    store = version.__dict__["store"] = Refusing(version.store)
    kept = driver(version)
    commit(version, 0)
    with caplog.at_level(logging.INFO, "embedkit"):
        for _ in range(60):
            clock[0] += 30
            kept.beat()
    assert [one.getMessage() for one in caplog.records] == [
        "the run goes on without its heartbeat: v1/_meta/heartbeat.json: quota"
    ]
    store.refuses = False
    clock[0] += 30
    kept.beat()
    assert last_heard(version) is not None
    assert growing_listing(version).rows == 5


def test_a_short_refusal_is_not_said(version, caplog, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(beats.time, "monotonic", lambda: clock[0])
    store = version.__dict__["store"] = Refusing(version.store)
    kept = driver(version)
    for _ in range(5):
        for refuses in (True, True, False):
            store.refuses = refuses
            clock[0] += 90
            kept.beat()
    assert caplog.records == []


def test_a_listing_takes_a_small_share_of_the_time(version, monkeypatch):
    """One of a hundred thousand parts is not written every half minute."""
    clock = [100.0]
    monkeypatch.setattr(beats.time, "monotonic", lambda: clock[0])
    kept = driver(version)
    written = []
    write = Growth.write

    def slow(growth, now, seconds):
        clock[0] += 9
        written.append(clock[0])
        write(growth, now, seconds)

    monkeypatch.setattr(Growth, "write", slow)
    commit(version, 0)
    while clock[0] < 3000:
        clock[0] += 30
        kept.beat()
    assert 5 <= len(written) <= 7


def test_a_record_that_is_taken_back_meanwhile_is_no_failure(version, monkeypatch):
    kept = driver(version)
    commit(version, 0)
    kept.beat()
    assert growing_listing(version).rows == 5
    monkeypatch.setattr(kept, "_next_listing", 0.0)
    commit(version, 1)
    key = version.commit_key("00000-00001")
    list_of = version.store.list
    monkeypatch.setattr(
        version.store, "list", lambda prefix: iter([*list_of(prefix), key.replace("001", "002")])
    )
    kept.beat()
    assert growing_listing(version).rows == 5


def worker(version, reuses=None):
    made = BeatAtCommit(version, {"recipe": "r"}, 3, reuses)
    return pickle.loads(pickle.dumps(made))


def test_workers_beat_as_they_commit_one_at_a_time(version, monkeypatch):
    clock = [1_000_000.0]
    monkeypatch.setattr(beats.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(beats.time, "time", lambda: clock[0] + 1e9)
    monkeypatch.setattr("embedkit.dataset.heartbeat.time.time", lambda: clock[0] + 1e9)
    monkeypatch.setattr(version.store, "modified", lambda key: version.store.size(key) and 1.0)
    first, second = worker(version, "v0"), worker(version, "v0")
    for one in (first, second):
        one.version.__dict__["store"] = version.store
    replaced = []
    replace = version.store.replace
    monkeypatch.setattr(
        version.store, "replace", lambda key, data: replaced.append(key) or replace(key, data)
    )
    first(JOB.blocks[0], commit(version, 0))
    # From the first part on.
    assert growing_listing(version).rows == 5
    assert last_heard(version).beat.reuses == "v0"
    second(JOB.blocks[1], commit(version, 1))
    clock[0] += 10
    first(JOB.blocks[2], commit(version, 2))
    assert replaced == [version.heartbeat_key, version.growing_key]
    clock[0] += 25
    second(JOB.blocks[3], commit(version, 3))
    first(JOB.blocks[3], commit(version, 3))
    assert replaced == 2 * [version.heartbeat_key, version.growing_key]
    assert growing_listing(version).rows == 12


def test_a_late_worker_says_nothing_of_a_complete_version(version):
    JOB.complete(version)
    worker(version)(JOB.blocks[0], commit(version, 0))
    assert last_heard(version) is None
    assert version.store.size(version.growing_key) is None


def test_a_worker_whose_listing_is_torn_makes_it_anew(version):
    record = commit(version, 0)
    version.store.replace(version.growing_key, b'{"rows": 1')
    made = worker(version)
    made(JOB.blocks[0], record)
    assert growing_listing(version).rows == 5


def test_a_worker_of_a_version_that_is_removed_stops(version):
    record = commit(version, 0)
    claim_removal(version, "prune", time.time)
    with pytest.raises(RemovedError):
        worker(version)(JOB.blocks[0], record)


def test_a_worker_goes_on_where_the_store_refuses(version):
    record = commit(version, 0)
    made = worker(version)
    made.version.__dict__["store"] = Refusing(version.store)
    made(JOB.blocks[0], record)
    assert last_heard(version) is None


def test_the_heartbeat_is_json_for_anybody(version):
    driver(version).beat()
    said = json.loads(version.store.read(version.heartbeat_key))
    assert set(said) == {"time", "host", "run", "interval", "reuses", "held", "checksum"}
