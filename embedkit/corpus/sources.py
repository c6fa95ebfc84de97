"""Finding input files: listing what the inputs name."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from embedkit.config import CorpusConfig
from embedkit.corpus.opening import local_etag, remote_etag, store_etag
from embedkit.corpus.raw_file import input_errors
from embedkit.corpus.splits import FileRange
from embedkit.errors import ConfigError, InputError

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

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
"""Compressions by the suffix behind the format's."""

_SKIPPED_SHOWN = 100


@dataclass(frozen=True)
class Listing:
    """What the inputs name.

    Attributes:
        base: Directory that sources are relative to.
        files: Each file once, as a range over all of it, sorted by source.
        skipped: Names of files in directories and globs that are no input, the first hundred.
        skipped_files: How many those are in all.
    """

    base: str
    files: tuple[FileRange, ...]
    skipped: tuple[str, ...]
    skipped_files: int


@dataclass(frozen=True)
class _Found:
    url: str
    size: int
    etag: str
    named: bool


def list_inputs(config: CorpusConfig) -> Listing:
    """Finds the input files that a configuration names.

    A directory is searched to its bottom, and so is one that a glob matches. In there a file is
    an input when its suffix tells a format, or when ``format`` is given; names that begin with
    '.' or '_' never are. A file that is named itself is always an input.

    Args:
        config: Names the inputs, and perhaps their format, compression and base.

    Raises:
        ConfigError: A format cannot be told from the name of a named file, a URL is of an unknown
            kind, or a file lies outside the base.
        InputError: A file does not exist, or an input names none.
    """
    found: dict[str, _Found] = {}
    skipped: set[str] = set()
    roots: list[str] = []
    for pattern in config.inputs:
        root, files = _expand(pattern)
        roots.append(root)
        inputs = 0
        for file in files:
            if not file.named and not _is_input(file, root, config):
                skipped.add(file.url)
                continue
            inputs += 1
            if file.named or file.url not in found:
                found[file.url] = file
        if not inputs:
            raise InputError(_nothing_found(pattern, skipped))
    base = _base(config, roots)
    ranges = sorted((_whole(file, base, config) for file in found.values()), key=_by_source)
    skipped -= found.keys()
    return Listing(base, tuple(ranges), tuple(sorted(skipped)[:_SKIPPED_SHOWN]), len(skipped))


def _expand(pattern: str) -> tuple[str, list[_Found]]:
    filesystem, path = _filesystem(pattern)
    # What an earlier plan of this process listed may have changed.
    filesystem.invalidate_cache()
    local = isinstance(filesystem, LocalFileSystem)
    with input_errors(pattern, "listed", _url(filesystem, path)):
        if (local and os.path.isfile(path)) or not _has_magic(path):
            if filesystem.isdir(path):
                return _url(filesystem, path), list(_walk(filesystem, path))
            return _url(filesystem, filesystem._parent(path)), [_named(filesystem, path)]
        return _url(filesystem, _glob_root(path)), list(_glob(filesystem, path))


def _filesystem(pattern: str) -> tuple[Any, str]:
    if "::" in pattern:
        raise ConfigError(f"inputs: {pattern!r} chains file systems; name the files themselves")
    try:
        filesystem, path = fsspec.core.url_to_fs(os.path.expanduser(pattern))
    except ImportError as error:
        raise ConfigError(f"inputs: {pattern!r} needs another package: {error}") from error
    except ValueError as error:
        raise ConfigError(f"inputs: {pattern!r} cannot be read: {error}") from error
    return filesystem, path


def _glob(filesystem: Any, path: str) -> Iterator[_Found]:
    for name, info in sorted(filesystem.glob(path, detail=True).items()):
        if info["type"] == "directory":
            yield from _walk(filesystem, name)
        else:
            yield from _listed(filesystem, name, info)


def _walk(filesystem: Any, path: str) -> Iterator[_Found]:
    if isinstance(filesystem, LocalFileSystem):
        for name in sorted(_local_files(path)):
            yield from _listed(filesystem, name, {})
        return
    for name, info in sorted(filesystem.find(path, detail=True).items()):
        yield from _listed(filesystem, name, info)


