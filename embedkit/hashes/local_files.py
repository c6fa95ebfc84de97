"""Temporary files of this machine, for hashes that memory shall not hold."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 1 << 20


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


def zeros_in_file(count: int) -> NDArray[np.uint8]:
    """Returns so many zeros, shape (count,), in a file that goes when the array does.

    Raises:
        OSError: There is no room for it.
    """
    folder = tempfile.gettempdir()
    with writing_in(folder), tempfile.TemporaryFile(dir=folder) as file:
        # Written, for a hole that finds no room on the disk later on would end the process.
        for start in range(0, max(1, count), _AT_ONCE):
            file.write(bytes(min(_AT_ONCE, max(1, count) - start)))
        file.flush()
        return np.memmap(file, np.uint8, "r+", shape=(max(1, count),))[:count]
