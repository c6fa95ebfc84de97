"""Heartbeats of whoever makes a version: a driver's thread, or the commits of workers."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.growing import GrowingListing, Growth, standing_listing
from embedkit.dataset.heartbeat import BEAT_SECONDS, beat, join, last_heard, leave
from embedkit.dataset.removal import check_not_removed
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError, RemovedError, StoreError
from embedkit.flow.prepare import Draft
from embedkit.records import Block

_LOG = logging.getLogger("embedkit")
_FIRST_SECONDS = 2.0
_PATIENCE_SECONDS = 300.0
_SHARE = 0.02
"""Most of the time that making listings may take."""


@contextmanager
def beating(draft: Draft, committed: Iterable[CommitRecord] = ()) -> Iterator["Beats"]:
    """Keeps a version's heartbeat and growing listing from a thread while its body makes it.

    Args:
        draft: The version.
        committed: What was committed before.

    Raises:
        RemovedError: Somebody removes the version.
        StoreError: The store failed.
    """
    join(draft.version, draft.reuses)
    beats = Beats(draft.version, _growth(draft), draft.reuses)
    beats.add(committed)
    thread = threading.Thread(target=beats.go_on, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield beats
    finally:
        beats.stop.set()
        thread.join()
    leave(draft.version)


class Beats:
    """What a driver's thread says of a version, over and over.

    Args:
        version: The version.
        growth: Adds up what is committed to it.
        reuses: Name of the version whose vectors it takes over.

    Attributes:
        stop: Ends the thread, once set.
    """

    def __init__(self, version: Version, growth: Growth, reuses: str | None) -> None:
        self._version = version
        self._growth = growth
        self._reuses = reuses
        self._listing = threading.Lock()
        self._lists = True
        self._next_listing = 0.0
        self._refused_since: float | None = None
        self._said = False
        self.stop = threading.Event()

    def add(self, committed: Iterable[CommitRecord]) -> None:
        """Adds records that were read before."""
        self._growth.add(committed)

    def stop_listing(self) -> None:
        """Leaves the listing as it stands: what is committed may be taken back from here on."""
        with self._listing:
            self._lists = False

    def go_on(self) -> None:
        """Beats until it is stopped, at first more often than later."""
        wait = _FIRST_SECONDS
        while not self.stop.wait(wait):
            self.beat()
            wait = min(2 * wait, BEAT_SECONDS)

    def beat(self) -> None:
        """Replaces the heartbeat, and the listing where it is time; no failure comes of it."""
        try:
            beat(self._version, self._reuses)
            check_not_removed(self._version)
            with self._listing:
                if self._lists and time.monotonic() >= self._next_listing:
                    self._list()
            self._refused_since = None
        except RemovedError as error:
            self._say("%s", error)
        except StoreError as error:
            now = time.monotonic()
            self._refused_since = self._refused_since or now
            if now - self._refused_since >= _PATIENCE_SECONDS:
                self._say("the run goes on without its heartbeat: %s", error)

    def _list(self) -> None:
        seconds = _list(self._growth)
        self._next_listing = time.monotonic() + max(BEAT_SECONDS / 4, seconds / _SHARE)

    def _say(self, line: str, error: Exception) -> None:
        if not self._said:
            _LOG.warning(line, error)
            self._said = True


@dataclass
class BeatAtCommit:
    """Keeps a version's heartbeat and growing listing as workers commit blocks; picklable.

    Of all workers, one at a time finds that it is time for another.

    Attributes:
        version: The version.
        description: What its manifest will say of the vectors.
        splits: Number of splits of its plan; None where it is not known beforehand.
        reuses: Name of the version whose vectors it takes over.
    """

    version: Version
    description: dict[str, Any]
    splits: int | None
    reuses: str | None
    _next: float = field(default=0.0, init=False, compare=False)

    @classmethod
    def of(cls, draft: Draft) -> "BeatAtCommit":
        """Returns what beats for a draft."""
        return cls(draft.version, draft.description, _splits(draft), draft.reuses)

    def __reduce__(self) -> tuple[Any, ...]:
        # Another process has another clock.
        return type(self), (self.version, self.description, self.splits, self.reuses)

    def __call__(self, block: Block, record: CommitRecord) -> None:
        """Hears of a block that was committed.

        Raises:
            RemovedError: Somebody removes the version.
        """
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + BEAT_SECONDS
        try:
            check_not_removed(self.version)
            self._beat()
        except StoreError as error:
            _LOG.info("no heartbeat for now: %s", error)

    def _beat(self) -> None:
        version, now = self.version, time.time()
        heard = last_heard(version)
        is_fresh = heard is not None and now - heard.at < BEAT_SECONDS
        listed = version.store.modified(version.growing_key)
        if (is_fresh and listed is not None) or version.is_complete():
            return
        if not is_fresh:
            beat(version, self.reuses)
        standing = _standing(version)
        wait = 0.0 if standing is None else max(BEAT_SECONDS, standing.seconds / _SHARE)
        if standing is None or now - standing.time >= wait:
            growth = Growth(version, self.description, self.splits)
            growth.go_on_from(standing)
            _list(growth)


def _list(growth: Growth) -> float:
    """Replaces the listing by one of all that is committed by now; returns the seconds it took."""
    began = time.monotonic()
    try:
        growth.look()
    except (FileNotFoundError, IntegrityError) as error:
        # A record was taken back or is damaged, which those say who need it.
        _LOG.info("what is committed is not listed for now: %s", error)
        growth.go_on_from(None)
    else:
        growth.write(time.time(), time.monotonic() - began)
    return time.monotonic() - began


def _standing(version: Version) -> GrowingListing | None:
    try:
        return standing_listing(version)
    except IntegrityError:
        # Torn, and so made anew.
        return None


def _growth(draft: Draft) -> Growth:
    return Growth(draft.version, draft.description, _splits(draft))


def _splits(draft: Draft) -> int | None:
    return len(draft.plan.splits) or None
