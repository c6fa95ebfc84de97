"""A network over packs: several rows in one sequence, each attending to itself alone."""

from typing import Any

import torch
from torch import Tensor, nn

from embedkit.encoders.transformer.network import SentenceNetwork, asking_for, hidden_of
from embedkit.encoders.transformer.packing import PackShape
from embedkit.encoders.transformer.spec import TransformerSpec

_COUNT_FROM_FILL = frozenset({"mpnet", "roberta", "xlm-roberta"})
_FAR = -1e9
_TINY = 1e-9


class PackedNetwork(nn.Module):
    """Encodes packs with the weights of a network that was loaded for padded batches.

    Args:
        network: Its attention is ``eager``, which adds a mask as it is.
        spec: The model.
        shape: The shape of all packs.
    """

    def __init__(self, network: SentenceNetwork, spec: TransformerSpec, shape: PackShape) -> None:
        super().__init__()
        self.network = network
        transformer: Any = network.transformer
        shifted = spec.architecture in _COUNT_FROM_FILL
        self._first_position = transformer.embeddings.padding_idx + 1 if shifted else 0
        self._rows = shape.lines * shape.line_rows
        self._first_token_only = spec.pooling == ("cls",)
        self._dimension = spec.vectors.dimension

    def forward(self, ids: Tensor, positions: Tensor, owners: Tensor) -> tuple[Tensor, Tensor]:
        """Encodes a pack, given as its three arrays.

        Returns:
            Vectors, float32, shape (lines times line_rows, dimension), those of the pack's rows
            first, and one token's hidden state, which nobody reads.
        """
        hidden = self.hidden(ids, positions, owners)
        counted = owners.flatten() == torch.arange(1, self._rows + 1)[:, None]
        if self._first_token_only:
            counted = counted & (positions.flatten() == 0)
        weights = counted.float()
        pooled = (weights @ hidden) / weights.sum(dim=1, keepdim=True).clamp(min=_TINY)
        vectors: Tensor = self.network.dense(pooled)[:, : self._dimension]
        # OpenVINO computes in bfloat16 whatever stands before a matrix product, and pooling is one
        # here. This output has none behind it, which keeps the residual stream float32.
        return vectors, hidden[0]

    def hidden(self, ids: Tensor, positions: Tensor, owners: Tensor) -> Tensor:
        """Returns a pack's token vectors, float32, shape (lines times width, model's width)."""
        strangers = owners[:, None, :, None] != owners[:, None, None, :]
        layers = self.network.layers
        output = self.network.transformer(
            input_ids=ids,
            attention_mask=strangers.float() * _FAR,
            position_ids=positions + self._first_position,
            **asking_for(layers),
        )
        return hidden_of(output, layers).flatten(0, 1)
