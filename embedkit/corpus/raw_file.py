"""Reads input files as bytes, and tells a read that failed from damaged content."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

from embedkit.errors import EmbedkitError, InputError, ResumableError
from embedkit.errors.remote import is_passing, remote_errors
from embedkit.errors.urls import public_url, without_secrets


class RawFile:
    """A file that is open for reading.

    Decompressors and pyarrow raise OSError where content is damaged, which costs records; a disk
    or a network that fails must cost none, so its errors leave here as another kind.

    Args:
        opened: The file.
        url: Its path or URL, secrets and all.
    """

    def __init__(self, opened: Any, url: str) -> None:
        self._opened = opened
        self._url = public_url(url)
        self._secret_url = url
        self._errors = errors_at(url)

    def read(self, size: int = -1) -> bytes:
        """Reads up to so many bytes.

        Raises:
            InputError: The file is not the one that was opened any more.
            ResumableError: The disk or the network failed.
        """
        try:
            data: bytes = self._opened.read(size)
        except self._errors as error:
            # A store may refuse to read on in a file because it changed.
            with suppress(*self._errors):
                self._opened.check()
            raise ResumableError(
                f"{self._url}: reading it failed ({reason(error, self._secret_url)}); "
                "run the same command again to resume"
            ) from error
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves to an offset and returns the new place."""
        place: int = self._opened.seek(offset, whence)
        return place

    def tell(self) -> int:
        """Returns the place of the next byte to be read."""
        place: int = self._opened.tell()
        return place

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return bool(self._opened.closed)

    def close(self) -> None:
        """Closes it."""
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    # Whoever leaves early has not used it to its end, and need not know what became of it.
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._check()
        finally:
            self.close()

    def _check(self) -> None:
        try:
            self._opened.check()
        except self._errors as error:
            raise ResumableError(
                f"{self._url}: looking at it again failed ({reason(error, self._secret_url)}); "
                "run the same command again to resume"
            ) from error


def errors_at(url: str) -> tuple[type[Exception], ...]:
    """Returns what the file system of a path or URL is known to raise."""
    protocol, mark, _ = url.partition("://")
    return remote_errors(protocol if mark else "file")


@contextmanager
def input_errors(name: str, verb: str, url: str) -> Iterator[None]:
    """Turns what a file system raises into an InputError on one line.

    Args:
        name: The input, where the error does not name a file itself; without secrets.
        verb: What was tried, such as ``opened``.
        url: A path or URL on the file system, secrets and all.

    Raises:
        InputError: One of its errors was raised inside.
        ResumableError: One that may be gone at the next try.
    """
    try:
        yield
    except errors_at(url) as error:
        named = without_secrets(str(getattr(error, "filename", None) or name), url)
        raise _named(_true_cause(error, url), named, verb, url) from error


def _true_cause(error: Exception, url: str) -> Exception:
    """Returns what made a file system say that a file is not there, where it was something else.

    That of web servers says so of a server that refuses, fails or does not answer as well.
    """
    cause = error.__cause__
    known = isinstance(error, FileNotFoundError) and isinstance(cause, errors_at(url))
    return cause if known and isinstance(cause, Exception) else error


def _named(error: Exception, named: str, verb: str, url: str) -> EmbedkitError:
    if isinstance(error, FileNotFoundError) or getattr(error, "status", 0) == HTTPStatus.NOT_FOUND:
        return InputError(f"{named}: no such file; check the inputs")
    if is_passing(error):
        return ResumableError(
            f"{named}: cannot be {verb} ({reason(error, url)}); see that its service can be "
            "reached, then run the same command again to resume"
        )
    return InputError(f"{named}: cannot be {verb} ({reason(error, url)}); check the inputs")


def reason(error: Exception, url: str) -> str:
    """Says on one line what an error says, without the secrets of a URL."""
    said = getattr(error, "strerror", None) or str(error)
    return without_secrets(" ".join(said.split()), url)[:300] or type(error).__name__
