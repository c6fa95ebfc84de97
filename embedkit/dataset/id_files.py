"""What is known of a version's ids, beside its plan: hashes of each split's, and which repeat.

A split's hashes stand in files of bounded size under ``_meta/ids/``. Their names tell which split
they are of, whether they are all of it, and the key of what was read, so that one listing says what
is left to be read, whoever wrote them and whenever it was killed.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.stores import READERS, create, read_all
from embedkit.dataset.version import Version
from embedkit.formats.canonical import canonical_json, checksum_holds, load_json, with_checksum
from embedkit.hashes.digests import hash_of

Hashes = NDArray[np.uint64]

_FOLDER = "_meta/ids/"
_NAME = re.compile(r"(\d{5,})-(\d{5,})\.([0-9a-f]{16})\.(part|end)")
_MOST_HASHES = 1 << 20
_CHECKSUM_BYTES = 16


@dataclass(frozen=True, order=True)
class IdFile:
    """A file of hashes.

    Attributes:
        split_id: The split.
        seq: Its place among the files of the split.
        key: What tells what was read of the split from anything else.
        last: Whether it is the last one of the split.
    """

    split_id: str
    seq: int
    key: str
    last: bool

    def path(self, version: Version) -> str:
        """Returns its key in the version's store."""
        kind = "end" if self.last else "part"
        return version.key(f"{_FOLDER}{self.split_id}-{self.seq:05d}.{self.key}.{kind}")


def write_hashes(version: Version, split_id: str, key: str, batches: Iterable[Hashes]) -> None:
    """Writes the hashes of a split, a bounded number at a time; files that stand stay.

    Args:
        version: Where they go.
        split_id: The split.
        key: What tells what was read of it from anything else, 16 hex digits.
        batches: Hashes, uint64, shape (some,); the same at every try.

    Raises:
        StoreError: The store failed.
    """
    for seq, (hashes, last) in enumerate(_cut(batches)):
        data = hashes.astype("<u8", copy=False).tobytes()
        path = IdFile(split_id, seq, key, last).path(version)
        create(version.store, path, data + _checksum(data))


def _cut(batches: Iterable[Hashes]) -> Iterator[tuple[Hashes, bool]]:
    """Joins and cuts batches to files of equal size; the last one may be empty."""
    held: list[Hashes] = []
    count = 0
    for batch in batches:
        held.append(batch)
        count += len(batch)
        while count > _MOST_HASHES:
            joined = np.concatenate(held)
            yield joined[:_MOST_HASHES], False
            held, count = [joined[_MOST_HASHES:]], count - _MOST_HASHES
    yield np.concatenate([np.empty(0, dtype=np.uint64), *held]), True


def hashed_splits(version: Version, keys: Mapping[str, str]) -> dict[str, list[IdFile]]:
    """Returns the files of the splits whose hashes are all there, told by one listing.

    Args:
        version: The version.
        keys: By split, the key of what is to be read of it.
    """
    return {
        files[0].split_id: files
        for files in _hashed(version)
        if keys.get(files[0].split_id) == files[0].key
    }


def take_hashes(version: Version, earlier: Version, keys: Mapping[str, str]) -> None:
    """Takes the hashes of splits over that an earlier version has, under whatever number.

    Args:
        version: Where they go.
        earlier: A version of the same root.
        keys: By split, the key of what is to be read of it.

    Raises:
        StoreError: The store failed.
    """
    known = {files[0].key: files for files in _hashed(earlier)}
    wanted = [(split, known[key]) for split, key in keys.items() if key in known]
    with ThreadPoolExecutor(READERS, thread_name_prefix="ids") as threads:
        for _ in threads.map(lambda one: _copy(version, earlier, *one), wanted):
            pass


def _copy(version: Version, earlier: Version, split_id: str, files: Iterable[IdFile]) -> None:
    for file in files:
        try:
            data = earlier.store.read(file.path(earlier))
        except FileNotFoundError:
            return
        if _hashes_in(data) is None:
            return
        create(version.store, replace(file, split_id=split_id).path(version), data)


def _hashed(version: Version) -> list[list[IdFile]]:
    """Returns the files of each split whose hashes are all there."""
    found: dict[tuple[str, str], list[IdFile]] = {}
    for path in version.store.list(version.key(_FOLDER)):
        if named := _NAME.fullmatch(path.rpartition("/")[2]):
            file = IdFile(named[1], int(named[2]), named[3], named[4] == "end")
            found.setdefault((file.split_id, file.key), []).append(file)
    return [files for files in map(sorted, found.values()) if _are_all(files)]


def files_of_split(version: Version, split_id: str, key: str) -> list[IdFile] | None:
    """Returns the files of one split, or None where they are not all there.

    Args:
        version: The version.
        split_id: The split.
        key: The key of what is to be read of it.
    """
    found: list[IdFile] = []
    while True:
        for last in (True, False):
            file = IdFile(split_id, len(found), key, last)
            if version.store.size(file.path(version)) is not None:
                found.append(file)
                break
        else:
            return None
        if last:
            return found


def _are_all(files: list[IdFile]) -> bool:
    return files[-1].last and [file.seq for file in files] == list(range(len(files)))


def read_hashes(
    version: Version, files: Iterable[IdFile]
) -> Iterator[tuple[IdFile, Hashes | None]]:
    """Reads files of hashes, a bounded number at a time, in the order given.

    Yields:
        Each file and its hashes, or None where they are not those that were written.

    Raises:
        GoneError: A file is not there.
        StoreError: The store failed.
    """
    by_path = {file.path(version): file for file in files}
    for path, data in read_all(version.store, by_path):
        yield by_path[path], _hashes_in(data)


def remove_hashes(version: Version, file: IdFile) -> None:
    """Takes a file away, so that the split is read once more."""
    version.store.remove(file.path(version))


def write_duplicates(
    version: Version, key: str, duplicates: Mapping[str, Iterable[tuple[str, int]]]
) -> None:
    """Writes down which records repeat an id.

    Args:
        version: The version.
        key: What tells what was read from anything else.
        duplicates: By split, source and row index of the records.

    Raises:
        StoreError: The store failed.
    """
    record = {"key": key, "duplicates": {name: list(them) for name, them in duplicates.items()}}
    # Whoever writes it writes the same, so nothing is lost where one replaces another's.
    version.store.replace(version.duplicates_key, canonical_json(with_checksum(record)))


def read_duplicates(version: Version, key: str) -> dict[str, tuple[tuple[str, int], ...]] | None:
    """Returns which records repeat an id, or None where that is not known of what was read.

    Raises:
        StoreError: The store failed.
    """
    try:
        record = load_json(version.store.read(version.duplicates_key))
        if not checksum_holds(record) or record["key"] != key:
            return None
        return {
            split: tuple((str(source), int(row)) for source, row in records)
            for split, records in record["duplicates"].items()
        }
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        # What is torn or of another making is found once more.
        return None


def _hashes_in(data: bytes) -> Hashes | None:
    hashes, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    whole = len(data) >= _CHECKSUM_BYTES and checksum == _checksum(hashes)
    return np.frombuffer(hashes, dtype="<u8") if whole else None


def _checksum(data: bytes) -> bytes:
    return hash_of(data, _CHECKSUM_BYTES)
