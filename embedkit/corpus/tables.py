"""Recognises folders that are no corpus: Delta, Iceberg, Hudi tables and datasets of embedkit."""

import os
from collections.abc import Iterable
from functools import cache

from embedkit.corpus.locations import Location
from embedkit.corpus.raw_file import errors_at
from embedkit.errors import InputError

_EXPORTS = {
    "Delta": "duckdb -c \"COPY (FROM delta_scan('{}')) TO 'corpus.parquet'\"",
    "Iceberg": "duckdb -c \"COPY (FROM iceberg_scan('{}')) TO 'corpus.parquet'\"",
    "Hudi": "spark.read.format('hudi').load('{}').write.parquet('corpus')",
}
_FOLDERS_OF_A_VERSION = ("data", "rejects", "report")


class Folders:
    """Tells what is in folders, from a listing where there is one.

    Args:
        place: Something on their file system.
    """

    def __init__(self, place: Location) -> None:
        self._place = place
        self._root = ""
        self._known: set[str] = set()
        self._checked: set[str] = set()
        self.exists = cache(self._exists)
        self._is_version = cache(self._version)
        self._is_in_version = cache(self._in_version)

    def know(self, names: Iterable[str], root: str) -> None:
        """Notes all files below a folder."""
        self._root = root.rstrip("/") + "/"
        self._known = set()
        for name in names:
            while len(name) > len(self._root) and name not in self._known:
                self._known.add(name)
                name = name.rpartition("/")[0]
        self.exists.cache_clear()

    def first_check(self, folder: str) -> bool:
        """Tells, once for each folder, that it was not checked yet."""
        if folder in self._checked:
            return False
        self._checked.add(folder)
        return True

    def has_metadata_of_iceberg(self, folder: str) -> bool:
        """Tells whether a folder holds an Iceberg table."""
        metadata = f"{folder}/metadata"
        if not self.exists(metadata):
            return False
        if self._place.is_local:
            names = os.listdir(metadata)
        else:
            names = self._place.filesystem.ls(metadata, detail=False)
        marks = (".metadata.json", "version-hint.text")
        if not any(str(name).endswith(marks) for name in names):
            return False
        # Its data may lie anywhere; its lists of them do not.
        lists = any(str(name).endswith(".avro") for name in names)
        return lists or self.exists(f"{folder}/data")

    def is_own(self, name: str, root: str) -> bool:
        """Tells whether a file was written by embedkit, into a version at or below a root."""
        folder, _, last = name.rpartition("/")
        return self._is_in_version(folder, root) or (
            last == "LATEST" and self._is_version(f"{folder}/{self._beginning(name)}")
        )

    def _in_version(self, folder: str, root: str) -> bool:
        version = folder
        if folder.rpartition("/")[2] in _FOLDERS_OF_A_VERSION:
            version = folder.rpartition("/")[0]
        return len(version) >= len(root.rstrip("/")) and self._is_version(version)

    def _beginning(self, name: str) -> str:
        data: bytes = self._place.filesystem.cat_file(name, 0, 200)
        return data.decode("utf-8", "replace").strip()

    def _version(self, folder: str) -> bool:
        return self.exists(f"{folder}/_meta/plan.json")

    def _exists(self, path: str) -> bool:
        if self._place.is_local:
            return os.path.exists(path)
        if self._root and path.startswith(self._root):
            return path in self._known
        if self._place.is_http:
            # It may answer to any name.
            return False
        try:
            return bool(self._place.filesystem.exists(path))
        except errors_at(self._place.asked):
            # Who may read a file need not be allowed to look around.
            return False


def check_no_table(place: Location, folder: str, root: str, folders: Folders) -> None:
    """Refuses files of a table whose log says which of them, and which rows, still count.

    Args:
        place: Something on the file system.
        folder: The folder of the files. Its parents are looked at as far as the root, and above it
            while they are partitions.
        root: Where the search began.
        folders: Tells what is in folders.

    Raises:
        InputError: They belong to a Delta, Iceberg or Hudi table.
    """
    while folder and folders.first_check(folder):
        if kind := _kind_of_table(folder, folders):
            url = place.url_of(folder)
            raise InputError(
                f"{url}: {'an' if kind == 'Iceberg' else 'a'} {kind} table, whose files also hold "
                f"rows that were deleted or replaced; export it first: {_EXPORTS[kind].format(url)}"
            )
        parent, _, name = folder.rpartition("/")
        above = len(parent) < len(root.rstrip("/"))
        if above and "=" not in name and name != "data":
            return
        folder = parent


def _kind_of_table(folder: str, folders: Folders) -> str | None:
    if folders.exists(f"{folder}/_delta_log"):
        return "Delta"
    if folders.exists(f"{folder}/.hoodie") or folders.exists(
        f"{folder}/.hoodie_partition_metadata"
    ):
        return "Hudi"
    if folders.has_metadata_of_iceberg(folder):
        return "Iceberg"
    return None
