"""The rows of a version that a report looks at one by one."""

import base64
import hashlib
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.records import EmbeddingBlock

MOST_ROWS = 512
"""Rows of a sample, unless their vectors are very long."""

EXCERPT = 160
"""Characters of a text that a report keeps."""

_MOST_COMPONENTS = 1 << 19
"""Components of all vectors of a sample together: 2 MiB, a small part of any block's own."""


@dataclass(frozen=True, slots=True)
class SampledRow:
    """What a report tells of a row besides its vector.

    Attributes:
        key: Hash of the id, by which rows are chosen.
        id: The row's id.
        text: Its text's first characters, see ``excerpt``; empty where no excerpts are kept.
        text_hash: Hash of the whole text.
        source: The file it came from.
        row_index: Its place there.
        n_tokens: Its tokens before truncation.
        doc_id: The document that it is, or is a chunk of; empty where an earlier release wrote it.
        line: The line of its document, counted from where a range of the file begins until the
            report is written; None where there is none, or an earlier release wrote it.
    """

    key: int
    id: str
    text: str
    text_hash: str
    source: str
    row_index: int
    n_tokens: int
    doc_id: str = ""
    line: int | None = None


@dataclass(frozen=True, eq=False)
class Sample:
    """The rows with the smallest hash of id: as good as drawn at random, and the same every time.

    The smallest of a union are among the smallest of its parts, so merging is exact, associative
    and commutative.

    Attributes:
        rows: The rows, by ascending key.
        vectors: Their vectors, float32, shape (rows, dimension).
    """

    rows: tuple[SampledRow, ...]
    vectors: NDArray[np.float32]

    @classmethod
    def empty(cls) -> Self:
        """Returns the sample of nothing."""
        return cls((), np.empty((0, 0), np.float32))

    @classmethod
    def of(cls, block: EmbeddingBlock, excerpts: bool = True) -> Self:
        """Chooses the rows of one block.

        Args:
            block: The block.
            excerpts: Whether the beginnings of the texts are kept.
        """
        if not block.rows.num_rows:
            return cls.empty()
        ids = block.rows.column("id").to_pylist()
        keys = np.frombuffer(b"".join(map(_key, ids)), dtype="<u8")
        chosen = np.argsort(keys, kind="stable")[: _most_rows(block.vectors.width)]
        columns = ["id", "text", "text_hash", "source", "row_index", "n_tokens", "doc_id"]
        table = block.rows.select(columns).append_column("line", block.lines_in_range())
        rows = tuple(
            SampledRow(
                int(keys[place]), **{**row, "text": excerpt(row["text"]) if excerpts else ""}
            )
            for place, row in zip(chosen, table.take(pa.array(chosen)).to_pylist(), strict=True)
        )
        return cls(rows, block.vectors.matrix[chosen].astype(np.float32))

    def __add__(self, other: Self) -> Self:
        """Returns the sample of both sets of rows."""
        if not self.rows or not other.rows:
            return self if self.rows else other
        rows = self.rows + other.rows
        order = sorted(range(len(rows)), key=lambda place: (rows[place].key, rows[place].id))
        order = order[: _most_rows(self.vectors.shape[1])]
        vectors = np.concatenate([self.vectors, other.vectors])[order]
        return type(self)(tuple(rows[place] for place in order), vectors)

    def to_dict(self) -> dict[str, Any]:
        """Returns plain values for JSON, the vectors as one base64 string."""
        names = SampledRow.__slots__
        data = np.ascontiguousarray(self.vectors, dtype="<f4").tobytes()
        return {
            "columns": {name: [getattr(row, name) for row in self.rows] for name in names},
            "dimension": self.vectors.shape[1],
            "vectors": base64.b64encode(data).decode(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Self:
        """Reads back what ``to_dict`` gave."""
        columns = data["columns"]
        places = range(len(columns["id"]))
        rows = tuple(
            SampledRow(**{name: column[place] for name, column in columns.items()})
            for place in places
        )
        flat = np.frombuffer(base64.b64decode(data["vectors"]), dtype="<f4")
        return cls(rows, flat.astype(np.float32).reshape(len(rows), data["dimension"]))


def excerpt(text: str) -> str:
    """Returns a text's first characters, with an ellipsis where it goes on."""
    return text if len(text) <= EXCERPT else text[:EXCERPT] + "\u2026"


def _key(row_id: str) -> bytes:
    return hashlib.blake2b(row_id.encode(), digest_size=8).digest()


def _most_rows(dimension: int) -> int:
    return min(MOST_ROWS, max(64, _MOST_COMPONENTS // dimension))
