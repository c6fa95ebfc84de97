"""Planning: from the inputs to splits, with everything checked that can be without reading all."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np

from embedkit.collector import no_collections
from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns, required_columns
from embedkit.corpus.contents import with_true_compression
from embedkit.corpus.csv_records import check_csv
from embedkit.corpus.duplicates import check_ids
from embedkit.corpus.encodings import is_plain
from embedkit.corpus.json_records import holds_records
from embedkit.corpus.json_sample import JsonSample, sample_json
from embedkit.corpus.many_files import look_at
from embedkit.corpus.metadata_plan import Found, metadata_types
from embedkit.corpus.opening import announce
from embedkit.corpus.parquet_plan import plan_parquet
from embedkit.corpus.sampling import CorpusEstimate, estimate
from embedkit.corpus.sources import Listing, list_inputs
from embedkit.corpus.splits import FileRange, Plan, Split
from embedkit.corpus.trial import first_documents
from embedkit.errors import ConfigError, InputError
from embedkit.hashes.borders import borders
from embedkit.hashes.digests import digest, hash_of

__all__ = ["CorpusEstimate", "FileRange", "Plan", "Split", "estimate", "plan_corpus", "plan_inputs"]

MOST_FILES_OF_A_SPLIT = 4096

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Checked:
    ranges: tuple[FileRange, ...]
    found: Found | None = None


def plan_corpus(config: CorpusConfig) -> Plan:
    """Settles what a run reads, and which records repeat an id, all of it in this process.

    Args:
        config: Names the inputs and columns.

    Raises:
        ConfigError: The settings do not fit each other or the kinds of the files.
        InputError: A file does not exist, cannot be read, lacks a column, or has another type
            for one than another file; or so many ids repeat that their column holds none.
    """
    return check_ids(plan_inputs(config), config)


@no_collections()
def plan_inputs(config: CorpusConfig) -> Plan:
    """Settles what a run reads, the same on every machine.

    The footers of Parquet files and the headers of CSV files are read, and some records of the
    JSONL files, to see that they have the columns, and of which types. Which records repeat an id
    is left open, as all of them have to be read for that.

    Args:
        config: Names the inputs and columns.

    Raises:
        ConfigError: The settings do not fit each other or the kinds of the files.
        InputError: A file does not exist, cannot be read, lacks a column, or has another type
            for one than another file.
    """
    Columns.of(config)
    listing = list_inputs(config)
    settle = partial(with_true_compression, config=config)
    listing = replace(listing, files=tuple(look_at(settle, listing.files, announce)))
    listing = _without_other_json(listing, config)
    _log_skipped(listing)
    check = partial(_check, config=config)
    checked = list(look_at(check, listing.files))
    found = [one.found for one in checked if one.found is not None]
    sample = sample_json(config, listing.files)
    if sample is not None:
        _check_sample(sample, config)
    metadata = metadata_types(config, found, sample)
    splits = tuple(_packed((piece for one in checked for piece in one.ranges), config.split_bytes))
    if config.limit is not None:
        splits = tuple(first_documents(splits, config, Columns.of(config, metadata)))
    sizes = {file.source: file.size for file in listing.files}
    if config.limit is not None:
        read = {piece.source for split in splits for piece in split.ranges}
        sizes = {source: size for source, size in sizes.items() if source in read}
    return Plan(
        base=listing.base,
        metadata=metadata,
        splits=splits,
        files=len(sizes),
        total_bytes=sum(sizes.values()),
        inputs_digest=_digest(listing.files),
        skipped=listing.skipped,
        skipped_files=listing.skipped_files,
        ids_checked=config.id_column is None,
    )


def _check(file: FileRange, config: CorpusConfig) -> _Checked:
    if file.format == "parquet":
        ranges, found = plan_parquet(file, config)
        return _Checked(ranges, found)
    if file.format == "json":
        return _Checked((file,))
    if file.format in ("csv", "tsv"):
        if config.candidates_column is not None:
            raise ConfigError(
                f"candidates_column: {file.url} is {file.format.upper()}, which has no lists; give "
                "a row to each candidate, or JSONL or Parquet"
            )
        check_csv(file, config, required_columns(config))
        return _Checked((file,))
    if file.format == "text":
        _check_text(file, config)
    return _Checked(_byte_ranges(file, config))


def _without_other_json(listing: Listing, config: CorpusConfig) -> Listing:
    """Skips ``.json`` files that hold no records, such as the configuration beside a corpus."""
    files = [file for file in listing.files if file.format == "json"]
    hold = look_at(partial(holds_records, config=config), files)
    others = {file.url: file for file, holds in zip(files, hold, strict=True) if not holds}
    if not others:
        return listing
    named = next((url for url in others if url in config.inputs), None)
    if named or len(others) == len(listing.files) or config.format == "json":
        raise InputError(
            f"{named or next(iter(others))}: holds one JSON object over several lines; a .json "
            "file holds one array of objects, or an object per line"
        )
    return replace(
        listing,
        files=tuple(file for file in listing.files if file.url not in others),
        skipped=tuple(sorted({*listing.skipped, *others})[:100]),
        skipped_files=listing.skipped_files + len(others),
    )


def _check_sample(sample: JsonSample, config: CorpusConfig) -> None:
    columns = Columns.of(config)
    if columns.query is not None:
        sample.check_column(columns.query, "query column", "")
    for name in columns.needed:
        what = "candidates column" if columns.listed else "text column"
        what = "id column" if name == columns.id else what
        optional = config.text_template is not None and what == "text column"
        remedy = f", or write {{{name}?}} in the template if it is rare" if optional else ""
        sample.check_column(name, what, remedy)


def _check_text(file: FileRange, config: CorpusConfig) -> None:
    for name in ("query_column", "id_column", "text_template", "metadata_columns"):
        if getattr(config, name):
            raise ConfigError(
                f"{name}: {file.url} is plain text and has no columns; leave it out, or name "
                "another --format"
            )


def _byte_ranges(file: FileRange, config: CorpusConfig) -> tuple[FileRange, ...]:
    whole = file.format == "text" and config.text_unit == "file"
    count = -(-file.size // config.split_bytes)
    if file.compression != "none" or whole or count <= 1 or not is_plain(file, config):
        return (file,)
    places = [number * file.size // count for number in range(count + 1)]
    return tuple(
        replace(file, start=start, end=end, stored=end - start) for start, end in pairwise(places)
    )


def _packed(ranges: Iterable[FileRange], split_bytes: int) -> Iterator[Split]:
    """Puts neighbouring ranges together while they are no more than a split takes.

    Where one of more splits ends, the names of the files decide, so that the splits behind a file
    that is new or gone are what they were.
    """
    every = tuple(ranges)
    stored = [piece.stored for piece in every]
    hashes = np.fromiter(map(_place_hash, every), np.uint64, len(every))
    start = 0
    for number, end in enumerate(borders(stored, hashes, split_bytes, MOST_FILES_OF_A_SPLIT)):
        yield Split(f"{number:05d}", every[start:end])
        start = end
    if not every:
        yield Split("00000", ())


def _place_hash(piece: FileRange) -> int:
    place = f"{piece.source}\0{piece.start}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hash_of(place, 8), "little")


def _digest(files: Iterable[FileRange]) -> str:
    return digest(
        *(
            str(fact)
            for file in files
            for fact in (file.source, file.size, file.etag, file.format, file.compression)
        )
    )


def _log_skipped(listing: Listing) -> None:
    others = listing.skipped_files - len(listing.left)
    if others:
        shown = [name for name in listing.skipped if name not in listing.left]
        _log.warning(
            "%d files are no input and are skipped, such as %s", others, ", ".join(shown[:3])
        )
    if listing.left:
        _log.warning(
            "%d symbolic links lead out of the corpus and are not followed, such as %s; "
            "--follow-symlinks follows them",
            len(listing.left),
            ", ".join(listing.left[:3]),
        )
