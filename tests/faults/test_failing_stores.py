"""Promise 1, operation by operation: whatever fails, the next run ends in the same dataset."""

import random
from collections.abc import Sequence

import pytest
from failing_store import Fault, Faults, faults_of
from fault_cases import (
    Night,
)

SEED = 20
PARTS = 4
"""As the cases of a store over HTTP take hours: its parts may run side by side."""


def try_all(night: Night, faults: Sequence[tuple[int, Fault]]) -> None:
    for number, fault in faults:
        night.case(Faults.at((number, fault)), power=fault is Fault.TORN)
        if night.counts.cases % 20 == 0:
            print(f"{night.counts.cases} of {len(faults)}", flush=True)


def try_pairs(
    night: Night, faults: list[tuple[int, Fault]], count: int, *, seed: int = SEED
) -> None:
    """Two faults of one attempt, and one in each of two attempts."""
    chosen = random.Random(seed)
    for number in range(count):
        first, second = sorted(chosen.sample(faults, 2), key=lambda one: one[0])
        power = Fault.TORN in (first[1], second[1])
        if number % 2:
            night.case(Faults.at(first, second), power=power)
        else:
            night.case(Faults.at(first), Faults.at(second), power=power)


def check(store: str, night: Night, what: str) -> None:
    """Prints what came of the cases, and checks that no row was harmed and every run went on."""
    print("\n| store | cases | lost | doubled | torn | attempts |")
    print(night.counts.line(f"{store}, {what}"))
    assert night.counts.failures == []
    assert night.counts.harm == (0, 0, 0)


@pytest.mark.parametrize("store", ["memory", "local"])
def test_a_sample_of_operations_that_fail(store, nightly, make_place):
    night = Night(*nightly, make_place(store))
    assert night.problems == ()
    faults = list(faults_of(night.operations, store == "local"))
    assert len(faults) > 400
    try_all(night, random.Random(SEED).sample(faults, 4))
    try_pairs(night, faults, 2)
    check(store, night, "a sample")


@pytest.mark.parametrize("torn", range(3), ids=["half", "nothing", "zeros"])
def test_a_torn_name_of_the_latest_version_is_said_and_mended(torn, nightly, make_place):
    """As a disk that loses power may leave it, where it does not keep the order of writes."""
    night = Night(*nightly, make_place("local"))
    faults = Faults(lambda _, operation: Fault.TORN if operation == "replace LATEST" else None)
    faults.torn = torn
    night.case(faults, power=True)
    assert night.log[-1] == "replace LATEST"
    check("local", night, "a torn LATEST")
    assert night.counts.outcomes == {"killed": 1}


@pytest.mark.soak
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("store", ["memory", "local", "s3", "gcs"])
def test_every_operation_that_fails(store, part, nightly, make_place):
    night = Night(*nightly, make_place(store))
    assert night.problems == ()
    faults = list(faults_of(night.operations, store == "local"))
    try_all(night, faults[part::PARTS])
    try_pairs(night, faults, 100 // PARTS, seed=SEED + part)
    check(store, night, f"every operation, part {part + 1} of {PARTS}")
