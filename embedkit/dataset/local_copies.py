"""A folder of this machine for copies of objects, which the processes of one user share."""

import errno
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from embedkit.hashes.local_files import writing_in

_STALE_SECONDS = 86_400.0


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Opens a file for writing that becomes visible whole; one of the same name is replaced.

    Raises:
        OSError: It cannot be written; its ``filename`` is the folder.
    """
    with writing_in(path.parent):
        descriptor, aside = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                yield file
                file.flush()
                # No power cut leaves the name without the bytes.
                os.fsync(descriptor)
            os.replace(aside, path)
        except BaseException:
            os.unlink(aside)
            raise


def folder_of_copies() -> Path:
    """Returns a folder of this user's own, free of what killed processes left long ago."""
    folder = Path(tempfile.gettempdir()) / f"embedkit-reuse-{os.getuid()}"
    with writing_in(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.lstat().st_uid != os.getuid() or folder.is_symlink():
            raise PermissionError(errno.EPERM, "it is somebody else's")
        oldest = time.time() - _STALE_SECONDS
        for path in folder.iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
    return folder
