"""The OpenVINO backend, for CPUs."""

import gc
import warnings
from typing import Any

import numpy as np
import openvino
import torch
from numpy.typing import NDArray

from embedkit.encoders.hardware import processor_name, usable_cores
from embedkit.encoders.model_files import ModelSpec
from embedkit.encoders.network import SentenceNetwork, load_network
from embedkit.errors import ConfigError
from embedkit.records import TokenBatch
from embedkit.tokens.batching import padded, token_batches
from embedkit.tokens.tokenization import first_line, quiet_transformers

_HINTS = {"float32": "f32", "bfloat16": "bf16"}
_STREAMS = 2
_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
_CHECK_LENGTHS = (1, 3, 7, 40, 130)


class OpenVinoBackend:
    """Runs a compiled network, several batches at a time.

    Args:
        compiled: A compiled model that takes padded ids and their mask.
        batch_tokens: Most tokens of a padded batch.
        pad_id: Id that fills up shorter rows.
        dimension: Components of a vector.
    """

    def __init__(self, compiled: Any, batch_tokens: int, pad_id: int, dimension: int) -> None:
        self._queue = openvino.AsyncInferQueue(compiled)
        self._queue.set_callback(_keep)
        self._batch_tokens = batch_tokens
        self._pad_id = pad_id
        self._dimension = dimension

    @property
    def device(self) -> str:
        """The processor's name."""
        return processor_name()

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows of tokens, in their order, shape (rows, dimension)."""
        vectors = np.empty((len(batch), self._dimension), dtype=np.float32)
        for rows in token_batches(batch.lengths, self._batch_tokens):
            self._queue.start_async(padded(batch.take(rows), self._pad_id), (vectors, rows))
        self._queue.wait_all()
        return vectors


def _keep(request: Any, place: tuple[NDArray[np.float32], NDArray[np.intp]]) -> None:
    vectors, rows = place
    vectors[rows] = request.get_output_tensor(0).data


def openvino_backend(spec: ModelSpec) -> OpenVinoBackend:
    """Loads a model with torch, converts and compiles it in this process, and checks the result.

    Args:
        spec: The model.

    Raises:
        ConfigError: The weights are not those of the architecture, or the model cannot be
            converted, or gives other vectors afterwards.
        EncoderError: The files are not what they were when the job was planned.
    """
    threads = spec.threads or usable_cores()
    # OpenVINO's own SDPA gives NaN where a row of the mask is empty, as fill outside every local
    # window is. The plain form has no such rows, and is fused all the same.
    network = load_network(spec, attention="eager")
    batch = _check_batch(spec, network)
    expected = _with_torch(network, batch, spec.pad_id)
    model = _converted(network, spec)
    del network
    gc.collect()
    compiled = openvino.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _HINTS[spec.precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(_STREAMS, threads),
            # Several encoders of one machine would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        },
    )
    backend = OpenVinoBackend(compiled, spec.batch_tokens, spec.pad_id, spec.dimension)
    _check(backend.run(batch), expected, spec)
    return backend


def _converted(network: SentenceNetwork, spec: ModelSpec) -> Any:
    example: Any = torch.ones((2, 5), dtype=torch.int64)
    try:
        with warnings.catch_warnings(), quiet_transformers(), torch.no_grad():
            warnings.simplefilter("ignore")
            return openvino.convert_model(
                network,
                example_input=(example, example.clone()),
                input=[openvino.PartialShape([-1, -1]), openvino.PartialShape([-1, -1])],
            )
    # The converter raises bare Exceptions for operations that it does not know.
    except Exception as error:
        raise ConfigError(
            f"{spec.directory}: {spec.architecture} cannot be converted to OpenVINO "
            f"({first_line(error)}); take backend torch"
        ) from error


def _check_batch(spec: ModelSpec, network: SentenceNetwork) -> TokenBatch:
    transformer: Any = network.transformer
    vocabulary = transformer.get_input_embeddings().num_embeddings
    random = np.random.default_rng(0)
    longest = spec.tokenizer.max_tokens
    lengths = [min(spec.prompt_length + length, longest) for length in _CHECK_LENGTHS]
    return TokenBatch.from_lists(
        random.integers(spec.pad_id + 1, vocabulary, size=length).tolist() for length in lengths
    )


def _with_torch(network: SentenceNetwork, batch: TokenBatch, pad_id: int) -> NDArray[np.float32]:
    with torch.inference_mode():
        ids, mask = (torch.from_numpy(array) for array in padded(batch, pad_id))
        vectors: NDArray[np.float32] = network(ids, mask).numpy()
    return vectors


def _check(vectors: NDArray[np.float32], expected: NDArray[np.float32], spec: ModelSpec) -> None:
    distances = np.linalg.norm(vectors - expected, axis=1) / np.linalg.norm(expected, axis=1)
    tolerance = _TOLERANCES[spec.precision]
    if not distances.max() <= tolerance:
        raise ConfigError(
            f"{spec.directory}: converted to OpenVINO, {spec.architecture} gives other vectors "
            f"(relative distance {distances.max():.2g}, at most {tolerance:g} expected); take "
            "backend torch"
        )
