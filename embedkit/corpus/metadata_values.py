"""Values of metadata columns as Arrow arrays of the planned type."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from embedkit.corpus.arrow_values import conform, is_string, plain_array, to_texts
from embedkit.corpus.columns import shown
from embedkit.corpus.json_values import Written, as_text, exact_float

Unfit = dict[int, str]
"""By place in a batch, what a value is that does not fit its column."""

_WHOLE = re.compile(r"[+-]?[0-9]+")
_FAILURES = (pa.ArrowException, TypeError, ValueError, OverflowError, RecursionError)
_JSON_KINDS: dict[pa.DataType, set[type]] = {
    pa.string(): {str},
    pa.int64(): {int},
    pa.bool_(): {bool},
}


def metadata_array(values: Any, kind: pa.DataType, typed: bool, unfit: Unfit) -> pa.Array:
    """Makes a metadata column; no value is changed, and one that does not fit becomes null.

    A ``string`` column takes every value: what is no string becomes its JSON text. Every other
    type takes only values that are of it; a float column takes whole numbers that it holds
    exactly as well.

    Args:
        values: An Arrow array, or a value for each record with None for null.
        kind: The planned type.
        typed: False where values are strings to be parsed, of which the empty one is null, except
            in a string column.
        unfit: Takes the values that do not fit, by place.
    """
    if isinstance(values, pa.Array):
        return _from_arrow(values, kind, unfit)
    convert = _converter(kind, typed)
    kinds = set(map(type, values)) - {type(None)}
    try:
        if typed and kinds <= _JSON_KINDS.get(kind, set()):
            return pa.array(values, kind)
        return pa.array([None if value is None else convert(value) for value in values], kind)
    except _FAILURES:
        return _one_by_one(values, kind, convert, unfit)


def _one_by_one(
    values: Sequence[Any], kind: pa.DataType, convert: Callable[[Any], Any], unfit: Unfit
) -> pa.Array:
    kept: list[Any] = []
    for place, value in enumerate(values):
        try:
            made = None if value is None else convert(value)
            pa.scalar(made, kind)
            kept.append(made)
        except _FAILURES:
            unfit[place] = shown(value)
            kept.append(None)
    return pa.array(kept, kind)


def _from_arrow(values: pa.Array, kind: pa.DataType, unfit: Unfit) -> pa.Array:
    try:
        return _converted(values, kind)
    except _FAILURES:
        pass
    made = []
    for place in range(len(values)):
        # Taken, not cut out: a slice of lists is checked with the values of all of them.
        piece = values.take(pa.array([place]))
        try:
            made.append(_converted(piece, kind))
        except _FAILURES:
            made.append(pa.nulls(1, kind))
            unfit[place] = _shown(piece)
    return pa.concat_arrays(made)


def _converted(values: pa.Array, kind: pa.DataType) -> pa.Array:
    if kind == values.type:
        # Strings of a Parquet file may be any bytes.
        values.validate(full=True)
        return values
    values = plain_array(values)
    if is_string(values.type):
        parse = _as_it_is if kind == pa.string() else _converter(kind, typed=False)
        texts = to_texts(values)
        return pa.array([None if text is None else parse(text) for text in texts], kind)
    if kind == pa.string():
        return pa.array(to_texts(values), kind)
    if kind == pa.float64() and not pa.types.is_floating(values.type):
        texts = to_texts(values)
        return pa.array([None if text is None else _number(text) for text in texts], kind)
    made = conform(values, kind)
    made.validate(full=True)
    return made


def _shown(piece: pa.Array) -> str:
    try:
        return shown(to_texts(piece)[0])
    except _FAILURES:
        return f"a value of type {str(piece.type)[:60]} that cannot be read"


def _converter(kind: pa.DataType, typed: bool) -> Callable[[Any], Any]:
    if kind == pa.string():
        return as_text
    if typed:
        return _STRICT.get(kind, _as_it_is)
    parse: Callable[[str], Any] | None = _PARSED.get(kind)

    def convert(text: str) -> Any:
        if text == "":
            return None
        return pa.scalar(text).cast(kind) if parse is None else parse(text)

    return convert


def _as_it_is(value: Any) -> Any:
    return value


def _truth_value(value: Any) -> bool:
    if type(value) is not bool:
        raise TypeError(value)
    return value


def _integer(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)
    raise TypeError(value)


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    return exact_float({"true": "1", "false": "0"}.get(text, text))


def _float(value: Any) -> float:
    if isinstance(value, Written):
        return exact_float(value.text)
    if type(value) not in (float, int):
        raise TypeError(value)
    number = float(value)
    if type(value) is int and int(number) != value:
        raise ValueError(value)
    return number


def _truth(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError(text)
    return _TRUTHS[text.lower()]


_TRUTHS = {"true": True, "false": False, "1": True, "0": False}
_STRICT: dict[pa.DataType, Callable[[Any], Any]] = {
    pa.int64(): _integer,
    pa.float64(): _float,
    pa.bool_(): _truth_value,
}
_PARSED: dict[pa.DataType, Callable[[str], Any]] = {
    pa.int64(): _whole,
    pa.float64(): exact_float,
    pa.bool_(): _truth,
}
