"""What the device itself reaches: matrix products and copies, timed by its own events."""

import itertools
import shutil
import subprocess
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from models import Size

_WARM_UP = 3
_LEAST_ROUNDS = 5


def seconds_per_call(call: Callable[[int], Any], device: str, seconds: float) -> list[float]:
    """Times a call on a device again and again.

    Args:
        call: Takes the number of the round, by which it may change its inputs.
        device: ``cuda``, timed by events, or ``cpu``, timed by the clock.
        seconds: How long to go on, at least; five rounds in any case.

    Returns:
        Seconds of each round.
    """
    for number in range(_WARM_UP):
        call(number)
    return (_by_events if device == "cuda" else _by_clock)(call, seconds)


def _by_clock(call: Callable[[int], Any], seconds: float) -> list[float]:
    taken: list[float] = []
    while len(taken) < _LEAST_ROUNDS or sum(taken) < seconds:
        start = time.perf_counter()
        call(len(taken))
        taken.append(time.perf_counter() - start)
    return taken


def _by_events(call: Callable[[int], Any], seconds: float) -> list[float]:
    torch.cuda.synchronize()
    taken: list[float] = []
    while len(taken) < _LEAST_ROUNDS or sum(taken) < seconds:
        # Several rounds are queued at once, so that the device does not wait for the host.
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(_LEAST_ROUNDS + 1)]
        marks[0].record()
        for mark in marks[1:]:
            call(len(taken))
            mark.record()
        torch.cuda.synchronize()
        taken += [start.elapsed_time(end) / 1e3 for start, end in itertools.pairwise(marks)]
    return taken


def matrix_rate(device: str, dtype: torch.dtype, seconds: float) -> float:
    """Measures a large matrix product on random numbers.

    Args:
        device: ``cuda`` or ``cpu``, where the product is small.
        dtype: Of its factors.
        seconds: How long.

    Returns:
        Floating-point operations per second, the median.
    """
    side = 8_192 if device == "cuda" else 256
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    taken = seconds_per_call(lambda _: left @ right, device, seconds)
    return 2 * side**3 / median(taken)


def layer_rate(device: str, dtype: torch.dtype, size: Size, tokens: int, seconds: float) -> float:
    """Measures the matrix products of a model's layer alone, on random numbers.

    Args:
        device: ``cuda`` or ``cpu``.
        dtype: Of the factors.
        size: The model's.
        tokens: Tokens at a time.
        seconds: How long.

    Returns:
        Floating-point operations per second, the median.
    """
    hidden, inner = size.hidden, size.inner
    shapes = [*[(hidden, hidden)] * 4, (hidden, inner), (inner, hidden)]
    options = {"device": device, "dtype": dtype}
    pairs = [(torch.randn(tokens, k, **options), torch.randn(n, k, **options)) for k, n in shapes]

    def layer(_: int) -> None:
        for rows, weights in pairs:
            torch.nn.functional.linear(rows, weights)

    flops = sum(2 * tokens * k * n for k, n in shapes)
    return flops / median(seconds_per_call(layer, device, seconds))


def copy_rate(device: str, seconds: float) -> float:
    """Measures a large copy within the device's memory.

    Returns:
        Bytes per second, read and written ones, the median.
    """
    count = 1 << 30 if device == "cuda" else 1 << 20
    source = torch.randn(count, device=device)
    target = torch.empty_like(source)
    taken = seconds_per_call(lambda _: target.copy_(source), device, seconds)
    return 2 * 4 * count / median(taken)


def clocks() -> dict[str, str]:
    """Returns what the card says of its clocks, heat and power; nothing where none can be asked."""
    if not torch.cuda.is_available() or not shutil.which("nvidia-smi"):
        return {}
    names = "clocks.sm,clocks.mem,temperature.gpu,power.draw,clocks_event_reasons.active"
    done = subprocess.run(
        ["nvidia-smi", f"--query-gpu={names}", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        timeout=20,
    )
    first = (done.stdout or done.stderr).strip().split("\n")[0]
    return dict(zip(names.split(","), (value.strip() for value in first.split(",")), strict=False))
