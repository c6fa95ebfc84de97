"""Paths and URLs on their file systems: how they are opened, and how they are called."""

import os
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from embedkit.corpus.raw_file import input_errors
from embedkit.errors import ConfigError
from embedkit.errors.urls import (
    lower_scheme,
    public_url,
    remember_secrets,
    s3_credentials,
    takes_no_user,
    without_secrets,
    without_user,
)
from embedkit.remote import check_reachable, patience


@dataclass(frozen=True)
class Location:
    """A path on a file system.

    Attributes:
        filesystem: The file system, of fsspec.
        path: The path, as the file system spells it.
        asked: The path or URL that led here, secrets and all.
    """

    filesystem: Any
    path: str
    asked: str

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine's own file system."""
        return isinstance(self.filesystem, LocalFileSystem)

    @property
    def is_http(self) -> bool:
        """Whether it is on a web server, which tells little of what it has."""
        return self.asked.startswith(("http://", "https://"))

    def url_of(self, path: str) -> str:
        """Returns what a path on the file system is called: without any secret."""
        url = self.secret_url_of(path)
        if self.is_local:
            return url
        # What a store lists are names, whatever marks they have.
        return public_url(url) if self.is_http else without_user(url)

    def secret_url_of(self, path: str) -> str:
        """Returns what opens a path on the file system, with the secrets that led here."""
        if self.is_local:
            return path.rstrip("/") or "/"
        url = str(self.filesystem.unstrip_protocol(path)).rstrip("/")
        if s3_credentials(self.asked):
            user = self.asked.partition("://")[2].partition("@")[0]
            scheme, _, rest = url.partition("://")
            return f"{scheme}://{user}@{rest}"
        return url


def locate(url: str) -> Location:
    """Finds the file system of a path or URL.

    A local path that exists is taken by its exact name, whatever '::' or '://' it holds.

    Raises:
        ConfigError: The file system is unknown, not installed, or a chain of several.
        InputError: Its server refuses whoever asks.
        ResumableError: It does not answer.
    """
    if os.path.expanduser(url) != url:
        return Location(LocalFileSystem(), os.path.abspath(os.path.expanduser(url)), url)
    if os.path.lexists(url):
        return Location(LocalFileSystem(), os.path.abspath(url), url)
    url = lower_scheme(url)
    protocol, mark, _ = url.partition("://")
    if not mark:
        return Location(LocalFileSystem(), os.path.abspath(url), url)
    remember_secrets(url)
    if takes_no_user(url):
        raise ConfigError(
            f"inputs: {public_url(url)!r}: {protocol}:// takes no user and password in its URL; "
            "leave them out, and give them in the environment as the store's own tools want them"
        )
    if "::" in protocol or ("::" in url and "://" in url.partition("::")[2]):
        raise ConfigError(
            f"inputs: {without_secrets(url)!r} chains file systems; name the files themselves"
        )
    try:
        with input_errors(public_url(url), "reached", url):
            return _remote(protocol, url)
    except ImportError as error:
        raise ConfigError(f"inputs: {public_url(url)!r} needs another package: {error}") from error
    except ValueError as error:
        said = without_secrets(str(error), url)
        raise ConfigError(f"inputs: {public_url(url)!r} cannot be read: {said}") from error


def _remote(protocol: str, url: str) -> Location:
    check_reachable(protocol)
    kind = fsspec.get_filesystem_class(protocol)
    options = patience(protocol)
    if credentials := s3_credentials(url):
        key, secret = credentials
        return Location(
            kind(key=key, secret=secret, **options), kind._strip_protocol(without_user(url)), url
        )
    return Location(
        kind(**options, **(kind._get_kwargs_from_urls(url) or {})), kind._strip_protocol(url), url
    )
