"""Characters that cannot be seen, written as their escapes."""

import unicodedata
from collections.abc import Collection


def escaped(text: str, categories: Collection[str], kept: Collection[str] = ()) -> str:
    r"""Writes characters of some of Unicode's categories as Python does in a string, ``\x1b``.

    Args:
        text: Any text.
        categories: The categories, such as ``Cc``, control characters.
        kept: Characters of them that stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char
        if char in kept or unicodedata.category(char) not in categories
        else char.encode("unicode_escape").decode()
        for char in text
    )
