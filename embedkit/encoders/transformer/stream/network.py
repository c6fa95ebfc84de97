"""A network over streams, with the weights of a network that was loaded for padded batches."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedkit.encoders.transformer.network import (
    SentenceNetwork,
    SpanHead,
    asking_for,
    hidden_of,
)
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.stream.attention import STREAM_ATTENTION, attention_of
from embedkit.encoders.transformer.stream.positions import positions_of
from embedkit.encoders.transformer.stream.segments import Segments, pool_segments
from embedkit.vectors import TokenBatch


class StreamNetwork(nn.Module):
    """Transformer, pooling, dense layers and Matryoshka truncation over one stream of tokens.

    Args:
        network: The network, on the CPU; its weights are shared, and it stays usable.
        spec: The model.
    """

    positions: Tensor

    def __init__(self, network: SentenceNetwork, spec: TransformerSpec) -> None:
        super().__init__()
        self.network = network
        self._spec = spec
        found = positions_of(network.transformer, spec.tokenizer.max_tokens, spec.pad_id)
        self.register_buffer("positions", found.of_places, persistent=False)
        self._skipped = found.skipped

    def forward(self, input_ids: Tensor, places: Tensor, offsets: Tensor, longest: int) -> Tensor:
        """Encodes a stream.

        Args:
            input_ids: Tokens of all rows one after the other, int32, shape (tokens,).
            places: Place of each token in its row, from 0, int32, of the same shape.
            offsets: Row i is tokens ``offsets[i]`` up to ``offsets[i + 1]``, int32, shape
                (rows + 1,); a row may be empty.
            longest: No row has more tokens.

        Returns:
            Vectors, float32, shape (rows, dimension), not normalized; anything for empty rows.
        """
        hidden = self.hidden(input_ids, places, offsets, longest)
        segments = Segments(places, offsets, self._spec.prompt_length)
        pooled = pool_segments(hidden, segments, self._spec.pooling)
        vectors: Tensor = self.network.dense(pooled)
        return vectors[:, : self._spec.vectors.dimension]

    def hidden(self, input_ids: Tensor, places: Tensor, offsets: Tensor, longest: int) -> Tensor:
        """Returns the token vectors of a stream, float32, shape (tokens, width)."""
        layers = self.network.layers
        with attention_of(self.network.transformer, STREAM_ATTENTION):
            output: Any = self.network.transformer(
                input_ids=input_ids.unsqueeze(0),
                position_ids=self.positions[places].unsqueeze(0),
                cu_seq_lens_q=offsets,
                cu_seq_lens_k=offsets,
                max_length_q=longest,
                max_length_k=longest,
                # A decoder would keep keys and values of all layers for tokens to come.
                use_cache=False,
                **asking_for(layers),
            )
        return hidden_of(output, layers).squeeze(0)

    @property
    def spans(self) -> SpanHead:
        """Makes vectors of spans of token vectors."""
        return self.network.spans

    def fits(self, batch: TokenBatch) -> NDArray[np.bool_]:
        """Tells of each row whether it may stand in a stream, shape (rows,).

        The others go in padded batches: the empty ones, those longer than the model's maximum, and
        those whose text has the id of the fill where the model counts positions without it.
        """
        lengths = batch.lengths
        fitting: NDArray[np.bool_] = (lengths > 0) & (lengths <= len(self.positions))
        if self._skipped:
            filled = np.flatnonzero(np.isin(batch.input_ids, self._skipped))
            fitting[np.searchsorted(batch.offsets, filled, side="right") - 1] = False
        return fitting


def stream_of(batch: TokenBatch) -> tuple[Tensor, Tensor, Tensor, int]:
    """Returns a batch as one stream of exactly its tokens, as ``StreamNetwork`` takes it."""
    places = np.arange(len(batch.input_ids)) - np.repeat(batch.offsets[:-1], batch.lengths)
    arrays = (batch.input_ids, places.astype(np.int32), batch.offsets)
    ids, at, offsets = (torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)
    return ids, at, offsets, int(batch.lengths.max())
