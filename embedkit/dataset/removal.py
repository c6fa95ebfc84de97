"""The removal of a version: claimed by one process, begun, and finished by whoever claims it next.

Objects ``.removing/<version>.<what>`` of the root hold what there is to know of it. A claim is
created before anything is decided for good, and ``begun`` before anything is removed: a version
with a claim alone is whole, one with ``begun`` is finished by the next prune. A version has no
writer while a claim stands: who writes says so first and looks for claims then, and who removes
does the reverse.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from embedkit.dataset.stores import READERS, Store, create, read_if_there
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError, RemovedError, StoreError
from embedkit.formats.json_record import Count, JsonRecord

CLOCK_SKEW_SECONDS = 3600.0
"""So far apart the clocks of two machines, or of one and a store, may be."""

_SILENT_SECONDS = 3600.0
_FOLDER = ".removing/"
_BEGUN = "begun"
_AT_ONCE = 256


@dataclass(frozen=True)
class Claim(JsonRecord):
    """Who removes a version.

    Attributes:
        time: When it last said so, in seconds since the epoch.
        host: Name of its machine.
        machine: Tells the machine from others, for as long as it runs; empty where nothing does.
        pid: Its process there.
        run: Tells the claim from others.
    """

    time: float
    host: str
    machine: str
    pid: Count
    run: str


class Removal:
    """A version that this process has claimed.

    Args:
        version: The version.
        number: Place of the claim among those of this version.
        claim: The claim.
        clock: Returns the time, in seconds since the epoch.
    """

    def __init__(
        self, version: Version, number: int, claim: Claim, clock: Callable[[], float]
    ) -> None:
        self._version = version
        self._store = version.store
        self._number = number
        self._claim = claim
        self._clock = clock

    def begin(self) -> None:
        """Says that from here on something of the version is gone."""
        create(self._store, _key(self._version.name, _BEGUN), b"{}\n")

    def withdraw(self) -> None:
        """Leaves a version, of which nothing was removed, to others."""
        self._give_up_claims()

    def remove(self, keys: Sequence[str]) -> None:
        """Removes objects, many at once.

        Raises:
            RemovedError: Another process has taken the removal over.
            StoreError: The store failed; the next prune goes on.
        """
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(keys), _AT_ONCE):
                self._go_on()
                some = keys[start : start + _AT_ONCE]
                for done in [pool.submit(self._store.remove, key) for key in some]:
                    done.result()

    def end(self) -> None:
        """Says that nothing of the version is left, so that its name is free.

        Raises:
            RemovedError: Another process has taken the removal over.
            StoreError: The store failed; the next prune goes on.
        """
        self._go_on()
        self._store.remove(_key(self._version.name, _BEGUN))
        self._give_up_claims()

    def _give_up_claims(self) -> None:
        """Removes this claim, and before it those of processes that were killed."""
        name = self._version.name
        for number in sorted(_claims(self._store, name)):
            if number <= self._number:
                self._store.remove(_key(name, number))

    def _go_on(self) -> None:
        """Checks that nobody has taken this over, and says that this process still does it."""
        now = self._clock()
        if max(_claims(self._store, self._version.name), default=-1) != self._number:
            raise RemovedError(
                f"{self._version.url}: another prune has taken its removal over; run the same "
                "command again"
            )
        if now - self._claim.time > _SILENT_SECONDS / 60:
            self._claim = _our_claim(now, self._claim.run)
            self._store.replace(_key(self._version.name, self._number), self._claim.to_json())


def claim_removal(version: Version, run: str, clock: Callable[[], float]) -> Removal | str:
    """Claims the removal of a version for this process, and for no other at the same time.

    Args:
        version: The version.
        run: Tells this process's claims from those of others.
        clock: Returns the time, in seconds since the epoch.

    Returns:
        The removal, or who does it now.

    Raises:
        StoreError: The store failed; the same call again is safe.
    """
    now = clock()
    store, claim = version.store, _our_claim(now, run)
    highest = max(_claims(store, version.name), default=-1)
    if highest >= 0:
        key = _key(version.name, highest)
        standing = _read_claim(store, key)
        if standing is not None and not _is_dead(standing, store.modified(key), now):
            return f"host {standing.host}, process {standing.pid}"
    key = _key(version.name, highest + 1)
    ours = Removal(version, highest + 1, claim, clock)
    if create(store, key, claim.to_json()):
        return ours
    # The answer may have been lost.
    taken = _read_claim(store, key)
    if taken is not None and taken.run == run:
        return ours
    return "another prune" if taken is None else f"host {taken.host}, process {taken.pid}"


def removals(store: Store) -> dict[str, bool]:
    """Returns the versions of a root that are claimed, and whether their removal has begun."""
    found: dict[str, bool] = {}
    for name, what in _all(store):
        found[name] = found.get(name, False) or what == _BEGUN
    return found


def is_claimed(version: Version) -> bool:
    """Whether a process removes the version, or was killed while it did."""
    return any(name == version.name for name, _ in _all(version.store))


def is_there(version: Version) -> bool:
    """Whether a version has its plan, and nobody removes it."""
    return version.is_begun() and not is_claimed(version)


def check_not_removed(version: Version) -> None:
    """Checks that nobody removes a version that is to be written or published.

    Raises:
        RemovedError: Somebody does, or was killed while it did.
        StoreError: The store failed.
    """
    if is_claimed(version):
        raise RemovedError(
            f"{version.url}: being removed by embedkit prune; let that end, or run it again if it "
            "was stopped, then run the same command again, which begins the version anew"
        )


@contextmanager
def while_it_stands(version: Version) -> Iterator[None]:
    """Says that a version was removed, where that is why a file of it is gone.

    Raises:
        RemovedError: Something failed inside, and the version is not there any more.
    """
    try:
        yield
    except (FileNotFoundError, IntegrityError, StoreError) as error:
        if not isinstance(error, RemovedError):
            check_still_there(version)
        raise


def check_still_there(version: Version) -> None:
    """Checks that a version stands, of which something was found gone.

    Raises:
        RemovedError: It does not.
    """
    if _is_gone(version):
        raise RemovedError(
            f"{version.url}: removed while it was read; read the newest version, {version.root}"
        )


def _is_gone(version: Version) -> bool:
    try:
        if version.store.size(version.success_key) is not None:
            return False
        return is_claimed(version) or not version.is_begun()
    except StoreError:
        return False


def _our_claim(now: float, run: str) -> Claim:
    return Claim(now, socket.gethostname(), _machine(), os.getpid(), run)


def _machine() -> str:
    """Returns what tells the process ids of this machine from all others, or nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _is_dead(claim: Claim, modified: float | None, now: float) -> bool:
    """Whether a process has ended, or was not heard of for so long that it must have."""
    if claim.machine and (claim.host, claim.machine) == (socket.gethostname(), _machine()):
        try:
            os.kill(claim.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            # Another user's.
            pass
    heard = max(claim.time, modified or 0.0)
    return now - heard > _SILENT_SECONDS + CLOCK_SKEW_SECONDS


def _claims(store: Store, name: str) -> list[int]:
    return [int(what) for one, what in _all(store) if one == name and what.isdecimal()]


def _all(store: Store) -> Iterator[tuple[str, str]]:
    """Yields the names of the versions with what there is to know of each."""
    for key in store.list(_FOLDER):
        name, _, what = key.removeprefix(_FOLDER).rpartition(".")
        yield name, what


def _key(name: str, what: Any) -> str:
    return f"{_FOLDER}{name}.{what}"


def _read_claim(store: Store, key: str) -> Claim | None:
    """Returns a claim; None where it is gone, or torn, so that its process was killed."""
    data = read_if_there(store, key)
    try:
        return None if data is None else Claim.parse(data)
    except ValueError:
        return None
