"""Attention of a stream: row by row against NumPy in float64, and the kernels of all torches."""

import numpy as np
import pytest
import torch
from torch.nn.attention import varlen

from embedkit.encoders.transformer.stream import attention
from embedkit.encoders.transformer.stream.attention import attend

LENGTHS = (5, 1, 0, 9, 3)
OFFSETS = torch.tensor([0, *np.cumsum(LENGTHS)], dtype=torch.int32)
TOKENS, HEADS = int(OFFSETS[-1]), 4
ALL, CAUSAL, BOTH_SIDES, BEHIND = (-1, -1), (-1, 0), (2, 2), (3, 0)


def inputs(width: int = 8, key_heads: int = HEADS) -> tuple[torch.Tensor, ...]:
    random = torch.Generator().manual_seed(4)
    heads = (HEADS, key_heads, key_heads)
    return tuple(torch.randn(TOKENS, count, width, generator=random) for count in heads)


def by_numpy(query, key, value, scale, window) -> np.ndarray:
    query, key, value = (tensor.double().numpy() for tensor in (query, key, value))
    group = query.shape[1] // key.shape[1]
    out = np.zeros_like(query)
    left, right = (10**6 if side < 0 else side for side in window)
    for start, length in zip(OFFSETS.tolist(), LENGTHS, strict=False):
        for head in range(query.shape[1]):
            for i in range(length):
                seen = [j for j in range(length) if i - left <= j <= i + right]
                keys = key[[start + j for j in seen], head // group]
                weights = np.exp(keys @ query[start + i, head] * scale)
                values = value[[start + j for j in seen], head // group]
                out[start + i, head] = weights @ values / weights.sum()
    return out


@pytest.mark.parametrize("key_heads", [HEADS, 2, 1])
@pytest.mark.parametrize("window", [ALL, CAUSAL, BOTH_SIDES, BEHIND])
def test_row_by_row(window, key_heads):
    tensors = inputs(key_heads=key_heads)
    out = attend(*tensors, OFFSETS, 9, 0.3, window)
    np.testing.assert_allclose(out, by_numpy(*tensors, 0.3, window), rtol=0, atol=1e-6)


def _attend_as_kernel(query, key, value, offsets, scale, window):
    assert query.shape[-1] % 8 == 0
    assert query.stride(-1) == 1
    return torch.ops.embedkit.attention_per_row(query, key, value, offsets, scale, *window)


def kernel_2_10(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, return_aux=None
):
    assert query.shape[1] == key.shape[1]
    assert max_q == max_k == 9
    assert cu_seq_q is cu_seq_k
    window = CAUSAL if is_causal else ALL
    return _attend_as_kernel(query, key, value, cu_seq_q, query.shape[-1] ** -0.5, window)


def kernel_2_12(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None,
    window_size=(-1, -1), enable_gqa=False, seqused_k=None, block_table=None, num_splits=None,
):  # fmt: skip
    assert enable_gqa == (query.shape[1] != key.shape[1])
    assert num_splits == 1
    assert max_q == max_k == 9
    return _attend_as_kernel(query, key, value, cu_seq_q, scale, window_size)


def kernel_with_both(
    query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, is_causal=False, *, scale=None,
    window_size=(-1, -1),
):  # fmt: skip
    assert query.shape[1] == key.shape[1]
    window = CAUSAL if is_causal else window_size
    return _attend_as_kernel(query, key, value, cu_seq_q, scale, window)


@pytest.fixture
def kernel(request, monkeypatch):
    monkeypatch.setattr(varlen, "varlen_attn", request.param)
    attention._kernel_parameters.cache_clear()
    yield request.param
    attention._kernel_parameters.cache_clear()


@pytest.mark.parametrize("width", [8, 12])
@pytest.mark.parametrize("key_heads", [HEADS, 2])
@pytest.mark.parametrize("window", [ALL, CAUSAL, BOTH_SIDES, BEHIND])
@pytest.mark.parametrize("kernel", [kernel_2_10, kernel_2_12, kernel_with_both], indirect=True)
def test_the_kernel_of_every_torch(kernel, window, key_heads, width):
    """Whatever its arguments are called; heads of other widths are filled up and cut again."""
    tensors = inputs(width, key_heads)
    if kernel is kernel_2_10 and window in (BOTH_SIDES, BEHIND):
        with pytest.raises(NotImplementedError, match="varlen_attn has no windows"):
            attention._by_kernel(*tensors, OFFSETS, 9, 0.3, window)
        return
    out = attention._by_kernel(*tensors, OFFSETS, 9, 0.3, window)
    np.testing.assert_allclose(out, by_numpy(*tensors, 0.3, window), rtol=0, atol=1e-6)


def test_the_installed_kernel_is_known():
    """Arguments that are not handed on must have a default that means nothing of the kind."""
    known = attention._kernel_parameters()
    assert {"query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"} <= known
    assert {"window_size", "is_causal"} & known
    others = known - {"query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"}
    used = {"scale", "window_size", "is_causal", "enable_gqa", "num_splits"}
    assert others - used <= {"return_aux", "seqused_k", "block_table"}


@pytest.mark.parametrize("unknown", ["softcap", "s_aux"])
def test_attention_of_other_kinds_is_refused(unknown):
    query, key, value = (tensor.transpose(0, 1).unsqueeze(0) for tensor in inputs())
    given = {"cu_seq_lens_q": OFFSETS, "max_length_q": 9, unknown: 50.0}
    with pytest.raises(NotImplementedError, match=f"attention with {unknown}"):
        attention._stream_attention(torch.nn.Module(), query, key, value, None, **given)


def test_a_models_own_scale():
    query, key, value = inputs()
    given = (tensor.transpose(0, 1).unsqueeze(0) for tensor in (query, key, value))
    lengths = {"cu_seq_lens_q": OFFSETS, "max_length_q": 9}
    out, _ = attention._stream_attention(torch.nn.Module(), *given, None, scaling=0.3, **lengths)
    expected = by_numpy(query, key, value, 0.3, ALL)
    np.testing.assert_allclose(out.squeeze(0), expected, rtol=0, atol=1e-6)
