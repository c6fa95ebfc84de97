"""A model as one torch module: token ids in, vectors out, not yet normalized."""

from typing import Any

import torch
from torch import Tensor, nn

from embedkit.encoders.planned_weights import check_weights
from embedkit.encoders.transformer.adapter import merge_adapter
from embedkit.encoders.transformer.architecture import FindClass, model_class
from embedkit.encoders.transformer.head import load_head
from embedkit.encoders.transformer.hidden_layers import HiddenLayers
from embedkit.encoders.transformer.pooling import pool, without_prompt
from embedkit.encoders.transformer.span_pooling import pool_spans
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.tokens.transformers_library import quiet_transformers, transformers_library


class SentenceNetwork(nn.Module):
    """Transformer, pooling, dense layers and Matryoshka truncation.

    Everything after the transformer is float32, whatever the transformer computes in.
    """

    def __init__(self, transformer: nn.Module, dense: nn.Sequential, spec: TransformerSpec) -> None:
        super().__init__()
        self.transformer = transformer
        self.dense = dense
        self.spans = SpanHead(dense, spec)
        self.layers = spec.layers
        self._pooling = spec.pooling
        self._prompt_length = spec.prompt_length
        self._dimension = spec.vectors.dimension

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Encodes a padded batch.

        Args:
            input_ids: int64, shape (rows, tokens).
            attention_mask: 1 for a token, 0 for fill, int64, of the same shape.

        Returns:
            Vectors, float32, shape (rows, dimension).
        """
        hidden = self.hidden(input_ids, attention_mask)
        mask = attention_mask
        if self._prompt_length:
            mask = without_prompt(mask, self._prompt_length)
        vectors: Tensor = self.dense(pool(hidden, mask, self._pooling))
        return vectors[:, : self._dimension]

    def hidden(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Returns the token vectors of a padded batch, float32, shape (rows, tokens, width)."""
        output = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask, **asking_for(self.layers)
        )
        return hidden_of(output, self.layers)


class SpanHead(nn.Module):
    """What comes after the transformer where vectors of spans are wanted."""

    def __init__(self, dense: nn.Sequential, spec: TransformerSpec) -> None:
        super().__init__()
        self.dense = dense
        self.pooling = spec.span_pooling
        self._dimension = spec.vectors.dimension

    def forward(self, hidden: Tensor, places: Tensor, offsets: Tensor | None) -> Tensor:
        """Makes vectors of spans of tokens.

        Args:
            hidden: Token vectors, float32, shape (tokens, width), wherever the rows stand.
            places: See ``SpanTokens``.
            offsets: The same.

        Returns:
            Vectors, float32, shape (spans, dimension).
        """
        vectors: Tensor = self.dense(pool_spans(hidden, places, offsets, self.pooling))
        return vectors[:, : self._dimension]


def asking_for(layers: HiddenLayers | None) -> dict[str, Any]:
    """Returns what a transformer must be told so that it returns hidden layers."""
    return {} if layers is None else {"output_hidden_states": list(layers.numbers)}


def hidden_of(output: Any, layers: HiddenLayers | None) -> Tensor:
    """Returns token vectors in float32, made of a transformer's output.

    The last layer's are what the transformer itself returns, after its final norm.

    Args:
        output: What the transformer returned, asked as ``asking_for`` says.
        layers: The layers; None for the last one.
    """
    last: Tensor = output.last_hidden_state
    if layers is None:
        return last.float()
    states = (*output.hidden_states[:-1], last)
    chosen = [states[number].float() for number in layers.numbers]
    if layers.joining == "concat":
        return torch.cat(chosen, dim=-1)
    summed: Tensor = sum(chosen[1:], start=chosen[0])
    return summed / len(chosen) if layers.joining == "mean" else summed


def load_network(spec: TransformerSpec, attention: str = "sdpa") -> SentenceNetwork:
    """Loads a model's weights in float32, on the CPU, ready for inference.

    Args:
        spec: The model.
        attention: ``sdpa``, where the architecture has it, or ``eager``.

    Raises:
        ConfigError: The weights are not those of this architecture.
        EncoderError: The files are not what they were when the job was planned.
    """
    check_weights(spec)
    transformer = load_pretrained(spec.transformer, attention)
    if spec.adapter is not None:
        merge_adapter(transformer, spec.adapter)
    network = SentenceNetwork(transformer, load_head(spec.identity, spec.dense), spec)
    return network.eval().requires_grad_(False)


def load_pretrained(
    directory: str, attention: str, find_class: FindClass = model_class, unused: str = "pooler."
) -> nn.Module:
    """Loads a model of the transformers library in float32, on the CPU.

    Args:
        directory: Its directory.
        attention: ``sdpa``, where the architecture has it, or ``eager``.
        find_class: Finds the library's class for a configuration.
        unused: What is in the names of tensors that need not be there.

    Raises:
        ConfigError: It cannot be loaded, or the weights are not those of its architecture.
    """
    auto_config = transformers_library().AutoConfig
    try:
        with quiet_transformers():
            config = auto_config.from_pretrained(
                directory, trust_remote_code=False, local_files_only=True
            )
            # Saves memory at the price of texts whose length it does not divide.
            config.chunk_size_feed_forward = 0
            kind = find_class(config, directory)
            model, report = kind.from_pretrained(
                directory,
                config=config,
                dtype=torch.float32,
                attn_implementation=attention if kind._supports_sdpa else "eager",
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                output_loading_info=True,
                # They are in the report then, by name.
                ignore_mismatched_sizes=True,
            )
    except ConfigError:
        raise
    # Whatever the library's classes stumble over in a strange configuration.
    except Exception as error:
        raise ConfigError(
            f"{directory}: the model cannot be loaded ({one_line(error, only_first=True)})"
        ) from error
    _check_complete(report, directory, unused)
    transformer: nn.Module = model
    return transformer


def _check_complete(report: dict[str, Any], directory: str, unused: str) -> None:
    # Where only token vectors are used, the pooler on top of some models may be absent.
    lost = sorted(key for key in report["missing_keys"] if not unused or unused not in key)
    lost += sorted(str(entry[0]) for entry in report.get("mismatched_keys", ()))
    if lost:
        raise ConfigError(
            f"{directory}: the weights lack {lost[0]} and {len(lost) - 1} more tensors of this "
            "architecture and shape, which would be random; take weights that belong to config.json"
        )
