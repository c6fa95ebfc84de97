"""Stores that fail one time in ten, or say what is not so, for as long as a run lasts."""

import os
import random
from typing import Any

import pytest
from failing_store import Fault, Faults
from fault_cases import GcsPlace, MemoryPlace, Night, Place, S3Place
from flaky_proxy import Failure, flaky_proxy

from embedkit.engines.run import run_job

_MOST_ATTEMPTS = 250
"""To finish takes some 300 operations, of which none may fail: one attempt in twenty gets there."""


class Flaky(Faults):
    """One operation in a hundred fails, done or not: clients ask three times and more."""

    def __init__(self, seed: int) -> None:
        chosen = random.Random(seed)
        super().__init__(
            lambda *_: (
                chosen.choice((Fault.BEFORE, Fault.AFTER)) if chosen.random() < 0.01 else None
            )
        )


class Lies(Faults):
    """One answer in ten to the question what is there is wrong, or an old one."""

    def __init__(self, seed: int) -> None:
        super().__init__(lambda *_: None)
        self._chosen = random.Random(seed)

    def answer(self, name: str, answer: Any) -> Any:
        """Returns another size, or a listing without one of its entries."""
        if self._chosen.random() >= 0.1:
            return answer
        if name == "size":
            return answer and self._chosen.choice([None, 0, answer + 1])
        if name in ("list", "sizes", "matching") and isinstance(answer, (list, frozenset)):
            return self._shorter(sorted(answer), name == "sizes")
        return answer

    def _shorter(self, found: list[Any], has_sizes: bool) -> list[Any]:
        if not found:
            return found
        place = self._chosen.randrange(len(found))
        if has_sizes and self._chosen.random() < 0.5:
            key, size = found[place]
            return [*found[:place], (key, size // 2), *found[place + 1 :]]
        return found[:place] + found[place + 1 :]


def try_until_done(night: Night, faults: type[Faults], seed: int) -> int:
    """Runs a night's job again and again over a bad store until it is done; returns how often."""
    night.begin()
    night.counts.cases += 1
    for attempt in range(_MOST_ATTEMPTS):
        outcome = night.attempt(faults(seed * _MOST_ATTEMPTS + attempt))
        night.counts.outcomes[outcome] += 1
        if outcome == "finished":
            break
    else:
        raise AssertionError(f"not done in {_MOST_ATTEMPTS} attempts; {night.log[-3:]}")
    return attempt + 1


def check(night: Night, what: str) -> None:
    print(f"\n{night.counts.line(what)}")
    assert night.counts.harm == (0, 0, 0)


def fail_now_and_then(night: Night, seeds: range, what: str) -> None:
    for seed in seeds:
        try_until_done(night, Flaky, seed)
        night.check_data()
        run_job(night.job)
        night.check_end()
    check(night, what)


def lie_one_time_in_ten(night: Night, seeds: range, what: str) -> None:
    """A run over lies may be said to be done; an honest one finds what is wrong, and mends it."""
    for seed in seeds:
        try_until_done(night, Lies, seed)
        run_job(night.job)
        # A store that says that the earlier version is gone has its texts encoded anew.
        night.check_data(anew=True)
    check(night, what)


def place() -> Place:
    return MemoryPlace()


def test_operations_fail_now_and_then(nightly):
    fail_now_and_then(Night(*nightly, place()), range(1), "memory, 1 % fail behind the client")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_operations_fail_now_and_then_for_long(nightly):
    fail_now_and_then(Night(*nightly, place()), range(40), "memory, 1 % fail behind the client")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_one_answer_in_ten_is_wrong(nightly):
    lie_one_time_in_ten(Night(*nightly, place()), range(100), "memory, 10 % lies")


@pytest.fixture(params=["s3", "gcs"])
def flaky_service(request, monkeypatch):
    """A place of a service before which is a proxy, which can be told to fail."""
    if request.param == "s3":
        import s3fs

        bucket = request.getfixturevalue("bucket")
        with flaky_proxy(request.getfixturevalue("s3_server")) as proxy:
            monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
            s3fs.S3FileSystem.clear_instance_cache()
            yield S3Place(bucket), proxy
        return
    import gcsfs

    gcs = request.getfixturevalue("gcs")
    with flaky_proxy(os.environ["STORAGE_EMULATOR_HOST"]) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield GcsPlace(gcs), proxy


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_one_request_in_ten_fails(nightly, flaky_service):
    """It is answered 500 or 503, or lost on its way, or its answer is, though all was done."""
    place, proxy = flaky_service
    night = Night(*nightly, place)
    chosen = random.Random(20)

    def failure() -> Failure | None:
        return chosen.choice((500, 503, "before", "after")) if chosen.random() < 0.1 else None

    # gcsfs waits for seconds before it asks again.
    for _ in range(2 if isinstance(place, GcsPlace) else 5):
        night.begin()
        night.counts.cases += 1
        proxy.requests = proxy.failures = 0
        for _ in range(_MOST_ATTEMPTS):
            proxy.failure_of = failure
            outcome = night.attempt(Faults(lambda *_: None))
            proxy.failure_of = lambda: None
            night.counts.outcomes[outcome] += 1
            if outcome == "finished":
                break
        print(f"{proxy.failures} of {proxy.requests} requests failed")
        assert proxy.failures > 20
        night.check_data()
        run_job(night.job)
        night.check_end()
    check(night, f"{place.root.partition(':')[0]}, 10 % of requests fail")
