"""Finds the ONNX file of a model directory, and all that belongs to it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from embedkit.encoders.transformer.onnx_graph import OnnxGraph, read_graph
from embedkit.encoders.weights import below
from embedkit.errors import ConfigError

USUAL_FILES = ("onnx/model.onnx", "model.onnx")
"""Where sentence-transformers and optimum write it, below the model's directory."""

OnnxPrecision = Literal["float32", "half", "quantized"]
"""What a file computes with: numbers of 32 or 16 bits, or weights of fewer."""

_QUANTIZED = ("QLinear", "Quant", "MatMulInteger", "NBits", "Bnb4", "QAttention", "QEmbed", "QGemm")
"""What the names of operators have in them that compute with weights of few bits."""

_HALF = {10, 16}
"""Types of tensors' elements: float16 and bfloat16."""

_SHOWN = 8


@dataclass(frozen=True)
class OnnxFiles:
    """An ONNX model on disk.

    Attributes:
        model: The file of the graph.
        data: Files beside it that hold its weights, in order; none where it holds them itself.
        graph: What was found in it.
    """

    model: Path
    data: tuple[Path, ...]
    graph: OnnxGraph

    @property
    def files(self) -> tuple[Path, ...]:
        """All of its files."""
        return (self.model, *self.data)

    @property
    def precision(self) -> OnnxPrecision:
        """What it computes with, at the least."""
        if any(mark in name for name in self.graph.operators for mark in _QUANTIZED):
            return "quantized"
        return "half" if self.graph.types & _HALF else "float32"


def usual_files(wanted: str | None) -> tuple[str, ...]:
    """Returns where an ONNX file may be, below the model's directory; all but one if it is given.

    Args:
        wanted: The file that the job asks for.
    """
    return USUAL_FILES if wanted is None else (wanted,)


def onnx_files(root: Path, transformer: Path, wanted: str | None) -> OnnxFiles:
    """Finds an ONNX model, and checks that all of it stays below its directory.

    Args:
        root: The model directory.
        transformer: Directory of the transformer, the same or below it.
        wanted: The file, relative to the model directory; the usual one unless given.

    Raises:
        ConfigError: There is none, it is damaged, or names files that are missing or elsewhere.
    """
    file = _file(root, transformer, wanted)
    graph = read_graph(file)
    data = [_data_file(file, location) for location in sorted(graph.locations)]
    return OnnxFiles(file, tuple(dict.fromkeys(data)), graph)


def _file(root: Path, transformer: Path, wanted: str | None) -> Path:
    if wanted is not None:
        file = below(root, wanted, root)
        if file.is_file():
            return file
    else:
        for place in dict.fromkeys((transformer, root)):
            for name in USUAL_FILES:
                if (place / name).is_file():
                    return place / name
    others = sorted(file.relative_to(root).as_posix() for file in root.glob("**/*.onnx"))
    there = (
        f"there is {', '.join(others[:_SHOWN])}: choose it with --onnx-file"
        if others
        else ("export the model with optimum or sentence-transformers, or take another backend")
    )
    raise ConfigError(f"{root}: no {wanted or USUAL_FILES[0]} in it; {there}")


def _data_file(file: Path, location: str) -> Path:
    data = below(file.parent, location, file)
    if not data.is_file():
        raise ConfigError(f"{data}: named by {file.name} but missing; download the model again")
    return data
