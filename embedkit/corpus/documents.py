"""Turns a batch of records into rows, and rejects for those that cannot be used."""

from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.corpus.columns import (
    Columns,
    Problems,
    make_ids,
    make_queries,
    make_texts,
    too_long,
)
from embedkit.corpus.metadata_values import Unfit, metadata_array
from embedkit.corpus.names import is_unicode
from embedkit.hashes.digests import place_ids, text_hash
from embedkit.records import DOCUMENT_SCHEMA, EXCERPT, LineCounts, Reject

MOST_RECORD_BYTES = 1 << 30
"""Arrow counts the bytes of a batch of strings in 31 bits, so no record may come near that."""


@dataclass
class Records:
    """Consecutive records of one file, as they were read.

    Attributes:
        source: The file.
        row_index: Their places in it, ascending.
        columns: Their values by column, None where null or absent; a metadata column of a Parquet
            file may be an Arrow array.
        rejects: Records among them that could not be read at all, ascending by place.
        typed: False where every value is a string that is yet to be parsed.
        unfit: By metadata column, values that could not be read and are null, by place.
        raw: The records as stored, for excerpts, where there is such a form.
        places: Where lines count, the places of records, and rejects, in ascending order.
        numbers: The number of the line at each of them, from 1 where the range begins.
        counts: What the lines are that were read for them.
    """

    source: str
    row_index: list[int] = field(default_factory=list)
    columns: dict[str, Any] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)
    typed: bool = True
    raw: Sequence[bytes] | None = None
    unfit: dict[str, Unfit] = field(default_factory=dict)
    places: Sequence[int] = ()
    numbers: Sequence[int] = ()
    counts: LineCounts = field(default_factory=LineCounts)

    def numbered(self, reject: Reject) -> Reject:
        """Returns a reject with the number of its line, or of its record where none count."""
        if reject.line is not None:
            return reject
        if not self.places:
            return replace(reject, line=reject.row_index + 1)
        place = bisect_left(self.places, reject.row_index)
        known = place < len(self.places) and self.places[place] == reject.row_index
        return replace(reject, line=self.numbers[place]) if known else reject

    def lines(self, row_index: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns the number of the line of each of some records, or that of the record."""
        if not self.places:
            return row_index + 1
        places = np.searchsorted(np.asarray(self.places, np.int64), row_index)
        return np.asarray(self.numbers, np.int64)[places]

    def __len__(self) -> int:
        return len(self.row_index) + len(self.rejects)


@dataclass(frozen=True)
class Documents:
    """Consecutive documents and rejects.

    Attributes:
        rows: The documents, as rows of the plan's schema.
        rejects: The rejects, in their order.
        before: How many of the rows come before each reject, int64, shape (rejects,).
        nulled: Metadata values that became null: number of the row, column, and what it was.
        lines: The number of each row's line, negative where it counts from where a range of the
            file begins, int64, shape (rows,).
    """

    rows: pa.RecordBatch
    rejects: tuple[Reject, ...]
    before: NDArray[np.int64]
    nulled: tuple[tuple[int, str, str], ...] = ()
    lines: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return int(self.rows.num_rows) + len(self.rejects)

    def first(self, count: int) -> "Documents":
        """Returns the first of them, in the order of their records."""
        rejects = int(np.searchsorted(self.before + np.arange(len(self.before)), count))
        rows = min(count - rejects, self.rows.num_rows)
        return replace(
            self,
            rows=self.rows.slice(0, rows),
            rejects=self.rejects[:rejects],
            before=self.before[:rejects],
            nulled=tuple(one for one in self.nulled if one[0] < rows),
            lines=None if self.lines is None else self.lines[:rows],
        )


def make_documents(
    records: Records,
    columns: Columns,
    schema: pa.Schema,
    max_record_bytes: int,
    duplicates: Collection[tuple[str, int]] = (),
) -> Documents:
    """Turns records into documents and rejects; each record becomes exactly one of the two.

    Where several things are wrong with a record, the id counts first, then the text. A metadata
    value that does not fit its column becomes null and is noted; the document stays.

    Args:
        records: What was read.
        columns: What of it is wanted.
        schema: The plan's schema.
        max_record_bytes: A longer text is rejected.
        duplicates: Source and row index of the records whose id came earlier.
    """
    problems: Problems = {}
    ids = _ids(records, columns, problems)
    if duplicates:
        _find_duplicates(records, columns, ids, duplicates, problems)
    texts: list[str] = []
    if records.row_index:
        texts = make_texts(records.columns, columns, problems, max_record_bytes)
    check_texts(texts, max_record_bytes, problems)
    metadata, unfit = _metadata(records, columns)
    _check_queries(records, columns, max_record_bytes, problems)
    rejects = [*records.rejects, *_rejects(records, columns, ids, texts, problems)]
    rejects = sorted(map(records.numbered, rejects), key=lambda reject: reject.row_index)
    for place in problems:
        # What is wrong with a text may be that it cannot be written down.
        texts[place] = ids[place] = ""
    rows = _rows(records, ids, texts, metadata, schema)
    if problems:
        good = np.ones(len(texts), dtype=bool)
        good[list(problems)] = False
        rows = rows.filter(pa.array(good))
    places = rows.column("row_index").to_numpy()
    before = np.searchsorted(places, [reject.row_index for reject in rejects])
    nulled = _nulled(unfit, records, columns, problems)
    lines = records.lines(places)
    return Documents(rows, tuple(rejects), before.astype(np.int64), nulled, lines)


def _metadata(records: Records, columns: Columns) -> tuple[list[pa.Array], dict[str, Unfit]]:
    arrays: list[pa.Array] = []
    unfit = {name: dict(values) for name, values in records.unfit.items()}
    for name, kind in columns.metadata if records.row_index else ():
        arrays.append(
            metadata_array(records.columns[name], kind, records.typed, unfit.setdefault(name, {}))
        )
    return arrays, unfit


def _check_queries(records: Records, columns: Columns, max_bytes: int, problems: Problems) -> None:
    """Notes the queries of pairs that cannot be used; single texts have none."""
    if columns.query is None or not records.row_index:
        return
    found: Problems = {}
    queries = make_queries(records.columns[columns.query], columns.query, found)
    check_texts(queries, max_bytes, found)
    for place, (reason, detail) in found.items():
        named = "empty_query" if reason == "empty_text" else reason
        problems.setdefault(place, (named, detail.replace("the text", "the query", 1)))


def _nulled(
    unfit: dict[str, Unfit], records: Records, columns: Columns, problems: Problems
) -> tuple[tuple[int, str, str], ...]:
    if not any(unfit.values()):
        return ()
    kept = np.ones(len(records.row_index), dtype=bool)
    kept[list(problems)] = False
    numbers = np.cumsum(kept) - 1
    kinds = dict(columns.metadata)
    return tuple(
        (int(numbers[place]), name, f"{value} in {excerpt(records.source)}, expected {kinds[name]}")
        for name, values in unfit.items()
        for place, value in values.items()
        if kept[place]
    )


def check_texts(texts: Sequence[str], max_bytes: int, problems: Problems) -> None:
    """Notes the texts that are empty, hold a NUL, are no Unicode, or are too long, by place."""
    for place, text in enumerate(texts):
        if not text or text.isspace():
            problems.setdefault(place, ("empty_text", "the text is empty; leave the record out"))
        elif "\0" in text:
            detail = "the text holds a NUL byte; take it out, or check that the file is UTF-8 text"
            problems.setdefault(place, ("nul_byte", detail))
        elif not text.isascii() and not is_unicode(text):
            detail = "the text holds half of a surrogate pair, such as \\ud800; mend its escapes"
            problems.setdefault(place, ("invalid_json", detail))
        elif len(text) * 4 > max_bytes and len(text.encode("utf-8", "replace")) > max_bytes:
            problems.setdefault(place, ("too_long", too_long(max_bytes)))


def excerpt(value: object) -> str:
    """Returns the first characters of a value, without any that could harm a terminal or file."""
    if isinstance(value, bytes):
        value = value[: EXCERPT * 4].decode("utf-8", "replace")
    text = value if isinstance(value, str) else "" if value is None else repr(value)
    return "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text[:EXCERPT]
    )


def _ids(records: Records, columns: Columns, problems: Problems) -> list[str]:
    if not records.row_index:
        return []
    if columns.id is None:
        return place_ids(records.source, records.row_index)
    return make_ids(records.columns[columns.id], columns.id, problems)


def _find_duplicates(
    records: Records,
    columns: Columns,
    ids: Sequence[str],
    duplicates: Collection[tuple[str, int]],
    problems: Problems,
) -> None:
    for place, row in enumerate(records.row_index):
        if (records.source, row) in duplicates:
            detail = (
                f"id {excerpt(ids[place])!r} in column {columns.id!r} is that of an earlier "
                "record; make ids unique"
            )
            problems.setdefault(place, ("duplicate_id", detail))


def _rejects(
    records: Records,
    columns: Columns,
    ids: Sequence[str],
    texts: Sequence[str],
    problems: Problems,
) -> list[Reject]:
    found = []
    for place, (reason, detail) in problems.items():
        raw = records.raw[place] if records.raw is not None else texts[place]
        found.append(
            Reject(
                source=records.source,
                row_index=records.row_index[place],
                reason=reason,
                detail=detail,
                doc_id=(ids[place] or None) if columns.id is not None else None,
                excerpt=excerpt(raw),
            )
        )
    return found


def _rows(
    records: Records,
    ids: list[str],
    texts: list[str],
    metadata: Sequence[pa.Array],
    schema: pa.Schema,
) -> pa.RecordBatch:
    count = len(texts)
    if not count:
        return empty_rows(schema)
    id_array = pa.array(ids, pa.string())
    zeros = pa.array(np.zeros(count, dtype=np.int32))
    values = {
        "id": id_array,
        "doc_id": id_array,
        "chunk_index": zeros,
        "char_start": zeros,
        "char_end": pa.array(np.fromiter(map(len, texts), dtype=np.int32, count=count)),
        "text_hash": pa.array([text_hash(text) for text in texts], pa.string()),
        "source": pa.array([records.source], pa.string()).take(zeros),
        "row_index": pa.array(records.row_index, pa.int64()),
        "text": pa.array(texts, pa.string()),
    }
    arrays = [values[name] for name in DOCUMENT_SCHEMA.names]
    return pa.RecordBatch.from_arrays([*arrays, *metadata], schema=schema)


def empty_rows(schema: pa.Schema) -> pa.RecordBatch:
    """Returns a batch without rows."""
    return pa.RecordBatch.from_pylist([], schema=schema)
