"""A late attempt at a block while its version is completed, and where conditions do not hold."""

from collections.abc import Callable

import pytest
from blocks import nudged
from failing_store import FailingStore, Faults, Meanwhile
from fsspec.implementations.memory import MemoryFileSystem

from embedkit.dataset.commit import commit_block
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.stores import Store, open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, latest

ROOT = "memory://late/out"


def version_over(faults: Faults | None = None) -> Version:
    version = Version(ROOT, "v1")
    if faults is not None:
        version.__dict__["store"] = FailingStore(open_store(ROOT), faults)
    return version


def late(job, number: int) -> None:
    """An attempt at one block, whose vectors differ in their last digits."""
    commit_block(version_over(), nudged(job.blocks[number]), job.options, 32, b'{"stats": 1}')


def check_whole() -> None:
    version = version_over()
    assert validate(version).problems == ()
    assert read_manifest(version).rows == 12
    assert latest(ROOT) == version


def complete_with(job, number: int, what: Callable[[], object]) -> int:
    """Completes the job; something else happens before one of its operations."""
    MemoryFileSystem.store.clear()
    faults = Meanwhile(number, what)
    job.complete(version_over(faults))
    what()
    check_whole()
    return len(faults.operations)


@pytest.mark.parametrize("block", [0, 1])
def test_a_late_attempt_changes_nothing_whenever_it_comes(job, block):
    """It is whole between two operations of the run that commits, completes and publishes."""
    operations = complete_with(job, -1, lambda: late(job, block))
    assert operations > 50
    for number in range(0, operations, 7):
        complete_with(job, number, lambda: late(job, block))


@pytest.mark.soak
@pytest.mark.parametrize("block", range(4))
def test_late_attempts_at_every_moment(job, block):
    for number in range(complete_with(job, -1, lambda: late(job, block))):
        complete_with(job, number, lambda: late(job, block))


@pytest.mark.parametrize("block", [0, 1])
def test_a_version_is_completed_in_the_middle_of_a_late_attempt(job, block):
    """And a third attempt is made then as well."""
    number = operations = 0
    while number <= operations:
        MemoryFileSystem.store.clear()

        def completed() -> None:
            late(job, block)
            job.complete(version_over())

        faults = Meanwhile(number, completed)
        attempt = nudged(nudged(job.blocks[block]))
        commit_block(version_over(faults), attempt, job.options, 32, b'{"stats": 1}')
        operations, number = len(faults.operations), number + 1
        if number > operations:
            completed()
        check_whole()
    assert operations > 3


class _Forgetful:
    """A store that stops to heed the condition of a create."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def create(self, key: str, data: bytes) -> bool:
        self._store.replace(key, data)
        return True


def test_validate_tells_what_a_store_that_ignores_conditions_later_has_mixed(job):
    """The late attempt had looked for the commit record before the block was committed."""
    MemoryFileSystem.store.clear()
    faults = Meanwhile(1, lambda: job.complete(version_over()))
    attempt = Version(ROOT, "v1")
    attempt.__dict__["store"] = FailingStore(_Forgetful(open_store(ROOT)), faults)
    commit_block(attempt, nudged(job.blocks[0]), job.options, 32, b'{"stats": 1}')
    (problem, *_) = validate(version_over()).problems
    assert "data/part-00000-00000.parquet" in problem
    assert "\n" not in problem
