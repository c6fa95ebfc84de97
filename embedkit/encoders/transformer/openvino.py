"""The OpenVINO backend, for CPUs."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from embedkit.encoders.hardware import processor_name, usable_cores
from embedkit.encoders.phases import say_phase
from embedkit.encoders.transformer.batching import padded, token_batches
from embedkit.encoders.transformer.network import SentenceNetwork, load_network
from embedkit.encoders.transformer.packed import PackedNetwork
from embedkit.encoders.transformer.packing import PackShape, packs
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.trial import greatest_distance, trial_rows
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.tokens.transformers_library import quiet_transformers
from embedkit.vectors import TokenBatch

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_STREAMS = 2
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
_CHECK_LENGTHS = (1, 3, 7, 40, 130)


class OpenVinoBackend:
    """Runs a compiled network, several batches at a time.

    What is compiled for one fixed shape is faster than what takes any shape: attention by a
    quarter, and the steps between the layers are joined. So rows go in whole packs where the model
    can read them, and only what is left over in padded batches.

    Args:
        padding: A compiled model that takes padded ids and their mask.
        packing: A compiled model that takes packs, where there is one, and their shape.
        spec: The model.
    """

    def __init__(
        self, padding: Any, packing: tuple[Any, PackShape] | None, spec: TransformerSpec
    ) -> None:
        self._padding = _queue(padding)
        self._packing = None if packing is None else (_queue(packing[0]), packing[1])
        self._queues = (
            [self._padding] if self._packing is None else [self._packing[0], self._padding]
        )
        self._spec = spec
        self.computed_tokens = 0
        self.device_seconds: float | None = None

    @property
    def device(self) -> str:
        """The processor's name."""
        return processor_name()

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows of tokens, in their order, shape (rows, dimension)."""
        vectors = np.empty((len(batch), self._spec.vectors.dimension), dtype=np.float32)
        left = np.arange(len(batch))
        if self._packing is not None:
            queue, shape = self._packing
            whole, left = packs(batch, shape, self._spec.pad_id)
            for pack in whole:
                arrays = (pack.input_ids, pack.positions, pack.owners)
                self.computed_tokens += pack.input_ids.size
                queue.start_async(arrays, (vectors, pack.rows))
        for places in token_batches(batch.lengths[left], self._spec.placement.batch_tokens):
            rows = left[places]
            inputs = padded(batch.take(rows), self._spec.pad_id)
            self.computed_tokens += inputs[0].size
            self._padding.start_async(inputs, (vectors, rows))
        for queue in self._queues:
            queue.wait_all()
        return vectors


def _queue(compiled: Any) -> Any:
    queue = openvino.AsyncInferQueue(compiled)
    queue.set_callback(_keep)
    return queue


def _keep(request: Any, place: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    vectors, rows = place
    vectors[rows] = request.get_output_tensor(0).data[: len(rows)]


def openvino_backend(spec: TransformerSpec) -> OpenVinoBackend:
    """Loads a model with torch, converts and compiles it in this process, and checks the result.

    Args:
        spec: The model.

    Raises:
        ConfigError: The weights are not those of the architecture, or the model cannot be
            converted, or gives other vectors afterwards.
        EncoderError: The files are not what they were when the job was planned.
    """
    # OpenVINO's own SDPA gives NaN where a row of the mask is empty, as fill outside every local
    # window is. The plain form has no such rows, and is fused all the same.
    network = load_network(spec, attention="eager")
    longest = spec.tokenizer.max_tokens
    lengths = [min(spec.prompt_length + length, longest) for length in _CHECK_LENGTHS]
    batch = trial_rows(network.transformer, spec.pad_id, lengths)
    say_phase("compiling the model")
    padding = _compiled(_padding_model(network, spec), spec)
    backend = OpenVinoBackend(padding, None, spec)
    _check(backend.run(batch), _with_torch(network, batch, spec.pad_id), spec)
    shape = spec.pack_shape
    if shape is None:
        return backend
    packing = _compiled(_packing_model(network, spec, shape), spec), shape
    part = max(1, shape.width // 3)
    lengths = [max(1, shape.width - part), part] * shape.lines
    batch = trial_rows(network.transformer, spec.pad_id, lengths)
    expected = backend.run(batch)
    backend = OpenVinoBackend(padding, packing, spec)
    _check(backend.run(batch), expected, spec)
    return backend


def _compiled(model: Any, spec: TransformerSpec) -> Any:
    threads = spec.placement.threads or usable_cores()
    return openvino.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _HINTS[spec.placement.precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(_STREAMS, threads),
            # Several encoders of one machine would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        },
    )


def _padding_model(network: SentenceNetwork, spec: TransformerSpec) -> Any:
    example = torch.ones((2, 5), dtype=torch.int64)
    anything = openvino.PartialShape([-1, -1])
    return _converted(network, (example, example.clone()), [anything, anything], spec)


def _packing_model(network: SentenceNetwork, spec: TransformerSpec, shape: PackShape) -> Any:
    example = torch.ones((2, 5), dtype=torch.int32)
    packed = PackedNetwork(network, spec, shape).eval()
    fixed = (openvino.PartialShape([shape.lines, shape.width]), openvino.Type.i32)
    return _converted(packed, (example, example.clone(), example.clone()), [fixed] * 3, spec)


def _converted(
    module: torch.nn.Module, example: Any, inputs: list[Any], spec: TransformerSpec
) -> Any:
    try:
        with warnings.catch_warnings(), quiet_transformers(), _logs_kept(), torch.no_grad():
            warnings.simplefilter("ignore")
            return openvino.convert_model(module, example_input=example, input=inputs)
    # The converter raises bare Exceptions for operations that it does not know.
    except Exception as error:
        raise ConfigError(
            f"{spec.identity.directory}: {spec.architecture} cannot be converted to OpenVINO "
            f"({one_line(error, only_first=True)}); take backend torch"
        ) from error


@contextmanager
def _logs_kept() -> Iterator[None]:
    """Gives the root logger back as it was: the converter sets it, and where it fails leaves it."""
    root = logging.getLogger()
    level, filters, handlers = root.level, list(root.filters), list(root.handlers)
    try:
        yield
    finally:
        root.setLevel(level)
        root.filters[:], root.handlers[:] = filters, handlers


def _with_torch(network: SentenceNetwork, batch: TokenBatch, pad_id: int) -> NDArray[np.float32]:
    with torch.inference_mode():
        ids, mask = (torch.from_numpy(array) for array in padded(batch, pad_id))
        vectors: NDArray[np.float32] = network(ids, mask).numpy()
    return vectors


def _check(
    vectors: NDArray[np.float32], expected: NDArray[np.float32], spec: TransformerSpec
) -> None:
    distance = greatest_distance(vectors, expected)
    tolerance = _TOLERANCES[spec.placement.precision]
    if not distance <= tolerance:
        raise ConfigError(
            f"{spec.identity.directory}: converted to OpenVINO, {spec.architecture} gives other "
            f"vectors (relative distance {distance:.2g}, at most {tolerance:g} expected); "
            "take backend torch"
        )
