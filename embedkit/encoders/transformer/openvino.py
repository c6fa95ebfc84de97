"""The OpenVINO backend, for CPUs."""

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.hardware import processor_name
from embedkit.encoders.phases import say_phase
from embedkit.encoders.transformer.network import SentenceNetwork, load_network
from embedkit.encoders.transformer.openvino_models import (
    CompiledModels,
    compiled_packing,
    compiled_padding,
)
from embedkit.encoders.transformer.openvino_running import RowRunner, SpanRunner
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.torch_backend import TorchBackend
from embedkit.encoders.transformer.trial import greatest_distance, trial_rows, trial_spans
from embedkit.errors import ConfigError
from embedkit.vectors import TokenBatch

_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1}
_CHECK_LENGTHS = (1, 3, 7, 40, 130)


class OpenVinoBackend:
    """Runs a model that OpenVINO compiled.

    For vectors of rows and for those of spans it is compiled apart: at once for what the model's
    vectors are of, for the other when it is first asked for.

    Args:
        spec: The model.

    Raises:
        ConfigError: The weights are not those of the architecture, or the model cannot be
            converted, or gives other vectors afterwards.
        EncoderError: The files are not what they were when the job was planned.
    """

    def __init__(self, spec: TransformerSpec) -> None:
        self._spec = spec
        of_spans = spec.vectors.many or spec.vectors.in_windows
        self._runners = {of_spans: _runner(spec, of_spans)}
        self.device_seconds: float | None = None

    @property
    def device(self) -> str:
        """The processor's name."""
        return processor_name()

    @property
    def computed_tokens(self) -> int:
        """Tokens computed so far, the fill of packs and padded batches included."""
        return sum(runner.computed_tokens for runner in self._runners.values())

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows of tokens, or of their spans, in their order.

        Raises:
            ConfigError: See the class.
            EncoderError: The same; or the model gives no vectors of rows.
        """
        of_spans = batch.spans is not None or self._spec.vectors.many
        if of_spans not in self._runners:
            self._runners[of_spans] = _runner(self._spec, of_spans)
        return self._runners[of_spans].run(batch)


def _runner(spec: TransformerSpec, of_spans: bool) -> RowRunner | SpanRunner:
    """Loads a model with torch, converts and compiles it in this process, and checks the result."""
    # OpenVINO's own SDPA gives NaN where a row of the mask is empty, as fill outside every local
    # window is. The plain form has no such rows, and is fused all the same.
    network = load_network(spec, attention="eager")
    say_phase("compiling the model")

    def made(models: CompiledModels) -> RowRunner | SpanRunner:
        return SpanRunner(models, network.spans, spec) if of_spans else RowRunner(models, spec)

    def trial(lengths: list[int]) -> TokenBatch:
        batch = trial_rows(network.transformer, spec.pad_id, lengths)
        return trial_spans(batch) if of_spans else batch

    longest = spec.tokenizer.max_tokens
    batch = trial([min(spec.prompt_length + length, longest) for length in _CHECK_LENGTHS])
    padding = compiled_padding(network, spec, hidden=of_spans)
    runner = made(CompiledModels(padding))
    _check(runner.run(batch), _with_torch(network, batch, spec), spec)
    shape = spec.pack_shape
    if shape is None:
        return runner
    packing = compiled_packing(network, spec, shape, hidden=of_spans)
    part = max(1, shape.width // 3)
    batch = trial([max(1, shape.width - part), part] * shape.lines)
    expected = runner.run(batch)
    runner = made(CompiledModels(padding, packing, shape))
    _check(runner.run(batch), expected, spec)
    return runner


def _with_torch(
    network: SentenceNetwork, batch: TokenBatch, spec: TransformerSpec
) -> NDArray[np.float32]:
    # All rows together, whatever the budget: fill must do no harm.
    together = len(batch) * int(batch.lengths.max())
    return TorchBackend(network, "cpu", together, spec.pad_id).run(batch)


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
