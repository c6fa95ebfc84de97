"""Values of metadata columns as Arrow arrays of the planned type."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pyarrow as pa

from embedkit.corpus.columns import Problems, shown

_WHOLE = re.compile(r"[+-]?[0-9]+")
_FAILURES = (pa.ArrowException, TypeError, ValueError, OverflowError)
_JSON_KINDS: dict[pa.DataType, set[type]] = {
    pa.string(): {str},
    pa.int64(): {int},
    pa.float64(): {float, int},
    pa.bool_(): {bool},
}


def metadata_array(
    values: Any, name: str, kind: pa.DataType, typed: bool, problems: Problems
) -> pa.Array:
    """Makes a metadata column.

    A ``string`` column takes every value: what is no string becomes its JSON text. Every other
    type takes only values that are of it; a float column takes whole numbers as well.

    Args:
        values: An Arrow array, or a value for each record with None for null.
        name: The column's name.
        kind: Its planned type.
        typed: False where values are strings to be parsed, of which the empty one is null, except
            in a string column.
        problems: Takes the values that are not of the type, by place; they become null.
    """
    if isinstance(values, pa.Array):
        if values.type == kind:
            return values
        try:
            return values.cast(kind)
        except pa.ArrowException:
            convert = _converter(kind, typed) if kind == pa.string() else _caster(values.type, kind)
            return _one_by_one(values.to_pylist(), name, kind, convert, problems)
    convert = _converter(kind, typed)
    kinds = set(map(type, values)) - {type(None)}
    try:
        if typed and kinds <= _JSON_KINDS.get(kind, set()) and float not in kinds:
            return pa.array(values, kind)
        return pa.array([None if value is None else convert(value) for value in values], kind)
    except _FAILURES:
        return _one_by_one(values, name, kind, convert, problems)


def _one_by_one(
    values: Sequence[Any],
    name: str,
    kind: pa.DataType,
    convert: Callable[[Any], Any],
    problems: Problems,
) -> pa.Array:
    kept: list[Any] = []
    for place, value in enumerate(values):
        try:
            kept.append(None if value is None else pa.scalar(convert(value), kind).as_py())
        except _FAILURES:
            detail = (
                f"column {name!r} holds {shown(value)}, expected {kind}; mend it, or declare "
                f"--metadata-columns {name}:string"
            )
            problems.setdefault(place, ("wrong_type", detail))
            kept.append(None)
    return pa.array(kept, kind)


def _converter(kind: pa.DataType, typed: bool) -> Callable[[Any], Any]:
    if kind == pa.string():
        return _as_string
    if typed:
        return _STRICT.get(kind, lambda value: value)
    parse: Callable[[str], Any] | None = _PARSED.get(kind)

    def convert(text: str) -> Any:
        if text == "":
            return None
        return pa.scalar(text).cast(kind).as_py() if parse is None else parse(text)

    return convert


def _caster(stored: pa.DataType, kind: pa.DataType) -> Callable[[Any], Any]:
    return lambda value: pa.scalar(value, stored).cast(kind).as_py()


def _as_string(value: Any) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value, default=str).decode()


def _strictly(make: Callable[[Any], Any], *kinds: type) -> Callable[[Any], Any]:
    def convert(value: Any) -> Any:
        if type(value) not in kinds:
            raise TypeError(value)
        return make(value)

    return convert


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if "_" in text:
        raise ValueError(text)
    return float(text)


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError(text)
    return _TRUTHS[text.lower()]


_TRUTHS = {"true": True, "false": False, "1": True, "0": False}
_STRICT = {
    pa.int64(): _strictly(int, int),
    pa.float64(): _strictly(float, float, int),
    pa.bool_(): _strictly(bool, bool),
}
_PARSED: dict[pa.DataType, Callable[[str], Any]] = {
    pa.int64(): _whole,
    pa.float64(): _number,
    pa.bool_(): _truth,
}
