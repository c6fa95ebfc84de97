"""``ids.arrow``: which row each entry of an index is, in memory that does not grow with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line

NAME: Final = "ids.arrow"
ANEW: Final = "export the version again, with --force in the same place"
DIGESTS: Final = np.dtype([("high", "<u8"), ("low", "<u8")])
"""The 128-bit hash of a vector's bytes, in two halves."""

_BYTES = 16
_AT_ONCE = 1 << 16
_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string()),
        pa.field("row", pa.int64()),
        pa.field("digest", pa.binary(_BYTES)),
    ]
)


def digests_of(vectors: NDArray[np.floating]) -> NDArray[np.void]:
    """Returns the hash of each vector, ``DIGESTS``, shape (rows,); the type of numbers counts."""
    width = vectors.shape[1] * vectors.itemsize
    data = np.ascontiguousarray(vectors).view(np.uint8).reshape(-1).data
    hashed = b"".join(
        blake2b(data[start : start + width], digest_size=_BYTES).digest()
        for start in range(0, len(data), width)
    )
    return np.frombuffer(hashed, DIGESTS)


class IdsWriter:
    """Writes the entries in the order of their labels, from 0.

    The file is Arrow's own format, which pandas reads with ``read_feather`` and Polars with
    ``read_ipc``: of each entry the ``id`` of its row, the ``row``'s number in the version, in the
    order of its parts, and the ``digest`` of its vector. An entry whose row is gone has nulls.

    Args:
        folder: Where it goes.
    """

    def __init__(self, folder: Path) -> None:
        self._sink = pa.OSFile(str(folder / NAME), "wb")
        self._writer = pa.ipc.new_file(self._sink, _SCHEMA)
        self._held: list[pa.RecordBatch] = []
        self._count = 0

    def add(self, ids: pa.Array, rows: pa.Array, digests: NDArray[np.void]) -> None:
        """Writes some entries.

        Args:
            ids: Their ids; nulls where rows are gone.
            rows: The numbers of their rows.
            digests: Of ``DIGESTS``, shape (entries,).
        """
        hashed = pa.FixedSizeBinaryArray.from_buffers(
            _SCHEMA.field("digest").type,
            len(digests),
            [None, pa.py_buffer(np.ascontiguousarray(digests))],
        )
        self._held.append(pa.record_batch([ids, rows, hashed], schema=_SCHEMA))
        self._count += len(digests)
        # All pieces but the last are of one size, by which an entry is found.
        while self._count >= _AT_ONCE:
            self._write(_AT_ONCE)

    def _write(self, count: int) -> None:
        table = pa.Table.from_batches(self._held, _SCHEMA)
        self._writer.write_table(table.slice(0, count), max_chunksize=None)
        rest = table.slice(count)
        self._held, self._count = rest.to_batches(), len(rest)

    def close(self) -> None:
        """Writes the end of the file."""
        if self._count:
            self._write(self._count)
        self._writer.close()
        self._sink.close()


class Ids:
    """The entries of an index by their labels.

    Args:
        folder: The index's folder.

    Raises:
        IntegrityError: The file is gone or damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        with self._readable():
            self._map = pa.memory_map(str(self._path))
            self._file = pa.ipc.open_file(self._map)
            if self._file.schema != _SCHEMA:
                raise pa.ArrowInvalid("other columns than were written")
            counts = [
                self._file.get_batch(number).num_rows
                for number in range(self._file.num_record_batches)
            ]
        self._ends = np.append(0, np.cumsum(counts, dtype=np.int64))

    def __len__(self) -> int:
        """Returns the number of entries, those of rows that are gone among them."""
        return int(self._ends[-1])

    def rows_of(self, labels: NDArray[np.int64]) -> list[tuple[str, int]]:
        """Returns the id and the number of the row of some entries.

        Raises:
            IntegrityError: There is no such entry, or its row is gone.
        """
        found = []
        for label in labels.tolist():
            if not 0 <= label < len(self):
                raise IntegrityError(f"{self._path}: no entry {label}, which the index has; {ANEW}")
            piece = int(np.searchsorted(self._ends, label, side="right")) - 1
            with self._readable():
                batch = self._file.get_batch(piece)
            place = label - int(self._ends[piece])
            name, row = batch.column("id")[place].as_py(), batch.column("row")[place].as_py()
            if name is None or row is None:
                raise IntegrityError(
                    f"{self._path}: entry {label} is of a row that is gone; {ANEW}"
                )
            found.append((name, row))
        return found

    def rows(self) -> NDArray[np.int64]:
        """Returns the number of each entry's row, shape (entries,); -1 where it is gone."""
        found = [
            column.fill_null(-1).to_numpy(zero_copy_only=False) for column in self._columns("row")
        ]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def digests(self) -> NDArray[np.void]:
        """Returns the digest of each entry's vector, ``DIGESTS``, shape (entries,)."""
        found = [
            np.frombuffer(column.buffers()[1], DIGESTS, len(column), column.offset * _BYTES)
            for column in self._columns("digest")
        ]
        return np.concatenate(found) if found else np.empty(0, DIGESTS)

    def _columns(self, name: str) -> Iterator[pa.Array]:
        for number in range(self._file.num_record_batches):
            with self._readable():
                batch = self._file.get_batch(number)
            yield batch.column(name)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise IntegrityError(f"{self._path}: gone; {ANEW}") from error
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(
                f"{self._path}: not what export wrote ({one_line(error)}); {ANEW}"
            ) from error
