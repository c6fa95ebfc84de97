"""Samples records of JSONL files, to tell the columns there are and their types."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns, lookup, nearest
from embedkit.corpus.encodings import is_plain
from embedkit.corpus.json_records import read_json
from embedkit.corpus.json_values import read_exactly
from embedkit.corpus.splits import FileRange
from embedkit.corpus.text_records import read_jsonl
from embedkit.errors import InputError

_FIRST_RECORDS = 1000
_OTHER_RECORDS = 200
_SAMPLED_FILES = 8
_SAMPLED_BYTES = 8 << 20
_END_BYTES = 1 << 18


@dataclass(frozen=True)
class JsonSample:
    """Records of JSONL files.

    Attributes:
        url: The file that the first of them come from.
        first: How many come from its beginning.
        records: All of them.
    """

    url: str
    first: int
    records: tuple[Mapping[str, Any], ...]

    def values(self, name: str) -> list[Any]:
        """Returns a column, None where it is null or absent."""
        return [lookup(record, name) for record in self.records]

    def check_column(self, name: str, what: str, remedy: str) -> None:
        """Checks that some record has a column, if only as null.

        Args:
            name: The column.
            what: What an error calls it.
            remedy: What an error says beside mending the name.

        Raises:
            InputError: None has it.
        """
        if not self.records or any(_has(record, name) for record in self.records):
            return
        names = dict.fromkeys(name for record in self.records for name in _names(record))
        raise InputError(
            f"{self.url}: none of its first {self.first} records has the {what} {name!r}"
            f"{nearest(name, names)}; mend the name{remedy}; columns are {', '.join(names)[:500]}"
        )


def sample_json(config: CorpusConfig, files: Sequence[FileRange]) -> JsonSample | None:
    """Reads the beginnings of some JSONL files, and the ends of those that are not compressed.

    Args:
        config: How they are read.
        files: All files.

    Returns:
        The sample, or None without a JSONL file.
    """
    found = [file for file in files if file.format in ("jsonl", "json") and file.size]
    if not found:
        return None
    records = first = list(_records(found[0], config, _FIRST_RECORDS))
    chosen = found[:: -(-len(found) // _SAMPLED_FILES)]
    for file in chosen:
        if file is not found[0]:
            records = [*records, *_records(file, config, _OTHER_RECORDS)]
        cuttable = file.format == "jsonl" and file.compression == "none" and is_plain(file, config)
        if cuttable and file.size > _END_BYTES:
            end = replace(file, start=file.size - _END_BYTES, end=file.size, stored=_END_BYTES)
            records = [*records, *_records(end, config, _END_BYTES)]
    return JsonSample(found[0].url, len(first), tuple(records))


def _records(file: FileRange, config: CorpusConfig, most: int) -> Iterator[Mapping[str, Any]]:
    size = 0
    read = read_json if file.format == "json" else read_jsonl
    for batch in read(file, config, Columns((), False, None)):
        for line in batch.raw or ():
            try:
                yield read_exactly(line)
            except RecursionError:
                continue
            size += len(line)
            most -= 1
            if not most or size > _SAMPLED_BYTES:
                return


def _has(record: Mapping[str, Any], name: str) -> bool:
    if name in record:
        return True
    outer, dot, rest = name.partition(".")
    inner = record.get(outer) if dot else None
    return isinstance(inner, Mapping) and _has(inner, rest)


def _names(record: Mapping[str, Any]) -> Iterator[str]:
    for name, value in record.items():
        yield name
        if isinstance(value, Mapping):
            yield from (f"{name}.{inner}" for inner in value)
