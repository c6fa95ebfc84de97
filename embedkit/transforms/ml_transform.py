"""Columns of text to vectors in Beam's MLTransform."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.ml.inference.base import ModelHandler, RunInference, RunInferenceDLQ
from apache_beam.ml.transforms.base import EmbeddingsManager, EmbeddingTypeAdapter

from embedkit.corpus.rows import as_mapping, fields_of
from embedkit.errors import ConfigError
from embedkit.flow.embed_texts import Connect, TextEmbedder, refuse_spans
from embedkit.flow.embedded_texts import TextReject
from embedkit.transforms.run_inference import EncoderHandler


class TextEmbeddings(EmbeddingsManager):
    """Embeds columns of text in ``MLTransform``: each column becomes lists of floats.

    With ``with_exception_handling()`` a row with a text that cannot be embedded is a dead letter,
    with the reason in its ``msg``. Without, such a column is None, and every row has further
    columns ``COLUMN_reject`` with the reason, or None. Name several columns in one TextEmbeddings:
    Beam gives the dead letters of two in one MLTransform the same label, and refuses that.

        >>> import apache_beam as beam
        >>> from apache_beam.ml.transforms.base import MLTransform
        >>> from embedkit import TextEmbeddings
        >>> with beam.Pipeline() as pipeline:
        ...     rows = pipeline | beam.Create([{"id": 1, "text": "rain"}, {"id": 2, "text": ""}])
        ...     embed = TextEmbeddings("model", columns=["text"])
        ...     transform = MLTransform(write_artifact_location="artifacts").with_transform(embed)
        ...     embedded, rejects = rows | transform.with_exception_handling()
        ...     _ = embedded | beam.Map(lambda row: print(row["id"], len(row["text"])))
        ...     _ = rejects | "Say" >> beam.Map(lambda one: print(one.element["id"], one.msg))
        1 8
        2 text: empty_text: the text is empty; leave the record out

    Attributes:
        columns: The columns of text.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        columns: Sequence[str] | None = None,
        *,
        type_adapter: EmbeddingTypeAdapter | None = None,
        connect: Connect | None = None,
        min_batch_size: int | None = None,
        max_batch_size: int | None = None,
        large_model: bool = False,
        **settings: Any,
    ) -> None:
        """Checks the settings; the model is read and loaded on the workers.

        Args:
            model: Model directory, which must be on every worker, or a hub id.
            columns: The columns of text, of rows that are mappings or ``beam.Row``.
            type_adapter: In the place of columns, takes the texts from elements of any kind, and
                puts the vectors to them; None for a text that cannot be embedded, unless
                ``with_exception_handling()`` makes its element a dead letter.
            connect: Says where encoders are; see ``EncoderHandler``.
            min_batch_size: Fewest rows of a batch.
            max_batch_size: Most rows of a batch.
            large_model: Whether the processes of a worker share one copy of the model.
            settings: Other settings of the model, such as ``prompt``, by their names in
                ``ModelConfig``.

        Raises:
            ConfigError: A setting is unknown or out of range.
        """
        if (type_adapter is None) == (not columns):
            raise ConfigError("columns: name the columns of text, or give a type_adapter instead")
        if isinstance(columns, str):
            raise ConfigError(f"columns: give a list, as [{columns!r}]")
        refuse_spans(settings, "TextEmbeddings")
        super().__init__(columns=list(columns) if columns else None, type_adapter=type_adapter)
        self._handler = EncoderHandler(
            model,
            connect=connect,
            min_batch_size=min_batch_size,
            max_batch_size=max_batch_size,
            large_model=large_model,
            **settings,
        )

    def get_model_handler(self) -> EncoderHandler:
        """Returns the handler of the model."""
        return self._handler

    def get_ptransform_for_processing(self, **kwargs: Any) -> beam.PTransform:
        """Returns the transform that MLTransform applies."""
        return _EmbedColumns(self._handler, self.columns, self.type_adapter)


class _Embedded(NamedTuple):
    """An element, and what became of its texts by column; of a type adapter's by its own name.

    An element that is no row, and has no columns, has no results; whoever finishes it says so.
    """

    element: Any
    results: dict[str, list[float] | TextReject]


