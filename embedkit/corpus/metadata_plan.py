"""The types of the metadata columns: declared, as Parquet files have them, or told from JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns
from embedkit.corpus.json_records import read_json
from embedkit.corpus.metadata_types import declared_types, infer_type
from embedkit.corpus.splits import FileRange
from embedkit.corpus.text_records import read_jsonl
from embedkit.errors import InputError

_SAMPLED_RECORDS = 1000


@dataclass(frozen=True)
class Found:
    """The types that one file has for the metadata columns.

    Attributes:
        url: The file.
        kinds: Type by column.
    """

    url: str
    kinds: dict[str, str]


def metadata_types(
    config: CorpusConfig, files: Sequence[FileRange], found: Sequence[Found]
) -> tuple[tuple[str, str], ...]:
    """Settles one type for each metadata column.

    A declared type counts first, then that of the Parquet files, then what the first thousand
    records of the first JSONL file tell; a column of CSV files alone is a string.

    Args:
        config: Names the columns.
        files: All files.
        found: What the Parquet files have.

    Raises:
        InputError: Two Parquet files differ, or no sampled JSON record has the column.
    """
    declared = declared_types(config.metadata_columns)
    for one in found[1:]:
        _check_agree(found[0], one)
    known = {**(found[0].kinds if found else {}), **{k: v for k, v in declared.items() if v}}
    unknown = tuple(name for name in declared if name not in known)
    if unknown:
        known.update(_from_json(config, files, unknown))
    return tuple((name, known.get(name, "string")) for name in declared)


def _check_agree(first: Found, other: Found) -> None:
    for name, kind in first.kinds.items():
        if other.kinds[name] != kind:
            raise InputError(
                f"metadata column {name!r} is of type {kind} in {first.url} and of type "
                f"{other.kinds[name]} in {other.url}; declare {name}:TYPE, or leave it out"
            )


def _from_json(
    config: CorpusConfig, files: Sequence[FileRange], names: tuple[str, ...]
) -> dict[str, str]:
    file = next((file for file in files if file.format in ("jsonl", "json") and file.size), None)
    if file is None:
        return {}
    columns = Columns((), False, None, tuple((name, pa.string()) for name in names))
    values: dict[str, list[object]] = {name: [] for name in names}
    read = read_jsonl if file.format == "jsonl" else read_json
    for records in read(file, config, columns):
        room = _SAMPLED_RECORDS - len(values[names[0]])
        for name in names:
            values[name].extend(islice(records.columns[name], room))
        if len(values[names[0]]) >= _SAMPLED_RECORDS:
            break
    absent = [name for name in names if all(value is None for value in values[name])]
    if absent and values[names[0]]:
        raise InputError(
            f"{file.url}: none of its first {len(values[names[0]])} records has the metadata "
            f"column {absent[0]!r}; mend the name, or declare {absent[0]}:string if it is rare"
        )
    return {name: infer_type(values[name]) for name in names}
