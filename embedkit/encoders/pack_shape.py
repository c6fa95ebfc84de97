"""Which models are run over packs, and over packs of what shape."""

from embedkit.encoders.model_files import ModelSpec
from embedkit.tokens.packing import PackShape

PACKED_ARCHITECTURES = frozenset({"bert", "distilbert", "roberta", "xlm-roberta"})
"""Model types that know a token's place from an input alone, so that rows may stand anywhere."""

_WIDTH = 256
# Twice as many leave the caches, half as many read the weights too often.
_PACK_TOKENS = 1_024
_LEAST_ROW = 8


def pack_shape(spec: ModelSpec) -> PackShape | None:
    """Returns the shape of a model's packs, or None where its rows go in padded batches alone.

    A line is wide enough for most texts and no wider, as attention costs its width for each token.
    """
    pooled = spec.pooling in (("mean",), ("cls",)) and not spec.prompt_length
    if spec.backend != "openvino" or spec.architecture not in PACKED_ARCHITECTURES or not pooled:
        return None
    width = min(_WIDTH, spec.tokenizer.max_tokens)
    return PackShape(
        lines=max(1, min(spec.batch_tokens, _PACK_TOKENS) // width),
        width=width,
        line_rows=max(1, width // _LEAST_ROW),
    )
