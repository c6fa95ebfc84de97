"""Says what is wrong with arguments of another kind than a function takes."""

import os
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from embedkit.errors import ConfigError


def check_kind(name: str, given: Any, *kinds: type) -> None:
    """Checks the kind of an argument.

    Args:
        name: The argument's name.
        given: The argument.
        kinds: What it may be.

    Raises:
        ConfigError: It is none of them.
    """
    if not isinstance(given, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigError(
            f"{name}: expected {wanted}, got {_kind(given)}; give it as {kinds[0].__name__}(...)"
        )


def as_path(name: str, given: Any) -> str:
    """Returns a path or URL as text, with the user's own folder in the place of ``~``.

    Args:
        name: The argument's name.
        given: Text, or what has a path in the file system.

    Raises:
        ConfigError: It is neither.
    """
    text = given if isinstance(given, str) else _path_of(given)
    if not isinstance(text, str):
        raise ConfigError(f"{name}: expected a path or URL, got {_kind(given)}; give its place")
    return at_home(text)


def at_home(path: str) -> str:
    """Returns a path with the user's own folder in the place of ``~``; ``~name`` is a name."""
    return os.path.expanduser(path) if path == "~" or path.startswith("~/") else path


def check_text(name: str, given: Any) -> None:
    """Checks that an argument is text.

    Raises:
        ConfigError: It is not.
    """
    if not isinstance(given, str):
        raise ConfigError(f"{name}: expected text, got {_kind(given)}; give a str")


def words_of(name: str, given: Any) -> list[str]:
    """Returns words that were given as a list or some such.

    Raises:
        ConfigError: They are one text, whose letters are no words, or something else.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        shown = f"[{given!r}]" if isinstance(given, str) else "['king']"
        raise ConfigError(f"{name}: expected words, got {_kind(given)}; give a list, as {shown}")
    words = list(given)
    for word in words:
        check_text(name, word)
    return words


def whole_number(name: str, given: Any) -> int:
    """Returns a whole number of at least 1, whatever library it is of.

    Raises:
        ConfigError: It is none.
    """
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise ConfigError(f"{name} is {given!r}, expected a whole number of at least 1")
    return int(given)


def _path_of(given: Any) -> Any:
    return os.fspath(given) if isinstance(given, os.PathLike) else None


def _kind(given: Any) -> str:
    return given.__name__ + " itself" if isinstance(given, type) else type(given).__name__
