"""The rows of a version read once more, for what sidecars are too small to hold.

Rows are read part by part by threads of one process: reading and matrix products leave the
interpreter to each other. It costs some 40 microseconds a row of 384 dimensions, where encoding a
text of 100 tokens takes a CPU 30 milliseconds. No more than ``MOST_BLOCKS`` parts are read, however
large the version, so that its time to finish stays bounded; in a version with fewer everything is
exact.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.blas import blas_on_one_thread
from embedkit.dataset.manifest import Part, shared_parts
from embedkit.dataset.parquet import read_whole
from embedkit.dataset.rows import opened_part
from embedkit.dataset.stores import in_order
from embedkit.dataset.version import Version, block_of
from embedkit.encoders.hardware import usable_cores
from embedkit.hashes.digests import hashes_of
from embedkit.reports.examined import COLUMNS, ExaminedRows
from embedkit.reports.vector_sample import key_bound
from embedkit.vectors import label_columns

MOST_BLOCKS = 2048
"""Blocks that are read of a version; which of more is told by a hash of their ids."""

_MOST_READERS = 4
"""Parts that are read at once, at most; each takes three times its vectors' memory."""

_MOST_TEXT = 32 << 20
"""Bytes of a part's texts above which they are not read, as some documents are whole books.

So it is with each metadata column.
"""


def examine_rows(
    version: Version, parts: Sequence[Part], texts: bool = False
) -> ExaminedRows | None:
    """Reads the rows of a version and adds up what they say.

    Args:
        version: The version, every block committed.
        parts: Its parts, in order.
        texts: Whether the beginnings of stored texts are read as well, but for parts of very long
            ones.

    Returns:
        None of a version whose rows have not exactly one vector each, such as one of tokens.

    Raises:
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    chosen = _chosen(parts)
    found = _examined(version, chosen, _bound(chosen), texts)
    return None if found is None else found.among(len(parts))


def examine_both(
    earlier: tuple[Version, Sequence[Part]],
    later: tuple[Version, Sequence[Part]],
    texts: bool = False,
) -> tuple[ExaminedRows | None, ExaminedRows | None]:
    """Reads the rows of two versions, parts that both have to the last byte once.

    Args:
        earlier: A version and its parts, in order.
        later: The same of another one; what is said of it is what ``examine_rows`` says.
        texts: See ``examine_rows``.

    Raises:
        GoneError: A part of the earlier version is gone.
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    sides = (earlier, later)
    chosen = [_chosen(parts) for _, parts in sides]
    bounds = list(map(_bound, chosen))
    equal = shared_parts(*([part for part, _ in side] for side in chosen))
    shared = [one for one in chosen[1] if one[0].sha256 in equal]
    # No more than the smaller version's sample wants, as all of them are in that one.
    of_both = _examined(later[0], shared, max(bounds), texts)
    found: list[ExaminedRows | None] = []
    for (version, parts), side, bound in zip(sides, chosen, bounds, strict=True):
        others = [one for one in side if one[0].sha256 not in equal]
        rest = _examined(version, others, bound, texts)
        if of_both is None or rest is None:
            found.append(None)
        else:
            known = replace(of_both, sample=of_both.sample.below(bound))
            found.append((known + rest).among(len(parts)))
    return found[0], found[1]


def _bound(chosen: Sequence[tuple[Part, int]]) -> int:
    return key_bound(sum(part.rows for part, _ in chosen))


def _examined(
    version: Version, chosen: Sequence[tuple[Part, int]], bound: int, texts: bool
) -> ExaminedRows | None:
    """Adds up what the rows of some parts say, see ``examine_rows``."""

    def read(one: tuple[Part, int]) -> ExaminedRows | None:
        part, first = one
        with opened_part(version, part) as file:
            rows = _read(file, texts)
        return ExaminedRows.of(rows, first, bound) if "embedding" in rows.schema.names else None

    total = ExaminedRows()
    readers = min(_MOST_READERS, usable_cores())
    with blas_on_one_thread():
        for _, found in in_order(read, chosen, readers):
            if found is None:
                return None
            total += found
    return total


def _read(file: pq.ParquetFile, texts: bool) -> pa.Table:
    schema = file.schema_arrow
    columns = [name for name in COLUMNS if name in schema.names]
    leaves = {
        file.metadata.schema.column(leaf).path: leaf for leaf in range(file.metadata.num_columns)
    }
    groups = [file.metadata.row_group(group) for group in range(file.num_row_groups)]
    for name in (*(["text"] if texts and "text" in schema.names else []), *label_columns(schema)):
        size = sum(group.column(leaves[name]).total_uncompressed_size for group in groups)
        if size <= _MOST_TEXT:
            columns.append(name)
    return read_whole(file, columns)


def _chosen(parts: Sequence[Part]) -> list[tuple[Part, int]]:
    """Returns the parts with the smallest hashes of their blocks' ids, and the rows before each."""
    ends = np.cumsum([part.rows for part in parts]).tolist()
    placed = [(part, end - part.rows) for part, end in zip(parts, ends, strict=True)]
    if len(parts) <= MOST_BLOCKS:
        return placed
    names = [block_of(part.path) or "" for part in parts]
    keys = np.frombuffer(hashes_of(names, 8), "<u8")
    places = np.sort(np.argsort(keys, kind="stable")[:MOST_BLOCKS])
    return [placed[place] for place in places.tolist()]
