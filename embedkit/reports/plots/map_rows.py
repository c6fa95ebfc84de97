"""The rows of a map as its page holds them: their texts, and what they can be coloured by."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.reports.phrasing import noun, plain
from embedkit.reports.plots.colours import BACK, GROUPS, STEPS

MOST_ROWS = 25_000
"""Rows of a map that a page shows; the first ones, which are a sample as well."""

MOST_BYTES = 5_000_000
"""Bytes that ids and texts of the rows may take, of the 8 MB that a page may."""

_TEXT_LENGTHS = (100, 80, 60, 40, 25)
_ID_LENGTHS = (60, 30)
_MOST_VALUES = 200
_MOST_COLUMNS = 20
_LONGEST_LABEL = 60
OF_THE_MAP = {
    "id": pa.string(),
    "x": pa.float32(),
    "y": pa.float32(),
    "cluster": pa.int32(),
    "source": pa.string(),
    "text": pa.string(),
}
"""The columns that each map has, and their types; all others are metadata."""


@dataclass(frozen=True, eq=False)
class Colouring:
    """One thing that rows can be coloured by.

    Attributes:
        name: What it is.
        labels: Its values as a reader sees them.
        colours: A colour for each of them; grey for what has none of its own.
        codes: The place of each row's value among them, uint8, shape (rows,).
    """

    name: str
    labels: list[str]
    colours: list[str]
    codes: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class MapRows:
    """The rows of a map.

    Attributes:
        x: Places from left to right, float32, shape (rows,).
        y: Places from bottom to top, float32, shape (rows,).
        ids: The id of each.
        texts: The beginning of each text; None where no text is shown.
        colourings: What they can be coloured by.
        rows: Rows of the whole map.
        text_length: Characters of a text that are kept at most.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    ids: list[str]
    texts: list[str] | None
    colourings: list[Colouring]
    rows: int
    text_length: int


def map_rows(table: pa.Table, clusters: Sequence[Mapping[str, Any]] = ()) -> MapRows:
    """Reads the rows of a map for a page.

    Args:
        table: What ``map.parquet`` holds: id, x, y, cluster, source and text, and any columns of
            metadata.
        clusters: The clusters of ``report.json``, whose terms name them.
    """
    shown = table.slice(0, MOST_ROWS)
    ids, texts, length = _texts(shown)
    return MapRows(
        x=shown["x"].to_numpy().astype(np.float32),
        y=shown["y"].to_numpy().astype(np.float32),
        ids=ids,
        texts=texts,
        colourings=_colourings(shown, clusters),
        rows=table.num_rows,
        text_length=length,
    )


def _texts(table: pa.Table) -> tuple[list[str], list[str] | None, int]:
    """Returns ids and texts, both cut to what the page has room for."""
    ids = table["id"].to_pylist()
    texts = table["text"].to_pylist() if "text" in table.column_names else []
    shown = any(text is not None for text in texts)
    for longest_id in _ID_LENGTHS:
        short_ids = [plain(id, longest_id) for id in ids]
        left = MOST_BYTES - _bytes(short_ids)
        for length in _TEXT_LENGTHS if shown else (0,):
            short = [plain(text or "", length) for text in texts] if shown else []
            if _bytes(short) <= left:
                return short_ids, short if shown else None, length
    return short_ids, None, 0


def _bytes(texts: Sequence[str]) -> int:
    return len(json.dumps(texts, ensure_ascii=False).encode())


def _colourings(table: pa.Table, clusters: Sequence[Mapping[str, Any]]) -> list[Colouring]:
    columns = [name for name in table.column_names if name not in OF_THE_MAP][:_MOST_COLUMNS]
    return [
        *([_by_cluster(table["cluster"].to_numpy(), clusters)] if clusters else []),
        _by_column("Input file", table["source"]),
        *(_by_column(plain(name, 40), table[name]) for name in columns),
    ]


def _by_cluster(numbers: NDArray[np.int32], clusters: Sequence[Mapping[str, Any]]) -> Colouring:
    """Takes clusters, the largest first; rows of none come last."""
    names = [
        plain(", ".join(one["terms"][:4]), 60) or f"cluster {place}"
        for place, one in enumerate(clusters, 1)
    ]
    codes = np.where(numbers < 0, len(names), numbers).astype(np.uint8)
    colours = [GROUPS[place % len(GROUPS)] for place in range(len(names))]
    none = ["none"] if (numbers < 0).any() else []
    return Colouring("Cluster", [*names, *none], [*colours, *[BACK] * len(none)], codes)


def _by_column(name: str, values: pa.ChunkedArray) -> Colouring:
    values = values.combine_chunks()
    if pa.types.is_integer(values.type) and pc.count_distinct(values).as_py() > len(STEPS):
        return _by_steps(name, values)
    counted = values.value_counts().to_pylist()
    # The commonest first; equally common ones by their names, so that the same rows look the same.
    counted.sort(key=lambda one: (-one["counts"], _written(one["values"], 200)))
    common = [one["values"] for one in counted[:_MOST_VALUES]]
    places = {value: place for place, value in enumerate(common)}
    codes = [places.get(value, len(common)) for value in values.to_pylist()]
    rest = len(counted) - len(common)
    others = [f"one of {noun(rest, 'other value')}"] if rest else []
    labels = [*map(_label, common), *others]
    colours = [*GROUPS, *[BACK] * len(labels)][: len(labels)]
    return Colouring(name, labels, colours, np.array(codes, dtype=np.uint8))


def _by_steps(name: str, values: pa.Array) -> Colouring:
    """Parts numbers into steps of as many rows each as their values allow."""
    numbers, held = np.unique(values.drop_null().to_numpy(), return_counts=True)
    ranks = (np.cumsum(held) - held) * len(STEPS) // held.sum()
    starts = numbers[np.unique(ranks, return_index=True)[1]]
    ends = numbers[np.append(np.searchsorted(numbers, starts[1:]) - 1, len(numbers) - 1)]
    labels = [
        str(low) if low == high else f"{low} to {high}"
        for low, high in zip(starts.tolist(), ends.tolist(), strict=True)
    ]
    filled = values.fill_null(int(starts[0])).to_numpy()
    codes = np.searchsorted(starts, filled, side="right") - 1
    codes[values.is_null().to_numpy(zero_copy_only=False)] = len(labels)
    null = ["null"] if values.null_count else []
    colours = [*STEPS[: len(labels)], *[BACK] * len(null)]
    return Colouring(name, [*labels, *null], colours, codes.astype(np.uint8))


def _label(value: Any) -> str:
    """Writes a value; of a long one, such as a path, the end tells more."""
    written = _written(value, 1000)
    return written if len(written) <= _LONGEST_LABEL else "\u2026" + written[1 - _LONGEST_LABEL :]


def _written(value: Any, most: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    return plain(str(value), most)
