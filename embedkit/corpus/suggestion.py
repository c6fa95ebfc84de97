"""Suggests the columns of text and id, from the first records of a corpus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from embedkit.config import CorpusConfig
from embedkit.corpus.csv_dialect import Dialect
from embedkit.corpus.encodings import open_text
from embedkit.corpus.json_sample import sample_json
from embedkit.corpus.parquet_records import open_parquet
from embedkit.corpus.sources import list_inputs
from embedkit.corpus.splits import FileRange

_TEXT_NAMES = ("text", "body", "content", "passage", "document", "abstract", "description")
_ID_NAMES = ("id", "_id", "doc_id", "docid", "document_id", "uuid", "guid", "key", "url", "name")
_SAMPLED_RECORDS = 200
_SAMPLED_BYTES = 1 << 18
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Suggestion:
    """What a corpus looks like.

    Attributes:
        files: Number of input files.
        formats: Their formats, sorted.
        columns: Columns of the first file that has any.
        text: The one that looks like the text, or None.
        id: The one that looks like a unique id, or None.
        delimiter: What stands between the fields of a CSV file, where that is no comma.
    """

    files: int
    formats: tuple[str, ...]
    columns: tuple[str, ...] = ()
    text: str | None = None
    id: str | None = None
    delimiter: str | None = None


def suggest(inputs: Sequence[str]) -> Suggestion:
    """Looks at some records of a corpus.

    Args:
        inputs: The input patterns.

    Raises:
        ConfigError: A format cannot be told from a name.
        InputError: A file does not exist or cannot be read.
    """
    config = CorpusConfig(inputs=tuple(inputs))
    files = list_inputs(config).files
    formats = tuple(sorted({file.format for file in files}))
    tables = [file for file in files if file.format != "text"]
    if not tables:
        return Suggestion(len(files), formats)
    first = tables[0]
    delimiter = _delimiter(first, config) if first.format == "csv" else None
    records = _records(first, config.model_copy(update={"delimiter": delimiter}))
    columns = tuple(dict.fromkeys(name for record in records for name in record))
    return Suggestion(
        len(files), formats, columns, _text(records, columns), _id(records, columns), delimiter
    )


def _records(file: FileRange, config: CorpusConfig) -> Sequence[Mapping[str, Any]]:
    if file.format == "parquet":
        with open_parquet(file) as opened:
            batch = next(opened.iter_batches(_SAMPLED_RECORDS), None)
            names = opened.schema_arrow.names
        rows: list[dict[str, Any]] = [] if batch is None else batch.to_pylist()
        return rows or [dict.fromkeys(names)]
    if file.format in ("csv", "tsv"):
        lines = iter(_beginning(file, config))
        rows_of_fields = Dialect.of(file, config).reader(lines)
        header = next(rows_of_fields, [])
        found = list(islice(rows_of_fields, _SAMPLED_RECORDS))
        return [dict(zip(header, row, strict=False)) for row in found] or [dict.fromkeys(header)]
    sample = sample_json(config, [file])
    return () if sample is None else sample.records[:_SAMPLED_RECORDS]


def _beginning(file: FileRange, config: CorpusConfig) -> list[str]:
    data = b""
    with open_text(file, config) as stream:
        while len(data) < _SAMPLED_BYTES and (piece := stream.read()):
            data += piece
    lines = data.decode("utf-8", "replace").removeprefix("\ufeff").splitlines(keepends=True)
    whole = len(data) < _SAMPLED_BYTES
    return lines if whole else lines[: max(1, min(len(lines) - 1, _SAMPLED_RECORDS))]


def _delimiter(file: FileRange, config: CorpusConfig) -> str | None:
    header = next(iter(_beginning(file, config)), "")
    best = max(_DELIMITERS, key=header.count)
    return None if header.count(best) == header.count(",") else best


def _text(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str | None:
    """Returns the column with a usual name, or else the one with the longest texts."""
    lengths = {
        name: sum(len(value) for record in records if isinstance(value := record.get(name), str))
        for name in columns
    }
    usual = [name for name in _TEXT_NAMES if lengths.get(name)]
    longest = max(columns, key=lambda name: lengths[name], default=None)
    if usual:
        return usual[0]
    return longest if longest is not None and lengths[longest] else None


def _id(records: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str | None:
    """Returns a column with a name of ids whose values are all there, and all different."""
    like = [name for name in columns if name.lower().endswith(("_id", "-id")) or name[-2:] == "Id"]
    for name in (*_ID_NAMES, *like):
        values = [record.get(name) for record in records]
        fit = all(type(value) in (str, int) and value != "" for value in values)
        if name in columns and fit and len(set(map(str, values))) == len(values):
            return name
    return None
