"""Samples of planted subjects, as a report draws them."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.hashes.digests import text_hash
from embedkit.reports.repeats import hash64
from embedkit.reports.sample import keys_of
from embedkit.reports.vector_sample import SampledVectors

SUBJECTS = ("ship sea sail", "bread flour oven", "goal match ball", "stars orbit moon",
            "court judge law", "garden roses soil")  # fmt: skip


def sample(counts: Mapping[int, int], *, first: int = 0, width: int = 16, seed: int = 0,
           turned: Mapping[int, float] | None = None) -> SampledVectors:  # fmt: skip
    """So many rows of each subject; those of one subject and number are the same in any sample."""
    ids, texts, vectors = [], [], []
    for kind, count in counts.items():
        random = np.random.default_rng([seed, kind])
        noise = 0.08 * random.normal(size=(first + count, width))
        centre = np.eye(width)[kind]
        if turned and kind in turned:
            centre = centre + turned[kind] * np.eye(width)[-1]
        for number in range(first, first + count):
            ids.append(f"{kind}-{number}")
            texts.append(f"{SUBJECTS[kind]} number{number}x{kind}")
            vectors.append(centre + noise[number])
    return sampled(ids, texts, np.array(vectors, np.float32).reshape(-1, width))


def sampled(ids: list[str], texts: list[str], vectors: NDArray[np.float32]) -> SampledVectors:
    """Rows in the order of their keys."""
    keys = keys_of(pa.array(ids, pa.string()))
    order = np.argsort(keys)
    words = np.array(texts, object)
    hashes = hash64(pa.array([text_hash(text) for text in texts], pa.string()))
    return SampledVectors(keys[order], order, keys[order], hashes[order], vectors[order],
                          np.full(len(ids), "a.jsonl", object), words[order])  # fmt: skip
