"""The transforms as Beam YAML offers them: settings in, rows to rows.

``beam_yaml_provider.yaml`` names these functions. Every setting is one of the
configuration's own, flat, as in a job file.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import apache_beam as beam
import pyarrow as pa
from apache_beam.typehints.row_type import RowTypeConstraint
from pydantic import BaseModel

from embedkit.config import CorpusConfig, ModelConfig, OutputConfig, RecordConfig
from embedkit.corpus.plan import plan_inputs
from embedkit.records import DocumentBlock
from embedkit.reports.account import RunAccount
from embedkit.transforms.embed_corpus import EmbedCorpus
from embedkit.transforms.read import ReadCorpus

_TYPES = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list[str]}
_COLUMN_TYPES: dict[pa.DataType, Any] = {
    pa.int64(): int | None,
    pa.float64(): float | None,
    pa.bool_(): bool | None,
}
_ACCOUNT: dict[str, Any] = {
    "version": str,
    "documents": int,
    "rows": int,
    "rejects": int,
    "tokens": int,
    "tokens_encoded": int,
    "rows_resumed": int,
    "truncated_share": float,
    "encode_seconds": float | None,
    "encoder_busy_share": float | None,
    "tokens_per_second": float | None,
    "report": str,
    "dataset": str,
    "nulled": int,
    "already_complete": bool,
    "published": bool,
    "reject_reasons": dict[str, int],
    "refusal": str | None,
    "trial": int | None,
    "rows_reused": int,
    "rows_encoded": int,
    "rows_added": int | None,
    "rows_removed": int | None,
    "rows_changed": int | None,
    "tokens_saved": int,
    "not_reused": str | None,
}
"""What a row tells of a RunAccount."""

_SHARDS = inspect.Parameter("shards", inspect.Parameter.KEYWORD_ONLY, default=64, annotation=int)


def _takes(
    *configs: type[BaseModel], extra: tuple[inspect.Parameter, ...] = ()
) -> Callable[[Callable[..., beam.PTransform]], Callable[..., beam.PTransform]]:
    """Gives a function the signature of configurations, by which Beam YAML checks a pipeline."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.is_required() else field.get_default(),
            annotation=_yaml_type(config, name, field.is_required()),
        )
        for config in configs
        for name, field in config.model_fields.items()
    ]

    def signed(function: Callable[..., beam.PTransform]) -> Callable[..., beam.PTransform]:
        vars(function)["__signature__"] = inspect.Signature([*parameters, *extra])
        return function

    return signed


def _yaml_type(config: type[BaseModel], name: str, required: bool) -> Any:
    schema = config.model_json_schema()["properties"][name]
    variants = schema.get("anyOf", [schema])
    kind = _TYPES[next(one["type"] for one in variants if one.get("type") != "null")]
    return kind if required else kind | None


@_takes(ModelConfig, OutputConfig, RecordConfig, extra=(_SHARDS,))
def embed_corpus(**settings: Any) -> beam.PTransform:
    """Embeds rows; its one output row tells what the complete version is.

    Rows need a text, and should have an id; what else they have is carried along.
    """
    shards = settings.pop("shards", None)
    if shards is None:
        shards = _SHARDS.default
    elif isinstance(shards, str) and shards.isdecimal():
        # A variable of the pipeline, which is text.
        shards = int(shards)
    model, output, records = _configured(settings, ModelConfig, OutputConfig, RecordConfig)
    return "EmbedCorpus" >> _EmbedToRow(EmbedCorpus(model, output, records, shards=shards))


@_takes(CorpusConfig, ModelConfig, OutputConfig)
def embed_files(**settings: Any) -> beam.PTransform:
    """Embeds the files of a corpus; its one output row tells what the complete version is."""
    model, output, corpus = _configured(settings, ModelConfig, OutputConfig, CorpusConfig)
    return "EmbedFiles" >> _EmbedToRow(EmbedCorpus(model, output, corpus))


@_takes(CorpusConfig)
def read_corpus(**settings: Any) -> beam.PTransform:
    """Reads the files of a corpus: rows of an id, a text, and the metadata columns.

    A record that cannot be used is left out here; ``EmbedFiles`` keeps account of it.
    """
    (corpus,) = _configured(settings, CorpusConfig)
    return "ReadCorpus" >> _ReadRows(corpus)


# How Beam YAML tells a source from a transform that lacks its input.
for _source in (embed_files, read_corpus):
    vars(_source)["_yaml_requires_inputs"] = False


def _configured(settings: Mapping[str, Any], *configs: type[BaseModel]) -> list[Any]:
    """Parts flat settings among configurations; what none of them has is refused by the last."""
    left = {name: value for name, value in settings.items() if value is not None}
    made = []
    for config in configs[:-1]:
        own = {name: left.pop(name) for name in config.model_fields if name in left}
        made.append(config(**own))
    return [*made, configs[-1](**left)]


class _EmbedToRow(beam.PTransform):
    """Applies a transform whose output is a RunAccount, and makes a row of it."""

    def __init__(self, embed: EmbedCorpus) -> None:
        super().__init__()
        self._embed = embed

    def expand(self, documents: Any) -> beam.PCollection:
        """A row with a schema, as other transforms of Beam YAML want it."""
        row = RowTypeConstraint.from_fields(list(_ACCOUNT.items()))
        return documents | self._embed | "Row" >> beam.Map(_account_row).with_output_types(row)


def _account_row(account: RunAccount) -> beam.Row:
    return beam.Row(**{name: getattr(account, name) for name in _ACCOUNT})


class _ReadRows(beam.PTransform):
    def __init__(self, corpus: CorpusConfig) -> None:
        super().__init__()
        self._corpus = corpus

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        """The schema is the plan's."""
        plan = plan_inputs(self._corpus)
        metadata = [plan.schema.field(name) for name, _ in plan.metadata]
        columns = [("id", str), ("text", str)]
        columns += [(one.name, _COLUMN_TYPES.get(one.type, str | None)) for one in metadata]
        row = RowTypeConstraint.from_fields(columns)
        names = tuple(name for name, _ in columns)
        return (
            pipeline
            | ReadCorpus(self._corpus, plan)
            | "Rows" >> beam.FlatMap(_rows, names).with_output_types(row)
        )


def _rows(block: DocumentBlock, names: tuple[str, ...]) -> list[beam.Row]:
    kinds = [block.rows.schema.field(name).type for name in names]
    rows = block.rows.select(list(names)).to_pylist()
    return [
        beam.Row(
            **{
                name: _column_value(row[name], kind)
                for name, kind in zip(names, kinds, strict=True)
            }
        )
        for row in rows
    ]


def _column_value(value: Any, kind: pa.DataType) -> Any:
    return value if value is None or kind in _COLUMN_TYPES else str(value)
