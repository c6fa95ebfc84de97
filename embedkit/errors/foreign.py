"""Errors that are not embedkit's own, as the one line and the exit code that they end with."""

import errno
import os
import re
import sys

from embedkit.errors import ConfigError, EmbedkitError, ResumableError
from embedkit.errors.urls import without_secrets

_TRACEBACK = "EMBEDKIT_TRACEBACK"
_SHOWN = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_NO_MEMORY = re.compile(
    "can(no|')t alloc|MemoryError|out of memory|bad_alloc|failed to map segment|unable to mmap",
    re.IGNORECASE,
)


def as_ours(error: BaseException) -> EmbedkitError:
    """Returns an error of embedkit's own that says what another one means.

    What nobody foresaw counts as resumable: what is committed stands, and a scheduler's next try
    is harmless. Its traceback goes to a file, or to stderr where EMBEDKIT_TRACEBACK is set.
    """
    if isinstance(error, EmbedkitError):
        return error
    if os.environ.get(_TRACEBACK):
        sys.stderr.write(_traceback(error))
    return _known(error) or _unforeseen(error)


def _known(error: BaseException) -> EmbedkitError | None:
    what = one_line(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, (RuntimeError, ImportError)) and lacks_memory(str(error))
    ):
        return ResumableError(
            "this machine has too little memory; free some, or give smaller --block-rows and "
            "--call-tokens, then run the same command again to resume"
        )
    if type(error).__name__ == "PanicException" or (
        type(error) is Exception and "unk token" in what.lower()
    ):
        # Libraries in Rust have no classes of their own, and tokenizers are the likeliest.
        return ConfigError(
            f"the tokenizer gave up on a text ({what}); take a model whose tokenizer.json has no "
            "pattern that tries without end and knows its own unknown token, or leave such texts "
            "out"
        )
    if isinstance(error, ModuleNotFoundError):
        return ConfigError(f"{what}; install embedkit-batch again, with its dependencies")
    if isinstance(error, FileNotFoundError) and "No usable temporary directory" in what:
        return ConfigError(
            "there is no folder for temporary files that can be written; make room in /tmp and "
            "see to its rights, or set TMPDIR to another folder"
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in what:
        return _too_few_processes()
    return _known_to_the_system(error) if isinstance(error, OSError) else None


def _known_to_the_system(error: OSError) -> EmbedkitError | None:
    where = f"{error.filename}: " if error.filename else ""
    said = f"{where}{error.strerror or one_line(error)}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        # What has no name is a stream, such as the one that a command writes to at its end.
        said = said if where else f"stdout: {said}"
        return ResumableError(f"{said}; make room, then run the same command again to resume")
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return ConfigError(f"{said}; allow more open files with 'ulimit -n 4096' or more")
    if isinstance(error, BlockingIOError):
        return _too_few_processes()
    if error.errno == errno.ENOMEM:
        return ResumableError(f"{said}; free memory, then run the same command again to resume")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ConfigError(f"{said}; give this user the right to it, or name another place")
    return None


def _too_few_processes() -> ConfigError:
    return ConfigError(
        "this process may not start another thread or process; allow more with 'ulimit -u' or in "
        "the container's limits"
    )


def _unforeseen(error: BaseException) -> EmbedkitError:
    what = f"unexpected error: {type(error).__name__}: {one_line(error)}"
    kept = _keep(error)
    where = f"its traceback is in {kept}" if kept else f"{_TRACEBACK}=1 shows its traceback"
    return ResumableError(f"{what}; please report it, {where}")


def _keep(error: BaseException) -> str | None:
    """Writes a traceback to a file of this user's and returns its path, if that can be done."""
    # Loaded here, as hardly any process needs them.
    import tempfile

    text = _traceback(error)
    try:
        number, path = tempfile.mkstemp(prefix="embedkit-traceback-", suffix=".txt")
        with os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        return None
    return path


def _traceback(error: BaseException) -> str:
    # Loaded here, as hardly any process needs it.
    import traceback

    return without_secrets("".join(traceback.format_exception(error)))


def lacks_memory(said: str) -> bool:
    """Whether a library says that it could not have the memory that it needs."""
    return _NO_MEMORY.search(said) is not None


def one_line(error: BaseException | str, *, only_first: bool = False) -> str:
    """Returns what an error says on one line, without secrets and a terminal's colours.

    Args:
        error: The error, or what one said.
        only_first: Whether only the first line with text in it is wanted.

    Returns:
        At most 300 characters, or the error's class where it says nothing.
    """
    lines = [line for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    # Before it is cut, which may leave half a URL.
    said = " ".join(without_secrets("\n".join(lines[:1] if only_first else lines)).split())
    return (said if len(said) <= _SHOWN else said[:_SHOWN] + "…") or type(error).__name__
