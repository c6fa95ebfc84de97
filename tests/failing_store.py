"""A store that fails at chosen operations, in every way that a store or a machine does."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from types import GeneratorType
from typing import Any
from unittest.mock import patch

from embedkit.dataset import version as versions
from embedkit.dataset.local_store import TEMPORARY, LocalStore
from embedkit.dataset.store_keys import AskedKeys, store_errors
from embedkit.dataset.stores import Store, open_store


class Gone(BaseException):
    """The process is gone, as by SIGKILL: nothing catches this, and no operation comes after it."""


class Fault(Enum):
    """How an operation fails."""

    BEFORE = "it fails, nothing done"
    AFTER = "done, but its answer is lost"
    GONE = "the process is killed behind it"
    ASIDE = "the process is killed before the written file has its name"
    TORN = "the power is lost, and half of what was written stands"


ANYWHERE = (Fault.BEFORE, Fault.AFTER, Fault.GONE)
ON_DISK = (*ANYWHERE, Fault.ASIDE, Fault.TORN)
"""A disk can be left with half of a write; an object store has all of it or nothing."""

_TEARABLE = ("create", "replace")
_CHANGES = (*_TEARABLE, "copy", "remove")


def faults_of(operations: list[str], on_disk: bool) -> Iterator[tuple[int, Fault]]:
    """Yields the number of every operation with every fault that it can have.

    What only reads fails in one way, and a kill behind it is one behind the last change.
    """
    for number, operation in enumerate(operations):
        name = operation.partition(" ")[0]
        for fault in ON_DISK if on_disk else ANYWHERE:
            changes = name in (_TEARABLE if fault not in ANYWHERE else _CHANGES)
            if changes or fault is Fault.BEFORE:
                yield number, fault


class Faults:
    """Which operations of a run fail, counted over all stores that it opens.

    Args:
        fault_of: Tells how an operation fails, if it does, from its number, which what else a run
            does at that moment may change, and from its name and key, as in ``operations``.
    """

    def __init__(self, fault_of: Callable[[int, str], Fault | None]) -> None:
        self._fault_of = fault_of
        self._lock = threading.Lock()
        self._gone = False
        self.operations: list[str] = []
        self.torn: int | None = None
        """What a torn file holds: half of it, nothing or zeros; one after the other unless set."""

    @classmethod
    def at(cls, *faults: tuple[int, Fault]) -> "Faults":
        """Operations of these numbers fail so."""
        numbers = dict(faults)
        return cls(lambda number, _: numbers.get(number))

    @contextmanager
    def in_stores(self) -> Iterator["Faults"]:
        """Has every store that versions open from here on fail so."""
        with patch.object(
            versions, "open_store", lambda root: FailingStore(open_store(root), self)
        ):
            yield self

    @contextmanager
    def operation(self, name: str, key: str) -> Iterator[Fault | None]:
        """Counts an operation, which is done inside; says how it fails."""
        with self._lock:
            if self._gone:
                raise Gone
            number, operation = len(self.operations), f"{name} {key}"
            self.operations.append(operation)
        yield self._fault_of(number, operation)

    def answer(self, name: str, answer: Any) -> Any:
        """Returns what an operation is said to have found."""
        return answer

    def end(self) -> Gone:
        """Ends the process: whatever thread still asks a store is gone as well."""
        self._gone = True
        return Gone()


class Meanwhile(Faults):
    """Something else happens just before an operation, such as the removal of what it is about.

    Args:
        number: Number of the operation.
        what: Is called then.
    """

    def __init__(self, number: int, what: Callable[[], object]) -> None:
        super().__init__(lambda *_: None)
        self._number, self._what = number, what

    @contextmanager
    def operation(self, name: str, key: str) -> Iterator[Fault | None]:
        """Counts an operation."""
        with super().operation(name, key) as fault:
            if len(self.operations) == self._number + 1:
                self._what()
            yield fault


class FailingStore:
    """A store whose operations fail as they are told to."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store, self._faults = store, faults

    @property
    def __class__(self) -> type:
        """It is taken for what it stands for, where local disks are treated in their own way."""
        return type(self._store)

    def matching(self, prefix: str) -> Any:
        found = self._operation("matching")(prefix)
        return AskedKeys(prefix, self.size) if isinstance(found, AskedKeys) else found

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        return self._operation(name) if callable(found) and name != "place" else found

    def _operation(self, name: str) -> Callable[..., Any]:
        def operation(*arguments: Any, **named: Any) -> Any:
            key = " ".join(one for one in arguments if isinstance(one, str))
            with self._faults.operation(name, key) as fault:
                if fault is None:
                    return self._done(name, *arguments, **named)
                if fault is Fault.BEFORE:
                    self._refuse(name, key, "no answer")
                if fault in (Fault.ASIDE, Fault.TORN) and name in _TEARABLE:
                    self._tear(fault, name, *arguments)
                    raise self._faults.end()
                self._done(name, *arguments, **named)
                if fault is Fault.AFTER:
                    self._refuse(name, key, "the connection was lost")
                raise self._faults.end()

        return operation

    def _done(self, name: str, *arguments: Any, **named: Any) -> Any:
        answer = getattr(self._store, name)(*arguments, **named)
        found = list(answer) if isinstance(answer, GeneratorType) else answer
        return self._faults.answer(name, found)

    def _refuse(self, name: str, key: str, why: str) -> None:
        with store_errors(self._store.url, key, name):
            raise OSError(why)

    def _tear(self, fault: Fault, name: str, key: str, data: bytes) -> None:
        """Leaves what a local disk may hold of a file when the machine stops."""
        assert isinstance(self._store, LocalStore)
        half = data[: len(data) // 2]
        if fault is Fault.ASIDE:
            folder = os.path.join(self._store.url, TEMPORARY)
            os.makedirs(folder, exist_ok=True)
            with open(os.path.join(folder, f"{os.getpid()}-left"), "wb") as file:
                file.write(half)
        elif name == "replace" or self._store.size(key) is None:
            path = self._store.place(key)[1]
            os.makedirs(os.path.dirname(path), exist_ok=True)
            kinds = (half, b"", bytes(len(data)))
            torn = self._faults.torn
            number = len(self._faults.operations) if torn is None else torn
            with open(path, "wb") as file:
                file.write(kinds[number % len(kinds)])
