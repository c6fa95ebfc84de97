"""Tells a file's format and compression from its name, and whether it is an input at all."""

import os
from functools import lru_cache

FORMATS = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}
"""Formats by suffix."""

COMPRESSIONS = {
    ".gz": "gzip",
    ".gzip": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bz2",
    ".xz": "xz",
    ".lzma": "xz",
}
"""Compressions by the suffix behind the format's."""

NOT_READ = (".lz4", ".snappy", ".sz", ".br", ".zip", ".7z", ".rar", ".tar", ".tgz", ".z")
"""Suffixes of compressions and archives that are not read."""

_HIDDEN = (".", "_", "~$")
_UNFINISHED = (
    ".tmp", ".temp", ".lock", ".lck", ".crdownload", ".incomplete", ".swp", ".swo", "~", "#",
    "_$folder$",
)  # fmt: skip
"""How the names of locks, backups and half-written files end, and marks of folders."""
_OF_SYSTEMS = (
    "thumbs.db", "desktop.ini", "dataset_info.json", "dataset_infos.json", "dataset_dict.json",
)  # fmt: skip
"""What file browsers leave in folders, and Hugging Face datasets beside their data."""
_FOLDERS_OF_SYSTEMS = ("@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found")


def format_and_compression(name: str) -> tuple[str | None, str]:
    """Returns what the suffixes of a name say; the format is None where they say none.

    Args:
        name: A path, or a URL without its query.
    """
    last = name.rpartition("/")[2]
    dot = last.find(".")
    # The rest of the stem tells nothing, and the same suffixes come a million times.
    return _of_suffixes(last if dot < 1 else last[0] + last[dot:])


@lru_cache
def _of_suffixes(name: str) -> tuple[str | None, str]:
    stem, suffix = os.path.splitext(name.lower())
    compression = COMPRESSIONS.get(suffix, "none")
    if compression != "none":
        suffix = os.path.splitext(stem)[1]
    return FORMATS.get(suffix), compression


def is_input_by_name(inside: str, any_format: bool) -> bool:
    """Tells whether a file that a search found is an input.

    Args:
        inside: Its path below where the search began.
        any_format: Whether files without a suffix that tells a format are inputs as well.
    """
    folder, _, name = inside.strip("/").rpartition("/")
    if name.startswith(_HIDDEN) or _holds_no_inputs(folder):
        return False
    name = name.lower()
    if name.endswith(_UNFINISHED) or name in _OF_SYSTEMS:
        return False
    return any_format or format_and_compression(name)[0] is not None


@lru_cache
def _holds_no_inputs(folder: str) -> bool:
    parts = folder.split("/")
    return any(part.startswith(_HIDDEN) or part.lower() in _FOLDERS_OF_SYSTEMS for part in parts)


def is_unicode(text: str) -> bool:
    """Tells whether a string is Unicode text, which lone surrogates are not.

    They stand for the bytes of a file's name that is not UTF-8, and come from escapes of JSON.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def has_magic(path: str) -> bool:
    """Tells whether a path has characters of a pattern."""
    return any(character in path for character in "*?[")
