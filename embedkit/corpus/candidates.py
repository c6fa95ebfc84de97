"""Lists of candidates for a query: a record of many texts, each of which gets a row."""

from collections.abc import Sequence
from typing import Any

from embedkit.corpus.chunks import Spans

SEPARATOR = "\x1e"
"""Stands between the candidates of a record while they are one text: ASCII's record separator."""


class CandidateSplitter:
    """Cuts the joined candidates of a record into one chunk each; a ``Chunker``."""

    def spans(self, texts: list[str]) -> list[Spans]:
        """Returns for each text the (start, end) of its candidates."""
        found = []
        for text in texts:
            start, spans = 0, []
            for candidate in text.split(SEPARATOR):
                spans.append((start, start + len(candidate)))
                start += len(candidate) + 1
            found.append(spans)
        return found


def joined(candidates: Sequence[Any], column: str) -> tuple[str, str, str]:
    """Joins the candidates of a record into one text.

    Args:
        candidates: The list.
        column: The column that it stands in.

    Returns:
        The text, and the reason and detail of why it is a reject, empty where it is none.
    """
    for number, one in enumerate(candidates, 1):
        which = f"candidate {number} in column {column!r}"
        if type(one) is not str:
            detail = f"{which} is a {type(one).__name__}, expected a string; mend it"
            return "", "wrong_type", detail
        if not one or one.isspace():
            return "", "empty_text", f"{which} is empty; leave it out"
        if SEPARATOR in one:
            detail = f"{which} holds U+001E, a record separator; take it out"
            return "", "separator_in_text", detail
    if not candidates:
        return "", "empty_text", f"no candidate in column {column!r}; leave the record out"
    return SEPARATOR.join(candidates), "", ""
