"""Converts networks from torch to OpenVINO, in this process."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from embedkit.encoders.transformer.network import SentenceNetwork
from embedkit.encoders.transformer.packed import PackedNetwork
from embedkit.encoders.transformer.packing import PackShape
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.tokens.transformers_library import quiet_transformers


class _Hidden(nn.Module):
    """What a network computes up to its token vectors."""

    def __init__(self, network: SentenceNetwork | PackedNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Tensor:
        """Returns token vectors, float32."""
        return self.network.hidden(*inputs)


def converted_padding(network: SentenceNetwork, spec: TransformerSpec, hidden: bool) -> Any:
    """Converts a network for padded batches.

    Args:
        network: The network, whose attention is ``eager``.
        spec: The model.
        hidden: Whether it is to give token vectors, and not those of rows.

    Raises:
        ConfigError: It cannot be converted.
    """
    example = torch.ones((2, 5), dtype=torch.int64)
    anything = openvino.PartialShape([-1, -1])
    module = _Hidden(network).eval() if hidden else network
    return _converted(module, (example, example.clone()), [anything] * 2, spec)


def converted_packing(
    network: SentenceNetwork, spec: TransformerSpec, shape: PackShape, hidden: bool
) -> Any:
    """Converts a network for packs of one shape; arguments as of ``converted_padding``."""
    example = torch.ones((2, 5), dtype=torch.int32)
    packed = PackedNetwork(network, spec, shape)
    module = (_Hidden(packed) if hidden else packed).eval()
    fixed = (openvino.PartialShape([shape.lines, shape.width]), openvino.Type.i32)
    inputs = (example, example.clone(), example.clone())
    return _converted(module, inputs, [fixed] * 3, spec)


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
