"""The OpenVINO backend, for CPUs."""

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.hardware import processor_name
from embedkit.encoders.phases import say_phase
from embedkit.encoders.planned_weights import check_weights
from embedkit.encoders.transformer.kept_networks import kept_networks
from embedkit.encoders.transformer.openvino_running import RowRunner, Runner
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.errors import ConfigError
from embedkit.vectors import TokenBatch


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


def _runner(spec: TransformerSpec, of_spans: bool) -> Runner:
    """Compiles a model as it was converted before on this machine, or converts it now."""
    if spec.needs_ranges:
        raise ConfigError(
            "precision is int8, for which embedkit run measures a sample of its corpus; take "
            "another precision here, such as bfloat16 or float32"
        )
    if not of_spans:
        kept = kept_networks(spec)
        if kept is not None:
            check_weights(spec)
            say_phase("compiling the model")
            return RowRunner(kept.compiled(spec), spec)
    # Torch and all that goes with it, which takes seconds to import.
    from embedkit.encoders.transformer.openvino_making import made_runner

    return made_runner(spec, of_spans)
