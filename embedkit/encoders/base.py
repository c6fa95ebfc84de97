"""What the rest of the package may ask of an encoder, and of a client that reaches some."""

from collections.abc import Iterable, Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.spec import LayerRanges
from embedkit.vectors import TokenBatch


class Encoder(Protocol):
    """Turns token ids into pooled vectors; knows its backend, not Ray, not Beam.

    ``encode`` is pure: the same batch gives the same bytes, whatever came before it. As many
    threads may be inside it at once as the model's ``calls_at_once`` says.
    """

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        ...

    @property
    def device(self) -> str:
        """The device's name, for the manifest and the report."""
        ...

    @property
    def computed_tokens(self) -> int:
        """Tokens computed so far, the fill of batches included."""
        ...

    @property
    def device_seconds(self) -> float | None:
        """Seconds that the device computed so far, by its own clock; None where it has none."""
        ...

    def encode(self, batch: TokenBatch) -> NDArray[np.float32]:
        """Encodes rows of tokens.

        Args:
            batch: Rows in any order and of any lengths up to the model's maximum.

        Returns:
            Vectors in the order of the rows, float32, shape (rows, dimension); of a batch with
            spans, one for each of them, shape (spans, dimension). A vector that is not finite even
            when computed alone in float32 is returned as it came out.
        """
        ...


class ObservedEncoder(Encoder, Protocol):
    """An encoder in float32 that sees what the layers of its model are given."""

    def ranges(self) -> LayerRanges:
        """Returns what was seen so far, and sees no more."""
        ...


class EncoderClient(Protocol):
    """Reaches one or more encoders, in this process or in others."""

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Encodes batches, several at a time where it can, and yields results in their order.

        Raises:
            EncoderError: No encoder could be reached, or none answered in time.
        """
        ...
