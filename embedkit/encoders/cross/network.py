"""A cross-encoder as one torch module: tokens of pairs in, scores out."""

from typing import Any

from torch import Tensor, nn

from embedkit.encoders.cross.spec import CrossSpec
from embedkit.encoders.planned_weights import check_weights
from embedkit.encoders.transformer.network import load_pretrained
from embedkit.errors import ConfigError
from embedkit.tokens.transformers_library import transformers_library


class ScoringNetwork(nn.Module):
    """Transformer, classification head and activation; head and activation are float32."""

    def __init__(self, transformer: nn.Module, spec: CrossSpec) -> None:
        super().__init__()
        self.transformer = transformer
        self.activation: nn.Module = getattr(nn, spec.activation)()
        # In half precision many scores would be equal that are not.
        self.below_head.register_forward_hook(_in_float32)

    @property
    def below_head(self) -> nn.Module:
        """The transformer without its classification head."""
        found: nn.Module = getattr(self.transformer, str(self.transformer.base_model_prefix))
        return found

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_types: Tensor | None = None
    ) -> Tensor:
        """Scores a padded batch.

        Args:
            input_ids: int64, shape (rows, tokens).
            attention_mask: 1 for a token, 0 for fill, int64, of the same shape.
            token_types: 1 for a token of the second text, of the same shape; None where the model
                has no types.

        Returns:
            Scores, float32, shape (rows, labels).
        """
        types = {} if token_types is None else {"token_type_ids": token_types}
        output = self.transformer(input_ids=input_ids, attention_mask=attention_mask, **types)
        scores: Tensor = self.activation(output.logits)
        return scores


def _in_float32(_: nn.Module, __: Any, output: Any) -> Any:
    for name, value in output.items():
        if isinstance(value, Tensor) and value.is_floating_point():
            output[name] = value.float()
    return output


def load_scoring_network(spec: CrossSpec) -> ScoringNetwork:
    """Loads a model's weights in float32, on the CPU, ready for inference.

    Args:
        spec: The model.

    Raises:
        ConfigError: The weights are not those of this architecture.
        EncoderError: The files are not what they were when the job was planned.
    """
    check_weights(spec)
    transformer = load_pretrained(
        spec.identity.directory, "sdpa", find_class=scoring_class, unused=""
    )
    return ScoringNetwork(transformer, spec).eval().requires_grad_(False)


def scoring_class(config: Any, directory: str) -> Any:
    """Returns the library's class of a transformer with a classification head.

    Raises:
        ConfigError: The library has none, or one that reads from left to right.
    """
    library = transformers_library()
    found = library.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.get(type(config), None)
    reads_on = library.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None) is not None
    both_ways = library.MODEL_FOR_MASKED_LM_MAPPING.get(type(config), None) is not None
    if found is None or config.is_encoder_decoder or (reads_on and not both_ways):
        raise ConfigError(
            f"{directory}: model type {config.model_type!r} is no cross-encoder that scores pairs; "
            "expected an encoder with a classification head, such as one of BERT or ModernBERT "
            "(decoders that score by their next token are not supported)"
        )
    return found[0] if isinstance(found, (tuple, list)) else found
