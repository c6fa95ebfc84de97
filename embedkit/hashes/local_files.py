"""Temporary files of this machine, for hashes that memory shall not hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def writing_in(folder: str | Path) -> Iterator[None]:
    """Names the folder where a temporary file cannot be written.

    Raises:
        OSError: The body could not write, as on a full disk; its ``filename`` is the folder.
    """
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
