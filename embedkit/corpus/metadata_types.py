"""The types that metadata columns can have: their names, what they are parsed from and told by."""

import re
from collections.abc import Iterable

import pyarrow as pa

from embedkit.corpus.arrow_values import is_binary, is_list, is_string, is_uuid, plain_type
from embedkit.corpus.json_values import is_exact
from embedkit.errors import ConfigError

DECLARABLE = ("string", "int64", "float64", "bool")
"""Types that a metadata column can be declared to have."""

_PLAIN = {
    str(kind): kind
    for kind in (
        pa.string(), pa.binary(), pa.bool_(), pa.date32(), pa.date64(),
        pa.int8(), pa.int16(), pa.int32(), pa.int64(),
        pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64(),
        pa.float16(), pa.float32(), pa.float64(),
        pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"),
        pa.duration("s"), pa.duration("ms"), pa.duration("us"), pa.duration("ns"),
    )
}  # fmt: skip
_PLAIN["float64"] = pa.float64()
_TIMESTAMP = re.compile(r"timestamp\[(s|ms|us|ns)(?:, tz=([^\]]+))?\]")
_DECIMAL = re.compile(r"decimal(128|256)\((\d+), (-?\d+)\)")
_LIST = re.compile(r"list<item: (.+)>")


def parse_type(name: str) -> pa.DataType:
    """Returns the Arrow type of a name that ``type_name`` gave, or of a declared one.

    Raises:
        ValueError: No metadata column can have this type.
    """
    if name in _PLAIN:
        return _PLAIN[name]
    if found := _TIMESTAMP.fullmatch(name):
        return pa.timestamp(found[1], tz=found[2])
    if found := _DECIMAL.fullmatch(name):
        make = pa.decimal128 if found[1] == "128" else pa.decimal256
        return make(int(found[2]), int(found[3]))
    if found := _LIST.fullmatch(name):
        return pa.list_(parse_type(found[1]))
    raise ValueError(f"{name} is not a type that a metadata column can have")


def type_name(kind: pa.DataType) -> str:
    """Names the type that a column of a Parquet file is carried along with.

    Dictionaries become their values, and large and view types their common form.

    Raises:
        ValueError: No metadata column can have this type.
    """
    kind = plain_type(kind)
    if is_string(kind) or is_uuid(kind):
        return "string"
    if is_binary(kind):
        return "binary"
    if is_list(kind):
        return f"list<item: {type_name(kind.value_type)}>"
    if pa.types.is_decimal32(kind) or pa.types.is_decimal64(kind):
        kind = pa.decimal128(kind.precision, kind.scale)
    name = str(kind)
    parse_type(name)
    return name


def declared_types(columns: Iterable[str]) -> dict[str, str | None]:
    """Takes NAME or NAME:TYPE apart.

    Returns:
        The columns in order, with their declared type or None.

    Raises:
        ConfigError: A type cannot be declared.
    """
    declared: dict[str, str | None] = {}
    for column in columns:
        name, colon, kind = column.rpartition(":")
        if not colon:
            declared[column] = None
        elif kind in DECLARABLE and name:
            declared[name] = _spelled(kind)
        else:
            raise ConfigError(
                f"metadata_columns: {column!r} has the type {kind!r}; "
                f"give NAME or NAME:TYPE with one of {', '.join(DECLARABLE)}"
            )
    return declared


def infer_type(values: Iterable[object]) -> str:
    """Tells a column's type from JSON values; nulls tell nothing.

    Whole and broken numbers together are ``double``; anything mixed or nested is ``string``, and
    so are numbers that no 64 bits hold exactly.
    """
    seen: set[str] = set()
    for value in values:
        if value is not None:
            seen |= _kinds(value)
    if seen == {"bool"}:
        return "bool"
    if seen and seen <= {"int64", "whole"}:
        return "int64"
    if seen and seen <= {"whole", "double"}:
        return "double"
    return "string"


def _kinds(value: object) -> set[str]:
    """Returns the type of a value; ``whole`` is a number that is as good in either."""
    if isinstance(value, bool):
        return {"bool"}
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            return {"string"}
        return {"whole"} if int(float(value)) == value else {"int64"}
    if isinstance(value, float):
        return {"double"} if is_exact(value) else {"string"}
    return {"string"}


def _spelled(kind: str) -> str:
    return str(_PLAIN[kind])
