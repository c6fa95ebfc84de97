"""Networks of OpenVINO, kept in this machine's cache once they were converted and tried."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.caches import code_state, machine_cache
from embedkit.encoders.hardware import processor_abilities
from embedkit.encoders.transformer.openvino_models import Networks
from embedkit.encoders.transformer.packing import PackShape
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line

_TOPIC = "networks"
_LENGTH_BYTES = 8


def kept_networks(spec: TransformerSpec) -> Networks | None:
    """Returns the networks of a model for vectors of rows, or None where they were not kept.

    Args:
        spec: The model, whose weights are what they were when its job was planned.
    """
    padding, shape = _kept(spec, None), spec.pack_shape
    if shape is None or padding is None:
        return padding and Networks(padding)
    packing = _kept(spec, shape)
    return packing and Networks(padding, packing, shape)


@contextmanager
def written_networks(spec: TransformerSpec) -> Iterator["WrittenNetworks"]:
    """Yields what writes networks of a model to files, which are gone afterwards.

    Raises:
        ConfigError: There is no room for them.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
            yield WrittenNetworks(spec, Path(folder))
    except OSError as error:
        raise ConfigError(
            f"the converted model cannot be written to a temporary directory ({error}); let TMPDIR "
            "name one with room for it"
        ) from error


@dataclass(frozen=True)
class WrittenNetworks:
    """Networks of a model in files of their own.

    Attributes:
        spec: The model.
        folder: Where the files are.
    """

    spec: TransformerSpec
    folder: Path

    def reread(self, network: Any, shape: PackShape | None = None) -> Any:
        """Writes a network, and returns it as OpenVINO reads it.

        As it was converted it rounds the last bit in another way.

        Args:
            network: The network.
            shape: The shape of the packs that it takes; None for padded batches.
        """
        file = self._file(shape)
        try:
            openvino.save_model(network, file, compress_to_fp16=False)
        # What it raises where the disk is full.
        except RuntimeError as error:
            raise OSError(one_line(error)) from error
        return openvino.Core().read_model(file)

    def keep(self, *shapes: PackShape | None) -> None:
        """Keeps networks that were tried on this processor, by their shapes of packs."""
        for shape in shapes:
            described = self._file(shape).read_bytes()
            length = len(described).to_bytes(_LENGTH_BYTES, "little")
            with _mapped(self._file(shape).with_suffix(".bin")) as weights:
                made_of = _made_of(self.spec, shape)
                machine_cache().write(_TOPIC, made_of, length, described, weights)

    def _file(self, shape: PackShape | None) -> Path:
        return self.folder / ("padding.xml" if shape is None else "packing.xml")


@contextmanager
def _mapped(file: Path) -> Iterator[memoryview]:
    """Yields the bytes of a file, which need not fit into the memory."""
    with (
        file.open("rb") as data,
        mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ) as pages,
        memoryview(pages) as content,
    ):
        yield content


def _kept(spec: TransformerSpec, shape: PackShape | None) -> Any:
    found = machine_cache().read(_TOPIC, _made_of(spec, shape))
    if found is None:
        return None
    end = _LENGTH_BYTES + int.from_bytes(found[:_LENGTH_BYTES], "little")
    return openvino.Core().read_model(bytes(found[_LENGTH_BYTES:end]), bytes(found[end:]))


def _made_of(spec: TransformerSpec, shape: PackShape | None) -> dict[str, Any]:
    """Returns all that decides what a network computes, and where it was seen to do so."""
    return {
        "weights": spec.identity.weights_hash,
        "architecture": [spec.architecture, spec.identity.config_hash],
        "own": spec.own_ingredients(),
        "dimension": spec.vectors.dimension,
        "packs": None if shape is None else [shape.lines, shape.width, shape.line_rows],
        "precision": spec.placement.precision,
        "ranges": spec.placement.ranges,
        "processor": processor_abilities(),
        "instructions": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "code": code_state("openvino", "torch", "transformers"),
    }
