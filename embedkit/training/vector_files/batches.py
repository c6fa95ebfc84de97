"""Words and their vectors as they are read from a file, some at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class VectorBatch:
    """Consecutive words of a file and their vectors.

    Attributes:
        words: The words; None where its bytes are no UTF-8.
        vectors: Their vectors, float32, shape (words, dimension).
        places: Number of each in its file, from 1, int64, shape (words,).
    """

    words: list[str | None]
    vectors: NDArray[np.float32]
    places: NDArray[np.int64]


class VectorFile(Protocol):
    """A file of word vectors, opened.

    Attributes:
        dimension: Components of a vector, at least 1.
        unit: What ``places`` count: ``line``, ``word`` or ``row``.
        lower_case: Whether texts are to be lower-cased; None where the file does not say.
    """

    dimension: int
    unit: str
    lower_case: bool | None

    def batches(self) -> Iterator[VectorBatch]:
        """Reads it to its end, once.

        Raises:
            InputError: The file is damaged, or does not hold what it says.
        """
        ...
