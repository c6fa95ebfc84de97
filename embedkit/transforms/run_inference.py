"""Texts to vectors in Beam's RunInference."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.ml.inference.base import ModelHandler, PredictionResult

from embedkit.errors import ConfigError
from embedkit.flow.embed_texts import (
    Connect,
    TextEmbedder,
    checked_settings,
)
from embedkit.flow.embedded_texts import EmbeddedTexts, TextReject

METRICS = "BeamML_Embedkit"
"""Namespace of the metrics; ``rejects_REASON`` counts what could not be embedded."""

_BATCH_SIZES = (256, 4096)


class EncoderHandler(ModelHandler[Any, PredictionResult, TextEmbedder]):
    """Embeds texts in ``RunInference``: each becomes a ``PredictionResult`` with its vector.

    ``inference`` is a NumPy array, float32, shape (dimension,), or, for a text that cannot be
    embedded, a ``TextReject`` that says why; ``PartRejects`` parts the two. With ``granularity``
    ``token`` or ``word`` it is the text's vectors with their spans, as ``SpanVectors``. What stops
    a whole batch, such as a lost encoder, is an exception, which ``with_exception_handling`` of
    ``RunInference`` turns into a dead letter.

        >>> import apache_beam as beam
        >>> from apache_beam.ml.inference.base import RunInference
        >>> from embedkit import EncoderHandler, PartRejects
        >>> with beam.Pipeline() as pipeline:
        ...     texts = pipeline | beam.Create(["one text", ""])
        ...     results = texts | RunInference(EncoderHandler("model")) | PartRejects()
        ...     _ = results.vectors | beam.Map(lambda one: print(one.example, len(one.inference)))
        ...     _ = results.rejects | "Say" >> beam.Map(lambda one: print(one.inference.reason))
        one text 8
        empty_text

    Examples are texts, or rows (mappings, named tuples, ``beam.Row``) where ``text_column`` or
    ``text_template`` is given; a ``KeyedModelHandler`` takes pairs of a key and such an example.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        text_column: str | None = None,
        text_template: str | None = None,
        connect: Connect | None = None,
        min_batch_size: int | None = None,
        max_batch_size: int | None = None,
        max_batch_duration_secs: int | None = None,
        large_model: bool = False,
        model_copies: int | None = None,
        env_vars: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> None:
        """Checks the settings; the model is read and loaded on the workers.

        Args:
            model: Model directory, which must be on every worker, or a hub id.
            text_column: Column that holds the text, where examples are rows.
            text_template: Joins several columns into the text, such as ``{title}. {body}``.
            connect: Says where encoders are: a ``PoolConnection`` of a Ray cluster, or a
                ``LocalRay``, one Ray per machine that all of its processes share. Each process
                loads the model itself unless given.
            min_batch_size: Fewest examples of a batch, 256 unless given; see ``BatchElements``.
            max_batch_size: Most examples of a batch, 4,096 unless given.
            max_batch_duration_secs: Most seconds that a batch waits for more, in streams.
            large_model: Whether the processes of a worker share one copy of the model.
            model_copies: How many copies they share.
            env_vars: Variables of the environment to set before the model is loaded.
            settings: Other settings of the model, such as ``prompt``, by their names in
                ``ModelConfig``.

        Raises:
            ConfigError: A setting is unknown or out of range.
        """
        least = min_batch_size or min(_BATCH_SIZES[0], max_batch_size or _BATCH_SIZES[0])
        super().__init__(
            min_batch_size=least,
            max_batch_size=max_batch_size or max(_BATCH_SIZES[1], least),
            max_batch_duration_secs=max_batch_duration_secs,
            large_model=large_model,
            model_copies=model_copies,
            env_vars=dict(env_vars or {}),
        )
        checked_settings(model, text_column or "text", text_template, settings)
        self._model_id = os.fspath(model)
        self._text_column = text_column
        self._text_template = text_template
        self._connect = connect
        self._settings = settings

    def load_model(self) -> TextEmbedder:
        """Reads and loads the model, or connects to where it is loaded.

        Raises:
            ConfigError: The model cannot be used.
            EncoderError: No encoder could be reached.
        """
        return TextEmbedder(
            self._model_id,
            text_column=self._text_column or "text",
            text_template=self._text_template,
            connect=self._connect,
            **self._settings,
        ).load()

    def update_model_path(self, model_path: str | None = None) -> None:
        """Takes another model, for Beam's automatic model refresh."""
        self._model_id = model_path or self._model_id

    def run_inference(
        self,
        batch: Sequence[Any],
        model: TextEmbedder,
        inference_args: Mapping[str, Any] | None = None,
    ) -> Iterable[PredictionResult]:
        """Embeds a batch of examples.

        Args:
            batch: The examples.
            model: What ``load_model`` returned.
            inference_args: None.

        Raises:
            EncoderError: No encoder answered.
        """
        results = self.embed(batch, model)
        return [
            PredictionResult(example, result, self._model_id)
            for example, result in zip(batch, results, strict=True)
        ]

    def embed(self, batch: Sequence[Any], model: TextEmbedder) -> EmbeddedTexts:
        """Embeds examples, and counts the rejects among them by reason."""
        are_texts = self._text_column is None and self._text_template is None
        results = model.embed(batch) if are_texts else model.embed_rows(batch)
        for reject in results.rejects.values():
            Metrics.counter(self.get_metrics_namespace(), f"rejects_{reject.reason}").inc()
        return results

    def get_num_bytes(self, batch: Sequence[Any]) -> int:
        """Returns about how many bytes of text a batch has."""
        values = (one.values() if isinstance(one, Mapping) else (one,) for one in batch)
        return sum(len(one) for some in values for one in some if isinstance(one, str))

    def get_metrics_namespace(self) -> str:
        """Returns the namespace of the metrics."""
        return METRICS

    def validate_inference_args(self, inference_args: Mapping[str, Any] | None) -> None:
        """Refuses further arguments, as the handler's own settings say all.

        Raises:
            ConfigError: There are some.
        """
        if inference_args:
            raise ConfigError(
                f"inference_args: {', '.join(inference_args)} is unknown; give settings to "
                "EncoderHandler itself"
            )


class PartRejects(beam.PTransform):
    """Results of RunInference with ``EncoderHandler``, with keys or without, parted in two.

    The output has ``vectors``, the results with a vector, and ``rejects``, those with a
    ``TextReject``.
    """

    def expand(self, results: beam.PCollection) -> Any:
        """One step with two outputs."""
        return results | "Part" >> beam.ParDo(_Part()).with_outputs("rejects", main="vectors")


class _Part(beam.DoFn):
    def process(self, result: Any) -> Iterator[Any]:
        prediction = result if isinstance(result, PredictionResult) else result[1]
        if isinstance(prediction.inference, TextReject):
            yield beam.pvalue.TaggedOutput("rejects", result)
        else:
            yield result
