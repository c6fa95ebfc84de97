"""What takes long to make and can always be made anew, kept between processes of this machine.

An entry is a file, found by all that it was made of. One that is damaged or half written, or that
somebody else has put there, is as good as none; and a machine whose disk cannot be written does
without.
"""

import contextlib
import functools
import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from embedkit import __version__

CACHE_VARIABLE = "EMBEDKIT_CACHE"
"""Names the directory, in the place of the user's own for caches; ``off`` does without."""

_OFF = "off"
_MAGIC = b"embedkit cache 1"
_DIGEST_BYTES = hashlib.sha256().digest_size
_UNFINISHED = ".unfinished"
_MOST_BYTES = 8 << 30
_UNFINISHED_SECONDS = 86_400
# A file that changes twice within a tick of the file system's clock may look as it did before.
_SETTLED_SECONDS = 2.0

_log = logging.getLogger(__name__)

Files = dict[str, tuple[int, ...]]
"""What tells files of a directory from others under the same names."""


@dataclass(frozen=True)
class Cache:
    """Entries below one directory.

    Attributes:
        directory: Where they are; None keeps nothing.
        most_bytes: The most that they take together, those longest unused being removed first.
    """

    directory: Path | None
    most_bytes: int = _MOST_BYTES

    def read(self, topic: str, made_of: Mapping[str, Any]) -> memoryview | None:
        """Returns an entry, or None where there is none that can be used.

        Args:
            topic: What kind of thing it is, a plain word.
            made_of: All that decides what it is, as JSON values.
        """
        file = self._file(topic, made_of)
        if file is None:
            return None
        try:
            with file.open("rb") as data:
                if os.fstat(data.fileno()).st_uid not in (os.geteuid(), 0):
                    return None
                found = memoryview(data.read())
        except OSError:
            return None
        head = len(_MAGIC) + _DIGEST_BYTES
        content = found[head:]
        if found[:head] != _MAGIC + hashlib.sha256(content).digest():
            _log.info("%s is damaged, and made anew", file)
            return None
        with contextlib.suppress(OSError):
            # Says when it was last of use.
            os.utime(file)
        return content

    def write(self, topic: str, made_of: Mapping[str, Any], *content: bytes | memoryview) -> None:
        """Keeps an entry, or does without where that cannot be done.

        Args:
            topic: See ``read``.
            made_of: See ``read``.
            content: Its bytes, one piece behind the other.
        """
        file = self._file(topic, made_of)
        if file is None:
            return
        hasher = hashlib.sha256()
        for piece in content:
            hasher.update(piece)
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._make_room(sum(map(len, content)))
            _replace(file, (_MAGIC, hasher.digest(), *content))
        except OSError as error:
            _log.debug("%s cannot be kept (%s), and is made anew each time", file, error.strerror)

    def _file(self, topic: str, made_of: Mapping[str, Any]) -> Path | None:
        if self.directory is None:
            return None
        said = json.dumps(made_of, sort_keys=True, allow_nan=False)
        return self.directory / topic / hashlib.sha256(said.encode()).hexdigest()

    def _make_room(self, wanted: int) -> None:
        assert self.directory is not None
        entries = []
        for file in self.directory.glob("*/*"):
            with contextlib.suppress(FileNotFoundError):
                found = file.stat()
                if not file.name.endswith(_UNFINISHED):
                    entries.append((found.st_mtime, found.st_size, file))
                elif time.time() - found.st_mtime > _UNFINISHED_SECONDS:
                    file.unlink(missing_ok=True)
        room = self.most_bytes - wanted - sum(size for _, size, _ in entries)
        for _, size, file in sorted(entries):
            if room >= 0:
                break
            file.unlink(missing_ok=True)
            room += size


def machine_cache() -> Cache:
    """Returns this machine's cache: of the user, unless the environment says otherwise."""
    given = os.environ.get(CACHE_VARIABLE, "")
    if given == _OFF:
        return Cache(None)
    if given:
        return Cache(Path(given).expanduser().absolute())
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Cache(Path(base, "embedkit"))
    home = os.path.expanduser("~")
    return Cache(Path(home, ".cache", "embedkit") if os.path.isabs(home) else None)


def files_of(directory: Path) -> Files | None:
    """Returns what tells a directory's files from others under the same names.

    The times at which they last changed in any way, which nobody can set, are part of it; their
    contents are not read.

    Args:
        directory: The directory; files may be links.

    Returns:
        For each file below it size, times in nanoseconds and place on the disk; None where one is
        so new that it might change again and look the same, or where a folder is a link, behind
        which nothing is looked at.
    """
    found: Files = {}
    newest = 0.0
    for folder, folders, names in os.walk(directory):
        if any(os.path.islink(os.path.join(folder, name)) for name in folders):
            return None
        for name in names:
            path = os.path.join(folder, name)
            try:
                state = os.stat(path)
            except OSError:
                continue
            newest = max(newest, state.st_ctime, state.st_mtime)
            found[os.path.relpath(path, directory)] = (
                *(state.st_size, state.st_mtime_ns, state.st_ctime_ns, state.st_ino),
            )
    return None if newest > time.time() - _SETTLED_SECONDS else found


@functools.cache
def code_state(*libraries: str) -> dict[str, str]:
    """Returns what tells the code that makes an entry from another release of it.

    Args:
        libraries: Distributions that have a part in it.
    """
    hasher = hashlib.sha256()
    root = Path(__file__).parent
    for file in sorted(_sources(root)):
        state = os.stat(file)
        hasher.update(f"{file} {state.st_size} {state.st_mtime_ns}\n".encode())
    return {
        "embedkit": f"{__version__} {hasher.hexdigest()}",
        **{name: _version_of(name) for name in libraries},
    }


def _sources(root: Path) -> Iterable[str]:
    for folder in ("config", "encoders", "tokens"):
        for inside, _, names in os.walk(root / folder):
            yield from (os.path.join(inside, name) for name in names if name.endswith(".py"))


def _version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def _replace(file: Path, content: Iterable[bytes | memoryview]) -> None:
    number, unfinished = tempfile.mkstemp(suffix=_UNFINISHED, dir=file.parent)
    try:
        with os.fdopen(number, "wb") as data:
            for piece in content:
                data.write(piece)
        os.replace(unfinished, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(unfinished)
        raise
