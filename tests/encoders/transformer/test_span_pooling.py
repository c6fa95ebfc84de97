"""Vectors of spans of tokens, wherever these stand: each is as that of a row of its own."""

import numpy as np
import pytest
import torch

from embedkit.encoders.transformer.pooling import POOLING_MODES, pool
from embedkit.encoders.transformer.span_pooling import pool_spans, span_tokens
from embedkit.vectors import TokenSpans

ROW_PLACES = np.array([40, 0, 25, 10])
SPANS = [[(0, 1), (1, 4), (0, 9)], [], [(3, 4), (3, 4), (5, 15)], [(2, 12), (0, 2)]]
"""Of rows that stand in any order, with fill between them; some overlap, and a row has none."""


def spans_of(rows: list[list[tuple[int, int]]]) -> TokenSpans:
    flat = np.array([span for row in rows for span in row], dtype=np.int32).reshape(-1, 2)
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int32)
    return TokenSpans(flat[:, 0].copy(), flat[:, 1].copy(), offsets)


def pooled(hidden: torch.Tensor, rows: list[list[tuple[int, int]]], modes: tuple[str, ...]):
    found = span_tokens(spans_of(rows), ROW_PLACES, modes)
    offsets = None if found.offsets is None else torch.from_numpy(found.offsets)
    return pool_spans(hidden, torch.from_numpy(found.places), offsets, modes)


@pytest.mark.parametrize("modes", [*((mode,) for mode in POOLING_MODES), ("max", "mean", "cls")])
def test_a_span_is_pooled_as_a_row_of_its_own(modes):
    hidden = torch.randn(60, 6, generator=torch.Generator().manual_seed(1))
    vectors = pooled(hidden, SPANS, modes)
    spans = [
        hidden[place + start : place + end].unsqueeze(0)
        for place, row in zip(ROW_PLACES, SPANS, strict=True)
        for start, end in row
    ]
    expected = [pool(span, torch.ones(1, span.shape[1]), modes) for span in spans]
    torch.testing.assert_close(vectors, torch.cat(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize("modes", [("mean",), ("weightedmean", "lasttoken")])
def test_single_tokens_are_taken_as_they_are(modes):
    hidden = torch.randn(60, 6)
    alone = [[(7, 8), (0, 1)], [(3, 4)], [], []]
    vectors = pooled(hidden, alone, modes)
    assert torch.equal(vectors, hidden[[47, 40, 3]].repeat(1, len(modes)))


def test_no_spans():
    assert pooled(torch.randn(60, 6), [[], [], [], []], ("mean",)).shape == (0, 6)


def test_a_long_mean_loses_no_digits_to_what_stands_before_it():
    """As a difference of running sums would."""
    hidden = torch.ones(60, 2)
    hidden[:40] = 1e8
    vectors = pooled(hidden, [[(0, 9)], [], [], [(20, 30)]], ("mean",))
    assert vectors.tolist() == [[1, 1], [1e8, 1e8]]


def test_a_span_does_not_depend_on_those_beside_it():
    hidden = torch.randn(60, 6)
    alone = pooled(hidden, [[(1, 4)], [], [], []], ("mean",))
    assert torch.equal(pooled(hidden, SPANS, ("mean",))[1:2], alone)
