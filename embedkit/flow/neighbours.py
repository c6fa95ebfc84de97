"""The neighbours of a version's sample, taken over from an earlier version with the same sample."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version
from embedkit.hashes.digests import hash_of
from embedkit.reports.nearest import Neighbours, nearest

NEIGHBOURS_ARROW = "report/neighbours.arrow"
"""For each row of the sample that was compared, in order, its ``rows`` and ``cosines``."""

_FEW = 2000
"""Rows up to which comparing them all takes less than a file."""


class KnownNeighbours:
    """Finds neighbours, or reads those that were found of exactly the same vectors.

    They are what takes longest of a night in which nothing changes. What is read is the same bits
    as what would be found, so that a report does not tell which it was.
    """

    def __init__(self, version: Version, earlier: Version | None) -> None:
        """Sets out.

        Args:
            version: Where they are kept.
            earlier: A version that may have the same.
        """
        self._version = version
        self._places = [version, *([earlier] if earlier else [])]

    def __call__(self, units: NDArray[np.float32], k: int) -> Neighbours:
        """Returns the nearest rows of each, see ``nearest``.

        Raises:
            StoreError: The store failed.
        """
        if len(units) <= _FEW:
            return nearest(units, k)
        sample = hash_of(np.ascontiguousarray(units).data.cast("B")) + k.to_bytes(4, "little")
        for place in self._places:
            data = read_if_there(place.store, place.key(NEIGHBOURS_ARROW))
            known = None if data is None else _parsed(data, sample, len(units), k)
            if known is not None:
                break
        else:
            known, place = nearest(units, k), None
        if place is not self._version:
            self._version.store.replace(self._version.key(NEIGHBOURS_ARROW), _bytes(known, sample))
        return known


def _bytes(found: Neighbours, sample: bytes) -> bytes:
    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
        for name, values in (("rows", found.rows), ("cosines", found.cosines))
    }
    metadata = {"sample": sample.hex(), "content": _content(found)}
    table = pa.table(columns).replace_schema_metadata(metadata)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _parsed(data: bytes, sample: bytes, count: int, k: int) -> Neighbours | None:
    """Returns what was kept, None where it is of another sample, damaged, or another release's."""
    try:
        table = pa.ipc.open_file(data).read_all()
        values = [
            table.column(name).combine_chunks().values.to_numpy().reshape(count, k)
            for name in ("cosines", "rows")
        ]
    except (pa.ArrowException, AttributeError, KeyError, ValueError, OSError):
        return None
    told = table.schema.metadata or {}
    found = Neighbours(*values)
    expected = {b"sample": sample.hex().encode(), b"content": _content(found).encode()}
    return found if told == expected else None


def _content(found: Neighbours) -> str:
    return (hash_of(found.rows.tobytes()) + hash_of(found.cosines.tobytes())).hex()
