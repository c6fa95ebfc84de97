"""Prune: what goes, what stays and why, and what a kill anywhere leaves."""

import itertools
import json
import os
import threading
import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from blocks import make_block
from fsspec.implementations.memory import MemoryFileSystem

from embedkit.dataset import heartbeat, removal
from embedkit.dataset.committed import committed
from embedkit.dataset.heartbeat import ALIVE_SECONDS, Heartbeat, beat, join
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.prune import Policy, Prune
from embedkit.dataset.publication import number_of, publish, publish_above_all
from embedkit.dataset.removal import CLOCK_SKEW_SECONDS, claim_removal, is_claimed, removals
from embedkit.dataset.rows import read_columns
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_versions, latest
from embedkit.errors import ConfigError, RemovedError
from embedkit.search.reader import open_version

DAY = 86400.0
_ROOTS = itertools.count()


class Clock:
    """So many seconds ahead of the real one."""

    def __init__(self, ahead=0.0):
        self.ahead = ahead

    def __call__(self):
        return time.time() + self.ahead


@pytest.fixture
def root():
    MemoryFileSystem.store.clear()
    return f"memory://prune-{next(_ROOTS)}"


def published(root, job, names):
    versions = [Version(root, name) for name in names]
    for version in versions:
        job.complete(version)
    return versions


def pruned(root, keep=1, days=None, ahead=40 * DAY, alive=ALIVE_SECONDS):
    """What a prune says that runs so many seconds from now."""
    clock = Clock(ahead)
    before = None if days is None else clock() - days * DAY
    found = list(Prune(root, Policy(keep, before, alive), clock).remove())
    return {one.version: (one.goes, one.why) for one in found}


def gone(said):
    return sorted(name for name, (goes, _) in said.items() if goes)


def keys(version):
    return list(open_store(version.root).list(version.key("")))


def test_the_newest_published_ones_stay(root, job):
    versions = published(root, job, ["a", "d", "c", "b"])
    said = pruned(root, keep=2)
    assert gone(said) == ["a", "d"]
    assert said["b"] == (False, "LATEST names it")
    assert said["c"] == (False, "one of the newest 2 published")
    assert said["a"] == (True, "published, and written 40 d ago")
    assert [bool(keys(version)) for version in versions] == [False, False, True, True]
    assert list(open_store(root).list(".numbers/")) == [".numbers/00000003", ".numbers/00000004"]
    assert list(open_store(root).list(".removing/")) == []
    assert validate(latest(root)).problems == ()
    # Its name is free again, and its number another one.
    job.complete(versions[0])
    assert (number_of(versions[0]), latest(root).name) == (5, "a")
    assert validate(versions[0]).problems == ()


def test_a_dry_run_removes_nothing_and_says_the_same(root, job):
    published(root, job, ["v1", "v2", "v3"])
    store = open_store(root)
    before = {key: store.read(key) for key in store.list("")}
    clock = Clock(DAY)
    verdicts = Prune(root, Policy(1), clock).verdicts()
    assert [(one.version, one.goes) for one in verdicts] == [
        ("v1", True),
        ("v2", True),
        ("v3", False),
    ]
    assert verdicts[0].objects == len(keys(Version(root, "v1")))
    assert verdicts[0].size == sum(size for _, size in store.sizes("v1/"))
    assert {key: store.read(key) for key in store.list("")} == before


def test_only_what_is_old_enough_goes(root, job):
    published(root, job, ["v1", "v2"])
    said = pruned(root, days=30, ahead=29 * DAY)
    assert said["v1"] == (False, "published, and written 29 d ago, which is not long enough")
    assert gone(pruned(root, days=30, ahead=31 * DAY)) == ["v1"]


def test_unfinished_and_unpublished_ones_go_by_their_age_alone(root, job):
    published(root, job, ["v1"])
    job.write(Version(root, "half"))
    job.seal(Version(root, "refused"))
    said = pruned(root, keep=5)
    published(root, job, ["v2"])
    said = pruned(root, keep=5)
    assert gone(said) == []
    for name in ("half", "refused"):
        assert said[name][1] == "not published; such go by their age alone, see --older-than"
    assert gone(pruned(root, keep=5, days=30)) == ["half", "refused"]
    assert [one.name for one in find_versions(root)] == ["v2"]


def completed(version, ago):
    """Lets a version have been completed so many seconds before now."""
    path = f"/{version.root.removeprefix('memory://')}/{version.manifest_key}"
    MemoryFileSystem.store[path].modified = datetime.now(UTC) - timedelta(seconds=ago)


