"""The heartbeat of a version: who writes it, and when that was last heard of.

It stands while a version is made, replaced over and over, and is gone once that is complete. Where
a store refuses it for a while, the run goes on.
"""

import logging
import math
import secrets
import socket
import time
from dataclasses import dataclass
from functools import cache

from embedkit.dataset.removal import CLOCK_SKEW_SECONDS, check_not_removed
from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version
from embedkit.errors import RemovedError, StoreError
from embedkit.formats.json_record import JsonRecord

BEAT_SECONDS = 30.0
"""Seconds between two heartbeats."""

ALIVE_SECONDS = 24 * 3600.0
"""A version whose heartbeat is younger may still be written; the skew of clocks comes on top."""

_LOG = logging.getLogger("embedkit")


@dataclass(frozen=True)
class Heartbeat(JsonRecord):
    """Who writes a version.

    Attributes:
        time: When, in seconds since the epoch by the writer's clock.
        host: Name of its machine.
        run: Tells its process from others.
        interval: Seconds until the next one is to be expected.
        reuses: Name of the earlier version whose vectors it takes over.
        held: Names of the versions that must stay: that one, and those of other runs that were
            heard of lately.
    """

    time: float
    host: str
    run: str
    interval: float
    reuses: str | None = None
    held: tuple[str, ...] = ()


@dataclass(frozen=True)
class Heard:
    """When and of whom a version's heartbeat was last heard.

    Attributes:
        at: Seconds since the epoch: the later of what it says and of when the store wrote it.
        beat: What it says; None where it is torn.
    """

    at: float
    beat: Heartbeat | None

    def is_alive(self, now: float, alive: float = ALIVE_SECONDS) -> bool:
        """Whether its writer may still be at work."""
        return now - self.at <= alive + CLOCK_SKEW_SECONDS


def beat(version: Version, reuses: str | None = None) -> None:
    """Says that this process writes a version.

    Args:
        version: The version.
        reuses: Name of the version whose vectors it takes over.

    Raises:
        StoreError: The store failed.
    """
    now = time.time()
    held = {reuses} if reuses is not None else set()
    standing = _parsed(read_if_there(version.store, version.heartbeat_key))
    if standing is not None and Heard(standing.time, standing).is_alive(now):
        # Another run of the same job may take vectors over from another version.
        held |= set(standing.held)
    said = Heartbeat(now, socket.gethostname(), run_id(), BEAT_SECONDS, reuses, tuple(sorted(held)))
    version.store.replace(version.heartbeat_key, said.to_json())


def last_heard(version: Version) -> Heard | None:
    """Returns when somebody last said that he writes a version, or None where nobody has.

    Raises:
        StoreError: The store failed.
    """
    data = read_if_there(version.store, version.heartbeat_key)
    if data is None:
        return None
    modified = version.store.modified(version.heartbeat_key)
    said = _parsed(data)
    if said is None:
        # Torn, so that its writer was there whenever that was.
        return Heard(math.inf if modified is None else modified, None)
    return Heard(max(said.time, modified or 0.0), said)


def join(version: Version, reuses: str | None = None) -> None:
    """Says that this process writes a version, and makes sure that nobody removes it.

    Who removes a version claims it first and looks for heartbeats then, so one of the two sees the
    other.

    Args:
        version: A version that has its plan.
        reuses: Name of the version whose vectors it takes over; that this one is there has to be
            looked for after this call.

    Raises:
        RemovedError: The version is being removed.
        StoreError: The store failed.
    """
    try:
        beat(version, reuses)
    except StoreError as error:
        _LOG.warning("the run goes on without its heartbeat for now: %s", error)
    check_not_removed(version)
    if not version.is_begun():
        raise RemovedError(
            f"{version.url}: removed by embedkit prune just now; run the same command again, which "
            "begins the version anew"
        )


def leave(version: Version) -> None:
    """Takes the heartbeat and the growing listing of a version away, which is complete.

    Where the store refuses that they stay, and nobody takes note of them.
    """
    try:
        for key in (version.heartbeat_key, version.growing_key):
            version.store.remove(key)
    except StoreError as error:
        _LOG.warning("a heartbeat stays behind, which does no harm: %s", error)


def _parsed(data: bytes | None) -> Heartbeat | None:
    """Returns a heartbeat; None where there is none, or a torn one."""
    try:
        return None if data is None else Heartbeat.parse(data)
    except ValueError:
        return None


@cache
def run_id() -> str:
    """Returns what tells this process from all others."""
    return secrets.token_hex(8)