def _local_files(path: str) -> Iterator[str]:
    """Finds files by links as well, each folder once; a folder that may not be read is an error."""

    def refused(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for folder, folders, names in os.walk(path, onerror=refused, followlinks=True):
        real = os.path.realpath(folder)
        folders.sort()
        if real in seen:
            folders.clear()
        else:
            seen.add(real)
            yield from (os.path.join(folder, name) for name in names)


def _listed(filesystem: Any, name: str, info: dict[str, Any]) -> Iterator[_Found]:
    url = _url(filesystem, name)
    if isinstance(filesystem, LocalFileSystem):
        status = os.stat(name)
        # Listings do not follow links, and a corpus may be a folder of them.
        if stat.S_ISREG(status.st_mode):
            yield _Found(url, status.st_size, local_etag(status), named=False)
        return
    if not store_etag(info):
        # A listing and an `info` may tell the same time in two ways.
        info = filesystem.info(name)
    yield _Found(url, int(info["size"]), remote_etag(info), named=False)


def _named(filesystem: Any, path: str) -> _Found:
    if isinstance(filesystem, LocalFileSystem):
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{path}: not a regular file; embedkit reads a file more than once")
        return _Found(_url(filesystem, path), status.st_size, local_etag(status), named=True)
    info = filesystem.info(path)
    if info["size"] is None:
        raise InputError(f"{path}: its server does not tell its size; copy it to a file first")
    return _Found(_url(filesystem, path), int(info["size"]), remote_etag(info), named=True)


def _is_input(file: _Found, root: str, config: CorpusConfig) -> bool:
    inside = file.url.removeprefix(root).strip("/").split("/")
    if any(part.startswith((".", "_")) for part in inside):
        return False
    return config.format != "auto" or _format_and_compression(file.url)[0] is not None


def _whole(file: _Found, base: str, config: CorpusConfig) -> FileRange:
    by_suffix, compression = _format_and_compression(file.url)
    form = by_suffix if config.format == "auto" else config.format
    if config.compression != "auto":
        compression = config.compression
    if form is None:
        raise ConfigError(
            f"{file.url}: its suffix tells no format ({' '.join(FORMATS)}, then "
            f"{' '.join(COMPRESSIONS)}); name it with --format"
        )
    if form == "parquet" and compression != "none":
        raise ConfigError(
            f"{file.url}: a Parquet file compressed as a whole cannot be read in parts; "
            "decompress it"
        )
    if not _is_utf8(file.url):
        raise InputError(f"{file.url!a}: its name is not UTF-8; rename the file")
    return FileRange(
        source=_relative(file.url, base),
        url=file.url,
        size=file.size,
        etag=file.etag,
        format=form,
        compression=compression,
        start=0,
        end=file.size,
        stored=file.size,
    )


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _format_and_compression(url: str) -> tuple[str | None, str]:
    stem, suffix = os.path.splitext(url.lower())
    compression = COMPRESSIONS.get(suffix, "none")
    if compression != "none":
        suffix = os.path.splitext(stem)[1]
    return FORMATS.get(suffix), compression


def _base(config: CorpusConfig, roots: Sequence[str]) -> str:
    if config.base is not None:
        filesystem, path = _filesystem(config.base)
        return _url(filesystem, path).rstrip("/")
    parts = [root.split("/") for root in roots]
    common = parts[0]
    for other in parts[1:]:
        same = (mine == theirs for mine, theirs in zip(common, other, strict=False))
        common = common[: next((n for n, equal in enumerate(same) if not equal), len(other))]
    base = "/".join(common)
    return "" if base.endswith((":", ":/")) else base


def _relative(url: str, base: str) -> str:
    if not base:
        return url.removeprefix("/") if "://" not in url else url
    if not url.startswith(base + "/"):
        raise ConfigError(f"{url}: not below base {base}; give a base that holds all inputs")
    return url[len(base) + 1 :]


def _glob_root(path: str) -> str:
    folders = path.split("/")[:-1]
    plain = next((n for n, part in enumerate(folders) if _has_magic(part)), len(folders))
    return "/".join(folders[:plain])


def _has_magic(path: str) -> bool:
    return any(character in path for character in "*?[")


def _url(filesystem: Any, path: str) -> str:
    if isinstance(filesystem, LocalFileSystem):
        return path.rstrip("/")
    return str(filesystem.unstrip_protocol(path)).rstrip("/")


def _nothing_found(pattern: str, skipped: set[str]) -> str:
    if not skipped:
        return f"{pattern}: matches no file; check the inputs"
    return (
        f"{pattern}: holds no file whose suffix tells its format, only others such as "
        f"{min(skipped)}; name the format with --format"
    )


def _by_source(file: FileRange) -> str:
    return file.source
