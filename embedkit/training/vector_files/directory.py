"""Word vectors in a model directory, to be written once more with what a corpus tells of them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from embedkit.encoders.static.vectors import open_vectors
from embedkit.errors import InputError
from embedkit.tokens.whole_words import words_of
from embedkit.training.vector_files.batches import VectorBatch

_ROWS = 8192


class DirectoryVectors:
    """A model directory of word vectors, see ``VectorFile``.

    Args:
        directory: The directory.

    Raises:
        InputError: Its tokens are no whole words.
        ConfigError: It is none of static vectors, or is damaged.
    """

    unit = "row"

    def __init__(self, directory: Path) -> None:
        if words_of(directory / "tokenizer.json") is None:
            raise InputError(
                f"{directory}: a directory, but none of word vectors that embedkit wrote; name a "
                "file of word vectors, or give the directory to run --model as it is"
            )
        self._vectors = open_vectors(directory)
        self.lower_case: bool | None = self._vectors.lower_case
        self.dimension = int(self._vectors.matrix.shape[1])

    def batches(self) -> Iterator[VectorBatch]:
        """Reads the words, see ``VectorFile``."""
        words, matrix = self._vectors.words, self._vectors.matrix
        for start in range(0, len(words), _ROWS):
            some = words[start : start + _ROWS]
            places = np.arange(start + 1, start + 1 + len(some))
            yield VectorBatch(list(some), np.asarray(matrix[start : start + _ROWS]), places)
