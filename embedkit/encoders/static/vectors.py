"""The vectors of a model directory of static vectors, by word and by id."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.static.layout import StaticLayout, read_layout
from embedkit.encoders.static.tensor_file import stored_tensors
from embedkit.encoders.strange_files import check_files
from embedkit.errors import ConfigError
from embedkit.tokens.bare import bare_tokenizer
from embedkit.tokens.whole_words import lower_cases, words_of

_NAMES = ("embedding.weight", "embeddings")


@dataclass(frozen=True)
class VectorTable:
    """A vector for each id of a tokenizer, in memory that all processes of a machine share.

    Attributes:
        matrix: The vectors as they are stored, shape (vectors, components).
        mapping: Of each id, which of the vectors it has; its own number where None.
        weights: Of each id, what its vector is multiplied by; 1 where None.
    """

    matrix: NDArray[Any]
    mapping: NDArray[np.int64] | None = None
    weights: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Returns the number of ids that have a vector."""
        return len(self.matrix if self.mapping is None else self.mapping)

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return int(self.matrix.shape[1])

    def rows(self, ids: NDArray[Any]) -> NDArray[np.float32]:
        """Returns a copy of the vectors of some ids, float32, shape (ids, components)."""
        stored = self.matrix[ids if self.mapping is None else self.mapping[ids]]
        # Two bytes that are no float16 are the upper half of a float32.
        vectors: NDArray[np.float32] = (
            (stored.astype(np.uint32) << 16).view(np.float32)
            if stored.dtype == np.uint16
            else stored.astype(np.float32, copy=False)
        )
        if self.weights is not None:
            vectors *= self.weights[ids][:, None]
        return vectors


def open_table(layout: StaticLayout) -> VectorTable:
    """Maps the vectors of a model directory into memory.

    Raises:
        ConfigError: They are damaged, or do not fit each other.
    """
    file = layout.weights
    tensors = stored_tensors(file)
    name = next((name for name in _NAMES if name in tensors), None)
    if name is None:
        raise ConfigError(
            f"{file}: no tensor {' or '.join(_NAMES)} in it; is this a model of static vectors?"
        )
    matrix = tensors[name]
    if len(matrix.shape) != 2 or 0 in matrix.shape:
        raise ConfigError(
            f"{file}: {name} has shape {matrix.shape}, expected at least one vector of at least "
            "one component"
        )
    beside = {part: tensors[part].mapped() for part in ("mapping", "weights") if part in tensors}
    mapping, weights = beside.get("mapping"), beside.get("weights")
    if mapping is not None:
        mapping = np.asarray(mapping, dtype=np.int64)
        if mapping.ndim != 1 or (len(mapping) and not _within(mapping, matrix.shape[0])):
            raise ConfigError(
                f"{file}: mapping names vectors that are not among the {matrix.shape[0]:,} there "
                "are; download the model again"
            )
    table = VectorTable(matrix.mapped(), mapping)
    if weights is not None:
        if weights.shape != (len(table),):
            raise ConfigError(
                f"{file}: weights has shape {weights.shape}, expected one for each of the "
                f"{len(table):,} tokens; download the model again"
            )
        table = VectorTable(table.matrix, mapping, np.asarray(weights, dtype=np.float32))
    return table


def _within(places: NDArray[np.int64], count: int) -> bool:
    return bool(places.min() >= 0 and places.max() < count)


@dataclass(frozen=True)
class StaticVectors:
    """The words of a model directory and their vectors.

    Attributes:
        words: The words, in the order of their ids; those of a directory with a tokenizer of pieces
            of words are its tokens.
        matrix: One vector per word, float32, shape (words, components); a view of the file where
            that holds them so.
        lower_case: Whether the words stand for those of a text after it is lower-cased.
    """

    words: list[str]
    matrix: NDArray[np.float32]
    lower_case: bool
    _places: dict[str, int] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self.words):,} words of {self.matrix.shape[1]} components)"
        )

    def index_of(self, word: str) -> int | None:
        """Returns a word's place, or None where it has no vector."""
        if not self._places:
            self._places.update({word: place for place, word in enumerate(self.words)})
        place = self._places.get(word)
        return self._places.get(word.lower()) if place is None and self.lower_case else place


def open_vectors(directory: Path) -> StaticVectors:
    """Opens the vectors of a model directory, see ``StaticVectors``.

    Args:
        directory: One that ``embedkit convert`` wrote, or of Model2Vec or sentence-transformers'
            StaticEmbedding.

    Raises:
        ConfigError: It is no directory of static vectors, or is damaged.
    """
    check_files(directory)
    layout = read_layout(directory)
    table = open_table(layout)
    of_words = words_of(layout.tokenizer)
    if of_words is not None and len(of_words[0]) < len(table):
        words, lower_case = of_words
        places = np.arange(len(words))
    else:
        tokenizer = bare_tokenizer(layout.tokenizer).tokenizer
        found = sorted((place, word) for word, place in tokenizer.get_vocab().items())
        found = [(place, word) for place, word in found if place < len(table)]
        words, lower_case = [word for _, word in found], lower_cases(tokenizer)
        places = np.array([place for place, _ in found], dtype=np.int64)
    whole = table.matrix.dtype == np.float32 and table.mapping is None and table.weights is None
    if whole and np.array_equal(places, np.arange(len(places))):
        return StaticVectors(words, table.matrix[: len(places)], lower_case)
    return StaticVectors(words, table.rows(places), lower_case)
