"""Prunes, a writer that begins or resumes, a finalizer, a publisher and a reader, interleaved.

Each runs the code that it runs in its own process, an operation of the store at a time, in the
order that a schedule says.
"""

import itertools
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from blocks import make_block, small_job
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st
from interleaving import KilledError, interleave

from embedkit.dataset import prune, removal, stores
from embedkit.dataset.commit import commit_block
from embedkit.dataset.finalize import finalize
from embedkit.dataset.heartbeat import join, leave
from embedkit.dataset.manifest import read_manifest, seal
from embedkit.dataset.mend import mend
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.prune import Policy, Prune
from embedkit.dataset.publication import is_published, publish
from embedkit.dataset.removal import check_not_removed, is_there, removals
from embedkit.dataset.rows import read_columns
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, latest
from embedkit.errors import IntegrityError, RemovedError

PROCESSES = ("prune", "other prune", "writer", "publisher", "reader")
NAMES = ("old", "middle", "newest", "refused", "half")
_ROOTS = itertools.count()
JOB = small_job()
SMALL = type(JOB)([make_block(0, 0, 2)])


@pytest.fixture(autouse=True, scope="module")
def _one_operation_at_a_time():
    with pytest.MonkeyPatch.context() as patched:
        for module in (prune, removal, stores):
            patched.setattr(module, "READERS", 1)
        yield


@dataclass
class World:
    """A root with three versions, a half one that was left long ago, and one not published."""

    root: str = field(default_factory=lambda: f"memory://races-{next(_ROOTS)}")
    killed: set[str] = field(default_factory=set)
    reused: bool = False

    def __post_init__(self):
        MemoryFileSystem.store.clear()
        self.store = open_store(self.root)
        # It does not wait to be published, as others were after it.
        SMALL.seal(self.version("refused"))
        for name in ("old", "middle", "newest"):
            SMALL.complete(self.version(name))
        half = self.version("half")
        create_or_check_plan(half, VersionPlan("f" * 32))
        commit_block(half, JOB.blocks[0], JOB.options, 32, b'{"stats": 1}')
        for path, file in MemoryFileSystem.store.items():
            if "/half/" in path:
                file.created = datetime(2000, 1, 1, tzinfo=UTC)

    def version(self, name, store=None):
        version = Version(self.root, name)
        version.__dict__["store"] = store or self.store
        return version

    def prune(self, store, run="prune"):
        # Its clock is as much ahead as clocks may be.
        def clock():
            return time.time() + 3000

        pruning = Prune(self.root, Policy(2, clock()), clock)
        pruning._store = store
        pruning._any.__dict__["store"] = store
        pruning._run = run
        return {one.version: one.goes for one in pruning.remove()}

    def processes(self):
        return {
            "prune": self.prune,
            "other prune": lambda store: self.prune(store, "other prune"),
            "writer": self.write,
            "publisher": lambda store: publish(self.version("refused", store)),
            "reader": self.read,
        }

    def write(self, store):
        """As a run resumes a version, takes rows over from an earlier one, and completes it."""
        half = self.version("half", store)
        old = self.version("old", store)
        check_not_removed(half)
        create_or_check_plan(half, VersionPlan("f" * 32))
        if not half.is_complete():
            join(half)
        mend(half)
        join(half, "old")
        if is_there(old):
            try:
                rows = list(read_columns(old, read_manifest(old).parts, ["id"]))
            except RemovedError as error:
                raise AssertionError("removed, although it was held") from error
            assert sum(batch.num_rows for batch in rows) == 2
            self.reused = True
        for block in JOB.blocks:
            commit_block(half, block, JOB.options, 32, b'{"stats": 1}')
        manifest = finalize(half, JOB.splits, JOB.description)
        check_not_removed(half)
        seal(half, manifest, lambda _: "# card\n")
        publish(half)
        leave(half)
        return "written"

    def read(self, store):
        version = latest(self.root)
        version.__dict__["store"] = store
        batches = read_columns(version, read_manifest(version).parts, None)
        return sum(batch.num_rows for batch in batches)

    def look(self):
        """What must hold at every moment: no complete version lacks anything."""
        for name in NAMES:
            if self.store.size(f"{name}/_SUCCESS") is not None:
                assert self.store.size(f"{name}/data/part-00000-00000.parquet") is not None
                assert self.store.size(f"{name}/_meta/manifest.json") is not None
        named = self.store.read("LATEST").decode().strip()
        # Who publishes what is removed at this moment is about to see that.
        assert self.version(named).is_complete() or named in removals(self.store)

    def check(self, results):
        """What must hold when all have ended, however they did."""
        killed = {name for name, result in results.items() if isinstance(result, KilledError)}
        for name, result in results.items():
            if isinstance(result, BaseException) and name not in killed:
                assert isinstance(result, RemovedError) or (
                    # It was gone before it began.
                    name == "publisher"
                    and isinstance(result, IntegrityError)
                    and "not complete" in str(result)
                ), (name, result)
        self.killed |= killed
        assert results["reader"] in (2, 12) or isinstance(results["reader"], BaseException)
        if results["writer"] == "written":
            assert validate(self.version("half")).problems == ()
            assert latest(self.root).is_complete()
        if results["publisher"] is None:
            assert is_published(self.version("refused"))
            assert validate(self.version("refused")).problems == ()
        if not killed:
            assert removals(self.store) == {}
            assert latest(self.root).is_complete()
        # The next prune finishes what a killed one left, and the next run what a writer left.
        self.prune(self.store, "last prune")
        assert removals(self.store) == {}
        assert latest(self.root).is_complete()
        for name in NAMES:
            version = self.version(name)
            if version.is_complete():
                assert validate(version).problems == (), name
            else:
                # A mark of a publisher that was killed goes when it is old.
                left = set(self.store.list(f"{name}/")) - {f"{name}/_PUBLISHED"}
                assert name == "half" or not left, name
        assert self.write(self.store) == "written"
        assert validate(self.version("half")).problems == ()
        assert latest(self.root).name in ("half", "refused")


