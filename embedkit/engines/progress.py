"""How far a run is, from what its encoders and workers say; it is shown from threads of its own."""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from embedkit.encoders.host_cores import HostWork
from embedkit.encoders.meter import EncoderLoad, busy_share
from embedkit.engines.display import Display, Snapshot
from embedkit.errors import EmbedkitError

_LOG = logging.getLogger("embedkit")
_PHASE_SECONDS = 0.2
_RATE_SECONDS = 60
_RATE_CALLS = 8


@dataclass(frozen=True)
class Expected:
    """An estimate of a run's size.

    Attributes:
        documents: All documents of the corpus.
        tokens: Tokens that this run has to encode.
        tokens_before: Tokens that earlier runs encoded.
        host: What CPU cores have to do for them; None where that was not looked at.
    """

    documents: int
    tokens: int
    tokens_before: int = 0
    host: HostWork | None = None


@dataclass(frozen=True, slots=True)
class _Moment:
    """What encoders had done at a time of the monotonic clock."""

    seconds: float
    tokens: int = 0
    calls: int = 0


class Watch:
    """Turns the encoders' loads and the committed documents into snapshots.

    Args:
        loads: Returns the load of every encoder process so far.
        documents: Returns the documents committed so far.
        expected: The run's estimated size.
    """

    def __init__(
        self,
        loads: Callable[[], list[EncoderLoad]],
        documents: Callable[[], int],
        expected: Expected,
    ) -> None:
        self._loads = loads
        self._documents = documents
        self._expected = expected
        self._past = [_Moment(time.monotonic())]

    def snapshot(self) -> Snapshot:
        """Returns the present moment."""
        loads = self._loads()
        tokens = sum(load.tokens for load in loads)
        now = _Moment(time.monotonic(), tokens, sum(load.calls for load in loads))
        then = self._begin_of_rate(now)
        seconds = now.seconds - then.seconds
        rate = (tokens - then.tokens) / seconds if seconds > 0 else 0.0
        todo = max(0, self._expected.tokens - tokens)
        return Snapshot(
            documents=self._documents(),
            documents_expected=self._expected.documents,
            tokens=tokens,
            tokens_expected=self._expected.tokens,
            tokens_per_second=rate,
            busy=busy_share(loads),
            seconds_left=todo / rate if rate else None,
            tokens_before=self._expected.tokens_before,
        )

    def _begin_of_rate(self, now: _Moment) -> _Moment:
        """Returns the moment from which on tokens are counted for the rate.

        It is a minute ago, or longer ago if encoders answered only a few calls since: the rate is
        not 0 between the answers of calls that take minutes, nor is it twice as high where two
        answers fall into a minute and half as high where one does.
        """
        past = self._past
        if len(past) > 1 and past[-1].tokens == past[-2].tokens == now.tokens:
            past.pop()
        past.append(now)
        while (
            past[1].seconds <= now.seconds - _RATE_SECONDS
            and past[1].calls <= now.calls - _RATE_CALLS
        ):
            past.pop(0)
        return past[0]


@contextmanager
def shown(watch: Watch, display: Display) -> Iterator[None]:
    """Shows snapshots from a thread of its own while the body runs, and once more at its end."""

    def show(finished: bool = False) -> None:
        try:
            snapshot = watch.snapshot()
        except EmbedkitError as error:
            _LOG.warning("progress is not shown for now: %s", error)
            return
        display.show(snapshot.finished() if finished else snapshot)

    with repeated(show, display.interval, "progress"):
        yield
    show(finished=True)


@contextmanager
def phases_shown(current: Callable[[], str | None], display: Display) -> Iterator[None]:
    """Shows the phase that something goes through while the body waits for it.

    Args:
        current: Returns the phase, or None where there is none to tell.
        display: Shows it when it changes.
    """
    last: str | None = None

    def look() -> None:
        nonlocal last
        phase = current()
        if phase is not None and phase != last:
            display.phase(phase)
            last = phase

    with repeated(look, _PHASE_SECONDS, "phases"):
        yield
    # A phase that began and ended between two looks is said all the same.
    look()


@contextmanager
def repeated(call: Callable[[], None], seconds: float, name: str) -> Iterator[None]:
    """Calls something over and over, in a thread of its own, while the body runs."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(seconds):
            call()

    thread = threading.Thread(target=loop, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
