"""Roots and keys of stores: how they are spelled, and what an error says about them."""

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from embedkit.errors import ConfigError, GoneError, StoreError
from embedkit.errors.foreign import one_line
from embedkit.errors.urls import lower_scheme, takes_no_user
from embedkit.errors.wrong_kinds import as_path

_HALF_A_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_KEY = re.compile(r"\.?[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")


def is_local(root: str) -> bool:
    """Whether a root is a path of this machine and not a URL."""
    return "://" not in root


def normalize_root(root: str | os.PathLike[str]) -> str:
    """Spells a root in one way: an absolute path, or a URL without a final slash, secrets and all.

    Raises:
        ConfigError: The root is no path, empty, half a URL, or chains several file systems.
    """
    root = lower_scheme(as_path("dataset", root))
    if root.startswith(("file://", "local://")):
        root = root.partition("://")[2]
    if not root or "::" in root or "\0" in root:
        raise ConfigError(
            f"{root!r} is no place for a dataset; expected a directory or a URL such as "
            "s3://bucket/folder"
        )
    if is_local(root):
        if _HALF_A_URL.match(root) and not os.path.lexists(root.partition("/")[0]):
            raise ConfigError(f"{root}: no URL, which has '://' behind its scheme; write it so")
        return os.path.abspath(root)
    scheme, _, rest = root.partition("://")
    if takes_no_user(root):
        raise ConfigError(
            f"{root}: {scheme}:// takes no user and password in its URL; leave them out, and give "
            "them in the environment as the store's own tools want them"
        )
    if scheme != "memory" and not rest.strip("/"):
        raise ConfigError(
            f"{root}: names no bucket; expected a URL such as {scheme}://bucket/folder"
        )
    return f"{scheme}://{rest.strip('/')}"


def checked_key(key: str) -> str:
    """Returns a key that stays below its root.

    Raises:
        ConfigError: It does not: it has other characters than a key may have, or climbs.
    """
    if not _KEY.fullmatch(key):
        raise ConfigError(
            f"{key!r} is not the name of an object; expected letters, digits, '.', '_' and '-' "
            "between slashes"
        )
    return key


@dataclass(frozen=True)
class AskedKeys:
    """The keys of a store that begin with a prefix, each looked for when it is asked for.

    Attributes:
        prefix: What they begin with.
        size_of: Returns an object's size, or None where there is none.
    """

    prefix: str
    size_of: Callable[[str], int | None]

    def __contains__(self, key: object) -> bool:
        """Whether there is such an object now."""
        return (
            isinstance(key, str) and key.startswith(self.prefix) and self.size_of(key) is not None
        )


@contextmanager
def store_errors(
    url: str,
    key: str,
    verb: str,
    errors: tuple[type[Exception], ...] = (OSError,),
    missing: bool = False,
) -> Iterator[None]:
    """Turns what a file system raises into a StoreError that names the object.

    Args:
        url: The store's root.
        key: The object's key.
        verb: What was tried, such as ``read``.
        errors: What the file system is known to raise.
        missing: Whether FileNotFoundError is an answer and no failure.

    Raises:
        GoneError: There is no such object, which is an answer.
        StoreError: One of the errors was raised inside.
    """
    try:
        yield
    except errors as error:
        if missing and isinstance(error, FileNotFoundError):
            # Whoever does not ask for it has found the object before, and another run took it away.
            raise GoneError(f"{url}/{key}: gone; run the same command again to resume") from error
        if isinstance(error, IsADirectoryError):
            raise StoreError(
                f"{url}/{key}: a directory stands in the place of a file; move it away, then run "
                "the same command again"
            ) from error
        detail = one_line(error)
        remedy = "check the output store, then run the same command again"
        if is_hopeless(error):
            remedy = "check the path and this user's rights to it"
        raise StoreError(
            f"{url}/{key}: could not {verb} it ({type(error).__name__}: {detail}); {remedy}"
        ) from error


def is_hopeless(error: BaseException | None) -> bool:
    """Whether no retry can mend it: no rights, no such bucket, a file in a folder's place."""
    if isinstance(error, (PermissionError, NotADirectoryError, FileExistsError, FileNotFoundError)):
        return True
    if isinstance(error, OSError):
        return error.errno in (errno.EROFS, errno.ENOTSUP, errno.ENOSYS)
    return type(error).__name__.endswith("CredentialsError")