def run(schedule, kills=None, only=PROCESSES):
    world = World()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(removal, "_is_dead", lambda claim, *_: claim.run in world.killed)
        processes = {name: one for name, one in world.processes().items() if name in only}
        results = interleave(world.store, processes, schedule, kills, world.look)
        results = {name: results.get(name, RemovedError()) for name in PROCESSES}
        world.check(results)
    return world, results


def alone(name):
    """The operations that a process does by itself, each with what it is about."""
    done = []

    class Counted:
        def __getattr__(self, operation):
            def call(*about):
                done.append((operation, *about[:1]))
                return getattr(world.store, operation)(*about)

            return call

    world = World()
    world.processes()[name](Counted())
    return done


def test_undisturbed():
    world, results = run([("writer", 10**6)])
    assert results["writer"] == "written"
    assert world.reused
    world, results = run([("prune", 10**6), ("other prune", 10**6)])
    goes = {"half": True, "middle": False, "newest": False, "old": True, "refused": True}
    assert results["prune"] == goes
    assert results["other prune"] == {"middle": False, "newest": False}
    assert not world.reused
    assert isinstance(results["publisher"], IntegrityError)


def test_no_prune_waits_for_another_that_finds_out_which_numbers_were_taken():
    done = alone("prune")
    at = done.index(("list", ".numbers/"), done.index(("create", ".removing/half.begun")))
    only = {"prune", "other prune"}
    _, results = run([("prune", at + 1), ("other prune", 10**6)], only=only)
    assert results["other prune"]["old"]


@pytest.mark.parametrize("second", ["writer", "publisher", "other prune", "reader"])
@pytest.mark.few(2)
def test_each_breaks_in_at_some_operations_of_a_prune(second):
    """And the prune at those of each; all of them are in the soak."""
    broken_in(second, step=41)


@pytest.mark.soak
@pytest.mark.parametrize("second", ["writer", "publisher", "other prune", "reader"])
def test_each_breaks_in_at_every_operation_of_a_prune(second):
    assert broken_in(second, step=1) > 80


def broken_in(second, step):
    count = 0
    for first, other in (("prune", second), (second, "prune")):
        for at in range(0, len(alone(first)) + 1, step):
            run([(first, at), (other, 10**6)], only={first, other})
            count += 1
    return count


SCHEDULES = st.lists(
    st.tuples(st.sampled_from(PROCESSES), st.integers(1, 40)), min_size=5, max_size=60
)
KILLS = st.dictionaries(st.sampled_from(PROCESSES[:4]), st.integers(0, 120), max_size=2)


@settings(max_examples=4)
@given(schedule=SCHEDULES, kills=KILLS)
def test_all_at_once_in_any_order_with_kills(schedule, kills):
    run(schedule, kills)


@pytest.mark.soak
@pytest.mark.timeout(3000)
@settings(max_examples=1500)
@given(schedule=SCHEDULES, kills=KILLS)
def test_all_at_once_in_very_many_orders_with_kills(schedule, kills):
    run(schedule, kills)