def test_the_newest_complete_one_that_waits_to_be_published_stays_whatever_its_age(root, job):
    (latest_one,) = published(root, job, ["v1"])
    completed(latest_one, 500)
    for name, ago in (("before", 600), ("kept-back", 400), ("again", 300)):
        job.seal(Version(root, name))
        completed(Version(root, name), ago)
    job.description |= {"trial": 12}
    job.seal(Version(root, "trial"))
    del job.description["trial"]
    said = pruned(root, keep=1, days=30)
    assert gone(said) == ["before", "kept-back", "trial"]
    assert said["again"] == (
        False, "complete and newer than what LATEST names; publish it, or a later one, first"
    )  # fmt: skip
    # Also where LATEST names none, as where no version has ever passed its gates.
    open_store(root).remove("LATEST")
    assert said["again"] == pruned(root, keep=1, days=30)["again"]
    publish(Version(root, "again"))
    completed(Version(root, "again"), 300)
    assert gone(pruned(root, keep=1, days=30)) == ["v1"]


def test_what_is_published_while_others_are_pruned_is_waited_for_no_more(root, job):
    published(root, job, ["v1"])
    for name in ("a", "b"):
        job.seal(Version(root, name))
    completed(Version(root, "a"), 2 * DAY)
    completed(Version(root, "v1"), 3 * DAY)
    clock = Clock(40 * DAY)
    pruning = Prune(root, Policy(1, clock() - 30 * DAY), clock)
    found = pruning.remove()
    said = {(one := next(found)).version: one}
    assert said["a"].goes
    publish_above_all(Version(root, "v1"))
    said |= {one.version: one for one in found}
    assert not said["b"].goes
    assert not said["v1"].goes


@pytest.mark.parametrize(
    ("since", "alive", "goes"),
    [
        (ALIVE_SECONDS + CLOCK_SKEW_SECONDS - 60, ALIVE_SECONDS, False),
        (ALIVE_SECONDS + CLOCK_SKEW_SECONDS + 60, ALIVE_SECONDS, True),
        (2 * 3600.0 - 60, 3600.0, False),
        (2 * 3600.0 + 60, 3600.0, True),
        # This machine's clock is behind the writer's.
        (-DAY, ALIVE_SECONDS, False),
    ],
)
def test_one_that_may_still_be_written_stays(root, job, monkeypatch, since, alive, goes):
    published(root, job, ["v1"])
    half = Version(root, "half")
    job.write(half)
    # Everything else of it is old, by the store's clock.
    for file in MemoryFileSystem.store.values():
        file.created = file.created.fromtimestamp(1, file.created.tzinfo)
    now = time.time()
    said = Heartbeat(now, "there", "0", 30.0)
    half.store.replace(half.heartbeat_key, said.to_json())
    stored = MemoryFileSystem.store[f"/{root[9:]}/{half.heartbeat_key}"]
    stored.created = stored.created.fromtimestamp(1, stored.created.tzinfo)
    found = pruned(root, days=0, ahead=since, alive=alive)["half"]
    assert found[0] is goes, found
    assert goes or "may still be written: host there said so" in found[1]


def test_the_stores_clock_protects_a_writer_whose_own_is_wrong(root, job):
    published(root, job, ["v1"])
    half = Version(root, "half")
    job.write(half)
    half.store.replace(half.heartbeat_key, Heartbeat(1.0, "there", "0", 30.0).to_json())
    assert gone(pruned(root, days=0, ahead=DAY)) == []
    assert gone(pruned(root, days=0, ahead=2 * DAY)) == ["half"]


def test_an_unfinished_one_without_heartbeat_stays_while_its_objects_are_young(root, job):
    """As an earlier release writes it."""
    published(root, job, ["v1"])
    job.write(Version(root, "half"))
    said = pruned(root, days=0, ahead=3600)
    assert "may still be written: something of it was written 60 min ago" in said["half"][1]


def test_a_torn_heartbeat_is_one(root, job):
    published(root, job, ["v1"])
    half = Version(root, "half")
    job.write(half)
    half.store.replace(half.heartbeat_key, b'{"time": 17')
    assert "torn" in pruned(root, days=0, ahead=3600)["half"][1]


def test_one_that_a_growing_one_takes_vectors_over_from_stays(root, job):
    published(root, job, ["v1", "v2", "v3"])
    growing = Version(root, "v4")
    job.write(growing)
    join(growing, "v1")
    said = pruned(root, days=0, ahead=DAY / 2)
    assert gone(said) == ["v2"]
    expected = "version v4, which may still be written, takes vectors over from it"
    assert said["v1"] == (False, expected)
    # Its writer is gone for good.
    assert gone(pruned(root, days=0)) == ["v1", "v4"]


