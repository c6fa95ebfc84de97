"""ONNX models on onnxruntime, on CPUs: the transformer is theirs, all behind it is as elsewhere."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from embedkit.encoders.hardware import usable_cores
from embedkit.encoders.planned_weights import check_weights
from embedkit.encoders.transformer.architecture import transformer_config
from embedkit.encoders.transformer.head import load_head
from embedkit.encoders.transformer.model_files import first_position
from embedkit.encoders.transformer.network import SentenceNetwork
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.torch_backend import TorchBackend, torch_backend
from embedkit.encoders.transformer.trial import greatest_distance, trial_rows, trial_spans
from embedkit.encoders.weights import weights_hash
from embedkit.errors import ConfigError, EncoderError
from embedkit.errors.foreign import one_line

_log = logging.getLogger(__name__)

_TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")
_TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_TOLERANCES = {"float32": 1e-3, "half": 0.1, "quantized": 0.5}
_CHECK_LENGTHS = (1, 3, 7, 40, 130)
_OF_ITS_SOURCE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |(Load model from \S+ failed:)?/onnxruntime_src/\S+ .*?\) "
)
_FATAL_ONLY = 4
"""What it raises is said in one line, and by nobody else."""


@dataclass(frozen=True)
class _Output:
    last_hidden_state: Tensor


class OnnxTransformer(nn.Module):
    """A session of onnxruntime in the place of a transformer of the transformers library.

    Args:
        session: The session.
        config: The transformer's configuration.
        spec: The model.

    Raises:
        ConfigError: It wants inputs that nobody gives, or gives no token vectors.
    """

    def __init__(self, session: Any, config: Any, spec: TransformerSpec) -> None:
        super().__init__()
        self.config = config
        self._session = session
        self._file = Path(spec.identity.directory, spec.onnx_file)
        self._inputs = {one.name: _TYPES.get(one.type) for one in session.get_inputs()}
        self._first_position = first_position(config)
        self._output = _token_vectors(session, self._file)
        for one in session.get_inputs():
            self._check_input(one)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> _Output:
        """Encodes a padded batch, as a transformer does.

        Args:
            input_ids: int64, shape (rows, tokens).
            attention_mask: 1 for a token, 0 for fill, int64, of the same shape.

        Returns:
            Its token vectors as ``last_hidden_state``, float32, shape (rows, tokens, width).

        Raises:
            EncoderError: onnxruntime cannot compute them.
        """
        ids, mask = input_ids.numpy(), attention_mask.numpy()
        feed = {name: _INPUTS[name](ids, mask).astype(kind) for name, kind in self._inputs.items()}
        if "position_ids" in feed:
            feed["position_ids"] += self._first_position
        try:
            (hidden,) = self._session.run([self._output], feed)
        # Its errors have no base class but this.
        except Exception as error:
            raise EncoderError(
                f"{self._file}: onnxruntime cannot compute {ids.shape[0]} texts of up to "
                f"{ids.shape[1]} tokens ({_reason(error)}); take fewer "
                "batch_tokens, or another backend"
            ) from error
        return _Output(torch.from_numpy(np.ascontiguousarray(hidden, dtype=np.float32)))

    def _check_input(self, one: Any) -> None:
        if one.name not in _INPUTS or self._inputs[one.name] is None:
            raise ConfigError(
                f"{self._file}: takes {str(one.name)[:100]} ({one.type}), which is not given; "
                f"expected {', '.join(_INPUTS)}: export it for feature-extraction"
            )
        fixed = [size for size in one.shape if isinstance(size, int)]
        if fixed:
            raise ConfigError(
                f"{self._file}: takes {one.name} of the fixed shape "
                f"{' x '.join(map(str, one.shape))}; export it with dynamic axes"
            )


_INPUTS: dict[str, Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]] = {
    "input_ids": lambda ids, mask: ids,
    "attention_mask": lambda ids, mask: mask,
    "token_type_ids": lambda ids, mask: np.zeros_like(ids),
    # Fill counts on, and nothing looks at it.
    "position_ids": lambda ids, mask: np.broadcast_to(np.arange(ids.shape[1]), ids.shape),
}
"""What is given to a model, by the names of its inputs."""


def _token_vectors(session: Any, file: Path) -> str:
    """Returns the name of the output that has a vector for each token."""
    outputs: dict[str, Any] = {one.name: one.shape for one in session.get_outputs()}
    named = [name for name in _TOKEN_VECTORS if name in outputs]
    deep = [name for name, shape in outputs.items() if shape is not None and len(shape) == 3]
    found = [*named, *deep]
    if not found:
        raise ConfigError(
            f"{file}: gives {', '.join(outputs)[:200]}, none of which has a vector for each token; "
            "export it for feature-extraction"
        )
    return found[0]


def onnx_backend(spec: TransformerSpec) -> TorchBackend:
    """Loads an ONNX model, and checks it on some rows.

    Where the directory has safetensors as well, its vectors are compared with theirs.

    Args:
        spec: The model.

    Raises:
        ConfigError: onnxruntime cannot load or run it, or it gives other vectors than it should.
        EncoderError: The files are not what they were when the job was planned.
    """
    check_weights(spec)
    config = transformer_config(Path(spec.transformer))
    transformer = OnnxTransformer(_session(spec), config, spec)
    head = load_head(spec.identity, spec.dense)
    network = SentenceNetwork(transformer, head, spec).eval().requires_grad_(False)
    threads = spec.placement.threads or usable_cores()
    backend = TorchBackend(network, "cpu", spec.placement.batch_tokens, spec.pad_id, threads)
    _check(backend, transformer, spec)
    return backend


def exact_spec(spec: TransformerSpec) -> TransformerSpec | None:
    """Returns the same model by torch in float32; None where it is an ONNX file alone."""
    if not spec.beside_onnx:
        return None
    root = Path(spec.identity.directory)
    # Nobody planned with these, so they are what they are.
    found = weights_hash([root / name for name in spec.beside_onnx], root)
    identity = replace(spec.identity, weights=spec.beside_onnx, weights_hash=found)
    placement = replace(spec.placement, backend="torch")
    return replace(spec, identity=identity, placement=placement, onnx_file="")


def _session(spec: TransformerSpec) -> Any:
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
    # Named, so that threads are pinned to no core: several encoders would share the same ones.
    options.intra_op_num_threads = spec.placement.threads or usable_cores()
    options.inter_op_num_threads = 1
    for pool in ("intra", "inter"):
        options.add_session_config_entry(f"session.{pool}_op.allow_spinning", "0")
    file = Path(spec.identity.directory, spec.onnx_file)
    try:
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    # Its errors have no base class but this.
    except Exception as error:
        raise ConfigError(
            f"{file}: onnxruntime cannot load it ({_reason(error)}); export it again, or take "
            "another backend"
        ) from error


def _reason(error: Exception) -> str:
    """Returns what an error of onnxruntime says, without the places in its own source."""
    return one_line(_OF_ITS_SOURCE.sub("", str(error)), only_first=True)


def _check(backend: TorchBackend, transformer: OnnxTransformer, spec: TransformerSpec) -> None:
    longest = spec.tokenizer.max_tokens
    lengths = [min(spec.prompt_length + length, longest) for length in _CHECK_LENGTHS]
    rows = trial_rows(transformer, spec.pad_id, lengths)
    if spec.vectors.many:
        rows = trial_spans(rows)
    file = Path(spec.identity.directory, spec.onnx_file)
    try:
        vectors = backend.run(rows)
    # Pooling and layers behind it, where token vectors are of another width.
    except RuntimeError as error:
        raise ConfigError(
            f"{file}: its token vectors do not go with {spec.transformer} "
            f"({one_line(error, only_first=True)}); take an export of this model"
        ) from error
    finite = bool(np.isfinite(vectors).all())
    if not finite or vectors.shape[1] != spec.vectors.dimension:
        what = f"{vectors.shape[1]} components" if finite else "numbers that are not finite"
        raise ConfigError(
            f"{file}: gives vectors of {what} (expected {spec.vectors.dimension}); take an export "
            "of this model"
        )
    exact = exact_spec(spec)
    if exact is None:
        # Nothing but itself: an export without a mask, say, gives other vectors beside others.
        each = [rows.take(np.array([row])) for row in range(len(rows))]
        expected, said = np.concatenate([backend.run(row) for row in each]), "each text alone"
    else:
        expected, said = torch_backend(exact).run(rows), "the weights beside it"
    distance = greatest_distance(vectors, expected)
    tolerance = _TOLERANCES[spec.onnx_precision]
    if not distance <= tolerance:
        raise ConfigError(
            f"{file}: gives other vectors than {said} (relative distance {distance:.2g}, at most "
            f"{tolerance:g} expected); export it anew, or take another backend"
        )
    if spec.onnx_precision != "float32" and exact is not None:
        _log.info(
            "%s is of %s precision: relative distance %.2g from float32",
            file,
            spec.onnx_precision,
            distance,
        )
