"""Reports the phases of loading a model to whoever waits for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _to_nobody(name: str) -> None:
    pass


_listener: ContextVar[Callable[[str], None]] = ContextVar("listener", default=_to_nobody)


@contextmanager
def phases_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Passes the phases of what this thread loads in the body to a listener."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def say_phase(name: str) -> None:
    """Reports that a phase begins, such as ``compiling the model``."""
    _listener.get()(name)
