"""Pooling on streams against pooling of padded batches, where hardly a token counts."""

import numpy as np
import pytest
import torch

from embedkit.encoders.transformer.pooling import POOLING_MODES, pool, without_prompt
from embedkit.encoders.transformer.stream.segments import Segments, pool_segments


@pytest.mark.parametrize("mode", POOLING_MODES)
@pytest.mark.parametrize("skipped", [0, 3])
def test_rows_that_are_nothing_but_prompt_are_pooled_as_padded_ones(mode, skipped):
    lengths = [3, 1, 5, 2, 4]
    hidden = torch.randn(sum(lengths), 8, generator=torch.Generator().manual_seed(2))
    rows = torch.split(hidden, lengths)
    mask = without_prompt(
        torch.nn.utils.rnn.pad_sequence([torch.ones(n) for n in lengths], batch_first=True), skipped
    )
    expected = pool(torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), mask, (mode,))
    places = torch.cat([torch.arange(n) for n in lengths])
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    found = pool_segments(hidden, Segments(places, offsets, skipped), (mode,))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
