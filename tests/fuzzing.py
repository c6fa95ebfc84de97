"""Fuzzing by the clock, as what ten thousand files take differs a hundredfold between readers."""

import os
import time
from collections.abc import Iterator

SOAK_SECONDS = float(os.environ.get("EMBEDKIT_SOAK_SECONDS", "600"))
EXAMPLES = 500


def rounds(what: str) -> Iterator[int]:
    """Seeds until the time of a soak is over; prints how many examples that were.

    Each is for `EXAMPLES` of them: without one every round is the same where hypothesis is told
    to repeat itself, as it is by the environment of a CI.
    """
    end = time.monotonic() + SOAK_SECONDS
    seed = 0
    while seed == 0 or time.monotonic() < end:
        seed += 1
        yield seed
    print(f"\n{what}: {EXAMPLES * seed} examples", flush=True)
