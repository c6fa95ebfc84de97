"""All that an encoder needs to know of a transformer before it reads the weights."""

from dataclasses import dataclass
from typing import ClassVar

from embedkit.encoders.spec import MixedCalls, ModelSpec
from embedkit.encoders.transformer.adapter_files import Adapter
from embedkit.encoders.transformer.head_layers import HeadLayer
from embedkit.encoders.transformer.hidden_layers import HiddenLayers
from embedkit.encoders.transformer.onnx_files import OnnxPrecision
from embedkit.encoders.transformer.packing import PackShape

PACKED_ARCHITECTURES = frozenset({"bert", "distilbert", "mpnet", "roberta", "xlm-roberta"})
"""Model types that know from an input where in its row a token is, or how far from another."""

_WIDTH = 256
# Twice as many leave the caches, half as many read the weights too often.
_PACK_TOKENS = 1_024
_LEAST_ROW = 8
_SPAN_POOLING = {"first": "cls", "mean": "mean", "last": "lasttoken", "max": "max"}


@dataclass(frozen=True)
class TransformerSpec(ModelSpec):
    """A transformer, pooling, dense layers and Matryoshka truncation.

    Attributes:
        transformer: Directory of the transformer, the model directory or below it.
        architecture: The transformer's ``model_type``.
        pad_id: Id that fills up the shorter rows of a batch.
        pooling: Pooling modes of rows, joined in this order; none where vectors are of tokens or
            words.
        prompt_length: Leading tokens that are left out of the pooling.
        dense: Layers after the pooling.
        ignored_code: Classes that the directory names for itself, in whose place the library's
            run, as ``AutoModel=module.Class``.
        layers: The hidden layers that vectors are made of; None for the last one.
        given_tokenizer: Another directory or hub id whose tokenizer it is; empty for its own.
        tokenizer_mismatch: Why that one does not belong to the model; empty where it does.
        adapter: What is merged into the transformer's weights, if there is something.
        onnx_file: The ONNX file that backend onnx runs, relative to the model directory; empty for
            other backends.
        onnx_precision: What it computes with.
        beside_onnx: The safetensors files of the same model, where the directory has them as well.
        route: Name of the way that texts take through a model with several; else empty.
        query_weights: SHA-256 over the weights on the way of queries, where there are several.
    """

    kind: ClassVar[str] = "transformer"
    transformer: str
    architecture: str
    pad_id: int
    pooling: tuple[str, ...]
    prompt_length: int
    dense: tuple[HeadLayer, ...]
    ignored_code: tuple[str, ...] = ()
    layers: HiddenLayers | None = None
    given_tokenizer: str = ""
    tokenizer_mismatch: str = ""
    adapter: Adapter | None = None
    onnx_file: str = ""
    onnx_precision: OnnxPrecision = "float32"
    beside_onnx: tuple[str, ...] = ()
    route: str = ""
    query_weights: str = ""

    @property
    def span_pooling(self) -> tuple[str, ...]:
        """Pooling modes of spans: those of rows, where spans are such as rows are."""
        return (_SPAN_POOLING[self.vectors.span_pooling],) if self.vectors.many else self.pooling

    @property
    def pack_shape(self) -> PackShape | None:
        """The shape of its packs, or None where its rows go in padded batches alone.

        A line is wide enough for most texts and no wider, as attention costs its width for each
        token.
        """
        pooled = self.pooling in (("mean",), ("cls",)) and not self.prompt_length
        pooled = pooled or self.vectors.many
        known = self.architecture in PACKED_ARCHITECTURES
        if self.placement.backend != "openvino" or not known or not pooled:
            return None
        width = min(_WIDTH, self.tokenizer.max_tokens)
        if self.placement.batch_tokens < width:
            return None
        return PackShape(
            lines=max(1, min(self.placement.batch_tokens, _PACK_TOKENS) // width),
            width=width,
            line_rows=max(1, width // _LEAST_ROW),
        )

    @property
    def mixed_calls(self) -> MixedCalls:
        """Whether a call should have rows of all lengths, which packs and streams are made of.

        A full call is cut into the longest streams; each other one ends in several short ones.
        """
        return "full" if self.placement.unpadded else self.pack_shape is not None

    @property
    def pools_spans(self) -> bool:
        """Whether each pooling mode tells something of the tokens in the middle of a text."""
        return not self.vectors.many and "cls" not in self.pooling

    @property
    def calls_at_once(self) -> int:
        """Two where a second call is prepared while the device computes the first."""
        return 2 if self.placement.unpadded else 1

    @property
    def libraries(self) -> tuple[str, ...]:
        """Distributions that have a part in its vectors, for the manifest."""
        return ("tokenizers", "transformers", self.placement.backend)

    def description(self) -> dict[str, str]:
        """Returns what only this kind says of its vectors, for the manifest and the parts."""
        named = {
            "layers": "" if self.layers is None else str(self.layers),
            "ignored_code": " ".join(self.ignored_code),
            "onnx_file": self.onnx_file,
            "onnx_precision": self.onnx_precision if self.onnx_file else "",
            "tokenizer": self.given_tokenizer,
            "tokenizer_mismatch": self.tokenizer_mismatch,
            "base_model": self.identity.base or "",
            "route": self.route,
            "query_weights_hash": self.query_weights,
        }
        used = {name: said for name, said in named.items() if said}
        return {"pooling": "+".join(self.pooling), **used}

    def own_ingredients(self) -> dict[str, str | int | bool]:
        """Returns what only this kind knows of all that changes a vector, by name."""
        layers = [layer.ingredient for layer in self.dense]
        ingredients: dict[str, str | int | bool] = {
            "pooling": "+".join(self.pooling),
            "pooling_skips": self.prompt_length,
            "dense": " ".join(layers),
        }
        if self.layers is not None:
            ingredients["layers"] = str(self.layers)
        if self.ignored_code:
            ingredients["ignored_code"] = " ".join(self.ignored_code)
        if self.tokenizer_mismatch:
            ingredients["tokenizer_mismatch"] = True
        if self.adapter is not None:
            ingredients["adapter"] = self.adapter.ingredient
        if self.route:
            ingredients["route"] = self.route
        return ingredients
