"""An encoder in this process, for the plain engine, searches and pipelines without Ray."""

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.base import Encoder
from embedkit.encoders.kinds import load_encoder
from embedkit.encoders.meter import EncoderLoad, LoadMeter
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError
from embedkit.forks import settle_after_fork
from embedkit.vectors import TokenBatch


@dataclass(frozen=True, eq=False)
class SharedEncoder:
    """An encoder of this process that several clients call.

    Attributes:
        encoder: The encoder.
        turns: Lets as many calls as the encoder takes at once into it.
    """

    encoder: Encoder
    turns: threading.Semaphore


class LocalClient:
    """Calls one encoder in this process, from any number of threads.

    Args:
        shared: The encoder, with others' clients if they have the same.
    """

    def __init__(self, shared: SharedEncoder) -> None:
        self.encoder = shared.encoder
        self._shared = shared
        self._meter = LoadMeter("encoder-0", str(os.getpid()))

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Encodes batches one after the other."""
        _check_not_forked()
        for batch in batches:
            with (
                self._shared.turns,
                self._meter.call(
                    len(batch),
                    len(batch.input_ids),
                    lambda: self.encoder.computed_tokens,
                    lambda: self.encoder.device_seconds,
                ),
            ):
                vectors = self.encoder.encode(batch)
            yield vectors

    def loads(self) -> list[EncoderLoad]:
        """Returns what the encoder did for this client so far."""
        return [self._meter.read()]


_loading = threading.Lock()
_loaded_in: set[int] = set()


_in_use: WeakValueDictionary[ModelSpec, SharedEncoder] = WeakValueDictionary()
"""All that some client still has, which is not loaded twice."""
_used_last: deque[SharedEncoder] = deque(maxlen=2)


def _loaded(model: ModelSpec) -> SharedEncoder:
    found = _in_use.get(model)
    if found is None:
        _loaded_in.add(os.getpid())
        turns = threading.BoundedSemaphore(model.calls_at_once)
        found = _in_use[model] = SharedEncoder(load_encoder(model), turns)
    if found in _used_last:
        _used_last.remove(found)
    _used_last.append(found)
    return found


def _check_not_forked() -> None:
    """Refuses to encode where it would hang: the threads of what the parent loaded are not here."""
    if _loaded_in and os.getpid() not in _loaded_in:
        raise ConfigError(
            f"process {os.getpid()} was forked from one that had loaded a model, whose threads are "
            "not in it; let only one of them encode, or start processes by 'spawn' (num_proc of "
            "datasets: leave it out, as one process uses all cores)"
        )


@dataclass(frozen=True)
class LocalConnection:
    """Connects to an encoder in the process where it is called, loading the model once there.

    Attributes:
        model: The model to load.
    """

    model: ModelSpec

    def __call__(self) -> LocalClient:
        """Returns a client of this process's encoder, its load counted from here on.

        Raises:
            ConfigError: The model cannot be loaded, or was by the process that this one is a fork
                of.
            EncoderError: Its files are not what they were.
        """
        _check_not_forked()
        settle_after_fork()
        with _loading:
            return LocalClient(_loaded(self.model))
