"""Processes that share a store, run an operation at a time in an order that a test gives."""

import itertools
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

OPERATIONS = frozenset(
    {
        "create", "copy", "replace", "read", "size", "list", "sizes", "times", "modified",
        "matching", "folders", "open", "remove", "remove_empty",
    }
)  # fmt: skip
_SECONDS = 60.0


class KilledError(BaseException):
    """A process is gone; nothing catches it."""


class Turns:
    """Lets one process at a time do one operation.

    Args:
        names: The processes.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._changed = threading.Condition()
        self._at_gate = dict.fromkeys(names, 0)
        self._turn: str | None = None
        self._busy = False
        self.ended: set[str] = set()
        self.killed: set[str] = set()
        self.operations = dict.fromkeys(names, 0)

    def wait(self, name: str) -> None:
        """Waits for a process's turn."""
        with self._changed:
            self._at_gate[name] += 1
            self._changed.notify_all()
            ok = self._changed.wait_for(lambda: self._turn == name or name in self.killed, _SECONDS)
            assert ok, f"{name} never had a turn"
            self._at_gate[name] -= 1
            if name in self.killed:
                raise KilledError
            self._turn = None
            self._busy = True
            self.operations[name] += 1

    def done(self) -> None:
        """Says that the operation is over."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()

    def end(self, name: str) -> None:
        """Says that a process has ended."""
        with self._changed:
            self.ended.add(name)
            self._changed.notify_all()

    def give(self, name: str) -> None:
        """Lets a process do its next operation, unless it has ended."""
        with self._changed:
            self._settle(name)
            if name in self.ended:
                return
            self._turn = name
            self._changed.notify_all()
            over = self._changed.wait_for(lambda: self._turn is None and not self._busy, _SECONDS)
            assert over, f"{name} does not end its operation"
            self._settle(name)

    def kill(self, name: str) -> None:
        """Ends a process where it is."""
        with self._changed:
            self.killed.add(name)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: name in self.ended, _SECONDS)

    def _settle(self, name: str) -> None:
        assert self._changed.wait_for(
            lambda: self._at_gate[name] > 0 or name in self.ended, _SECONDS
        )


class Gated:
    """A process's view of a store."""

    def __init__(self, store: Any, turns: Turns, name: str) -> None:
        self._store, self._turns, self._name = store, turns, name

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        if name not in OPERATIONS:
            return operation

        def call(*args: Any) -> Any:
            self._turns.wait(self._name)
            try:
                found = operation(*args)
                return iter(list(found)) if isinstance(found, Iterator) else found
            finally:
                self._turns.done()

        return call


def interleave(
    store: Any,
    processes: dict[str, Callable[[Any], Any]],
    schedule: Iterable[tuple[str, int]],
    kills: dict[str, int] | None = None,
    look: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Runs processes in a given order, and to their ends after it.

    Args:
        store: The store that they share.
        processes: Each is given its own view of it.
        schedule: Which process does so many operations next.
        kills: After so many of its operations a process is killed.
        look: Called between operations.

    Returns:
        What each process returned or raised.
    """
    turns, results = Turns(processes), {}

    def run(name: str) -> None:
        try:
            results[name] = processes[name](Gated(store, turns, name))
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            results[name] = error
        finally:
            turns.end(name)

    threads = [threading.Thread(target=run, args=(name,), daemon=True) for name in processes]
    for thread in threads:
        thread.start()
    for name in _turns(schedule, turns):
        if turns.operations[name] >= (kills or {}).get(name, math.inf):
            turns.kill(name)
        turns.give(name)
        look()
    for thread in threads:
        thread.join(_SECONDS)
    return results


def _turns(schedule: Iterable[tuple[str, int]], turns: Turns) -> Iterator[str]:
    """Yields whose turn it is: as a schedule says, and then one process after the other."""
    to_their_ends = ((name, sys.maxsize) for name in turns.operations)
    for name, count in itertools.chain(schedule, to_their_ends):
        for _ in range(count):
            if name in turns.ended:
                break
            yield name