def test_what_one_run_takes_over_stays_while_another_of_the_same_job_takes_nothing(root, job):
    published(root, job, ["v1", "v2", "v3"])
    growing = Version(root, "v4")
    job.write(growing)
    join(growing, "v1")
    join(growing, "v2")
    join(growing)
    assert gone(pruned(root, days=0, ahead=DAY / 2)) == []
    # Of a run that was not heard of since.
    old = Heartbeat(time.time() - 2 * DAY, "there", "0", 30.0, "v1", ("v1",))
    growing.store.replace(growing.heartbeat_key, old.to_json())
    join(growing, "v2")
    assert gone(pruned(root, days=0, ahead=DAY / 2)) == ["v1"]


def test_what_is_no_version_of_ours_stays(root, job):
    store = open_store(root)
    published(root, job, ["v1", "v2", "v3"])
    # What Spark leaves, another program's plan, and something that somebody put beside the rows.
    store.create("spark/_SUCCESS", b"")
    store.create("spark/part-00000.parquet", b"PAR1")
    store.create("terraform/_meta/plan.json", b'{"format_version": "1.0"}')
    store.create("notes/readme.txt", b"hello")
    store.create("v1/data/_delta_log/0.json", b"{}")
    said = pruned(root, days=0)
    assert gone(said) == ["v2"]
    assert said["spark"][1].startswith("no version")
    assert said["notes"][1].startswith("no version")
    assert "plan.json" in said["terraform"][1]
    assert "'data/_delta_log/0.json', which embedkit did not write" in said["v1"][1]
    assert store.size("spark/part-00000.parquet") == 4


def test_the_marks_that_a_removal_left_go_when_they_are_old(root, job):
    published(root, job, ["v1"])
    for name in ("left", "rows"):
        beat(Version(root, name))
        open_store(root).create(f"{name}/_PUBLISHED", b'{"number": 7}')
    open_store(root).create("rows/data/part-00000-00000.parquet", b"PAR1")
    assert gone(pruned(root, days=0, ahead=3600)) == []
    said = pruned(root, days=0)
    assert gone(said) == ["left"]
    assert said["rows"][1].startswith("no version")


def test_a_link_to_a_version_is_left_alone(tmp_path, job):
    root = str(tmp_path / "root")
    published(root, job, ["v1", "v2"])
    os.symlink(f"{root}/v1", f"{root}/stable")
    said = pruned(root)
    assert said["stable"] == (False, "a symbolic link")
    assert gone(said) == ["v1"]


def test_no_folders_are_left_behind(tmp_path, job):
    root = str(tmp_path / "root")
    published(root, job, ["v1", "v2"])
    pruned(root)
    assert sorted(os.listdir(root)) == [".numbers", ".removing", ".tmp", "LATEST", "v2"]
    assert os.listdir(f"{root}/.removing") == []


def test_where_there_is_nothing_to_prune(tmp_path, job):
    with pytest.raises(ConfigError, match="no such directory"):
        pruned(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="holds no version"):
        pruned(str(tmp_path))
    (version,) = published(str(tmp_path / "root"), job, ["v1"])
    with pytest.raises(ConfigError, match="a version itself"):
        pruned(version.url)
    with pytest.raises(ConfigError, match="at least 1"):
        Policy(keep=0)


def linked_copy(tmp_path, job):
    """A version whose parts are hard links to those of an earlier one, as copies of it are."""
    root = str(tmp_path / "root")
    first, second = Version(root, "v1"), Version(root, "v2")
    job.complete(first)
    os.makedirs(f"{second.url}/data")
    for name in os.listdir(f"{first.url}/data"):
        os.link(f"{first.url}/data/{name}", f"{second.url}/data/{name}")
    job.complete(second)
    assert os.stat(f"{second.url}/data/part-00000-00000.parquet").st_nlink == 2
    return root, second


def test_a_later_version_is_whole_without_the_one_that_its_parts_are_of(tmp_path, job):
    root, second = linked_copy(tmp_path, job)
    assert gone(pruned(root)) == ["v1"]
    assert validate(second).problems == ()
    assert os.stat(f"{second.url}/data/part-00000-00000.parquet").st_nlink == 1


# Kills and other processes.


class KilledError(Exception):
    """The process is gone."""


