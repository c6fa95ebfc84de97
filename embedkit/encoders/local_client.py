"""An encoder in this process, for the plain engine, searches and pipelines without Ray."""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.base import Encoder
from embedkit.encoders.kinds import load_encoder
from embedkit.encoders.meter import EncoderLoad, LoadMeter
from embedkit.encoders.spec import ModelSpec
from embedkit.records import TokenBatch


class LocalClient:
    """Calls one encoder in this process, one call at a time.

    Args:
        encoder: The encoder.
        lock: Shared by all clients of the encoder.
    """

    def __init__(self, encoder: Encoder, lock: threading.Lock) -> None:
        self.encoder = encoder
        self._lock = lock
        self._meter = LoadMeter("encoder-0", str(os.getpid()))

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Encodes batches one after the other."""
        for batch in batches:
            with (
                self._lock,
                self._meter.call(
                    len(batch), len(batch.input_ids), lambda: self.encoder.computed_tokens
                ),
            ):
                vectors = self.encoder.encode(batch)
            yield vectors

    def loads(self) -> list[EncoderLoad]:
        """Returns what the encoder did for this client so far."""
        return [self._meter.read()]


@lru_cache(maxsize=2)
def _encoder(model: ModelSpec) -> tuple[Encoder, threading.Lock]:
    return load_encoder(model), threading.Lock()


_loading = threading.Lock()


@dataclass(frozen=True)
class LocalConnection:
    """Connects to an encoder in the process where it is called, loading the model once there.

    Attributes:
        model: The model to load.
    """

    model: ModelSpec

    def __call__(self) -> LocalClient:
        """Returns a client of this process's encoder, its load counted from here on."""
        with _loading:
            return LocalClient(*_encoder(self.model))
