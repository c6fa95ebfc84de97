"""Python's collector of garbage, kept out of the way."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collections() -> Iterator[None]:
    """Has nothing collected meanwhile: for what makes very many objects, nearly all of which stay.

    To look through them again and again takes a third as long as making them. What no cycle holds
    is freed all the same.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
