"""Promises 1 and 3: killed anywhere, or twice at once, the dataset comes out the same."""

import itertools
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blocks import nudged
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from turns import TurnTaker

from embedkit.dataset.committed import committed
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.publication import number_of, publish
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, latest
from embedkit.errors import ResumableError, StoreError

OPERATIONS = ("create", "replace", "read", "size", "list")
_ROOTS = itertools.count()


class KilledError(Exception):
    """The process is gone."""


class FaultyStore:
    """A store that fails at its n-th operation, before or after it was done."""

    def __init__(self, store, at=None, after=False, error=KilledError):
        self._store, self._at, self._after, self._error = store, at, after, error
        self.count = 0

    @property
    def url(self):
        return self._store.url

    def __getattr__(self, name):
        operation = getattr(self._store, name)
        if name not in OPERATIONS:
            return operation

        def call(*args):
            mine = self.count
            self.count += 1
            if mine == self._at and not self._after:
                raise self._error(f"{name} {args[0]}")
            try:
                result = operation(*args)
                return iter(list(result)) if name == "list" else result
            finally:
                if mine == self._at:
                    raise self._error(f"{name} {args[0]}")

        return call


def new_root():
    """An empty root in memory; those before it are gone, as every look-up there goes over all."""
    MemoryFileSystem.store.clear()
    return f"memory://crashes-{next(_ROOTS)}"


def new_version(store=None):
    version = Version(new_root(), "v1")
    if store is not None:
        version.__dict__["store"] = store(version.store)
    return version


def contents(version):
    store = open_store(version.root)
    return {key: store.read(key) for key in store.list("")}


@pytest.fixture
def undisturbed(job):
    version = new_version()
    job.complete(version)
    assert validate(version).problems == ()
    return contents(version)


def operations_of(job):
    version = new_version(FaultyStore)
    job.complete(version)
    return version.store.count


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_operation_a_fresh_process_ends_in_the_same_bytes(job, undisturbed, after):
    count = operations_of(job)
    assert count > 40
    for at in range(count):
        version = new_version(lambda store, at=at: FaultyStore(store, at, after))
        with pytest.raises(KilledError):
            job.complete(version)
        left = contents(version)
        assert all(undisturbed[key] == data for key, data in left.items()), at
        again = Version(version.root, version.name)
        job.complete(again)
        assert contents(again) == undisturbed, at
        assert latest(again.root) == again


@pytest.mark.parametrize("after", [False, True])
def test_killed_anywhere_latest_names_a_published_version(job, after):
    """v1 is published; v2 is completed, found wanting, and published by hand afterwards."""
    steps = (job.seal, publish)
    for step, number in ((0, operations_of(job)), (1, 30)):
        for at in range(number):
            root = new_root()
            job.complete(Version(root, "v1"))
            if step:
                job.seal(Version(root, "v2"))
            killed = Version(root, "v2")
            killed.__dict__["store"] = FaultyStore(open_store(root), at, after)
            try:
                steps[step](killed)
            except KilledError:
                pass
            else:
                break
            if step == 0:
                assert latest(root).name == "v1", at
            assert latest(root).is_complete(), at
            again = Version(root, "v2")
            if step == 0:
                job.seal(again)
                assert latest(root).name == "v1", at
                assert number_of(again) == 0, at
            publish(again)
            assert latest(root).name == "v2", at
            assert number_of(again) > number_of(Version(root, "v1")), at
            assert validate(again).problems == (), at
        assert at > 5


@pytest.mark.parametrize("after", [False, True])
def test_a_failing_operation_raises_or_is_found_done(job, undisturbed, after):
    """Creates are found done after a lost answer; other failures say that the run can resume."""
    raised = 0
    for at in range(operations_of(job)):
        version = new_version(lambda store, at=at: FaultyStore(store, at, after, StoreError))
        try:
            job.complete(version)
        except ResumableError:
            raised += 1
            job.complete(version)
        assert contents(version) == undisturbed, at
    assert raised > 10


