"""All that an encoder needs to know of a model before it reads the weights."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

from embedkit.encoders.weights import weight_file
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.vectors import ValueColumn

LayerRanges = tuple[tuple[str, float, float, str], ...]
"""Layers by their names: how often each component of what they are given is halved, a hexadecimal
digit each, and before that the least and the greatest value that comes of it."""

MixedCalls = bool | Literal["full"]
"""Whether calls have rows of all lengths; ``full`` where all but the last are to be full too."""


@dataclass(frozen=True)
class ModelIdentity:
    """Which model it is, and where its files are.

    Attributes:
        directory: The model directory on this machine.
        model_id: The model as the user gave it.
        revision: The hub's commit hash, or None for a directory of the user's own.
        weights: The files of its weights, relative to ``directory``; those of ``base`` relative to
            that, with ``base:`` before.
        weights_hash: SHA-256 over them.
        config_hash: SHA-256 of the file that says what is computed with them.
        tokenizer_hash: SHA-256 over the tokenizer's files.
        base: Directory of the model that the one in ``directory`` only changes, if it does.
    """

    directory: str
    model_id: str
    revision: str | None
    weights: tuple[str, ...]
    weights_hash: str
    config_hash: str
    tokenizer_hash: str
    base: str | None = None

    def file(self, name: str) -> Path:
        """Returns where a file of ``weights`` is."""
        base = None if self.base is None else Path(self.base)
        return weight_file(name, Path(self.directory), base)


@dataclass(frozen=True)
class VectorSpec:
    """What its vectors are.

    Attributes:
        dimension: Components of a vector, after Matryoshka truncation.
        normalize: Whether vectors have length 1.
        metric: How vectors are compared: cosine, dot, euclidean or manhattan.
        of: What each of them is of: a ``row``, which is a document or a chunk, a ``word`` or a
            ``token``; or of a ``pair`` of texts, whose scores they are, one for each label.
        span_pooling: How tokens become the vector of a span, where that is not of a row:
            ``first``, ``mean``, ``last`` or ``max``.
        in_windows: Whether rows are chunks that are read in windows, so that encoders get spans.
    """

    dimension: int
    normalize: bool
    metric: str
    of: Literal["row", "word", "token", "pair"] = "row"
    span_pooling: Literal["first", "mean", "last", "max"] = "mean"
    in_windows: bool = False

    @property
    def many(self) -> bool:
        """Whether a row has any number of vectors, and not exactly one."""
        return self.of in ("word", "token")

    @property
    def column(self) -> ValueColumn:
        """The column of a version that holds them."""
        if self.of == "pair":
            return "score" if self.dimension == 1 else "scores"
        return "embeddings" if self.many else "embedding"


@dataclass(frozen=True)
class Placement:
    """Where and how a model runs.

    Attributes:
        backend: The library that runs it, by the name of its distribution, such as ``torch``.
        device: ``cpu`` or ``cuda``.
        precision: ``float32``, ``bfloat16``, ``float16``, ``float8`` or ``int8``.
        batch_tokens: Most tokens that are computed at once, fill included.
        threads: CPU threads of an encoder; None takes every core that its process may use.
        unpadded: Whether rows stand one after the other in a stream, and not in padded batches.
        ranges: What layers of int8 are given, as a sample of the corpus showed it.
    """

    backend: str
    device: str
    precision: str
    batch_tokens: int
    threads: int | None = None
    unpadded: bool = False
    ranges: LayerRanges = ()


@dataclass(frozen=True)
class ModelSpec:
    """A model with every ``auto`` resolved; small, picklable and hashable.

    Every kind of encoder has a subclass of its own, with what only this kind knows of a model.

    Attributes:
        kind: Name of the kind of encoder that runs it, see ``embedkit.encoders.kinds``.
        identity: Which model it is.
        tokenizer: How texts become tokens.
        vectors: What its vectors are.
        placement: Where and how it runs.
    """

    kind: ClassVar[str]
    identity: ModelIdentity
    tokenizer: TokenizerSpec
    vectors: VectorSpec
    placement: Placement

    def with_threads(self, threads: int | None) -> Self:
        """Returns the model with other CPU threads for an encoder; None takes every core."""
        return replace(self, placement=replace(self.placement, threads=threads))

    def with_ranges(self, ranges: LayerRanges) -> Self:
        """Returns the model with what its layers of int8 are given."""
        return replace(self, placement=replace(self.placement, ranges=ranges))

    @property
    def needs_ranges(self) -> bool:
        """Whether a sample of the corpus is yet to show what its layers of int8 are given."""
        return self.placement.precision == "int8" and not self.placement.ranges

    def one_by_one(self) -> Self:
        """Returns the model for rows that come alone, so that nothing is made ready for many."""
        return replace(self, placement=replace(self.placement, batch_tokens=1))

    @property
    def mixed_calls(self) -> MixedCalls:
        """Whether a call should have rows of all lengths, as this kind packs them together."""
        return False

    @property
    def pools_spans(self) -> bool:
        """Whether encoders of this kind make the vector of a part of a text from its tokens."""
        return False

    @property
    def calls_at_once(self) -> int:
        """Threads that may be inside one encoder of this kind at once."""
        return 1

    @property
    def outruns_host(self) -> bool:
        """Whether even on a CPU an encoder waits for those who read, tokenize and write for it."""
        return False

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that have a part in its vectors, for the manifest."""
        return ("tokenizers", self.placement.backend)

    def description(self) -> dict[str, str]:
        """Returns what only this kind says of its vectors, for the manifest and the parts."""
        return {}

    def own_ingredients(self) -> dict[str, str | int | bool]:
        """Returns what only this kind knows of all that changes a vector, by name."""
        return {}

    def vector_ingredients(self) -> dict[str, str | int | bool]:
        """Returns all that changes a vector, by name, for the fingerprint."""
        unpadded = {"unpadded": True} if self.placement.unpadded else {}
        spans = self.tokenizer.spans
        of_spans = {} if spans is None else spans.ingredients()
        if self.vectors.of == "word":
            of_spans["span_pooling"] = self.vectors.span_pooling
        return {
            "weights": self.identity.weights_hash,
            "architecture": self.identity.config_hash,
            "tokenizer": self.identity.tokenizer_hash,
            "lower_case": self.tokenizer.lower_case,
            "prompt": self.tokenizer.prompt,
            "max_tokens": self.tokenizer.max_tokens,
            "normalize": self.vectors.normalize,
            "dimension": self.vectors.dimension,
            **of_spans,
            **self.own_ingredients(),
            "backend": self.placement.backend,
            "device": self.placement.device,
            "precision": self.placement.precision,
            "batch_tokens": self.placement.batch_tokens,
            **unpadded,
        }
