"""Finds the files that a directory or a pattern names."""

import glob
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

from embedkit.corpus.locations import Location
from embedkit.corpus.names import has_magic
from embedkit.corpus.opening import check_not_encoded, local_etag, remote_etag, store_etag
from embedkit.corpus.raw_file import errors_at
from embedkit.corpus.tables import Folders, check_no_table
from embedkit.errors import InputError


class Found(NamedTuple):
    """A file.

    Attributes:
        url: What it is called.
        secret_url: What opens it, where that is something else.
        size: Its size in bytes.
        etag: What tells this content of it from a later one.
        named: Whether it was named itself.
    """

    url: str
    secret_url: str
    size: int
    etag: str
    named: bool


@dataclass
class Search:
    """What is found at one of the inputs.

    Attributes:
        place: The input.
        is_input: Tells from a path below the root whether a file there is an input.
        follow_links: Whether links are followed out of the root.
        root: The directory that was searched, or that holds the named file.
        skipped: Files that are no input.
        left: Links that lead out of the root, of files that would be inputs and of folders.
        own: Files of datasets that embedkit wrote.
    """

    place: Location
    is_input: Callable[[str], bool]
    follow_links: bool
    root: str = ""
    skipped: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    own: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._folders = Folders(self.place)
        self._seen: set[str] = set()
        self._real_root = cache(lambda: os.path.realpath(self.root))
        self._folder_leads_out = cache(self._folder_is_outside)

    def files(self) -> Iterator[Found]:
        """Yields the inputs.

        Raises:
            InputError: A named file is not there or no regular file, or a file belongs to a table
                of a format whose files are no corpus by themselves.
        """
        place, path = self.place, self.place.path
        kind = _kind(place)
        if kind is None:
            pattern, self.root = _exact_parts(place)
            names = self._matches(pattern)
        elif kind == "directory":
            self.root = path
            check_no_table(place, path, path, self._folders)
            names = self._walk(path)
        else:
            self.root = place.filesystem._parent(path)
            yield self._named(path)
            return
        for name, info in names:
            if self._is_wanted(name):
                yield from self._listed(name, info)

    def _is_wanted(self, name: str) -> bool:
        inside = name.removeprefix(self.root)
        if self.place.is_http:
            inside = inside.partition("?")[0]
        if not self.is_input(inside):
            self.skipped.add(self.place.url_of(name))
        elif self._folders.is_own(name, self.root):
            self.own.add(self.place.url_of(name))
        else:
            return True
        return False

    def _named(self, path: str) -> Found:
        if self.place.is_local:
            status = os.stat(path)
            if not stat.S_ISREG(status.st_mode):
                raise InputError(
                    f"{path}: not a regular file; embedkit reads a file more than once"
                )
            return self._found(path, status.st_size, local_etag(status), named=True)
        info = self.place.filesystem.info(path)
        if info.get("size") is None:
            raise InputError(
                f"{self.place.url_of(path)}: its server does not tell its size; copy it to a file "
                "first"
            )
        check_not_encoded(self.place.url_of(path), info)
        return self._found(path, int(info["size"]), remote_etag(info), named=True)

    def _listed(self, name: str, info: dict[str, Any]) -> Iterator[Found]:
        if self.place.is_local:
            if self._leads_out(name, info["islink"]):
                self.left.add(name)
                return
            # Listings do not follow links, and a corpus may be a folder of them.
            status = os.stat(name)
            if stat.S_ISREG(status.st_mode):
                yield self._found(name, status.st_size, local_etag(status))
            else:
                self.skipped.add(name)
            return
        if not store_etag(info):
            # A listing and an `info` may tell the same time in two ways.
            info = self.place.filesystem.info(name)
        check_not_encoded(self.place.url_of(name), info)
        yield self._found(name, int(info["size"]), remote_etag(info))

    def _found(self, path: str, size: int, etag: str, named: bool = False) -> Found:
        url, secret = self.place.url_of(path), self.place.secret_url_of(path)
        if url.endswith(".parquet"):
            check_no_table(self.place, os.path.dirname(path), self.root, self._folders)
        return Found(url, "" if secret == url else secret, size, etag, named)

    def _matches(self, pattern: str) -> Iterator[tuple[str, dict[str, Any]]]:
        filesystem = self.place.filesystem
        # Then the files in folders are matches themselves.
        deep = pattern.endswith("/**")
        for name, info in sorted(filesystem.glob(pattern, detail=True).items()):
            if info["type"] == "directory" or (info.get("islink") and os.path.isdir(name)):
                if not deep:
                    yield from self._walk(name)
            elif not _is_folder_mark(name):
                yield name, info

    def _walk(self, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if self.place.is_local:
            names = sorted(self._local_files(path))
            yield from ((name, {"islink": is_link}) for name, is_link in names)
            return
        found = self.place.filesystem.find(path, detail=True)
        self._folders.know(found, path)
        for name, info in sorted(found.items()):
            if not _is_folder_mark(name) and name != path:
                yield name, info

    def _local_files(self, path: str) -> Iterator[tuple[str, bool]]:
        """Finds files, and tells which are links; each folder once, by links too.

        A folder that may not be read is an error.
        """
        folders = [path]
        while folders:
            folder = folders.pop()
            real = os.path.realpath(folder)
            if real in self._seen:
                continue
            if self._leads_out(folder, os.path.islink(folder)):
                self.left.add(folder)
                continue
            self._seen.add(real)
            inside = []
            with os.scandir(folder) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        inside.append(entry.path)
                    else:
                        yield entry.path, entry.is_symlink()
            folders += sorted(inside, reverse=True)

    def _leads_out(self, path: str, is_link: bool) -> bool:
        if self.follow_links or path == self.root:
            return False
        if is_link:
            return not self._is_below_root(os.path.realpath(path))
        # Where a folder is tells it of all that are in it.
        return self._folder_leads_out(path.rpartition("/")[0] or "/")

    def _folder_is_outside(self, folder: str) -> bool:
        return not self._is_below_root(os.path.realpath(folder))

    def _is_below_root(self, real: str) -> bool:
        root = self._real_root()
        return real == root or real.startswith(root.rstrip("/") + "/")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        # So of a link to itself.
        return False


def _kind(place: Location) -> str | None:
    """Returns ``file`` or ``directory`` where the very name was meant, None where a pattern was."""
    path = place.path
    if place.is_local:
        if not os.path.lexists(path):
            return None if has_magic(path) else "file"
        return "directory" if os.path.isdir(path) else "file"
    if place.is_http:
        name = path.partition("?")[0]
        # To tell a page of links from a file, the whole of it is fetched.
        if (name.endswith("/") or "." not in name.rpartition("/")[2]) and (
            place.filesystem.isdir(path)
        ):
            return "directory"
        return None if has_magic(name) else "file"
    if "/" not in path.strip("/") or place.asked.endswith("/"):
        return "directory" if place.filesystem.isdir(path) else "file"
    try:
        return str(place.filesystem.info(path)["type"])
    except errors_at(place.asked):
        # A pattern is no name that a store must be able to look up.
        return None if has_magic(path) else "file"


def _exact_parts(place: Location) -> tuple[str, str]:
    """Returns a pattern in which parts that exist by their exact name stand for themselves alone.

    Also returns the folder where the patterns begin.
    """
    folders, _, last = place.path.rpartition("/")
    exact, pattern, root = "", [], None
    for number, part in enumerate(folders.split("/")):
        exact = f"{exact}/{part}" if number else part
        if has_magic(part):
            if root is None and _exists(place, exact):
                part = glob.escape(part)
            elif root is None:
                root = exact.rpartition("/")[0]
        pattern.append(part)
    return "/".join([*pattern, last]), folders if root is None else root


def _exists(place: Location, path: str) -> bool:
    if place.is_local:
        return os.path.lexists(path)
    try:
        return bool(place.filesystem.exists(path))
    except errors_at(place.asked):
        return False


def _is_folder_mark(name: str) -> bool:
    """Tells whether an object only makes a folder appear, as consoles of stores make them."""
    return name.endswith("/")
