"""Measurements: what the device reaches, and what encoders reach of it."""

import gc
import importlib.metadata
import platform
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import mean
from typing import Any

import torch
from bench import FORMS, Bench, is_streaming, with_placement
from models import rows_of_128, rows_of_text, token_batch
from rates import clocks, copy_rate, layer_rate, matrix_rate
from throughput import (
    calls_of,
    encoded,
    steady_rate,
    where_time_goes,
)

from embedkit.encoders.base import Encoder
from embedkit.encoders.hardware import processor_name
from embedkit.vectors import TokenBatch

Found = dict[str, Any]

ROWS = {"WikiText-2": rows_of_text, "128 tokens": rows_of_128}
_LIBRARIES = ("embedkit-batch", "torch", "transformers", "sentence-transformers", "triton", "numpy")
_ROWS = 8_192
_PEER_ROWS = 4_096
_PEER_FLOPS = 1e14
_TINY_ROWS = 40
_COMPARED_ROWS = 512
_PROFILED_CALLS = 4
_RATE_SECONDS = 0.15


def device_rates(bench: Bench, found: Found) -> None:
    """The device's own rates: large products, those of the models' layers, a large copy."""
    seconds = min(bench.seconds, 1.0)
    found["clocks_before"] = clocks()
    found["matrix"] = matrix_rate(bench.device, bench.dtype, seconds)
    tokens = bench.call_tokens // 2
    for name in ("MiniLM-L6", "BERT-base", "BERT-large"):
        found[f"layers of {name}"] = layer_rate(
            bench.device, bench.dtype, bench.size(name), tokens, seconds
        )
    found["copy"] = copy_rate(bench.device, seconds)
    found["clocks_after"] = clocks()


def encoder_rate(bench: Bench, found: Found, model: str, form: str) -> None:
    """One model in one form: speed, agreement with float32, memory, where the time goes.

    Args:
        bench: The run's options.
        found: Gets the figures as they come.
        model: The model's name.
        form: The form's.
    """
    spec, size, way = bench.spec(bench.directory(model)), bench.size(model), FORMS[form]
    if way.precision == "float8" and not bench.has_float8:
        found["not_here"] = "this device has no float8"
        return
    spec = with_placement(
        spec,
        unpadded=spec.placement.unpadded and way.streams,
        precision=way.precision or spec.placement.precision,
    )
    rows = _TINY_ROWS if bench.tiny else _ROWS
    start = time.perf_counter()
    encoder = way.load(spec)
    found["load_seconds"] = time.perf_counter() - start
    found["streaming"] = is_streaming(encoder)
    for name, lengths_of in ROWS.items():
        lengths = lengths_of(rows)
        batch = token_batch(lengths, size.vocabulary)
        calls = calls_of(batch, bench.call_tokens, spec.mixed_calls)
        flops, at_once = size.flops_per_token(lengths), spec.calls_at_once
        found[name] = _rate_of(bench, encoder, calls, flops, at_once)
        found[name]["profile"] = where_time_goes(encoder.encode, calls[:_PROFILED_CALLS])
    found["agreement"] = bench.compared(encoder, model, min(rows, _COMPARED_ROWS))


def _rate_of(
    bench: Bench,
    encoder: Encoder,
    calls: Sequence[TokenBatch],
    flops_per_token: float,
    at_once: int,
) -> Found:
    seconds = min(bench.seconds, _RATE_SECONDS)
    computed, start = encoder.computed_tokens, time.perf_counter()
    with peak_memory() as peak:
        encoded(encoder, calls)
    warm_up = time.perf_counter() - start
    tokens = sum(len(call.input_ids) for call in calls)
    fill = (encoder.computed_tokens - computed) / tokens - 1
    before = matrix_rate(bench.device, bench.dtype, seconds)
    found = steady_rate(
        encoder.encode, calls, bench.seconds, at_once, lambda: encoder.device_seconds
    )
    rate = mean([before, matrix_rate(bench.device, bench.dtype, seconds)])
    return found | {
        "warm_up_seconds": warm_up,
        "fill": fill,
        "clocks": clocks(),
        **peak,
        "matrix_rate": rate,
        "share_of_matrix_rate": found["tokens_per_second"] * flops_per_token / rate,
    }


@contextmanager
def peak_memory() -> Iterator[dict[str, int]]:
    """Tells the most memory of the device that this process had in the body, in bytes."""
    found: dict[str, int] = {}
    gc.collect()
    if not torch.cuda.is_available():
        yield found
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    yield found
    found["peak_bytes"] = torch.cuda.max_memory_allocated()
    found["peak_reserved_bytes"] = torch.cuda.max_memory_reserved()


def peer_rate(bench: Bench, found: Found, model: str) -> None:
    """sentence-transformers with the same model on the same rows."""
    from peers import best_sentence_transformers

    for name, lengths_of in ROWS.items():
        # So few that a pass takes a good GPU a second at most.
        flops = bench.size(model).flops_per_token(lengths_of(100))
        rows = min(_PEER_ROWS, int(_PEER_FLOPS / flops / lengths_of(100).mean()))
        lengths = lengths_of(_TINY_ROWS if bench.tiny else rows)
        batch = token_batch(lengths, bench.size(model).vocabulary)
        found[name] = best_sentence_transformers(bench, bench.directory(model), batch)


def machine(bench: Bench, found: Found) -> None:
    """The card, the processor, and the libraries' versions."""
    found["processor"] = processor_name()
    found["python"] = platform.python_version()
    for name in _LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    if bench.device == "cuda":
        card = torch.cuda.get_device_properties(0)
        found["device"] = card.name
        found["memory"] = card.total_memory
        found["multiprocessors"] = card.multi_processor_count
        found["capability"] = f"{card.major}.{card.minor}"
        found["cuda"] = torch.version.cuda
    found["clocks"] = clocks()
