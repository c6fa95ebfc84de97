"""Texts that a program holds to their vectors, in memory: what other libraries' adapters call.

It is the flow of a run without files and versions: the same texts, cut into the same blocks, get
the same vectors, and what a run would reject is a reject here, for the same reason.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from embedkit.config import EngineConfig, ModelConfig, RecordConfig, granularity_fault
from embedkit.corpus.blocks import make_blocks
from embedkit.corpus.columns import Columns, lookup
from embedkit.corpus.documents import Documents, Records, make_documents
from embedkit.corpus.parts import in_parts, slices
from embedkit.corpus.plain_values import plain_value, without_nan
from embedkit.corpus.rows import as_mapping
from embedkit.encoders.base import EncoderClient
from embedkit.encoders.kinds import read_model
from embedkit.encoders.local_client import LocalConnection
from embedkit.encoders.spec import ModelSpec, VectorSpec
from embedkit.errors import ConfigError
from embedkit.flow.block_size import with_block_size
from embedkit.flow.embedded_texts import EmbeddedTexts, SpanVectors, TextReject
from embedkit.flow.encode import encode_tokens
from embedkit.lazy import lazy_property
from embedkit.records import DOCUMENT_SCHEMA
from embedkit.tokens.text_tokenizer import TextTokenizer
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.vectors import EmbeddingBlock, Vectors, flat_list

Connect = Callable[[], EncoderClient]
"""Returns the client that reaches the encoders; picklable."""


class TextEmbedder:
    """Embeds texts in memory; any threads may share it, and processes get it by pickling.

    The model is loaded by the first call in each process.

        >>> from embedkit import TextEmbedder
        >>> embedder = TextEmbedder("model")
        >>> embedded = embedder.embed(["one text", ""])
        >>> embedded.vectors.shape
        (2, 8)
        >>> embedded.rejects[1].reason
        'empty_text'

    With ``granularity="token"`` or ``"word"`` a text has as many vectors, and ``spans`` says of
    which characters each is.

    Attributes:
        model: The model, every ``auto`` resolved.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | ModelSpec,
        *,
        text_column: str = "text",
        text_template: str | None = None,
        connect: Connect | None = None,
        **settings: Any,
    ) -> None:
        """Reads the model's files, without loading it.

        Args:
            model: Model directory, or a hub id; or what ``read_model`` returned.
            text_column: Column that holds the text, for ``embed_columns``.
            text_template: Joins several columns into the text, such as ``{title}. {body}``.
            connect: Says where encoders are, as a ``PoolConnection`` of a Ray cluster does; the
                process loads the model itself unless given.
            settings: Other settings of the model, such as ``prompt``, by their names in
                ``ModelConfig``.

        Raises:
            ConfigError: A setting or the model cannot be used.
        """
        config, self._records = checked_settings(model, text_column, text_template, settings)
        self.model: ModelSpec = read_model(config) if isinstance(config, ModelConfig) else config
        self._connect = connect
        self._check_reached(getattr(connect, "model", None))
        self._columns = Columns.of(self._records)
        self._clients = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        # Without what is loaded; the same whatever process asks, as caches go by it.
        texts = (self._records.text_column, self._records.text_template)
        return _embedder, (self.model, *texts, self._connect)

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns that the text is made of."""
        return self._columns.text_names

    @property
    def optional_columns(self) -> frozenset[str]:
        """Those of them that need not be there, as ``{title?}`` in a template."""
        return self._columns.optional

    def load(self) -> "TextEmbedder":
        """Loads the model now, or connects to where it is loaded, and returns itself.

        Raises:
            ConfigError: The model cannot be loaded here.
            EncoderError: No encoder could be reached.
        """
        _ = self._tokenizer, self._client()
        return self

    def embed(self, texts: Sequence[object]) -> EmbeddedTexts:
        """Embeds texts; what is no text, or none that can be embedded, is a reject.

        Args:
            texts: Any values.

        Raises:
            ConfigError: It is no list, or the model cannot be loaded here.
            EncoderError: No encoder answered.
        """
        _check_list(texts, "texts")
        if len(self.text_columns) != 1:
            raise ConfigError("text_template: takes several columns; call embed_columns with them")
        return self.embed_columns({self.text_columns[0]: texts})

    def embed_rows(self, rows: Sequence[Any]) -> EmbeddedTexts:
        """Embeds the texts of rows.

        Args:
            rows: Mappings, named tuples or ``beam.Row``; a column that one lacks is null in it.

        Raises:
            ConfigError: An element is no row, or the model cannot be loaded here.
            EncoderError: No encoder answered.
        """
        mappings = [as_mapping(row) for row in rows]
        return self.embed_columns(
            {name: [lookup(row, name) for row in mappings] for name in self.text_columns}
        )

    def embed_columns(self, columns: Mapping[str, Sequence[object]]) -> EmbeddedTexts:
        """Embeds the texts that rows make of their columns.

        Args:
            columns: The columns of ``text_columns``, all of one length: a mapping, or a table of
                pandas or Arrow. None where null; so is NaN, which pandas has there.

        Raises:
            ConfigError: A column is missing or of another length, or the model cannot be loaded
                here.
            EncoderError: No encoder answered.
        """
        given = _columns_of(columns, self.text_columns)
        missing = [name for name in self.text_columns if name not in given]
        if missing:
            raise ConfigError(
                f"columns: {missing[0]} is missing of {', '.join(self.text_columns)}; give it, "
                "of nulls where it may be absent"
            )
        values = {name: _values(column, name) for name, column in given.items()}
        lengths = {name: len(column) for name, column in values.items()}
        count = max(lengths.values())
        if min(lengths.values()) != count:
            told = ", ".join(f"{name} has {length:,}" for name, length in lengths.items())
            raise ConfigError(f"columns: {told} values; give as many of each")
        found = _Found(count, self.model.vectors)
        records = with_block_size(self._records, self.model)
        for block in make_blocks("texts", self._documents(values), DOCUMENT_SCHEMA, records):
            tokens = tokenize_text(block, self._tokenizer)
            embedded = encode_tokens(
                tokens,
                self._client(),
                EngineConfig().call_tokens,
                mixed_calls=self.model.mixed_calls,
                vectors=self.model.vectors,
            )
            self._check_width(embedded.vectors)
            found.add(embedded)
        return found.texts()

    def _check_reached(self, reached: ModelSpec | None) -> None:
        ours = self.model.vector_ingredients()
        theirs = ours if reached is None else reached.vector_ingredients()
        other = sorted(name for name in ours | theirs if ours.get(name) != theirs.get(name))
        if other:
            raise ConfigError(
                f"connect: its encoders run another model, or with other settings "
                f"({', '.join(other)}); give both the same"
            )

    def _check_width(self, vectors: Vectors) -> None:
        if len(vectors) and vectors.width != self.model.vectors.dimension:
            raise ConfigError(
                f"connect: its encoders give vectors of {vectors.width} components, but those of "
                f"{self.model.identity.model_id} have {self.model.vectors.dimension}; give both "
                "the same model"
            )

    def _documents(self, values: Mapping[str, list[Any]]) -> Iterator[Documents]:
        most = self._records.max_record_bytes
        for start, stop in slices(zip(*values.values(), strict=True)):
            records = Records(
                source="",
                row_index=list(range(start, stop)),
                columns={name: column[start:stop] for name, column in values.items()},
            )
            for part in in_parts(records, self._columns, most):
                yield make_documents(part, self._columns, DOCUMENT_SCHEMA, most)

    @lazy_property
    def _tokenizer(self) -> TextTokenizer:
        return load_tokenizer(self.model.tokenizer)

    def _client(self) -> EncoderClient:
        # One for each thread: those of a pool are for one thread only.
        client: EncoderClient | None = getattr(self._clients, "client", None)
        if client is None:
            client = self._clients.client = (self._connect or LocalConnection(self.model))()
        return client


class _Found:
    """What blocks of texts have become so far."""

    def __init__(self, count: int, spec: VectorSpec) -> None:
        self._width = spec.dimension
        self._lists: list[SpanVectors | None] | None = [None] * count if spec.many else None
        rows = 0 if spec.many else count
        self._vectors = np.full((rows, spec.dimension), np.nan, dtype=np.float32)
        self._rejects: dict[int, TextReject] = {}

    def add(self, block: EmbeddingBlock) -> None:
        places = block.rows.column("row_index").to_numpy()
        if self._lists is None:
            self._vectors[places] = block.vectors.matrix
        else:
            vectors, offsets = block.vectors, np.append(0, np.cumsum(block.vectors.counts))
            items, _ = flat_list(block.rows.column("spans"))
            ends = [items.field(name).to_numpy() for name in ("char_start", "char_end")]
            spans = np.stack(ends, axis=1)
            for row, place in enumerate(places.tolist()):
                of_row = spans[offsets[row] : offsets[row + 1]]
                self._lists[place] = SpanVectors(vectors.of_row(row), of_row)
        for reject in block.rejects:
            self._rejects[reject.row_index] = TextReject(reject.reason, reject.detail)

    def texts(self) -> EmbeddedTexts:
        if self._lists is None:
            return EmbeddedTexts(self._vectors, self._rejects)
        return EmbeddedTexts.of_spans(self._lists, self._rejects, self._width)


def _embedder(
    model: ModelSpec, text_column: str, text_template: str | None, connect: Connect | None
) -> TextEmbedder:
    return TextEmbedder(
        model, text_column=text_column, text_template=text_template, connect=connect
    )


def checked_settings(
    model: str | os.PathLike[str] | ModelSpec,
    text_column: str,
    text_template: str | None,
    settings: Mapping[str, Any],
) -> tuple[ModelConfig | ModelSpec, RecordConfig]:
    """Checks the settings of an embedder, without a look at the model itself.

    Raises:
        ConfigError: A setting is unknown or out of range.
    """
    records = RecordConfig(text_column=text_column, text_template=text_template)
    Columns.of(records)
    if isinstance(model, ModelSpec):
        if settings:
            raise ConfigError(f"{min(settings)}: is settled by the model that was read before")
        return model, records
    config = ModelConfig(**{"model": model, **settings})
    if fault := granularity_fault(config, records):
        raise ConfigError(fault)
    return config, records


def refuse_spans(settings: Mapping[str, Any], name: str) -> None:
    """Refuses settings of words or tokens, for an adapter whose rows have one vector.

    Args:
        settings: Those of the model.
        name: What the adapter is called.

    Raises:
        ConfigError: They ask for vectors of words or tokens.
    """
    if (of := settings.get("granularity")) in ("word", "token"):
        raise ConfigError(
            f"granularity: {name} gives each text one vector; TextEmbedder and EncoderHandler give "
            f"those of {of}s with the characters that they are of"
        )


def _check_list(values: object, name: str) -> None:
    """Refuses what is no list of texts, of which the members are something else, or in no order."""
    kind = type(values).__name__
    if isinstance(values, str | bytes | bytearray):
        raise ConfigError(f"{name}: a single text, expected a list of them, as [text]")
    # What one finds in the first two by going through are names, and in a set no places.
    no_list = isinstance(values, Mapping | set | frozenset) or hasattr(values, "columns")
    if no_list or not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0:
        raise ConfigError(f"{name}: a {kind}, expected a list of texts, such as one column")


def column_names(table: Any) -> list[Any] | None:
    """Returns the names of the columns of a mapping or a table, None for what is neither.

    Args:
        table: Of Arrow, pandas or Polars, or a mapping of columns.
    """
    if isinstance(table, Mapping):
        return list(table)
    if isinstance(table, pa.Table | pa.RecordBatch):
        return list(table.schema.names)
    # A table that is still to be computed has names, but no columns.
    lazy = not hasattr(table, "columns") or hasattr(table, "collect")
    return None if lazy else list(table.columns)


def _columns_of(columns: Any, wanted: Sequence[str]) -> dict[str, Any]:
    """Returns those columns that are wanted, and none of the others, which may be costly."""
    names = column_names(columns)
    if names is None:
        raise ConfigError(
            f"columns: a {type(columns).__name__}, expected a mapping of names to lists of values, "
            "or a table of pandas or Arrow; call embed_rows with rows, or make one of it"
        )
    repeated = [name for name in wanted if names.count(name) > 1]
    if repeated:
        raise ConfigError(f"columns: {repeated[0]} is there twice; rename one of them")
    return {name: columns[name] for name in wanted if name in names}


def _values(column: Any, name: str) -> list[Any]:
    _check_list(column, name)
    return [without_nan(plain_value(one)) for one in column]
