"""An encoder as a Ray actor."""

import os
import threading
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError
from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

from embedkit.encoders.canary import Canaries
from embedkit.encoders.hardware import device_is_lost
from embedkit.encoders.kinds import load_encoder
from embedkit.encoders.meter import EncoderLoad, LoadMeter
from embedkit.encoders.phases import phases_to
from embedkit.encoders.spec import ModelSpec
from embedkit.vectors import TokenBatch

_PHASES = "embedkit-phases"


def _write_phase(name: str) -> None:
    # An actor answers nothing while its constructor runs, so it leaves word with Ray.
    actor = ray.get_runtime_context().get_actor_name()
    _internal_kv_put(str(actor), name, overwrite=True, namespace=_PHASES)


def phase_of(actor: str) -> str | None:
    """Returns what the loading of an encoder is at, or None where it said nothing.

    Args:
        actor: Its name in Ray.
    """
    try:
        found: bytes | None = _internal_kv_get(actor, namespace=_PHASES)
    except RayError:
        return None
    return None if found is None else found.decode()


class EncoderActor:
    """Holds one encoder, which as many calls are inside at once as its model can use.

    While it encodes, another thread sends the answer of the call before: those of words and tokens
    have many MB.

    The constructor takes a path and small settings, never weights: Ray keeps constructor arguments
    to restart a lost actor.
    """

    def __init__(self, name: str, model: ModelSpec, canaries: Canaries | None = None) -> None:
        with phases_to(_write_phase):
            self._encoder = load_encoder(model)
        if canaries is not None:
            canaries.check(self._encoder)
        self._places = threading.BoundedSemaphore(model.calls_at_once)
        self._meter = LoadMeter(name, f"{os.getpid()}-{os.urandom(4).hex()}")

    def describe(self) -> tuple[int, str]:
        """Returns the dimension and the device's name."""
        return self._encoder.dimension, self._encoder.device

    def encode(self, *arrays: Any) -> NDArray[np.float32]:
        """Encodes the rows of a token batch, given as its arrays.

        A device that is lost cannot be had back inside its process, so the process ends, with the
        other calls that are in it. Ray starts another; clients repeat all of them.
        """
        batch = TokenBatch.of_arrays(*arrays)
        encoder = self._encoder
        try:
            with (
                self._places,
                self._meter.call(
                    len(batch),
                    len(batch.input_ids),
                    lambda: encoder.computed_tokens,
                    lambda: encoder.device_seconds,
                ),
            ):
                return encoder.encode(batch)
        except RuntimeError as error:
            if device_is_lost(error):
                os._exit(1)
            raise

    @ray.method(concurrency_group="observe")
    def load(self) -> EncoderLoad:
        """Returns what this process did so far; answers while it encodes."""
        return self._meter.read()


def encoder_class(model: ModelSpec) -> Any:
    """Returns the class of actors for a model, with threads for its calls and to send answers."""
    threads = model.calls_at_once + 1
    return ray.remote(concurrency_groups={"observe": 1}, max_concurrency=threads)(EncoderActor)
