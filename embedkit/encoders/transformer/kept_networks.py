"""Networks of OpenVINO, kept in this machine's cache once they were converted and tried."""

import logging
import os
import tempfile
from pathlib import Path
from typing import Any

from embedkit.caches import code_state, machine_cache
from embedkit.encoders.hardware import processor_abilities
from embedkit.encoders.transformer.openvino_models import Networks
from embedkit.encoders.transformer.packing import PackShape
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.encoders.transformer.spec import TransformerSpec

_TOPIC = "networks"
_LENGTH_BYTES = 8

_log = logging.getLogger(__name__)


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


def keep_networks(spec: TransformerSpec, networks: Networks) -> None:
    """Keeps networks that were tried on this processor, or does without where that cannot be done.

    Args:
        spec: The model.
        networks: Its networks for vectors of rows.
    """
    _keep(spec, None, networks.padding)
    if networks.packing is not None:
        _keep(spec, networks.shape, networks.packing)


def _kept(spec: TransformerSpec, shape: PackShape | None) -> Any:
    found = machine_cache().read(_TOPIC, _made_of(spec, shape))
    if found is None:
        return None
    end = _LENGTH_BYTES + int.from_bytes(found[:_LENGTH_BYTES], "little")
    return openvino.Core().read_model(bytes(found[_LENGTH_BYTES:end]), bytes(found[end:]))


def _keep(spec: TransformerSpec, shape: PackShape | None, network: Any) -> None:
    cache = machine_cache()
    if cache.directory is None:
        return
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "network.xml")
        try:
            openvino.save_model(network, file, compress_to_fp16=False)
        # What it raises where the disk is full.
        except RuntimeError as error:
            _log.info("the converted model cannot be kept (%s)", error)
            return
        described, weights = file.read_bytes(), file.with_suffix(".bin").read_bytes()
    length = len(described).to_bytes(_LENGTH_BYTES, "little")
    cache.write(_TOPIC, _made_of(spec, shape), length, described, weights)


def _made_of(spec: TransformerSpec, shape: PackShape | None) -> dict[str, Any]:
    """Returns all that decides what a network computes, and where it was seen to do so."""
    return {
        "weights": spec.identity.weights_hash,
        "architecture": [spec.architecture, spec.identity.config_hash],
        "own": spec.own_ingredients(),
        "dimension": spec.vectors.dimension,
        "packs": None if shape is None else [shape.lines, shape.width, shape.line_rows],
        "precision": spec.placement.precision,
        "processor": processor_abilities(),
        "instructions": os.environ.get("ONEDNN_MAX_CPU_ISA", ""),
        "code": code_state("openvino", "torch", "transformers"),
    }
