"""Rows to try a model on in another form, and how far its vectors are from what they should be."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.vectors import TokenBatch, TokenSpans


def fills_of(transformer: Any, pad_id: int) -> tuple[int, ...]:
    """Returns the id that a tokenizer fills batches with, and the model's own where it differs."""
    own = getattr(transformer.config, "pad_token_id", None)
    return (pad_id,) if own is None or own < 0 or own == pad_id else (pad_id, own)


def trial_rows(transformer: Any, pad_id: int, lengths: Iterable[int]) -> TokenBatch:
    """Returns rows without ids of fill, always the same for a model.

    Args:
        transformer: A model of transformers.
        pad_id: The id that its tokenizer fills batches with.
        lengths: Tokens of each row.
    """
    ids = np.setdiff1d(np.arange(transformer.config.vocab_size), fills_of(transformer, pad_id))
    random = np.random.default_rng(0)
    return TokenBatch.from_lists(random.choice(ids, size=length).tolist() for length in lengths)


def trial_spans(batch: TokenBatch) -> TokenBatch:
    """Returns rows with each of their tokens, and the row as a whole, as spans to try."""
    spans = [[*((place, place + 1) for place in range(n)), (0, n)] for n in batch.lengths.tolist()]
    offsets = np.cumsum([0, *(len(of_row) for of_row in spans)]).astype(np.int32)
    starts, ends = np.array([one for of_row in spans for one in of_row], dtype=np.int32).T
    return replace(batch, spans=TokenSpans(starts.copy(), ends.copy(), offsets))


def greatest_distance(vectors: NDArray[Any], expected: NDArray[Any]) -> float:
    """Returns the greatest distance of a vector from what it should be, in shares of its length.

    Args:
        vectors: Shape (rows, dimension).
        expected: The same.

    Returns:
        The distance; NaN where a component is.
    """
    distances = np.linalg.norm(vectors - expected, axis=1) / np.linalg.norm(expected, axis=1)
    return float(distances.max())
