"""Records whose id an earlier record has, found before anything is embedded."""

import math
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import IO

import numpy as np
from numpy.typing import NDArray

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns, Problems, make_ids
from embedkit.corpus.formats import read_records
from embedkit.corpus.splits import Split
from embedkit.errors import InputError
from embedkit.hashes.uniqueness import repeated

_MOST_DUPLICATES = 100_000
_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class _Ids:
    source: str
    row_index: list[int]
    ids: list[str]


def with_duplicates(splits: Iterable[Split], config: CorpusConfig) -> tuple[Split, ...]:
    """Notes in each split the records that repeat an id; the first in plan order has it.

    Ids are compared by 64-bit hashes first. Then only the splits that hold a repeated hash are read
    again, for the ids themselves, so that two ids with one hash reject nothing. Whether a record
    is a reject for another reason does not matter: its id counts all the same.

    Args:
        splits: The splits, in plan order.
        config: Names the id column.

    Raises:
        InputError: So many ids repeat that the column holds none, or a file cannot be read.
    """
    splits = tuple(splits)
    with tempfile.TemporaryFile(prefix="embedkit-") as spilled:
        counts = [_spill(split, config, spilled) for split in splits]
        candidates, repeats = repeated(_spilled(spilled, 0, sum(counts)))
        surplus = int(repeats.sum()) - len(repeats)
        if surplus > _MOST_DUPLICATES:
            raise InputError(_no_id(config, surplus, sum(counts)))
        suspects = _suspects(spilled, counts, candidates)
    seen: set[str] = set()
    return tuple(
        _with_duplicates(split, config, candidates, seen) if suspect else split
        for split, suspect in zip(splits, suspects, strict=True)
    )


def _spill(split: Split, config: CorpusConfig, file: IO[bytes]) -> int:
    count = 0
    for batch in _ids(split, config):
        file.write(_hashes(batch.ids).tobytes())
        count += len(batch.ids)
    return count


def _spilled(file: IO[bytes], start: int, count: int) -> Iterator[NDArray[np.uint64]]:
    for begin in range(start, start + count, _AT_ONCE):
        file.seek(begin * 8)
        data = file.read(min(_AT_ONCE, start + count - begin) * 8)
        yield np.frombuffer(data, dtype=np.uint64)


def _suspects(
    file: IO[bytes], counts: Iterable[int], candidates: NDArray[np.uint64]
) -> Iterator[bool]:
    found = []
    start = 0
    for count in counts:
        pieces = _spilled(file, start, count) if len(candidates) else iter(())
        found.append(any(_among(piece, candidates).any() for piece in pieces))
        start += count
    return iter(found)


def _with_duplicates(
    split: Split, config: CorpusConfig, candidates: NDArray[np.uint64], seen: set[str]
) -> Split:
    duplicates = []
    for batch in _ids(split, config):
        for place in np.flatnonzero(_among(_hashes(batch.ids), candidates)):
            if batch.ids[place] in seen:
                duplicates.append((batch.source, batch.row_index[place]))
            seen.add(batch.ids[place])
    return replace(split, duplicates=tuple(duplicates))


def _ids(split: Split, config: CorpusConfig) -> Iterator[_Ids]:
    columns = Columns.id_only(config)
    name = columns.id or ""
    left = math.inf if split.documents is None else split.documents
    for file in split.ranges:
        for records in read_records(file, config, columns):
            if left <= 0:
                return
            left -= len(records)
            problems: Problems = {}
            ids = make_ids(records.columns[name], name, problems) if records.row_index else []
            good = [place for place in range(len(ids)) if place not in problems]
            yield _Ids(
                file.source,
                [records.row_index[place] for place in good],
                [ids[place] for place in good],
            )


def _hashes(ids: Iterable[str]) -> NDArray[np.uint64]:
    digests = b"".join(blake2b(name.encode(), digest_size=8).digest() for name in ids)
    return np.frombuffer(digests, dtype=np.uint64)


def _among(hashes: NDArray[np.uint64], candidates: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if not len(candidates):
        return np.zeros(len(hashes), dtype=bool)
    places = np.minimum(np.searchsorted(candidates, hashes), len(candidates) - 1)
    found: NDArray[np.bool_] = candidates[places] == hashes
    return found


def _no_id(config: CorpusConfig, surplus: int, total: int) -> str:
    return (
        f"id column {config.id_column!r} is not an id: {surplus} of {total} records repeat an "
        f"earlier one's, and at most {_MOST_DUPLICATES} may; name another column, or none"
    )
