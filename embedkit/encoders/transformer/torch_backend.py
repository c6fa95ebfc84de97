"""The torch backend, on CPU and CUDA."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedkit.encoders.hardware import processor_name, usable_cores
from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.transformer.batching import (
    fixed_widths,
    padded,
    token_batches,
    token_types,
    width_batches,
    width_of,
)
from embedkit.encoders.transformer.float8 import check_device
from embedkit.encoders.transformer.network import SentenceNetwork, load_network
from embedkit.encoders.transformer.precision import to_precision
from embedkit.encoders.transformer.span_pooling import span_tokens
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.torch_threads import cpu_threads
from embedkit.errors import EncoderError
from embedkit.vectors import TokenBatch, places_of_rows


class TorchBackend:
    """Runs a network with torch.

    Args:
        network: Takes padded ids and their mask, as ``SentenceNetwork`` does; of pairs whose texts
            differ in their token types, these as well. Of batches with spans it is asked for
            ``hidden`` and ``spans`` instead.
        device: ``cpu`` or ``cuda``.
        batch_tokens: Most tokens of a padded batch.
        pad_id: Id that fills up shorter rows.
        threads: CPU threads of a call; those that torch has unless given.
        widths: Fixed widths of batches, rising; each is as wide as its longest row unless given.
    """

    def __init__(
        self,
        network: Any,
        device: str,
        batch_tokens: int,
        pad_id: int,
        threads: int | None = None,
        widths: Sequence[int] = (),
    ) -> None:
        self._threads = threads
        self._network = network
        self._device = torch.device(device)
        self._batch_tokens = batch_tokens
        self._pad_id = pad_id
        self._widths = widths
        self.computed_tokens = 0
        self.device_seconds: float | None = None

    @property
    def device(self) -> str:
        """The device's name."""
        if self._device.type == "cuda":
            return torch.cuda.get_device_name(self._device)
        return processor_name()

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows of tokens, or of their spans, in their order.

        Raises:
            EncoderError: The device has no memory for even one row.
        """
        # Results stay on the device until the last batch is under way, so that a GPU never waits
        # for the host between batches.
        groups = self._groups(batch.lengths)
        with cpu_threads(self._threads), torch.inference_mode():
            outputs = [self._fitting(batch.take(rows)) for rows in groups]
            ordered = torch.cat(outputs).cpu().numpy()
        vectors = np.empty_like(ordered)
        places: NDArray[np.int64] = np.concatenate(groups)
        if batch.spans is not None:
            places, _ = places_of_rows(batch.spans.offsets, places)
        vectors[places] = ordered
        return vectors

    def _groups(self, lengths: NDArray[np.int32]) -> list[NDArray[np.intp]]:
        if self._widths:
            return width_batches(lengths, self._batch_tokens, self._widths)
        return token_batches(lengths, self._batch_tokens)

    def _fitting(self, batch: TokenBatch) -> Tensor:
        width = width_of(batch.lengths, self._widths)
        # The budget may have become less since the batch was cut.
        if len(batch) > 1 and len(batch) * width > self._batch_tokens:
            return self._halves(batch)
        try:
            return self._forward(batch)
        except torch.OutOfMemoryError as error:
            if len(batch) == 1:
                raise EncoderError(
                    f"{self.device}: no memory for one text of {len(batch.input_ids)} tokens; take "
                    "a lower precision or fewer max_tokens, or free the device"
                ) from error
        # Outside the except clause: the error holds on to the tensors that filled the memory.
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        # Remembered, so that the batches and calls that follow do not fill the memory anew.
        larger_half = len(batch) - len(batch) // 2
        self._batch_tokens = min(self._batch_tokens, larger_half * width)
        return self._halves(batch)

    def _halves(self, batch: TokenBatch) -> Tensor:
        rows = np.arange(len(batch))
        half = len(batch) // 2
        return torch.cat(
            [self._fitting(batch.take(rows[:half])), self._fitting(batch.take(rows[half:]))]
        )

    def _forward(self, batch: TokenBatch) -> Tensor:
        arrays = [*padded(batch, self._pad_id, self._widths)]
        if batch.seconds is not None:
            arrays.append(token_types(batch, arrays[0].shape[1]))
        ids, *others = map(self._on_device, arrays)
        vectors: Tensor
        if batch.spans is None:
            vectors = self._network(ids, *others)
        else:
            hidden = self._network.hidden(ids, *others).flatten(0, 1)
            starts = np.arange(len(batch)) * ids.shape[1]
            found = span_tokens(batch.spans, starts, self._network.spans.pooling)
            offsets = None if found.offsets is None else self._on_device(found.offsets)
            vectors = self._network.spans(hidden, self._on_device(found.places), offsets)
        self.computed_tokens += ids.numel()
        return vectors

    def _on_device(self, array: NDArray[np.int64]) -> Tensor:
        tensor = torch.from_numpy(array)
        if self._device.type == "cuda":
            tensor = tensor.pin_memory().to(self._device, non_blocking=True)
        return tensor


def torch_backend(spec: TransformerSpec) -> TorchBackend:
    """Loads a model for torch.

    Args:
        spec: The model; its backend is not looked at.

    Raises:
        ConfigError: The weights are not those of the architecture.
        EncoderError: The files are not what they were when the job was planned.
    """
    return placed_backend(load_network(spec), spec)


def placed_backend(network: SentenceNetwork, spec: TransformerSpec) -> TorchBackend:
    """Brings a network that was loaded to its device and precision.

    Args:
        network: The network, in float32 on the CPU.
        spec: The model; its backend is not looked at.
    """
    return on_device(network, network.transformer, spec, spec.pad_id)


def on_device(
    network: nn.Module, transformer: nn.Module, spec: ModelSpec, pad_id: int
) -> TorchBackend:
    """Brings any network around a transformer to its device and precision.

    Args:
        network: The network, in float32 on the CPU.
        transformer: The part of it that computes in the precision.
        spec: The model; its backend is not looked at.
        pad_id: Id that fills up shorter rows.
    """
    to_precision(transformer, spec.placement.precision)
    device, tokens = spec.placement.device, spec.placement.batch_tokens
    if spec.placement.precision == "float8":
        check_device(device)
    # Always named: torch starts with one thread where OMP_NUM_THREADS says so, as inside Ray.
    threads = (spec.placement.threads or usable_cores()) if device == "cpu" else None
    widths = fixed_widths(spec.tokenizer.max_tokens) if device == "cuda" else ()
    return TorchBackend(network.to(device), device, tokens, pad_id, threads, widths)
