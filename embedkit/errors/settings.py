"""What is wrong with settings, in words for who wrote them."""

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

_NAME = "expected at most 100 letters, digits, '.', '_' and '-', beginning with a letter or digit"
_PATTERNS = {
    "version": _NAME,
    "reuse": f"latest, off, or the name of a version: {_NAME}",
    "accelerator": "expected type:NAME, then ;count:N and ;install-nvidia-driver",
    "min_ram": "expected a size such as 16GB",
}
"""In the place of the patterns that settings must have, which tell a person little."""


_NOT_QUOTED = (bool, int, float, datetime.date)
"""What YAML makes of a text that stands there without quotes."""


def what_is_wrong(problem: Mapping[str, Any]) -> str:
    """Returns what is wrong with a value, without the checker's own words and patterns.

    Args:
        problem: One of the ``errors()`` of a ``ValidationError``.
    """
    place = [str(one) for one in problem["loc"]]
    if problem["type"] == "string_pattern_mismatch" and place and place[0] in _PATTERNS:
        return _PATTERNS[place[0]]
    if problem["type"] == "missing":
        return "missing; give it"
    if problem["type"] == "string_type" and isinstance(problem["input"], _NOT_QUOTED):
        return "expected a text; put it in quotes"
    message = str(problem["msg"])
    if problem["type"] in ("value_error", "assertion_error"):
        return message.partition(", ")[2]
    return message


def named_problem(problem: Mapping[str, Any]) -> str:
    """Returns what is wrong with a value, behind the setting's name; of several, they name them."""
    place = f"{problem['loc'][0]}: " if problem["loc"] else ""
    return place + what_is_wrong(problem)


def sentence(
    error: ValidationError,
    problem: Callable[[Mapping[str, Any]], str] = named_problem,
    most: int = 20,
) -> str:
    """Returns what is wrong with settings, on one line.

    Args:
        error: What a check of them raised.
        problem: Says one of its ``errors()``, with the name that the setting has there.
        most: So many problems are told; of the others, their number.
    """
    found = error.errors(include_url=False)
    # A field that takes one of several types has a problem with each.
    told = list(dict.fromkeys(problem(one) for one in found[:most]))
    return "; ".join(told + ([f"and {len(found) - most:,} more"] if len(found) > most else []))
