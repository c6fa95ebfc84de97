"""Tokens per second of an encoder, its device's busy share, and where the device's time goes."""

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from embedkit.encoders.base import Encoder
from embedkit.encoders.spec import MixedCalls
from embedkit.flow.calls import call_batches
from embedkit.vectors import TokenBatch

_WINDOWS = 5
_KERNELS = 12
_NAME_LENGTH = 90
_KINDS = {
    "attention": r"flash|fmha|attention|softmax",
    "matrix products": r"gemm|gemv|cublas|cutlass|nvjet|wgmma|matmul|addmm|linear|\bmm\b|mkldnn",
    "copies": r"memcpy|memset|copy_",
    "layer normalization": r"layer_?norm",
    "generated kernels": r"triton_",
    "sums of rows": r"segment",
    "element by element": r"elementwise|gelu|index",
}


def calls_of(batch: TokenBatch, call_tokens: int, mixed: MixedCalls) -> list[TokenBatch]:
    """Cuts rows into calls as a run's workers do."""
    return [call for _, call in call_batches(batch, call_tokens, mixed)]


def steady_rate(
    encode: Callable[[TokenBatch], Any],
    calls: Sequence[TokenBatch],
    seconds: float,
    at_once: int,
    device_seconds: Callable[[], float | None],
) -> dict[str, Any]:
    """Measures an encoder that is called again and again.

    Args:
        encode: Encodes a call.
        calls: The calls, taken in turn.
        seconds: How long to go on.
        at_once: Threads that call it, each one call at a time.
        device_seconds: Tells how long the device computed so far; None where it has no clock.

    Returns:
        Tokens per second, without the first calls and the last ones, the least and the most of five
        stretches of that time, and the share of it in which the device was busy.
    """
    done: list[tuple[float, int, float | None]] = []
    lock, end = threading.Lock(), time.perf_counter() + seconds
    waiting = itertools.cycle(calls)

    def work() -> None:
        while time.perf_counter() < end or len(done) <= _WINDOWS + at_once:
            with lock:
                call = next(waiting)
            encode(call)
            computed = device_seconds()
            with lock:
                done.append((time.perf_counter(), len(call.input_ids), computed))

    with ThreadPoolExecutor(at_once) as pool:
        for future in [pool.submit(work) for _ in range(at_once)]:
            future.result()
    # At first not all threads have begun, and at the end not all still have a call.
    done.sort(key=lambda entry: entry[0])
    steady = done[at_once - 1 : len(done) - at_once + 1]
    ends = np.linspace(0, len(steady) - 1, _WINDOWS + 1).astype(int)

    def rate(first: int, last: int) -> float:
        tokens = sum(tokens for _, tokens, _ in steady[first + 1 : last + 1])
        return tokens / (steady[last][0] - steady[first][0])

    rates = [rate(first, last) for first, last in itertools.pairwise(ends)]
    whole = rate(0, len(steady) - 1)
    found = {"tokens_per_second": whole, "least": min(rates), "most": max(rates)}
    (begun, _, before), (ended, _, after) = steady[0], steady[-1]
    if before is not None and after is not None:
        found["busy"] = (after - before) / (ended - begun)
    return found | {"calls": len(done)}


def agreement(vectors: NDArray[np.float32], exact: NDArray[np.float32]) -> dict[str, float]:
    """Compares vectors of rows with the same rows' vectors in float32.

    Returns:
        Least and mean cosine, and the greatest difference of a component.
    """
    left, right = vectors.astype(np.float64), exact.astype(np.float64)
    norms = np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)
    cosines = (left * right).sum(axis=1) / norms
    return {
        "least_cosine": float(cosines.min()),
        "mean_cosine": float(cosines.mean()),
        "greatest_difference": float(np.abs(left - right).max()),
    }


def where_time_goes(encode: Callable[[TokenBatch], Any], calls: Sequence[TokenBatch]) -> dict:
    """Profiles calls, one after the other.

    Returns:
        The kernels that take most of the device's time and the kinds of kernels, with their shares
        of it; on a CPU torch's own operations in their place.
    """
    on_gpu = torch.cuda.is_available()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if on_gpu else [])
    start = time.perf_counter()
    with profile(activities=activities) as profiler:
        for call in calls:
            encode(call)
    wall = time.perf_counter() - start
    times = dict(_times(profiler, on_gpu))
    total = sum(seconds for seconds, _ in times.values()) or 1.0
    kinds: dict[str, float] = {}
    for name, (seconds, _) in times.items():
        kind = next((kind for kind, said in _KINDS.items() if re.search(said, name, re.I)), "other")
        kinds[kind] = kinds.get(kind, 0.0) + seconds / total
    largest = sorted(times.items(), key=lambda entry: -entry[1][0])[:_KERNELS]
    return {
        "share_of_wall": total / wall,
        "kinds": dict(sorted(kinds.items(), key=lambda entry: -entry[1])),
        "kernels": [
            {"name": name[:_NAME_LENGTH], "share": seconds / total, "count": count}
            for name, (seconds, count) in largest
        ],
    }


def _times(profiler: Any, on_gpu: bool) -> Iterator[tuple[str, tuple[float, int]]]:
    for event in profiler.key_averages():
        # What starts a kernel is told its time as well.
        if on_gpu and event.device_type != DeviceType.CUDA:
            continue
        micro = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        if micro > 0:
            yield event.key, (micro / 1e6, event.count)


def encoded(encoder: Encoder, calls: Sequence[TokenBatch]) -> NDArray[np.float32]:
    """Returns the vectors of calls, one after the other."""
    return np.concatenate([encoder.encode(call) for call in calls])
