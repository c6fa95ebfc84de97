"""Values of columns as JSON has them, and the errors about those that a target cannot hold."""

import base64
import math
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from embedkit.errors import ConfigError
from embedkit.search.export.source import Source, VectorRows


def json_values(column: pa.Array) -> list[Any]:
    """Returns a column's values for ``to_json``.

    Whole numbers stay exact. Dates, times and durations become text as ISO 8601 has it (durations:
    whole numbers of their unit), decimals text, bytes base64, and numbers that JSON does not have,
    which are infinities and NaN, null.
    """
    kind = column.type
    if pa.types.is_list(kind):
        return _lists(column)
    if pa.types.is_floating(kind):
        return [
            None if value is None or not math.isfinite(value) else value
            for value in column.cast(pa.float64()).to_pylist()
        ]
    if pa.types.is_duration(kind):
        return list(column.cast(pa.int64()).to_pylist())
    if pa.types.is_temporal(kind):
        return [value and value.replace(" ", "T") for value in column.cast(pa.string()).to_pylist()]
    if pa.types.is_decimal(kind):
        return [None if value is None else str(value) for value in column.to_pylist()]
    if pa.types.is_binary(kind):
        return [
            None if value is None else base64.b64encode(value).decode()
            for value in column.to_pylist()
        ]
    return list(column.to_pylist())


def _lists(column: pa.Array) -> list[Any]:
    # What is behind nulls is passed over.
    items = json_values(column.flatten())
    found: list[Any] = []
    start = 0
    for count in pc.list_value_length(column).to_pylist():
        found.append(None if count is None else items[start : start + count])
        start += count or 0
    return found


def to_json(value: Any) -> bytes:
    """Serializes values, NumPy's vectors among them, whose numbers come back as they were."""
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


def documents(source: Source, rows: VectorRows) -> list[dict[str, Any]]:
    """Returns what is said of rows besides their vectors, as ``search --json`` has it.

    The user's columns are in ``metadata``, where their names cannot be in the way of others.
    """
    own = [name for name in source.payload() if name not in source.metadata]
    columns = {name: json_values(rows.columns.column(name)) for name in ("id", *own)}
    of_user = {name: json_values(rows.columns.column(name)) for name in source.metadata}
    return [
        {
            **{name: values[place] for name, values in columns.items()},
            "metadata": {name: values[place] for name, values in of_user.items()},
        }
        for place in range(len(rows.ids))
    ]


def unfit(source: Source, target: str, what: str, remedy: str) -> ConfigError:
    """Returns the error that a target cannot hold something of a version."""
    return ConfigError(f"{source.version.url}: {target} cannot hold {what}; {remedy}")
