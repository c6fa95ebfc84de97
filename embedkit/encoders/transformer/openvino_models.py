"""Models of OpenVINO, compiled for this CPU."""

from dataclasses import dataclass
from typing import Any

from embedkit.encoders.hardware import usable_cores
from embedkit.encoders.transformer.packing import PackShape
from embedkit.encoders.transformer.placement import openvino_has_bf16
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.encoders.transformer.spec import TransformerSpec

STREAMS = 2
"""Batches that a compiled model computes at once, where there are as many threads."""


@dataclass(frozen=True)
class Networks:
    """A model as OpenVINO has it, for padded batches and, where it can read them, for packs.

    Attributes:
        padding: Takes padded ids and their mask.
        packing: Takes packs; None where there are none.
        shape: The shape of packs.
    """

    padding: Any
    packing: Any = None
    shape: PackShape | None = None

    def compiled(self, spec: TransformerSpec) -> "Networks":
        """Returns them compiled for the threads and the precision that a model is to run with."""
        packing = None if self.packing is None else _compiled(self.packing, spec)
        return Networks(_compiled(self.padding, spec), packing, self.shape)


def _compiled(model: Any, spec: TransformerSpec) -> Any:
    threads = spec.placement.threads or usable_cores()
    return openvino.Core().compile_model(
        model,
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": _hint(spec.placement.precision),
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": min(STREAMS, threads),
            # Several encoders of one machine would be pinned to the same cores.
            "ENABLE_CPU_PINNING": False,
        },
    )


def _hint(precision: str) -> str:
    """Returns what is computed in that says nothing else of itself, as layers of int8 do."""
    half = precision == "bfloat16" or (precision == "int8" and openvino_has_bf16())
    return "bf16" if half else "f32"
