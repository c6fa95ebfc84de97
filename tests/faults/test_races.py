"""Several runs of one job at once, each operation of their stores in an order of chance."""

import random
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from unittest.mock import patch

import pytest
from failing_store import FailingStore, Fault, Faults, Gone
from fault_cases import Counts, MemoryPlace, Night, contents
from turns import TurnTaker

from embedkit.dataset import version as versions
from embedkit.dataset.stores import Store, open_store
from embedkit.dataset.version import block_of
from embedkit.engines.run import run_job
from embedkit.errors import EmbedkitError, ResumableError
from embedkit.flow import complete
from embedkit.flow.prepare import prepare
from embedkit.reports.account import RunAccount


class InTurns(Faults):
    """A run that does one operation when it is its turn, and is killed behind one, if at all."""

    def __init__(self, turns: TurnTaker, who: int, killed_at: int | None) -> None:
        super().__init__(lambda number, _: Fault.GONE if number == killed_at else None)
        self._turns, self._who = turns, who

    @contextmanager
    def operation(self, name: str, key: str) -> Iterator[Fault | None]:
        self._turns.wait(self._who)
        try:
            with super().operation(name, key) as fault:
                yield fault
        finally:
            self._turns.done(self._who)


def schedule(chosen: random.Random, count: int) -> Iterator[int]:
    """Yields whose turn it is: some begin later than others, and some are faster for a while."""
    begins = [0, *(chosen.randrange(250) for _ in range(count - 1))]
    done = 0
    while True:
        begun = [who for who in range(count) if begins[who] <= done]
        weights = [chosen.random() ** 4 for _ in begun]
        turns = chosen.choices(begun, weights, k=chosen.randrange(1, 60))
        yield from turns
        done += len(turns)


def race(night: Night, seed: int, count: int) -> Iterator[str]:
    """Runs a night's job several times at once, some of them killed; yields how each ended."""
    night.begin()
    chosen = random.Random(seed)
    turns = TurnTaker(schedule(chosen, count), count)
    kills = [chosen.choice([None, chosen.randrange(250)]) for _ in range(count)]
    runs = {f"memory://run-{who}/out": InTurns(turns, who, kills[who]) for who in range(count)}

    def attempt(who: int) -> str:
        job = night.job.model_copy(update={"output": f"memory://run-{who}/out"})
        try:
            run_job(job)
        except Gone:
            return "killed"
        except EmbedkitError as error:
            assert "\n" not in str(error)
            return type(error).__name__
        finally:
            turns.wait(who)
            turns.done(who, finished=True)
        return "finished"

    with opened_as(runs, night.place.root), ThreadPoolExecutor(count) as pool:
        yield from pool.map(attempt, range(count))


@contextmanager
def opened_as(runs: Mapping[str, Faults], root: str) -> Iterator[None]:
    """Has each run find the same objects below a root of its own name."""

    def opened(asked: str) -> Store:
        return FailingStore(open_store(root), runs[asked]) if asked in runs else open_store(asked)

    with patch.object(versions, "open_store", opened):
        yield


def try_races(night: Night, seeds: range, count: int) -> Counts:
    """Has runs race; whatever they leave, the next run ends in what an undisturbed one does."""
    for seed in seeds:
        night.log = [f"seed {seed}"]
        night.counts.cases += 1
        night.counts.outcomes.update(race(night, seed, count))
        night.check_published()
        run_job(night.job)
        night.check_end()
    return night.counts


@pytest.fixture(scope="module")
def committed_once_more(nightly) -> dict[str, bytes]:
    """What is of the blocks of the document that is rejected whole before it is."""
    night = Night(*nightly, MemoryPlace())
    night.begin()
    with patch.object(complete, "reject_whole_documents", side_effect=Gone), pytest.raises(Gone):
        run_job(night.job)
    found = contents(night.place.root)
    blocks = {
        block_of(key)
        for key, data in found.items()
        if "/_meta/commits/" in key and data != night.after[key]
    }
    assert len(blocks) > 3
    return {key: data for key, data in found.items() if block_of(key) in blocks}


def put(root: str, objects: Mapping[str, bytes]) -> None:
    for key, data in objects.items():
        open_store(root).replace(key, data)


@pytest.mark.parametrize("blocks", ["all of them", "one with rows", "the one with a reject"])
def test_a_late_run_commits_blocks_of_a_complete_version_once_more(
    nightly, committed_once_more, blocks
):
    """The next run finds it, whose marks say that all is well; readers have the parts listed."""
    night = Night(*nightly, MemoryPlace())
    folder = {"one with rows": "/data/", "the one with a reject": "/rejects/"}.get(blocks, "")
    new = [key for key in committed_once_more if folder in key and key not in night.after]
    some = {block_of(key) for key in (new if not folder else new[:1])}
    put(
        night.place.root,
        {key: data for key, data in committed_once_more.items() if block_of(key) in some},
    )
    night.check_published()
    account = run_job(night.job)
    night.check_end()
    assert not account.already_complete


def test_a_late_run_says_that_what_it_committed_is_not_in_the_version(nightly, committed_once_more):
    night = Night(*nightly, MemoryPlace())
    draft = prepare(night.job)
    put(night.place.root, committed_once_more)
    with pytest.raises(ResumableError, match="run the same command again, which puts it right"):
        complete.complete_version(draft, RunAccount())


@pytest.mark.parametrize("folder", ["_meta/commits", "_meta/stats", "data"])
def test_a_late_run_takes_blocks_back_of_a_complete_version(nightly, folder):
    """They are compared with the same earlier version once more, though ``LATEST`` names this."""
    night = Night(*nightly, MemoryPlace())
    key = max(key for key in night.after if key.startswith(f"{night.name}/{folder}/"))
    open_store(night.place.root).remove(key)
    run_job(night.job)
    night.check_end()


@pytest.mark.parametrize("count", [2, 3])
def test_runs_at_once(nightly, count):
    """A few of them; the soak has hundreds."""
    counts = try_races(Night(*nightly, MemoryPlace()), range(9, 10), count)
    assert counts.outcomes.total() == count


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [2, 3])
def test_many_runs_at_once(nightly, count):
    night = Night(*nightly, MemoryPlace())
    counts = try_races(night, range(300), count)
    print(f"\n{counts.line(f'memory, {count} runs at once')}")
    assert counts.harm == (0, 0, 0)
