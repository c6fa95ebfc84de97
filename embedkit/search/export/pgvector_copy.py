"""Rows for PostgreSQL with pgvector: a file for COPY, the table, and what loads it."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa

from embedkit.search.export.bulk import Written
from embedkit.search.export.source import Source, VectorRows
from embedkit.search.export.values import json_values, to_json, unfit

ROWS: Final = "rows.copy"
SCHEMA: Final = "schema.sql"
LOAD: Final = "load.sql"
TABLE: Final = "embeddings"
_OPERATORS = {"cosine": "cosine", "dot": "ip", "euclidean": "l2", "manhattan": "l1"}
_MOST_COMPONENTS = 16_000
_MOST_INDEXED = {"vector": 2000, "halfvec": 4000}
_MOST_ID_BYTES = 2600
"""Of a B-tree's entry PostgreSQL takes up to 2,704 bytes."""
_MOST_NAME_BYTES = 63
_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_ESCAPES = str.maketrans(
    {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r", "\b": "\\b", "\f": "\\f", "\v": "\\v"}
)


class PgvectorCopy:
    """Target ``pgvector``."""

    metrics = tuple(_OPERATORS)

    def write(self, source: Source, folder: Path, recall: float) -> Written:
        r"""Writes ``rows.copy``, ``schema.sql``, which makes the table, and ``load.sql`` for psql.

        The file is in COPY's own text format, not CSV, in which psql before release 17 takes a
        line of ``\.`` within a quoted text for the end of the file. Times are rounded to
        microseconds by PostgreSQL. Lists are ``jsonb``.

        Raises:
            ConfigError: PostgreSQL cannot hold a vector, an id, a text or a column's name.
        """
        names = ["id", "embedding", *source.payload()]
        self._check_names(source, names)
        kind = "halfvec" if source.dtype == np.float16 else "vector"
        if source.dimension > _MOST_COMPONENTS:
            raise unfit(
                source,
                "pgvector",
                f"vectors of {source.dimension:,} components",
                f"{_MOST_COMPONENTS:,} are the most; embed with fewer --dimensions",
            )
        types = {name: _type(source.schema.field(name).type) for name in names}
        types |= {"id": "text PRIMARY KEY", "embedding": f"{kind}({source.dimension}) NOT NULL"}
        columns = ",\n".join(f"    {_quoted(name)} {types[name]}" for name in names)
        (folder / SCHEMA).write_text(
            f"CREATE EXTENSION IF NOT EXISTS vector;\nCREATE TABLE {TABLE} (\n{columns}\n);\n",
            encoding="utf-8",
        )
        index = self._index(source, kind)
        (folder / LOAD).write_text(
            "\\set ON_ERROR_STOP on\n"
            f"\\copy {TABLE} FROM '{ROWS}' WITH (FORMAT text, ENCODING 'UTF8')\n"
            f"{index}"
            f"ANALYZE {TABLE};\n",
            encoding="utf-8",
        )
        with (folder / ROWS).open("wb") as file:
            for rows in source.batches(source.payload()):
                file.write(_lines(source, rows))
        settings = {"rows": ROWS, "schema": SCHEMA, "load": LOAD, "table": TABLE, "type": kind}
        return Written(settings)

    def _index(self, source: Source, kind: str) -> str:
        operators = _OPERATORS[source.metric]
        column = "embedding"
        if source.dimension > _MOST_INDEXED[kind]:
            if source.dimension > _MOST_INDEXED["halfvec"]:
                most = _MOST_INDEXED["halfvec"]
                return f"-- Vectors of more than {most} components have no index in pgvector.\n"
            kind = "halfvec"
            column = f"(embedding::halfvec({source.dimension}))"
        return f"CREATE INDEX ON {TABLE} USING hnsw ({column} {kind}_{operators}_ops);\n"

    def _check_names(self, source: Source, names: list[str]) -> None:
        for name in names:
            long = len(name.encode()) > _MOST_NAME_BYTES
            if long or not name or "\0" in name or name in _SYSTEM_COLUMNS:
                raise unfit(
                    source,
                    "PostgreSQL",
                    f"a column named {name[:80]!r}",
                    "give it another name in the inputs, or leave it out of --metadata-columns",
                )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _type(kind: pa.DataType) -> str:
    checks: tuple[tuple[Callable[[pa.DataType], bool], str], ...] = (
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_uint64, "numeric"),
        (pa.types.is_integer, "bigint"),
        (pa.types.is_floating, "double precision"),
        (pa.types.is_decimal, "numeric"),
        (pa.types.is_date, "date"),
        (pa.types.is_time, "time"),
        (pa.types.is_duration, "interval"),
        (pa.types.is_binary, "bytea"),
        (pa.types.is_list, "jsonb"),
    )
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    return next((name for check, name in checks if check(kind)), "text")


def _lines(source: Source, rows: VectorRows) -> bytes:
    columns = [_texts(rows.columns.column(name)) for name in ("id", *source.payload())]
    vectors = [to_json(vector).decode() for vector in rows.float32()]
    lines = []
    for place, name in enumerate(rows.ids.to_pylist()):
        fields = [column[place] for column in columns]
        line = "\t".join(
            "\\N" if one is None else one.translate(_ESCAPES)
            for one in (fields[0], vectors[place], *fields[1:])
        )
        if "\0" in line:
            raise unfit(
                source,
                "PostgreSQL",
                f"the character NUL, which is in the row {name!r}",
                "take it out of the record",
            )
        if len(name.encode()) > _MOST_ID_BYTES:
            raise unfit(
                source,
                "PostgreSQL",
                f"the id {name[:40]!r}… as a key, as it has more than {_MOST_ID_BYTES:,} bytes",
                "give the records shorter ids",
            )
        lines.append(line)
    return ("\n".join(lines) + "\n").encode()


def _texts(column: pa.Array) -> list[str | None]:
    """Returns values as PostgreSQL reads them."""
    kind = column.type
    if pa.types.is_list(kind):
        return [None if value is None else to_json(value).decode() for value in json_values(column)]
    if pa.types.is_binary(kind):
        return [None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()]
    if pa.types.is_duration(kind):
        # Of nanoseconds what is behind the microseconds is cut.
        micros = column.cast(pa.duration("us"), safe=False).cast(pa.int64()).to_pylist()
        return [None if one is None else f"{one} microseconds" for one in micros]
    if pa.types.is_temporal(kind):
        return list(column.cast(pa.string()).to_pylist())
    if pa.types.is_floating(kind):
        column = column.cast(pa.float64())
    return [None if value is None else str(value) for value in column.to_pylist()]


WRITER: Final = PgvectorCopy()
