"""What is wrong with a setting, in words for who wrote it."""

from collections.abc import Mapping
from typing import Any

_PATTERNS = {
    "version": "expected at most 100 letters, digits, '.', '_' and '-', beginning with a letter or "
    "digit",
    "accelerator": "expected type:NAME, then ;count:N and ;install-nvidia-driver",
    "min_ram": "expected a size such as 16GB",
}
"""In the place of the patterns that settings must have, which tell a person little."""


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
    message = str(problem["msg"])
    if problem["type"] in ("value_error", "assertion_error"):
        return message.partition(", ")[2]
    return message