class Killed:
    """A store whose process is killed at its n-th operation that changes something."""

    def __init__(self, store, at):
        self._store, self._at = store, at
        self.changes = 0
        self._lock = threading.Lock()

    def __getattr__(self, name):
        operation = getattr(self._store, name)
        if name not in ("create", "replace", "remove", "remove_empty"):
            return operation

        def call(*args):
            with self._lock:
                if self.changes >= self._at:
                    raise KilledError
                self.changes += 1
            return operation(*args)

        return call


def killed_prune(root, at):
    prune = Prune(root, Policy(1), Clock(DAY))
    prune._store = store = Killed(prune._store, at)
    prune._any.__dict__["store"] = store
    list(prune.remove())
    return store.changes


@pytest.fixture
def dead_processes(monkeypatch):
    """Claims of other prunes are of killed processes."""
    monkeypatch.setattr(removal, "_is_dead", lambda *_: True)


@pytest.mark.usefixtures("dead_processes")
def test_killed_at_every_change_the_next_prune_finishes_it(root, job):
    (version, newest) = published(root, job, ["v1", "v2"])
    changes = killed_prune(root, 10**6)
    assert changes > 20
    for at in range(changes):
        # The oldest again, by hand.
        job.seal(version)
        store = version.store
        store.create(".numbers/00000001", b"v1\n")
        store.create(version.published_key, b'{"number": 1}')
        with pytest.raises(KilledError):
            killed_prune(root, at)
        assert latest(root) == newest
        # A whole version, one that is known for half removed, or nothing but the end of a claim.
        if version.is_complete():
            assert validate(version).problems == (), at
        else:
            assert is_claimed(version), at
            with pytest.raises(RemovedError, match="removed while it was read"):
                read_manifest(version)
        killed_prune(root, 10**6)
        assert keys(version) == [], at
        assert removals(open_store(root)) == {}, at
        assert list(open_store(root).list(".numbers/")) == [".numbers/00000002"], at
    assert validate(newest).problems == ()


@pytest.mark.usefixtures("dead_processes")
def test_the_claim_of_a_killed_prune_on_one_that_stays_is_taken_away(root, job):
    (version,) = published(root, job, ["v1"])
    claim_removal(version, "of a killed one", time.time)
    with pytest.raises(RemovedError):
        join(version)
    assert gone(pruned(root)) == []
    join(version)


def test_two_prunes_at_once(root, job):
    version, _ = published(root, job, ["v1", "v2"])
    mine = claim_removal(version, "mine", time.time)
    said = pruned(root, ahead=60)
    assert said["v1"][0] is False
    assert "another prune removes it now: host" in said["v1"][1]
    assert validate(version).problems == ()
    mine.withdraw()
    assert gone(pruned(root, ahead=60)) == ["v1"]


def test_a_prune_that_was_silent_for_long_stops_when_another_goes_on(root, job, monkeypatch):
    version, _ = published(root, job, ["v1", "v2"])
    clock = Clock()
    slow = claim_removal(version, "slow", clock)
    slow.begin()
    monkeypatch.setattr(removal, "_machine", lambda: "another")
    assert isinstance(claim_removal(version, "quick", Clock(7000)), str)
    quick = claim_removal(version, "quick", Clock(7300))
    assert not isinstance(quick, str)
    with pytest.raises(RemovedError, match="taken its removal over"):
        slow.remove([version.success_key])
    with pytest.raises(RemovedError, match="taken its removal over"):
        slow.end()
    assert version.is_complete()
    quick.remove([version.success_key])
    assert not version.is_complete()


def test_a_writer_that_comes_first_keeps_its_version(root, job, monkeypatch):
    """It says that it writes between the prune's first look and its claim."""
    published(root, job, ["v1"])
    half = Version(root, "half")
    job.write(half)
    before = keys(half)
    claim = removal.claim_removal

    def late(version, run, clock):
        now = clock()
        with monkeypatch.context() as there:
            there.setattr(heartbeat.time, "time", lambda: now)
            join(half)
        return claim(version, run, clock)

    monkeypatch.setattr("embedkit.dataset.prune.claim_removal", late)
    said = pruned(root, days=0)
    assert (said["half"][0], "may still be written" in said["half"][1]) == (False, True)
    assert set(before) < set(keys(half))
    assert not is_claimed(half)


def test_a_writer_that_comes_second_is_told_so_and_begins_anew(root, job):
    published(root, job, ["v1"])
    half = Version(root, "half")
    job.write(half)
    claimed = claim_removal(half, "mine", time.time)
    with pytest.raises(RemovedError, match="being removed by embedkit prune; let that end"):
        join(half)
    claimed.withdraw()
    pruned(root, days=0)
    assert keys(half) == []
    with pytest.raises(RemovedError, match="begins the version anew"):
        join(half)
    job.complete(half)
    assert validate(half).problems == ()


