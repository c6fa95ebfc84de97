"""Refuses model directories with files that are not regular, or far too large or too many."""

import os
import stat
from pathlib import Path

from embedkit.errors import ConfigError

_MOST_FILES = 10_000
_MOST_BYTES = 64 << 20
_MOST_TOKENIZER_BYTES = 128 << 20
"""Twice what a vocabulary of a million takes."""
_MOST_ADDED_TOKENS = 100_000
_ADDED = {"tokenizer.json": b'"single_word"', "tokenizer_config.json": b'"content"'}
"""What stands once in each added token of such a file."""
_TOKENIZERS = (".model", ".tiktoken", ".txt")
_READ_WHOLE = (".json", ".jinja", *_TOKENIZERS)


def check_files(root: Path) -> None:
    """Checks every file of a model directory before anything opens one of them.

    The libraries that read it open whatever has the right name: a FIFO would never end, and a
    device or a file of many gigabytes would fill the memory.

    Args:
        root: The model directory.

    Raises:
        ConfigError: A file is no regular file or far too large, or there are far too many.
    """
    count = 0
    for folder, folders, files in os.walk(root):
        count += len(folders) + len(files)
        if count > _MOST_FILES:
            raise ConfigError(
                f"{root}: more than {_MOST_FILES} files in it; is this a model's directory?"
            )
        for name in files:
            _check(Path(folder, name))


def _check(file: Path) -> None:
    try:
        found = file.stat()
    except FileNotFoundError:
        # A link to nothing is as good as no file.
        return
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{file}: not a regular file, so it is not read; take it away")
    is_tokenizer = file.name == "tokenizer.json" or file.suffix in _TOKENIZERS
    most = _MOST_TOKENIZER_BYTES if is_tokenizer else _MOST_BYTES
    if file.suffix in _READ_WHOLE and found.st_size > most:
        raise ConfigError(
            f"{file}: {found.st_size:,} bytes are too many for such a file; download the model "
            "again"
        )
    if (mark := _ADDED.get(file.name)) is None:
        return
    try:
        added = file.read_bytes().count(mark)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    if added > _MOST_ADDED_TOKENS:
        raise ConfigError(
            f"{file}: {added:,} added tokens, each of which takes long to load; expected at most "
            f"{_MOST_ADDED_TOKENS:,}, as a large vocabulary belongs into the model"
        )
