"""Decides the types of the metadata columns: declared, as in Parquet files, or told from JSON."""

from collections.abc import Sequence
from dataclasses import dataclass

from embedkit.config import CorpusConfig
from embedkit.corpus.json_sample import JsonSample
from embedkit.corpus.metadata_types import declared_types, infer_type
from embedkit.errors import InputError


@dataclass(frozen=True)
class Found:
    """The types that one file has for the metadata columns.

    Attributes:
        url: The file.
        kinds: Type by column; none for a column that has nulls alone.
    """

    url: str
    kinds: dict[str, str]


def metadata_types(
    config: CorpusConfig, found: Sequence[Found], sample: JsonSample | None
) -> tuple[tuple[str, str], ...]:
    """Settles one type for each metadata column.

    A declared type counts first, then that of the Parquet files, then what sampled records of the
    JSONL files tell; a column of CSV files alone is a string.

    Args:
        config: Names the columns.
        found: What the Parquet files have.
        sample: Some records of the JSONL files, where there are any.

    Raises:
        InputError: Two Parquet files differ, or no sampled JSON record has the column.
    """
    declared = declared_types(config.carried_columns)
    known = {**_agreed(found), **{name: kind for name, kind in declared.items() if kind}}
    for name in declared:
        if name not in known and sample is not None:
            sample.check_column(
                name, "metadata column", f", or declare {name}:string if it is rare"
            )
            known[name] = infer_type(sample.values(name))
    return tuple((name, known.get(name, "string")) for name in declared)


def _agreed(found: Sequence[Found]) -> dict[str, str]:
    known: dict[str, tuple[str, str]] = {}
    for one in found:
        for name, kind in one.kinds.items():
            before, url = known.setdefault(name, (kind, one.url))
            if before != kind:
                raise InputError(
                    f"metadata column {name!r} is of type {before} in {url} and of type {kind} in "
                    f"{one.url}; declare {name}:TYPE, or leave it out"
                )
    return {name: kind for name, (kind, _) in known.items()}
