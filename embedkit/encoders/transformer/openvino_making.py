"""Makes runners of OpenVINO: from torch, in this process, and tried against it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.phases import say_phase
from embedkit.encoders.transformer.int8 import to_int8
from embedkit.encoders.transformer.kept_networks import WrittenNetworks, written_networks
from embedkit.encoders.transformer.network import SentenceNetwork, load_network
from embedkit.encoders.transformer.openvino_conversion import converted_packing, converted_padding
from embedkit.encoders.transformer.openvino_models import Networks
from embedkit.encoders.transformer.openvino_running import RowRunner, Runner
from embedkit.encoders.transformer.openvino_spans import SpanRunner
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.torch_backend import TorchBackend
from embedkit.encoders.transformer.trial import greatest_distance, trial_rows, trial_spans
from embedkit.errors import ConfigError
from embedkit.vectors import TokenBatch

_TOLERANCES = {"float32": 1e-3, "bfloat16": 0.1, "int8": 0.2}
_CHECK_LENGTHS = (1, 3, 7, 40, 130)


def made_runner(spec: TransformerSpec, of_spans: bool) -> Runner:
    """Loads a model with torch, converts and compiles it, and checks the result.

    Args:
        spec: The model.
        of_spans: Whether it is to give vectors of spans, and not of rows.

    Raises:
        ConfigError: The weights are not those of the architecture, or the model cannot be
            converted, or gives other vectors afterwards.
        EncoderError: The files are not what they were when the job was planned.
    """
    # OpenVINO's own SDPA gives NaN where a row of the mask is empty, as fill outside every local
    # window is. The plain form has no such rows, and is fused all the same.
    network = load_network(spec, attention="eager")
    if spec.placement.precision == "int8":
        to_int8(network.transformer, spec.placement.ranges)
    say_phase("compiling the model")
    with written_networks(spec) as written:
        runner = _tried_runner(network, spec, of_spans, written)
        if not of_spans:
            shape = spec.pack_shape
            written.keep(*(None,) if shape is None else (None, shape))
    return runner


def _tried_runner(
    network: SentenceNetwork, spec: TransformerSpec, of_spans: bool, written: WrittenNetworks
) -> Runner:
    def made(networks: Networks) -> Runner:
        compiled = networks.compiled(spec)
        return SpanRunner(compiled, network.spans, spec) if of_spans else RowRunner(compiled, spec)

    def trial(lengths: list[int]) -> TokenBatch:
        batch = trial_rows(network.transformer, spec.pad_id, lengths)
        return trial_spans(batch) if of_spans else batch

    longest = spec.tokenizer.max_tokens
    batch = trial([min(spec.prompt_length + length, longest) for length in _CHECK_LENGTHS])
    networks = Networks(written.reread(converted_padding(network, spec, hidden=of_spans)))
    runner = made(networks)
    _check(runner.run(batch), _with_torch(network, batch, spec), spec)
    shape = spec.pack_shape
    if shape is None:
        return runner
    packing = written.reread(converted_packing(network, spec, shape, hidden=of_spans), shape)
    part = max(1, shape.width // 3)
    batch = trial([max(1, shape.width - part), part] * shape.lines)
    expected = runner.run(batch)
    runner = made(replace(networks, packing=packing, shape=shape))
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
