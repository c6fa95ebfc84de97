"""Where chunks begin and end in a text: (char_start, char_end), without white space at the ends."""

from collections.abc import Iterable

Spans = list[tuple[int, int]]


def shifted(spans: Iterable[tuple[int, int]], start: int) -> Spans:
    """Returns spans of a stretch of text as spans of the text, in which it begins at ``start``."""
    return [(start + first, start + last) for first, last in spans]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Returns a span without the white space at its ends; one of white space alone is turned."""
    chunk = text[start:end]
    return end - len(chunk.lstrip()), start + len(chunk.rstrip())


def filled(text: str, start: int, end: int) -> Spans:
    """Returns a span without the white space at its ends, or none where that is all."""
    start, end = trimmed(text, start, end)
    return [(start, end)] if start < end else []


def whole(text: str) -> tuple[int, int]:
    """Returns the span of a text without the white space at its ends, unless that is all."""
    start, end = trimmed(text, 0, len(text))
    return (start, end) if start < end else (0, len(text))


def distinct(spans: Spans) -> Spans:
    """Leaves out spans that lie within a neighbour, as an overlap may make them."""
    kept: Spans = []
    for start, end in spans:
        while kept and start <= kept[-1][0] and kept[-1][1] <= end:
            kept.pop()
        if not kept or end > kept[-1][1]:
            kept.append((start, end))
    return kept
