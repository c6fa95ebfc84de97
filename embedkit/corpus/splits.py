"""A plan as data: its files, the ranges of them, the splits, and their JSON form."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator

from embedkit.corpus.metadata_types import parse_type
from embedkit.corpus.names import COMPRESSIONS, FORMATS
from embedkit.formats.json_record import Count, JsonRecord
from embedkit.records import DOCUMENT_SCHEMA


@dataclass(frozen=True, slots=True)
class FileRange:
    """A piece of an input file.

    Attributes:
        source: The file, relative to the plan's base, with '/' between folders.
        url: Where to open it: a local path, or a URL that fsspec knows.
        size: Its size in bytes as stored.
        etag: What tells this content of the file from a later one.
        format: ``text``, ``jsonl``, ``json``, ``csv``, ``tsv`` or ``parquet``.
        compression: ``none``, ``gzip``, ``zstd``, ``bz2`` or ``xz``.
        start: First byte of a plain text or JSONL file, first row group of a Parquet file, else 0.
        end: The byte or row group behind the last one; the size where a file is read whole.
        stored: Bytes as stored that it takes to read it.
        rows: Records in it, where the file says so without being read.
        secret_url: What opens it, where its URL holds secrets; never written down.
    """

    source: str
    url: str
    size: int
    etag: str
    format: str
    compression: str
    start: int
    end: int
    stored: int = 0
    rows: int | None = None
    secret_url: str = field(default="", repr=False)

    @property
    def opened_as(self) -> str:
        """What opens it."""
        return self.secret_url or self.url


@dataclass(frozen=True, slots=True)
class Split:
    """What one worker reads at a time.

    Attributes:
        split_id: Its number in the plan, five digits or more.
        ranges: What it reads, in this order.
        duplicates: Source and row index of the records whose id an earlier record has.
        documents: Records that are read of it, where a trial ends inside it.
    """

    split_id: str
    ranges: tuple[FileRange, ...]
    duplicates: tuple[tuple[str, int], ...] = ()
    documents: int | None = None

    @property
    def facts(self) -> tuple[str, ...]:
        """What tells what is read of it from what is read of any other, or of files that changed.

        Which records repeat an id is no part of it, as that depends on other splits.
        """
        return (
            str(self.documents),
            *(
                str(fact)
                for piece in self.ranges
                for fact in (
                    piece.source, piece.size, piece.etag, piece.format, piece.compression,
                    piece.start, piece.end,
                )
            ),
        )  # fmt: skip


def _format(name: str) -> str:
    if name not in FORMATS.values():
        raise ValueError(f"no format of files is called {name!r}")
    return name


def _compression(name: str) -> str:
    if name != "none" and name not in COMPRESSIONS.values():
        raise ValueError(f"no compression is called {name!r}")
    return name


def _type(name: str) -> str:
    parse_type(name)
    return name


_Format = Annotated[str, AfterValidator(_format)]
_Compression = Annotated[str, AfterValidator(_compression)]
_Type = Annotated[str, AfterValidator(_type)]

_File = tuple[str, str, Count, str, _Format, _Compression]
_Place = tuple[Count, Count, Count, Count | None]


@dataclass(frozen=True)
class SplitRecord(JsonRecord):
    """A split as it stands in a plan on disk.

    Attributes:
        split_id: See ``Split``.
        ranges: The number of each file among the plan's input files, and the range's place in it.
        duplicates: See ``Split``.
        documents: See ``Split``.
    """

    split_id: str
    ranges: tuple[tuple[Count, Count, Count, Count, Count | None], ...]
    duplicates: tuple[tuple[str, int], ...] = ()
    documents: Count | None = None


@dataclass(frozen=True)
class PlanRecord(JsonRecord):
    """A plan as it stands on disk; see ``Plan``.

    Attributes:
        input_files: Source, URL, size, etag, format and compression of each file.
    """

    base: str
    metadata: tuple[tuple[str, _Type], ...]
    input_files: tuple[_File, ...]
    splits: tuple[SplitRecord, ...]
    files: Count
    total_bytes: Count
    inputs_digest: str
    skipped: tuple[str, ...] = ()
    skipped_files: Count = 0
    ids_checked: bool = True


@dataclass(frozen=True)
class Plan:
    """What a run reads, settled before it starts.

    Attributes:
        base: Directory that every source is relative to; empty when the inputs share none.
        metadata: Name and type of each metadata column (see ``parse_type``).
        splits: The splits, in the order in which their records count as first.
        files: Number of input files.
        total_bytes: Size of all of them, in bytes as stored.
        inputs_digest: Hash over what the files are; the base does not count, so it may move.
        skipped: Files of the listed directories and globs that are no input, the first hundred.
        skipped_files: How many those are in all.
        ids_checked: Whether its splits name the records that repeat an id, or nobody needs to know.
    """

    base: str
    metadata: tuple[tuple[str, str], ...]
    splits: tuple[Split, ...]
    files: int
    total_bytes: int
    inputs_digest: str
    skipped: tuple[str, ...] = ()
    skipped_files: int = 0
    ids_checked: bool = True

    @property
    def duplicates(self) -> int:
        """Records of its splits whose id an earlier record has."""
        return sum(len(split.duplicates) for split in self.splits)

    @property
    def schema(self) -> pa.Schema:
        """Schema of the rows of its blocks: ``DOCUMENT_SCHEMA``, then the metadata columns."""
        fields = [pa.field(name, parse_type(kind)) for name, kind in self.metadata]
        return pa.schema([*DOCUMENT_SCHEMA, *fields])

    def with_splits(self, splits: Iterable[Split]) -> "Plan":
        """Returns the plan with other splits, such as those not done yet."""
        return replace(self, splits=tuple(splits))

    def with_duplicates(self, duplicates: Mapping[str, tuple[tuple[str, int], ...]]) -> "Plan":
        """Returns the plan with its ids checked.

        Args:
            duplicates: By split, source and row index of the records that repeat an id.
        """
        splits = (
            replace(split, duplicates=duplicates[split.split_id])
            if split.split_id in duplicates
            else split
            for split in self.splits
        )
        return replace(self, splits=tuple(splits), ids_checked=True)

    def without_splits(self) -> "Plan":
        """Returns what a worker needs beside its split."""
        return self.with_splits(())

    def with_secrets(self, other: "Plan") -> "Plan":
        """Returns the plan with what opens its files taken from another plan of the same files."""
        known = {piece.url: piece for split in other.splits for piece in split.ranges}
        secret = {url: piece.secret_url for url, piece in known.items() if piece.secret_url}
        if not secret:
            return self
        return self.with_splits(
            replace(
                split,
                ranges=tuple(
                    replace(piece, secret_url=secret.get(piece.url, "")) for piece in split.ranges
                ),
            )
            for split in self.splits
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the plan as JSON values; each file stands among them once."""
        files: dict[_File, int] = {}
        splits = tuple(
            SplitRecord(
                split.split_id,
                tuple(
                    (files.setdefault(_file(piece), len(files)), *_place(piece))
                    for piece in split.ranges
                ),
                split.duplicates,
                split.documents,
            )
            for split in self.splits
        )
        settled = {name: getattr(self, name) for name in _SETTLED}
        return PlanRecord(input_files=tuple(files), splits=splits, **settled).to_dict()

    @classmethod
    def of_dict(cls, values: Mapping[str, Any]) -> "Plan":
        """Reads back what ``to_dict`` gave, of this release or another.

        Raises:
            ValueError: It is no plan; the message says why.
        """
        record = PlanRecord.of_dict(values)
        files = record.input_files
        try:
            splits = tuple(
                Split(
                    split.split_id,
                    tuple(
                        FileRange(*files[number], start, end, stored, rows)
                        for number, start, end, stored, rows in split.ranges
                    ),
                    split.duplicates,
                    split.documents,
                )
                for split in record.splits
            )
        except IndexError as error:
            raise ValueError("a range of a file that the plan does not have") from error
        return cls(splits=splits, **{name: getattr(record, name) for name in _SETTLED})

    def to_json(self) -> str:
        """Writes the plan as one JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        """Reads back what ``to_json`` wrote."""
        return cls.of_dict(json.loads(text))


_SETTLED = (
    "base", "files", "total_bytes", "inputs_digest", "skipped", "skipped_files", "metadata",
    "ids_checked",
)  # fmt: skip


def _file(piece: FileRange) -> _File:
    return piece.source, piece.url, piece.size, piece.etag, piece.format, piece.compression


def _place(piece: FileRange) -> _Place:
    return piece.start, piece.end, piece.stored, piece.rows
