"""Encoders of this very process: for the plain flow, searches and pipelines without Ray."""

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.base import Encoder
from embedkit.encoders.load import load_encoder
from embedkit.encoders.meter import EncoderLoad, LoadMeter
from embedkit.encoders.model_files import ModelSpec
from embedkit.records import TokenBatch


class LocalClient:
    """Calls one encoder in this process, one call at a time."""

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._lock = threading.Lock()
        self._meter = LoadMeter("encoder-0", str(os.getpid()))

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Encodes batches one after the other."""
        for batch in batches:
            with self._lock, self._meter.call(len(batch), len(batch.input_ids)):
                vectors = self.encoder.encode(batch)
            yield vectors

    def loads(self) -> list[EncoderLoad]:
        """Returns what the encoder did so far."""
        return [self._meter.read()]


@lru_cache(maxsize=2)
def _client(model: ModelSpec) -> LocalClient:
    return LocalClient(load_encoder(model))


_loading = threading.Lock()


@dataclass(frozen=True)
class LocalConnection:
    """Connects to an encoder in the process where it is called, loading the model once there.

    Attributes:
        model: The model to load.
    """

    model: ModelSpec

    def __call__(self) -> LocalClient:
        """Returns this process's client."""
        with _loading:
            return _client(self.model)