def test_a_version_is_not_published_while_it_is_removed(root, job):
    _, v2 = published(root, job, ["v1", "v2"])
    refused = Version(root, "refused")
    job.seal(refused)
    claimed = claim_removal(refused, "mine", time.time)
    with pytest.raises(RemovedError):
        publish(refused)
    assert latest(root) == v2
    claimed.withdraw()
    publish(refused)
    assert latest(root) == refused


def test_latest_that_a_killed_publisher_left_on_a_removed_version_is_set_right(root, job):
    _, v2 = published(root, job, ["v1", "v2"])
    refused = Version(root, "refused")
    job.seal(refused)
    claimed = claim_removal(refused, "mine", time.time)
    claimed.begin()
    refused.store.replace("LATEST", b"refused\n")
    claimed.end()
    claim_removal(refused, "again", time.time).begin()
    assert gone(pruned(root, keep=5, ahead=3 * DAY)) == ["refused"]
    assert latest(root) == v2


def test_a_reader_gets_one_line(root, job):
    version, _ = published(root, job, ["v1", "v2"])
    reader = open_version(version.url)
    parts = read_manifest(version).parts
    pruned(root)
    expected = rf"{version.url}: removed while it was read; read the newest version, {root}$"
    for read in (
        lambda: list(reader.to_batches()),
        lambda: reader.search(np.ones((1, 8), np.float32)),
        lambda: list(read_columns(version, parts, ["id"])),
        lambda: list(read_columns(version, parts[1:], None)),
    ):
        with pytest.raises(RemovedError, match=expected) as raised:
            read()
        assert "\n" not in str(raised.value)


def test_a_version_that_is_removed_while_it_is_validated(root, job, monkeypatch):
    version, _ = published(root, job, ["v1", "v2"])
    read = version.store.read
    done = []

    def prune_first(key):
        if key.endswith(".parquet") and not done:
            done.append(pruned(root))
        return read(key)

    monkeypatch.setattr(version.store, "read", prune_first)
    with pytest.raises(RemovedError, match="removed while it was read"):
        validate(version)


def test_a_late_worker_leaves_nothing_that_matters(root, job):
    """Its heartbeat stands beside a complete version, whose manifest counts."""
    (version,) = published(root, job, ["v1"])
    beat(version)
    version.store.replace(version.growing_key, b"{}")
    assert validate(version).problems == ()
    assert read_manifest(version).rows == 12
    assert len(committed(version)) == 4
    published(root, job, ["v2"])
    assert gone(pruned(root, ahead=3 * DAY)) == ["v1"]


def test_the_root_is_asked_for_each_version_a_bounded_number_of_times(root, job):
    """Not again for all of them whenever one is removed."""

    class Counted:
        def __init__(self, store):
            self._store, self.asked = store, 0

        def __getattr__(self, name):
            operation = getattr(self._store, name)
            if not callable(operation):
                return operation

            def call(*args):
                self.asked += 1
                return operation(*args)

            return call

    small = [make_block(0, 0, 1)]
    asked = []
    for count in (5, 15, 25):
        MemoryFileSystem.store.clear()
        published(root, type(job)(small), [f"v{number:03}" for number in range(count)])
        prune = Prune(root, Policy(2), Clock(DAY))
        prune._store = store = Counted(prune._store)
        prune._any.__dict__["store"] = store
        assert len([one for one in prune.remove() if one.goes]) == count - 2
        asked.append(store.asked)
    assert asked[2] - asked[1] == asked[1] - asked[0]


def test_verdicts_are_json(root, job):
    published(root, job, ["v1", "v2"])
    said = [one.to_dict() for one in Prune(root, Policy(1), Clock(DAY)).verdicts()]
    assert json.loads(json.dumps(said)) == said
    assert set(said[0]) == {"version", "why", "size", "objects"}
    assert set(said[1]) == {"version", "why"}


@pytest.mark.parametrize("place", ["bucket", "gcs"])
def test_in_an_object_store(place, job, request):
    found = request.getfixturevalue(place)
    root = f"s3://{found}/root" if place == "bucket" else "gs://root/versions"
    v1, v2 = published(root, job, ["v1", "v2"])
    times = [modified for _, _, modified in v1.store.times("v1/")]
    assert len(times) == len(keys(v1))
    if place == "bucket":
        assert all(abs(time.time() - modified) < 600 for modified in times)
    said = pruned(root)
    assert gone(said) == ["v1"], said
    assert keys(v1) == []
    assert validate(v2).problems == ()
    assert list(open_store(root).list(".removing/")) == []
