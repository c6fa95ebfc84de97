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
        self._past = [(time.monotonic(), 0)]

    def snapshot(self) -> Snapshot:
        """Returns the present moment."""
        loads = self._loads()
        now = time.monotonic()
        tokens = sum(load.tokens for load in loads)
        then, tokens_then = self._begin_of_rate(now, tokens)
        rate = (tokens - tokens_then) / (now - then) if now > then else 0.0
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

    def _begin_of_rate(self, now: float, tokens: int) -> tuple[float, int]:
        """Returns when what is counted for the rate began, and the tokens at that time.

        It is a minute ago, or longer if no encoder has answered since: calls that take minutes
        come to no rate of 0 between their answers.
        """
        past = self._past
        if len(past) > 1 and past[-1][1] == past[-2][1] == tokens:
            past.pop()
        past.append((now, tokens))
        while past[1][0] <= now - 60 and past[1][1] < tokens:
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
