"""Batches of other libraries' datasets with a column for the vectors and one for the rejects."""

import os
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from embedkit.corpus.columns import lookup
from embedkit.errors import ConfigError
from embedkit.flow.embed_texts import Connect, TextEmbedder, column_names, refuse_spans
from embedkit.vectors import vector_type


class BatchEmbedder:
    """Embeds a batch at a time of some library's dataset.

    Attributes:
        embedder: What embeds the texts.
        embedding_column: Column that takes the vectors: lists of float32, null for a reject.
        reject_column: Column that takes the reasons of rejects, null for what was embedded.
    """

    name: str
    """What it is called where something is wrong; Ray wraps it in a class of another name."""
    loads_at_once = False
    """Whether the model is loaded when one is made, not by its first call."""

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        text_column: str = "text",
        text_template: str | None = None,
        embedding_column: str = "embedding",
        reject_column: str = "reject",
        connect: Connect | None = None,
        **settings: Any,
    ) -> None:
        """Reads the model's files.

        Args:
            model: Model directory, or a hub id, as NAME or NAME@REVISION.
            text_column: Column that holds the text.
            text_template: Joins several columns into the text, such as ``{title}. {body}``.
            embedding_column: Column that takes the vectors.
            reject_column: Column that takes the reasons of rejects.
            connect: Says where encoders are, as a ``PoolConnection`` of a Ray cluster does; each
                process loads the model itself unless given.
            settings: Other settings of the model, such as ``prompt``, by their names in
                ``ModelConfig``.

        Raises:
            ConfigError: A setting or the model cannot be used.
            EncoderError: No encoder could be reached, where one is at once.
        """
        refuse_spans(settings, self.name)
        self.embedder = TextEmbedder(
            model,
            text_column=text_column,
            text_template=text_template,
            connect=connect,
            **settings,
        )
        if embedding_column == reject_column:
            raise ConfigError(
                f"reject_column: {reject_column} takes the vectors already; name another"
            )
        self.embedding_column = embedding_column
        self.reject_column = reject_column
        if self.loads_at_once:
            self.embedder.load()

    def new_columns(self, batch: Any) -> dict[str, pa.Array]:
        """Returns the two columns that a batch gets, by name.

        Args:
            batch: A mapping of columns, or a table of Arrow, pandas or Polars.

        Raises:
            ConfigError: The batch lacks a column of the text, or has one of the new ones already.
            EncoderError: No encoder answered.
        """
        found_names = column_names(batch)
        if found_names is None:
            raise ConfigError(
                f"expected a batch of rows, not a {type(batch).__name__}; map batches, not single "
                "columns (leave input_columns out)"
            )
        names = [str(name) for name in found_names]
        taken = {self.embedding_column, self.reject_column}.intersection(names)
        if taken:
            raise ConfigError(
                f"the dataset has a column {min(taken)} already; rename it, or give another "
                "embedding_column or reject_column"
            )
        wanted = self.embedder.text_columns
        texts = {name: column_values(batch, name, names) for name in wanted}
        # Where none of them is there, nor need be, another column tells how many rows there are.
        others = (column_values(batch, name, names) for name in names)
        found = (values for values in chain(texts.values(), others) if values is not None)
        count = len(next(found, ()))
        for name, values in texts.items():
            if values is None and name not in self.embedder.optional_columns:
                raise ConfigError(
                    f"the dataset has no column {name}, but {', '.join(names)}; name another "
                    "text_column"
                )
        embedded = self.embedder.embed_columns(
            {name: values or [None] * count for name, values in texts.items()}
        )
        vectors, reasons = embedded.as_columns()
        return {self.embedding_column: vectors, self.reject_column: reasons}


def column_values(batch: Any, name: str, names: list[str]) -> list[Any] | None:
    """Returns a column of a batch as Python values, or None where it has no such column.

    Args:
        batch: See ``column_names``.
        name: The column; ``a.b`` is ``b`` in ``a``.
        names: The batch's columns.
    """
    found = name if name in names else name.partition(".")[0]
    if found not in names:
        return None
    column = batch[found]
    if isinstance(column, str | bytes) or not hasattr(column, "__len__"):
        raise ConfigError(
            f"column {found} is a single {type(column).__name__}, not that of a batch; use "
            "batched=True, or map_batches"
        )
    values = _as_list(column)
    return values if found == name else [lookup({found: one}, name) for one in values]


def _as_list(column: Any) -> list[Any]:
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            values: list[Any] = getattr(column, method)()
            return values
    return list(column)


class EmbedExamples(BatchEmbedder):
    """Embeds examples of Hugging Face datasets, for ``Dataset.map`` with ``batched=True``.

    A text that cannot be embedded has null for a vector and the reason in the column ``reject``;
    ``part_rejects`` parts the two.

        >>> from datasets import Dataset
        >>> from embedkit import EmbedExamples, part_rejects
        >>> dataset = Dataset.from_dict({"text": ["one text", "", "another"]})
        >>> embed = EmbedExamples("model")
        >>> embedded, rejects = part_rejects(dataset.map(embed, batched=True))
        >>> embedded.features["embedding"]
        List(Value('float32'), length=8)
        >>> rejects["reject"][:]
        ['empty_text']

    The cache of datasets finds the result again as long as the model's files, the settings and the
    dataset are the same. One process uses all cores, so ``num_proc`` gains nothing.
    """

    name = "EmbedExamples"

    def __call__(self, batch: Any) -> Any:
        """Returns a batch with its vectors; of a mapping, the new columns alone.

        Raises:
            ConfigError: The batch lacks a column of the text, or has one of the new ones already.
            EncoderError: No encoder answered.
        """
        columns = self.new_columns(batch)
        if isinstance(batch, Mapping):
            return {name: _LazyList(column) for name, column in columns.items()}
        return with_columns(_as_table(batch), columns)


