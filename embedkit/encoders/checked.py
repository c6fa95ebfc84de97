"""An encoder over any backend: normalizes vectors, and computes again those that look wrong."""

import threading
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.normalization import doubtful_rows, normalized
from embedkit.vectors import TokenBatch


class Backend(Protocol):
    """Runs a model; its vectors are pooled, but not normalized."""

    @property
    def device(self) -> str:
        """The device's name."""
        ...

    @property
    def computed_tokens(self) -> int:
        """Tokens computed so far, the fill of batches included."""
        ...

    @property
    def device_seconds(self) -> float | None:
        """Seconds that the device computed so far, by its own clock; None where it has none."""
        ...

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Returns the vectors of rows of tokens, in their order, shape (rows, dimension).

        Of a batch with spans, which each of its rows has some of: those of the spans, shape
        (spans, dimension).
        """
        ...


class CheckedEncoder:
    """An Encoder over a backend.

    A vector that is not finite, or not of length 1 where it should be, is computed again: alone,
    in float32, as half precision overflows where single precision does not. That is done by one
    thread at a time, whatever the backend allows.
    """

    def __init__(
        self, backend: Backend, exact: Callable[[], Backend], dimension: int, normalize: bool
    ) -> None:
        self._backend = backend
        self._make_exact = exact
        self._exact: Backend | None = None
        self._exactly = threading.Lock()
        self._dimension = dimension
        self._normalize = normalize

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return self._dimension

    @property
    def device(self) -> str:
        """The device's name."""
        return self._backend.device

    @property
    def computed_tokens(self) -> int:
        """Tokens computed so far, the fill of batches included."""
        return self._backend.computed_tokens

    @property
    def device_seconds(self) -> float | None:
        """Seconds that the backend's device computed so far; None where it has no clock."""
        return self._backend.device_seconds

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Encodes rows of tokens.

        Args:
            batch: Rows in any order and of any lengths up to the model's maximum.

        Returns:
            Vectors in the order of the rows, float32, shape (rows, dimension); of a batch with
            spans, one for each of them. One that is not finite even when its row is computed alone
            in float32 is returned as it came out.

        Raises:
            EncoderError: The device has no memory for even one row.
        """
        if batch.spans is not None:
            # Nothing is wanted of the others, and a row's vectors do not depend on those beside it.
            batch = batch.take(np.flatnonzero(np.diff(batch.spans.offsets)))
        if len(batch) == 0:
            return np.empty((0, self._dimension), dtype=np.float32)
        vectors = self._finish(self._backend.run(batch))
        first = np.arange(len(batch) + 1) if batch.spans is None else batch.spans.offsets
        doubtful = doubtful_rows(vectors, self._normalize)
        rows = np.searchsorted(first, doubtful, side="right") - 1
        for row in np.unique(rows):
            exact = self._finish(self._run_exactly(batch.take(np.array([row]))))
            places = doubtful[rows == row]
            vectors[places] = exact[places - first[row]]
        return vectors

    def _run_exactly(self, batch: TokenBatch) -> NDArray[np.float32]:
        with self._exactly:
            if self._exact is None:
                self._exact = self._make_exact()
            return self._exact.run(batch)

    def _finish(self, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        return normalized(vectors) if self._normalize else vectors
