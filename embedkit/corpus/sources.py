"""Which files the inputs name, each as a range over all of it, in one order."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from embedkit.config import CorpusConfig
from embedkit.corpus.finding import Found, Search
from embedkit.corpus.locations import Location, locate
from embedkit.corpus.names import (
    COMPRESSIONS,
    FORMATS,
    NOT_READ,
    format_and_compression,
    is_input_by_name,
    is_unicode,
)
from embedkit.corpus.raw_file import input_errors
from embedkit.corpus.splits import FileRange
from embedkit.errors import ConfigError, InputError

_SKIPPED_SHOWN = 100


@dataclass(frozen=True)
class Listing:
    """What the inputs name.

    Attributes:
        base: Directory that sources are relative to.
        files: Each file once, as a range over all of it, sorted by source.
        skipped: Names of files in directories and globs that are no input, the first hundred.
        skipped_files: How many those are in all.
        left: Links among them that lead out of the directory that was named.
    """

    base: str
    files: tuple[FileRange, ...]
    skipped: tuple[str, ...]
    skipped_files: int
    left: tuple[str, ...] = ()


def list_inputs(config: CorpusConfig) -> Listing:
    """Finds the input files that a configuration names.

    What exists under the exact name of an input is meant; only where nothing does, its '*', '?'
    and '[' make a pattern. A directory is searched to its bottom, and so is one that a pattern
    matches. In there a file is an input when its suffix tells a format, or when ``format`` is
    given; hidden and half-written files never are, nor is what embedkit wrote, nor, unless
    ``follow_symlinks`` says so, what a link leads to outside. A file that is named itself is
    always an input.

    Args:
        config: Names the inputs, and perhaps their format, compression and base.

    Raises:
        ConfigError: A format cannot be told from the name of a named file, a URL is of an unknown
            kind, or a file lies outside the base.
        InputError: A file does not exist, an input names none, or one is a table with a log.
    """
    found: dict[str, Found] = {}
    skipped: set[str] = set()
    left: set[str] = set()
    roots: list[str] = []
    is_input = partial(is_input_by_name, any_format=config.format != "auto")
    for asked in config.inputs:
        place = locate(asked)
        # What an earlier plan of this process listed may have changed.
        place.filesystem.invalidate_cache()
        search = Search(place, is_input, config.follow_symlinks)
        name = place.url_of(place.path)
        with input_errors(name, "listed", asked):
            files = list(search.files())
        if not files:
            raise InputError(_nothing_found(name, search))
        for file in files:
            _add(found, file)
        roots.append(place.url_of(search.root))
        skipped |= search.skipped | search.own | search.left
        left |= search.left
    base = _base(config, roots)
    ranges = sorted((_whole(file, base, config) for file in found.values()), key=_by_source)
    skipped -= found.keys()
    return Listing(
        base=base,
        files=tuple(ranges),
        skipped=tuple(sorted(skipped)[:_SKIPPED_SHOWN]),
        skipped_files=len(skipped),
        left=tuple(sorted(left)),
    )


def _add(found: dict[str, Found], file: Found) -> None:
    known = found.get(file.url)
    if known is None or (file.named and not known.named):
        found[file.url] = file
    if known and (known.size, known.etag) != (file.size, file.etag):
        raise ConfigError(
            f"{file.url}: two inputs differ in their queries alone, which may be secrets and so "
            "are no part of a source; download the files and name the copies"
        )


def _whole(file: Found, base: str, config: CorpusConfig) -> FileRange:
    by_suffix, compression = format_and_compression(file.url)
    form = by_suffix if config.format == "auto" else config.format
    if config.compression != "auto":
        compression = config.compression
    if form is None and file.url.lower().endswith(NOT_READ):
        raise ConfigError(
            f"{file.url}: is {os.path.splitext(file.url)[1]} by its name, which is not read; "
            "unpack it, or compress it as gzip, zstd, bz2 or xz"
        )
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
    if not is_unicode(file.url):
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
        secret_url=file.secret_url,
    )


def _base(config: CorpusConfig, roots: Sequence[str]) -> str:
    if config.base is not None:
        place: Location = locate(config.base)
        return place.url_of(place.path).rstrip("/")
    parts = [root.rstrip("/").split("/") for root in roots]
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


def _nothing_found(name: str, search: Search) -> str:
    if search.left:
        return (
            f"{name}: all of its files are reached by symbolic links that lead out of it, such as "
            f"{min(search.left)}; give --follow-symlinks to read what they lead to"
        )
    if search.own:
        return (
            f"{name}: holds only what embedkit wrote, such as {min(search.own)}; to embed the "
            "texts of a version again, name its data folder itself"
        )
    if not search.skipped:
        return f"{name}: matches no file; check the inputs"
    return (
        f"{name}: holds no file whose suffix tells its format, only others such as "
        f"{min(search.skipped)}; name the format with --format"
    )


def _by_source(file: FileRange) -> str:
    return file.source