class _Elements(ModelHandler[Any, _Embedded, TextEmbedder]):
    """Embeds the texts of whole elements; all else is the handler's own."""

    def __init__(
        self, handler: EncoderHandler, columns: list[str] | None, adapter: EmbeddingTypeAdapter
    ) -> None:
        super().__init__(
            large_model=handler.share_model_across_processes(),
            **handler.batch_elements_kwargs(),
        )
        self._handler = handler
        self._columns = columns
        self._adapter = adapter

    def load_model(self) -> TextEmbedder:
        return self._handler.load_model()

    def run_inference(
        self,
        batch: Sequence[Any],
        model: TextEmbedder,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[_Embedded]:
        if self._columns is None:
            texts = [{"text": text} for text in self._adapter.input_fn(batch)]
        else:
            texts = [_texts_of(one, self._columns) for one in batch]
        embedded = self._handler.embed([text for one in texts for text in one.values()], model)
        rejects = embedded.rejects
        found = enumerate(embedded.vectors)
        results = iter(rejects.get(place) or vector.tolist() for place, vector in found)
        return [
            _Embedded(one, {name: next(results) for name in names})
            for one, names in zip(batch, texts, strict=True)
        ]

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        return self._handler.get_num_bytes(batch)

    def get_metrics_namespace(self) -> str:
        return self._handler.get_metrics_namespace()


def _texts_of(element: Any, columns: list[str]) -> dict[str, Any]:
    try:
        row = as_mapping(element)
    except ConfigError:
        # Said when the element is finished, so that it costs the others of its batch nothing.
        return {}
    return {name: row.get(name) for name in columns}


class _Rejected(Exception):
    """A text of an element could not be embedded."""


class _EmbedColumns(beam.PTransform):
    """Elements -> the same with their vectors, paired with dead letters where MLTransform wants."""

    def __init__(
        self, handler: EncoderHandler, columns: list[str] | None, adapter: EmbeddingTypeAdapter
    ) -> None:
        super().__init__()
        self._handler = handler
        self._columns = columns
        self._adapter = adapter
        self._dead_letters: dict[str, Any] | None = None

    def with_exception_handling(self, **settings: Any) -> "_EmbedColumns":
        """Makes dead letters of what cannot be embedded; MLTransform calls this."""
        self._dead_letters = settings
        return self

    def default_label(self) -> str:
        """Returns a label that tells several of them apart."""
        return f"TextEmbeddings({', '.join(self._columns or ['type_adapter'])})"

    def annotations(self) -> dict[str, Any]:
        """Says what dead letters are labelled with."""
        return {**super().annotations(), "model_handler": "TextEmbeddings"}

    def expand(self, elements: beam.PCollection) -> Any:
        """Inference, then a step that puts the vectors where they belong."""
        inference = RunInference(_Elements(self._handler, self._columns, self._adapter))
        finish = _Finish(self._columns, self._adapter)
        if self._dead_letters is None:
            return elements | inference | "Finish" >> beam.Map(finish.with_reasons)
        settings = self._dead_letters
        found, failed = elements | inference.with_exception_handling(**settings)
        embedded, rejected = found | "Finish" >> beam.Map(
            finish.without_rejects
        ).with_exception_handling(
            exc_class=(_Rejected, settings.get("exc_class", Exception)),
            threshold=settings.get("threshold", 1),
        )
        letters = (
            failed.failed_inferences | "EachOfBatch" >> beam.FlatMap(_each_of_batch),
            rejected | "Element" >> beam.Map(_of_element),
        ) | "DeadLetters" >> beam.Flatten()
        return embedded, RunInferenceDLQ(letters, (), ())


class _Finish:
    """Puts vectors to elements."""

    def __init__(self, columns: list[str] | None, adapter: EmbeddingTypeAdapter) -> None:
        self._columns = columns
        self._adapter = adapter

    def without_rejects(self, embedded: _Embedded) -> Any:
        """Returns the element with its vectors, or raises where one is missing."""
        if reasons := _reasons(embedded):
            raise _Rejected(reasons)
        return self._with(embedded.element, embedded.results)

    def with_reasons(self, embedded: _Embedded) -> Any:
        """Returns the element with its vectors, and with the reasons where columns are named."""
        columns: dict[str, Any] = {}
        reasons: dict[str, Any] = {}
        for name, one in embedded.results.items():
            reject = one if isinstance(one, TextReject) else None
            columns[name] = None if reject else one
            reasons[f"{name}_reject"] = reject.reason if reject else None
        if self._columns is None:
            return self._with(embedded.element, columns)
        taken = reasons.keys() & fields_of(embedded.element)
        if taken:
            raise ConfigError(
                f"rows: have a column {min(taken)} already, which takes the reasons of rejects; "
                "rename it upstream, or take the rejects by with_exception_handling()"
            )
        return self._with(embedded.element, columns | reasons)

    def _with(self, element: Any, columns: dict[str, Any]) -> Any:
        if self._columns is None:
            return self._adapter.output_fn([element], list(columns.values()))[0]
        made = {**fields_of(element), **columns}
        return made if isinstance(element, Mapping) else beam.Row(**made)


def _each_of_batch(failed: Any) -> Iterator[Any]:
    """Yields the elements of a batch that failed, each with its error."""
    batch, error = failed
    for element in batch:
        yield element, error


def _of_element(failed: Any) -> Any:
    """Returns an element that was rejected, with the reasons in the place of a traceback."""
    embedded, (kind, message, stack) = failed
    reasons = _reasons(embedded)
    return embedded.element, (kind, reasons, []) if reasons else (kind, message, stack)


def _reasons(embedded: _Embedded) -> str:
    found = embedded.results.items()
    return "; ".join(
        f"{name}: {one.reason}: {one.detail}" for name, one in found if isinstance(one, TextReject)
    )
