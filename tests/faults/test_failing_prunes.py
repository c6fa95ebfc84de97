"""A prune whose store fails at any operation takes nothing that stays, and the next one ends it."""

import random
import time

import pytest
from failing_store import Faults, Gone, faults_of
from fault_cases import Counts, Place, contents

from embedkit.dataset import removal
from embedkit.dataset.prune import Policy, Prune
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import latest
from embedkit.engines.run import run_job
from embedkit.errors import EmbedkitError

_LATER = 40 * 86_400.0


class Pruning:
    """The root after a second night, of whose two versions the older goes."""

    def __init__(self, nightly, place: Place) -> None:
        job, before = nightly
        self.place, self.counts = place, Counts()
        self.begin_with(before)
        run_job(job.model_copy(update={"output": place.root}))
        self.before = contents(place.root)
        self.kept = {
            key: data
            for key, data in self.before.items()
            if key.startswith(f"{latest(place.root).name}/")
        }
        faults = Faults(lambda *_: None)
        with faults.in_stores():
            self.prune()
        self.operations = faults.operations
        self.after = contents(place.root)
        assert self.kept.items() <= self.after.items() < self.before.items()

    def begin_with(self, files: dict[str, bytes]) -> None:
        self.place.clear()
        store = open_store(self.place.root)
        for key, data in files.items():
            store.create(key, data)

    def prune(self) -> None:
        for _ in Prune(self.place.root, Policy(), lambda: time.time() + _LATER).remove():
            pass

    def case(self, *faults: Faults) -> None:
        """Prunes with faults, once for each, and then to the end."""
        self.begin_with(self.before)
        self.counts.cases += 1
        for each in faults:
            self.counts.outcomes[self._attempt(each)] += 1
            found = contents(self.place.root)
            assert self.kept.items() <= found.items(), each.operations[-1]
            assert validate(latest(self.place.root)).problems == ()
        self.prune()
        assert contents(self.place.root) == self.after, each.operations[-1]

    def _attempt(self, faults: Faults) -> str:
        try:
            with faults.in_stores():
                self.prune()
        except Gone:
            return "killed"
        except EmbedkitError as error:
            assert "\n" not in str(error)
            return type(error).__name__
        return "finished"


@pytest.fixture
def pruning(nightly, make_place, store, monkeypatch):
    """All operations of it with all of their faults; those killed before are known to be dead."""
    monkeypatch.setattr(removal, "_is_dead", lambda *_: True)
    found = Pruning(nightly, make_place(store))
    return found, list(faults_of(found.operations, store == "local"))


@pytest.mark.parametrize("store", ["memory", "local"])
def test_a_sample_of_operations_of_a_prune_that_fail(pruning):
    found, faults = pruning
    for fault in random.Random(20).sample(faults, 4):
        found.case(Faults.at(fault))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("store", ["memory", "local", "s3", "gcs"])
def test_every_operation_of_a_prune_that_fails(pruning, store):
    found, faults = pruning
    for fault in faults:
        found.case(Faults.at(fault))
    chosen = random.Random(20)
    for _ in range(50):
        first, second = chosen.sample(faults, 2)
        found.case(Faults.at(first), Faults.at(second))
    print(f"\n{found.counts.line(f'{store}, prune')}")
