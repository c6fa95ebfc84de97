"""How the vectors of a text's words become one: weights of words, and the component in common."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.static.tensor_file import stored_tensors
from embedkit.encoders.weights import file_hash
from embedkit.errors import ConfigError

STATISTICS = "statistics.safetensors"
"""What is known of the words: how often they occur, in how many texts, and what texts share."""

COUNTS, TEXTS, ALL_TEXTS = "counts", "texts", "all_texts"
"""Tensors of it: occurrences of each word, texts with it, and the number of all texts."""

WEIGHTINGS = ("mean", "idf", "sif")
WITHOUT_COMPONENT = "-pc"
POOLINGS = (*WEIGHTINGS, *(name + WITHOUT_COMPONENT for name in WEIGHTINGS))

_SMOOTH = 1e-3
"""``a`` of smooth inverse frequency, as its authors took it (Arora et al., ICLR 2017)."""

_BY_RANK = "rank"


@dataclass(frozen=True)
class StaticPooling:
    """How the vectors of a text's words become one.

    Attributes:
        weights: Of each word, what its vector is multiplied by, float32; 1 where None.
        by_weight: Whether the sum is divided by the weights, and not by the number of words.
        component: What is taken out of every text's vector, of length 1; nothing where None.
    """

    weights: NDArray[np.float32] | None = None
    by_weight: bool = False
    component: NDArray[np.float32] | None = None


def component_name(weighting: str) -> str:
    """Returns the name of the tensor that texts pooled in a way have in common."""
    return f"component.{weighting}"


def check_pooling(pooling: str, root: Path, words: int | None, dimension: int) -> str:
    """Checks that a directory has what a pooling needs.

    Args:
        pooling: One of ``POOLINGS``.
        root: The model directory.
        words: How many words it has, in the order of their frequency; None where its tokens are no
            whole words.
        dimension: Components of a vector.

    Returns:
        A hash of all that it needs beside the vectors; empty where that is nothing.

    Raises:
        ConfigError: There is no such pooling, or the directory lacks something, or has it of other
            words.
    """
    if pooling not in POOLINGS:
        raise ConfigError(
            f"pooling is {pooling}, but static vectors of {root} know {', '.join(POOLINGS)}"
        )
    weighting = pooling.removesuffix(WITHOUT_COMPONENT)
    file = root / STATISTICS
    known = stored_tensors(file) if file.is_file() else {}
    needed = {
        "mean": [],
        "idf": [TEXTS, ALL_TEXTS],
        "sif": [COUNTS] if words is None or COUNTS in known else [],
    }[weighting]
    if pooling != weighting:
        needed = [*needed, component_name(weighting)]
    if lacking := [name for name in needed if name not in known]:
        raise ConfigError(
            f"pooling is {pooling}, but {file} has no {lacking[0]}, which takes a corpus: write "
            "the directory with 'embedkit convert FILE --corpus INPUT', or take pooling mean"
        )
    shapes = {ALL_TEXTS: (1,), component_name(weighting): (dimension,)}
    for name in needed:
        shape = shapes.get(name, (words,))
        if known[name].shape != shape:
            raise ConfigError(
                f"{file}: {name} has shape {known[name].shape}, expected {shape}; write the "
                "directory again with 'embedkit convert'"
            )
    if pooling == "mean":
        return ""
    return file_hash(file) if needed else _BY_RANK


def open_pooling(pooling: str, root: Path, words: int) -> StaticPooling:
    """Reads what a pooling needs, see ``check_pooling``.

    Args:
        pooling: One of ``POOLINGS``.
        root: The model directory.
        words: How many words there are.

    Raises:
        ConfigError: The file is damaged.
    """
    if pooling == "mean":
        return StaticPooling()
    file = root / STATISTICS
    stored = stored_tensors(file) if file.is_file() else {}
    known = {name: np.asarray(tensor.mapped()) for name, tensor in stored.items()}
    weighting = pooling.removesuffix(WITHOUT_COMPONENT)
    weights = weights_of(weighting, known, words)
    component = known[component_name(weighting)] if pooling != weighting else None
    return StaticPooling(weights, weighting == "idf", component)


def weights_of(
    weighting: str, known: dict[str, NDArray[Any]], words: int
) -> NDArray[np.float32] | None:
    """Returns the weight of each word, or None where all have the same.

    Args:
        weighting: One of ``WEIGHTINGS``.
        known: Tensors of ``STATISTICS`` by their names.
        words: How many words there are, where nothing is known of how often they occur.
    """
    if weighting == "mean":
        return None
    if weighting == "idf":
        # As scikit-learn smooths it.
        rarity = np.log((1 + known[ALL_TEXTS][0]) / (1 + known[TEXTS])) + 1
        return np.asarray(rarity, dtype=np.float32)
    # By Zipf's law the word of rank r occurs a share of 1/r, where nobody has counted.
    counts = known[COUNTS] if COUNTS in known else 1 / np.arange(1, words + 1)
    shares = counts / max(counts.sum(), 1e-9)
    return np.asarray(_SMOOTH / (_SMOOTH + shares), dtype=np.float32)