def test_killed_again_and_again_it_still_ends(job, undisturbed):
    version = Version(new_root(), "v1")
    for step in range(1, 200):
        attempt = Version(version.root, version.name)
        attempt.__dict__["store"] = FaultyStore(open_store(version.root), step, step % 2 == 0)
        try:
            job.complete(attempt)
        except KilledError:
            continue
        break
    assert contents(version) == undisturbed


def test_before_the_end_a_reader_sees_whole_rows_once(job):
    """What stands after a kill is a subset: every part readable, no id twice."""
    for at in range(operations_of(job)):
        version = new_version(lambda store, at=at: FaultyStore(store, at, True))
        with pytest.raises(KilledError):
            job.complete(version)
        parts = [data for key, data in contents(version).items() if key.endswith(".parquet")]
        ids = [
            value
            for data in parts
            for value in pq.read_table(pa.BufferReader(data)).column("id").to_pylist()
        ]
        assert len(ids) == len(set(ids))
        if version.is_complete():
            assert len(ids) == 12


class InTurns(FaultyStore):
    """A store whose every operation waits for its turn."""

    def __init__(self, store, turns, who, at=None):
        super().__init__(store, at)
        self._turns, self._who = turns, who

    def __getattr__(self, name):
        operation = super().__getattr__(name)
        if name not in OPERATIONS:
            return operation

        def call(*args):
            self._turns.wait(self._who)
            try:
                return operation(*args)
            finally:
                self._turns.done(self._who)

        return call


def attempt(root, job, turns, who, at):
    version = Version(root, "v1")
    version.__dict__["store"] = InTurns(open_store(root), turns, who, at)
    try:
        job.complete(version)
    except (KilledError, ResumableError):
        return
    finally:
        turns.wait(who)
        turns.done(who, finished=True)


@settings(max_examples=150, deadline=None)
@given(
    schedule=st.lists(st.integers(0, 1), max_size=90),
    kills=st.tuples(*[st.one_of(st.none(), st.integers(0, 60))] * 2),
)
def test_two_attempts_at_once_on_different_machines(make_job, schedule, kills):
    """Their vectors differ a little; each block must come from one of them, whole."""
    jobs = [make_job(), make_job()]
    jobs[1].blocks = [nudged(block) for block in jobs[1].blocks]
    root = new_root()
    turns = TurnTaker(schedule)
    with ThreadPoolExecutor(2) as pool:
        attempts = [pool.submit(attempt, root, jobs[who], turns, who, kills[who]) for who in (0, 1)]
    for each in attempts:
        each.result()
    version = Version(root, "v1")
    jobs[0].complete(version)
    assert validate(version).problems == ()
    assert read_manifest(version).rows == 12
    assert latest(root) == version


_WRITER = """
import sys
sys.path.insert(0, {folder!r})
from blocks import Job, make_block
from embedkit.dataset.version import Version
blocks = [make_block(split, 0, 400, dimension=8, rejects=1) for split in range(40)]
print("begin", flush=True)
Job(blocks).complete(Version({root!r}, "v1"))
"""


def test_kill_9_in_the_middle_of_writing(tmp_path, make_job, make_block):
    """A real process, really killed, several times; then the job is run to its end."""
    blocks = [make_block(split, 0, 400, dimension=8, rejects=1) for split in range(40)]
    expected = Version(str(tmp_path / "expected"), "v1")
    make_job(blocks).complete(expected)
    version = Version(str(tmp_path / "killed"), "v1")
    script = _WRITER.format(folder=str(Path(__file__).parents[1]), root=version.root)
    progress = []
    for kill in range(3):
        writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
        assert writer.stdout.readline() == b"begin\n"
        target = 8 * (kill + 1) + len(progress)
        while len(list(version.store.list("v1/_meta/commits/"))) < target:
            assert writer.poll() is None
            time.sleep(0.0005)
        writer.send_signal(signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL
        writer.stdout.close()
        assert not version.is_complete()
        progress.append(len(committed(version)))
        for key in version.store.list("v1/data/"):
            assert pq.read_table(version.store.open(key)).num_rows == 400
    assert progress == sorted(progress)
    make_job(blocks).complete(version)
    assert contents(version) == contents(expected)
    assert validate(version).problems == ()