class _LazyList(list[Any]):
    """A list that datasets, which takes no Arrow array here, makes the right Arrow array of.

    It would take a column's type from the first batch, where all values may be null.
    """

    def __init__(self, array: pa.Array) -> None:
        # NumPy and comparisons look into a list itself, and ask none of the methods below.
        super().__init__(map(_light_value, array))
        self._array = array

    def __iter__(self) -> Iterator[Any]:
        return (one.as_py() for one in self._array)

    def __getitem__(self, place: Any) -> Any:
        found = self._array[place]
        return found.to_pylist() if isinstance(place, slice) else found.as_py()

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        return self._array if type is None else self._array.cast(type)


def _light_value(value: pa.Scalar) -> Any:
    """Returns a value as Python's, and a list of numbers as a NumPy array over Arrow's memory."""
    if isinstance(value, pa.ListScalar) and value.is_valid:
        return value.values.to_numpy()
    return value.as_py()


def _as_table(batch: Any) -> pa.Table:
    if isinstance(batch, pa.Table):
        return batch
    if hasattr(batch, "to_arrow"):
        return batch.to_arrow()
    return pa.Table.from_pandas(batch, preserve_index=False)


def with_columns(table: pa.Table, columns: Mapping[str, pa.Array]) -> pa.Table:
    """Returns a table with further columns."""
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


def part_rejects(
    dataset: Any, *, embedding_column: str = "embedding", reject_column: str = "reject"
) -> tuple[Any, Any]:
    """Parts an embedded dataset of Ray Data or Hugging Face into what was embedded and the rejects.

    Args:
        dataset: What ``map_batches`` or ``map`` returned. One of Ray Data is computed here, once,
            and kept in Ray's object store, which spills to disk.
        embedding_column: The column of the vectors.
        reject_column: The column of the reasons.

    Returns:
        The rows with vectors, which are lists of a fixed size now, without the column of reasons;
        and the rows without, with their reasons.

    Raises:
        ConfigError: It is a stream, which every pass would embed anew.
    """
    if isinstance(dataset, dict):
        pairs = {
            split: part_rejects(one, embedding_column=embedding_column, reject_column=reject_column)
            for split, one in dataset.items()
        }
        embedded, rejects = (
            type(dataset)({split: pair[part] for split, pair in pairs.items()}) for part in (0, 1)
        )
        return embedded, rejects
    if hasattr(dataset, "map_batches"):
        return _part_ray(dataset.materialize(), embedding_column, reject_column)
    if hasattr(dataset, "data"):
        return _part_examples(dataset, embedding_column, reject_column)
    raise ConfigError(
        f"a {type(dataset).__name__} is embedded anew by every pass over it; filter it by its "
        f"column {reject_column}"
    )


def _has_columns(names: list[str] | None, rows: int, wanted: tuple[str, str]) -> bool:
    """Tells whether there is anything to part: what maps nothing adds no columns either."""
    missing = [name for name in wanted if name not in (names or ())]
    if missing and rows:
        raise ConfigError(
            f"the dataset has no column {missing[0]}, but {', '.join(names or ())}; embed it "
            "first, or name its embedding_column and reject_column"
        )
    return not missing


def _part_ray(dataset: Any, embedding: str, reject: str) -> tuple[Any, Any]:
    schema = dataset.schema()
    names = None if schema is None else list(schema.names)
    if not _has_columns(names, dataset.count(), (embedding, reject)):
        return dataset, dataset

    def mapped(function: Any, **arguments: Any) -> Any:
        return dataset.map_batches(
            function, batch_format="pyarrow", batch_size=None, fn_kwargs=arguments
        )

    found = mapped(_sizes, embedding=embedding).take_all()
    size = max((row["size"] for row in found if row["size"] is not None), default=None)
    return (
        mapped(_embedded, embedding=embedding, reject=reject, size=size),
        mapped(_rejects, embedding=embedding, reject=reject),
    )


def _part_examples(dataset: Any, embedding: str, reject: str) -> tuple[Any, Any]:
    if not _has_columns(dataset.column_names, len(dataset), (embedding, reject)):
        return dataset, dataset
    size = pc.max(pc.list_value_length(dataset.data.column(embedding))).as_py()
    tables = dataset.with_format("arrow")
    names = {"embedding": embedding, "reject": reject}
    parted = (
        tables.map(_embedded, batched=True, fn_kwargs={**names, "size": size}),
        tables.map(_rejects, batched=True, fn_kwargs=names),
    )
    shown = dataset.format
    embedded, rejects = (one.with_format(shown["type"], **shown["format_kwargs"]) for one in parted)
    return embedded, rejects


def _sizes(table: pa.Table, embedding: str) -> pa.Table:
    longest = pc.max(pc.list_value_length(table[embedding])).as_py()
    return pa.table({"size": pa.array([longest], pa.int64())})


def _embedded(table: pa.Table, embedding: str, reject: str, size: int | None) -> pa.Table:
    table = table.filter(pc.is_null(table[reject])).drop_columns([reject])
    if size is None:
        return table
    place = table.column_names.index(embedding)
    return table.set_column(place, embedding, table[embedding].cast(vector_type(size)))


def _rejects(table: pa.Table, embedding: str, reject: str) -> pa.Table:
    return table.filter(pc.is_valid(table[reject])).drop_columns([embedding])
