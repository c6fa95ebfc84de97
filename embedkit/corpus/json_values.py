"""Reads JSON values without loss, and writes them as text."""

import datetime
import io
import json
import math
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from embedkit.corpus.plain_values import plain_value

_MOST_DIGITS = 4300
"""Python makes no longer whole number of a text, as that takes time growing with the square."""
_EXACT = 1 << 53
"""From here on a float stands for several whole numbers."""


class Written(float):
    """A number that remembers how it was written."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> "Written":
        """Reads a number, which is infinite where it is too large for a float."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __repr__(self) -> str:
        return self.text


def _whole(text: str) -> int | Written:
    return int(text) if len(text) < _MOST_DIGITS else Written(text)


_DECODER = json.JSONDecoder(parse_float=Written, parse_int=_whole, parse_constant=Written)


def read_exactly(line: bytes) -> Any:
    """Reads JSON as Python's own parser does, each number as it is written.

    So NaN, infinities, lone surrogates and numbers of any size are read, which a faster parser
    refuses or rounds.

    Raises:
        ValueError: It is not JSON in UTF-8.
        RecursionError: It is nested too deeply.
    """
    return _DECODER.decode(line.decode())


def may_be_rounded(value: object, as_text: bool) -> bool:
    """Tells whether a value that was read fast may not be what is written.

    Args:
        value: The value.
        as_text: Whether its digits are wanted, not the nearest float.
    """
    if isinstance(value, float):
        return as_text or abs(value) >= _EXACT
    return as_text and isinstance(value, list | dict)


def exact_float(text: str) -> float:
    """Reads a number: a whole one as exactly that, a broken one as the nearest float.

    Raises:
        ValueError: It is no number, or a whole number that no float is.
    """
    number = float(text)
    if "_" in text or (math.isinf(number) and any(map(str.isdigit, text))):
        raise ValueError(text)
    if math.isfinite(number) and abs(number) >= _EXACT and "e" not in text.lower():
        try:
            same = Decimal(text) == Decimal(number)
        except InvalidOperation as error:
            raise ValueError(text) from error
        if not same:
            raise ValueError(text)
    return number


def is_exact(number: float) -> bool:
    """Tells whether a number is as exact as ``exact_float`` would have it."""
    if not isinstance(number, Written):
        return True
    try:
        exact_float(number.text)
    except ValueError:
        return False
    return True


def as_text(value: Any) -> str:
    """Writes a value: a string as it is, a list or mapping as JSON, anything else as its digits.

    Raises:
        ValueError: It holds bytes that are not UTF-8, or a string that is no Unicode text.
        RecursionError: It is nested too deeply.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping | list | tuple) or hasattr(value, "tolist"):
        return _json(value)
    return _scalar(value)


def _json(value: Any) -> str:
    # A list of millions of members is not also millions of strings.
    written = io.StringIO()
    _write(value, written.write)
    return written.getvalue()


_OWN = frozenset({str, int, float, bool, type(None), dict, list, Written})
"""Types of which no value is another library's."""


def _write(value: Any, write: Callable[[str], object]) -> None:
    if type(value) not in _OWN:
        value = plain_value(value)
        if hasattr(value, "tolist"):
            value = value.tolist()
    separator = ""
    if isinstance(value, Mapping):
        write("{")
        for name, member in value.items():
            write(f"{separator}{_quoted(str(name))}:")
            _write(member, write)
            separator = ","
        write("}")
    elif isinstance(value, list | tuple):
        write("[")
        for member in value:
            write(separator)
            _write(member, write)
            separator = ","
        write("]")
    else:
        bare = value is None or isinstance(value, int | float)
        write(_scalar(value) if bare else _quoted(_scalar(value)))


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Written):
        return value.text
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _float(value: float) -> str:
    if math.isfinite(value):
        return orjson.dumps(value).decode()
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _quoted(text: str) -> str:
    try:
        return orjson.dumps(text).decode()
    except orjson.JSONEncodeError as error:
        raise ValueError("a lone surrogate") from error
