"""Measures how busy encoders are, which tells whether the rest of the pipeline keeps up."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class EncoderLoad:
    """What one encoder process did so far.

    Attributes:
        encoder: The encoder's name.
        process: Distinguishes the processes that had the name one after the other.
        busy_seconds: Time during which it encoded, calls under way included: by the device's own
            clock where the encoder has one, else time with at least one call under way.
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
    """Measures one encoder's calls, of which several may be under way; read from any thread."""

    def __init__(self, encoder: str, process: str) -> None:
        self._lock = threading.Lock()
        self._done = EncoderLoad(encoder, process)
        self._starts: dict[object, float] = {}
        self._spans = _Spans()
        self._computed: _Growth | None = None
        self._device: _Growth | None = None

    @contextmanager
    def call(
        self,
        rows: int,
        tokens: int,
        computed_so_far: Callable[[], int] | None = None,
        device_seconds: Callable[[], float | None] | None = None,
    ) -> Iterator[None]:
        """Counts the enclosed work as one call, if it succeeds.

        Args:
            rows: Rows of the call.
            tokens: Their tokens.
            computed_so_far: Tells the tokens that the encoder has computed, fill included; without
                it no fill is counted.
            device_seconds: Tells the seconds that the encoder's device has computed, by its own
                clock; without it, or where it says None, this process's clock counts.
        """
        call = object()
        with self._lock:
            self._begin(call, computed_so_far, device_seconds)
        try:
            yield
        except BaseException:
            with self._lock:
                del self._starts[call]
            raise
        with self._lock:
            self._end(call, rows, tokens)

    def _begin(
        self,
        call: object,
        computed: Callable[[], int] | None,
        device: Callable[[], float | None] | None,
    ) -> None:
        if not self._starts:
            # What others had computed in between, or a call that failed, is not this meter's.
            self._computed = _Growth(computed) if computed else None
            self._device = _device_growth(device)
        self._starts[call] = time.time()

    def _end(self, call: object, rows: int, tokens: int) -> None:
        done, now, start = self._done, time.time(), self._starts.pop(call)
        self._spans.add(start, now)
        self._done = EncoderLoad(
            done.encoder,
            done.process,
            done.busy_seconds + (self._device.take() if self._device else self._spans.take()),
            min(start, done.first_start or start),
            now,
            done.calls + 1,
            done.rows + rows,
            done.tokens + tokens,
            done.computed + (int(self._computed.take()) if self._computed else tokens),
        )
        if not self._starts:
            self._spans = _Spans()

    def read(self) -> EncoderLoad:
        """Returns the load up to now."""
        with self._lock:
            done, now, starts = self._done, time.time(), self._starts.values()
            if not starts:
                return done
            busy = self._device.get() if self._device else self._spans.get((min(starts), now))
            return replace(
                done,
                busy_seconds=done.busy_seconds + busy,
                first_start=min([*starts, done.first_start or now]),
                last_end=now,
            )


class _Growth:
    """How much a running total grew since it was last taken."""

    def __init__(self, total: Callable[[], float]) -> None:
        self._total = total
        self._taken = total()

    def get(self) -> float:
        return self._total() - self._taken

    def take(self) -> float:
        before, self._taken = self._taken, self._total()
        return self._taken - before


def _device_growth(seconds: Callable[[], float | None] | None) -> _Growth | None:
    if seconds is None or seconds() is None:
        return None
    told = seconds
    return _Growth(lambda: told() or 0.0)


class _Spans:
    """Spans of time, each moment of which counts once, however many of them it is in."""

    def __init__(self) -> None:
        self._spans: list[tuple[float, float]] = []
        self._taken = 0.0

    def add(self, start: float, end: float) -> None:
        self._spans = _disjoint([*self._spans, (start, end)])

    def get(self, more: tuple[float, float] | None = None) -> float:
        """Returns what they cover, with one more if given, less what was taken."""
        spans = self._spans if more is None else _disjoint([*self._spans, more])
        return sum(end - start for start, end in spans) - self._taken

    def take(self) -> float:
        found = self.get()
        self._taken += found
        return found


def _disjoint(spans: list[tuple[float, float]]) -> list[tuple[float, float]]:
    found: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end)
        else:
            found.append((start, end))
    return found


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
