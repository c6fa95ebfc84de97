"""How often words occur in a corpus, and what the vectors of its texts have in common."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.config import CorpusConfig, ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.static.pooling import (
    ALL_TEXTS,
    COUNTS,
    STATISTICS,
    TEXTS,
    WEIGHTINGS,
    component_name,
)
from embedkit.errors import InputError
from embedkit.tokens.text_tokenizer import TextTokenizer
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.training.output import warn_of_rejects
from embedkit.training.texts import CorpusTexts
from embedkit.vectors import TokenBatch

_AT_ONCE = 1024
_SAMPLED = 10_000
_SAMPLED_CHARACTERS = 10_000
"""Of each text in the sample; longer ones would fill the memory."""


@dataclass
class _Sample:
    """Texts chosen by their hashes, so that it is the same whatever their order."""

    most: int = _SAMPLED
    kept: list[tuple[int, str]] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Takes a text into account."""
        hashed = -int.from_bytes(blake2b(text.encode(), digest_size=7).digest())
        if len(self.kept) < self.most:
            heapq.heappush(self.kept, (hashed, text[:_SAMPLED_CHARACTERS]))
        elif hashed > self.kept[0][0]:
            heapq.heapreplace(self.kept, (hashed, text[:_SAMPLED_CHARACTERS]))

    def texts(self) -> list[str]:
        """Returns the texts, in the order of their hashes."""
        return [text for _, text in sorted(self.kept, reverse=True)]


def add_statistics(directory: Path, words: int, corpus: CorpusConfig) -> int:
    """Writes into a model directory what weighted means need to know of its words.

    Args:
        directory: The model directory, complete but for that.
        words: How many words it has.
        corpus: The corpus to count them in.

    Returns:
        How many texts there were.

    Raises:
        ConfigError: The settings do not fit each other.
        InputError: A file cannot be read, or no word of the vectors is in the corpus.
    """
    from safetensors.numpy import save_file

    tokenizer = load_tokenizer(read_model(ModelConfig(model=str(directory))).tokenizer)
    counts = np.zeros(words, dtype=np.int64)
    of_texts = np.zeros(words, dtype=np.int64)
    all_texts = 0
    sample = _Sample()
    read = CorpusTexts(corpus)
    for texts in _batched(read):
        all_texts += len(texts)
        for text in texts:
            sample.add(text)
        ids, offsets, _ = tokenizer.encode(texts)
        known = ids < words
        counts += np.bincount(ids[known], minlength=words)
        rows = np.repeat(np.arange(len(texts)), np.diff(offsets))[known]
        once = np.unique(rows * np.int64(words) + ids[known])
        of_texts += np.bincount(once % words, minlength=words)
    if read.account is not None:
        warn_of_rejects(read.account)
    if not counts.any():
        raise InputError(
            f"{corpus.inputs[0]}: no word of its {all_texts:,} texts has a vector; count words in "
            "texts of their language"
        )
    tensors: dict[str, NDArray[Any]] = {
        COUNTS: counts,
        TEXTS: of_texts,
        ALL_TEXTS: np.array([all_texts]),
    }
    save_file(tensors, directory / STATISTICS)
    for weighting in WEIGHTINGS:
        component = _component(directory, weighting, tokenizer, sample.texts())
        tensors[component_name(weighting)] = component
    save_file(tensors, directory / STATISTICS)
    return all_texts


def _batched(texts: Iterable[str]) -> Iterator[list[str]]:
    some: list[str] = []
    for text in texts:
        some.append(text)
        if len(some) == _AT_ONCE:
            yield some
            some = []
    if some:
        yield some


def _component(
    directory: Path, weighting: str, tokenizer: TextTokenizer, texts: list[str]
) -> NDArray[np.float32]:
    """Returns the first principal component of the vectors of texts, about zero, of length 1."""
    spec = read_model(ModelConfig(model=str(directory), pooling=weighting, normalize=False))
    ids, offsets, _ = tokenizer.encode(texts)
    vectors = load_encoder(spec).encode(TokenBatch(ids, offsets)).astype(np.float64)
    _, directions = np.linalg.eigh(vectors.T @ vectors)
    first: NDArray[np.float64] = directions[:, -1]
    # The sign is arbitrary, so it is settled.
    return np.asarray(first * np.sign(first[np.abs(first).argmax()]), dtype=np.float32)
