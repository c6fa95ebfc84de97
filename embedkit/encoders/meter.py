"""Measures how busy encoders are, which tells whether the rest of the pipeline keeps up."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EncoderLoad:
    """What one encoder process did so far.

    Attributes:
        encoder: The encoder's name.
        process: Distinguishes the processes that had the name one after the other.
        busy_seconds: Time spent encoding, the call under way included.
        first_start: When its first call began, in seconds since the epoch; 0 before.
        last_end: When its last call ended, or now during a call; 0 before.
        calls: Calls finished.
        rows: Rows encoded in them.
        tokens: Tokens encoded in them.
        computed: The same with the fill of batches.
    """

    encoder: str
    process: str
    busy_seconds: float = 0.0
    first_start: float = 0.0
    last_end: float = 0.0
    calls: int = 0
    rows: int = 0
    tokens: int = 0
    computed: int = 0


class LoadMeter:
    """Measures one encoder's calls, which come one at a time; read from any thread."""

    def __init__(self, encoder: str, process: str) -> None:
        self._lock = threading.Lock()
        self._done = EncoderLoad(encoder, process)
        self._call_start: float | None = None

    @contextmanager
    def call(
        self, rows: int, tokens: int, computed_so_far: Callable[[], int] | None = None
    ) -> Iterator[None]:
        """Counts the enclosed work as one call, if it succeeds.

        Args:
            rows: Rows of the call.
            tokens: Their tokens.
            computed_so_far: Tells the tokens that the encoder has computed, fill included; without
                it no fill is counted.
        """
        before = computed_so_far() if computed_so_far else 0
        start = time.time()
        with self._lock:
            self._call_start = start
        try:
            yield
        except BaseException:
            with self._lock:
                self._call_start = None
            raise
        end = time.time()
        with self._lock:
            done = self._done
            self._call_start = None
            self._done = EncoderLoad(
                done.encoder,
                done.process,
                done.busy_seconds + end - start,
                done.first_start or start,
                end,
                done.calls + 1,
                done.rows + rows,
                done.tokens + tokens,
                done.computed + (computed_so_far() - before if computed_so_far else tokens),
            )

    def read(self) -> EncoderLoad:
        """Returns the load up to now."""
        with self._lock:
            done, start = self._done, self._call_start
        if start is None:
            return done
        now = time.time()
        return EncoderLoad(
            done.encoder,
            done.process,
            done.busy_seconds + now - start,
            done.first_start or start,
            now,
            done.calls,
            done.rows,
            done.tokens,
            done.computed,
        )


def padding_share(loads: Iterable[EncoderLoad]) -> float:
    """Returns the share of what encoders computed that was fill; 0 where nothing was encoded."""
    tokens = computed = 0
    for load in loads:
        tokens += load.tokens
        computed += load.computed
    return 1.0 - tokens / computed if computed else 0.0


def busy_share(loads: Iterable[EncoderLoad]) -> float:
    """Returns the share of its time that an encoder encoded, averaged over encoders.

    An encoder's time runs from its first call to its last, over all the processes that had its
    name, so the time that a restart takes counts as idle.

    Args:
        loads: The last known load of every encoder process of a run.

    Returns:
        A share between 0 and 1; 0 where nothing was encoded.
    """
    spans: dict[str, tuple[float, float, float]] = {}
    for load in loads:
        if load.first_start:
            busy, first, last = spans.get(load.encoder, (0.0, load.first_start, 0.0))
            spans[load.encoder] = (
                busy + load.busy_seconds,
                min(first, load.first_start),
                max(last, load.last_end),
            )
    shares = [busy / (last - first) for busy, first, last in spans.values() if last > first]
    return min(1.0, sum(shares) / len(shares)) if shares else 0.0


def encode_seconds(loads: Iterable[EncoderLoad]) -> float:
    """Returns the time from the first call to an encoder to the end of the last."""
    worked = [load for load in loads if load.first_start]
    if not worked:
        return 0.0
    return max(load.last_end for load in worked) - min(load.first_start for load in worked)
