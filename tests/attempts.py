"""Attempts that take turns at one store, an operation at a time, as a test says.

Each of them is a thread, of which one at a time runs; it stops before the operation that it was to
stop at, and goes on from there, or never, so that a test of any number of attempts is the same
whenever it is run.
"""

import threading
from collections.abc import Callable
from types import GeneratorType
from typing import Any

from embedkit.errors import StoreError

_PATIENCE = 60.0
_here = threading.local()
_NO_OPERATIONS = frozenset({"url", "place"})

Stop = Callable[[str, str], bool]
"""Whether an attempt is to stop before an operation on a key."""


class KilledError(BaseException):
    """The process of an attempt is gone; nothing that it might have caught."""


class Attempt:
    """Something that is done in a thread of its own, and stops before its first operation.

    Attributes:
        next: The operation that it stands before, and its key; None where it has ended.
        last: The operation that it did last.
        result: What it returned.
        error: What it raised.
        failed: Whether the store was made to fail it.
    """

    def __init__(self, run: Callable[[], Any]) -> None:
        self.next: tuple[str, str] | None = ("", "")
        self.last = ("", "")
        self.result: Any = None
        self.error: BaseException | None = None
        self.failed = False
        self._run = run
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        self._stop: Stop = lambda name, key: True
        self._fail: str | None = None
        self._killed = False
        self._thread = threading.Thread(target=self._main, daemon=True)
        self._thread.start()
        self._wait()

    @property
    def ended(self) -> bool:
        """Whether it will do nothing more."""
        return self.next is None

    def go_on(self, stop: Stop) -> None:
        """Does at least one operation, and others until it is to stop before one."""
        if not self.ended:
            self._stop = stop
            self._go.release()
            self._wait()

    def steps(self, count: int) -> None:
        """Does so many operations."""
        left = [count - 1]

        def stop(name: str, key: str) -> bool:
            left[0] -= 1
            return left[0] < 0

        if count > 0:
            self.go_on(stop)

    def finish(self) -> None:
        """Goes on to its end."""
        self.go_on(lambda name, key: False)

    def fail(self, after: bool) -> None:
        """Lets its next operation fail, before it is done or when it is, and stops at the next."""
        self._fail = "after" if after else "before"
        self.failed = True
        self.steps(1)

    def kill(self) -> None:
        """Ends it where it stands."""
        if not self.ended:
            self._killed = True
            self._go.release()
            self._wait()

    def operation(self, name: str, key: str, do: Callable[[], Any]) -> Any:
        """Does an operation of the store when it may."""
        self._pause(name, key)
        fail, self._fail = self._fail, None
        if fail == "before":
            raise StoreError(f"{name} {key}: the store failed")
        found = do()
        self.last = (name, key)
        if fail == "after":
            raise StoreError(f"{name} {key}: the answer was lost")
        return found

    def _pause(self, name: str, key: str) -> None:
        if self._killed:
            raise KilledError
        self.next = (name, key)
        if self._stop(name, key):
            self._stopped.release()
            self._go.acquire()
            if self._killed:
                raise KilledError

    def _wait(self) -> None:
        assert self._stopped.acquire(timeout=_PATIENCE), f"hangs behind {self.last}"

    def _main(self) -> None:
        _here.attempt = self
        try:
            self.result = self._run()
        except BaseException as error:  # noqa: BLE001 - whoever made it looks at it
            self.error = error
        self.next = None
        self._stopped.release()


def attempt_here() -> Attempt | None:
    """The attempt whose thread this is."""
    return getattr(_here, "attempt", None)


class StoreInTurns:
    """A store whose operations wait for the turn of the attempt that does them."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._store, name)
        if name in _NO_OPERATIONS or not callable(operation):
            return operation

        def call(*args: Any, **options: Any) -> Any:
            def do() -> Any:
                found = operation(*args, **options)
                # All that is listed, is listed now.
                return iter(list(found)) if isinstance(found, GeneratorType) else found

            attempt = attempt_here()
            return (
                do()
                if attempt is None
                else attempt.operation(name, str(args[0]) if args else "", do)
            )

        return call
