"""What the loading of a model is at, said to whoever waits for it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar


def _to_nobody(name: str) -> None:
    pass


_listener: ContextVar[Callable[[str], None]] = ContextVar("listener", default=_to_nobody)


@contextmanager
def phases_to(listener: Callable[[str], None]) -> Iterator[None]:
    """Says to a listener what is loaded in the body, in this thread."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def say_phase(name: str) -> None:
    """Says what begins, such as ``compiling the model``."""
    _listener.get()(name)
