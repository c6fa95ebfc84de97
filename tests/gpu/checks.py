"""Checks of the encoder on this device: each fails with one line, or leaves its figures."""

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import torch
import transformers
from bench import Bench, in_float32, is_streaming, load_stream
from models import rows_of_text, token_batch
from throughput import agreement, calls_of
from tiny_models import CONFIGURATIONS, MORE, OTHERS, save_transformer
from torch._dynamo.utils import counters

from embedkit.encoders.kinds import load_encoder
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.stream import compiled
from embedkit.encoders.transformer.stream.attention import attend
from embedkit.vectors import TokenBatch

Found = dict[str, Any]

LEAST_COSINE = {"float32": 0.999999, "float16": 0.9999, "bfloat16": 0.9995}
_FLOAT32_DIFFERENCE = 2e-5
_KERNEL_ERROR = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1.5e-2}
_ROWS = 300
_TINY_TOKENS = 60
_TINY_VOCABULARY = 150
_NO_LIMIT = (-1, -1)
_LENGTHS = tuple(
    map(int, "1 2 7 8 9 15 16 17 63 64 65 127 128 129 191 255 256 257 511 512 1 3".split())
)


class CheckError(Exception):
    """Something is not as it should be; the message says what, in one line."""


def check(right: bool, said: str) -> None:
    """Raises unless something is right."""
    if not right:
        raise CheckError(said)


def placement(bench: Bench, found: Found) -> None:
    """What an encoder takes by itself on this machine."""
    spec = bench.spec(bench.directory("MiniLM-L6"), device="auto")
    start = time.perf_counter()
    encoder = bench.encoder
    found["load_seconds"] = time.perf_counter() - start
    found |= {"placement": str(spec.placement), "device": encoder.device}
    check(spec.placement.device == bench.device, f"the device is {spec.placement.device}")
    if bench.device == "cuda":
        able = torch.cuda.get_device_capability() >= (8, 0)
        wanted = "bfloat16" if able else "float32"
        check(spec.placement.precision == wanted, f"the precision is {spec.placement.precision}")
        check(not able or is_streaming(encoder), "it computes padded batches; the log says why")


def attention(bench: Bench, found: Found) -> None:
    """Attention of rows of many lengths, windows and heads, against float32 row by row."""
    wrong = []
    precisions = ("bfloat16", "float16") if bench.device == "cuda" else ("float32",)
    windows = {"all": _NO_LIMIT, "causal": (-1, 0), "window": (64, 64), "narrow": (4, 4)}
    shapes = {"MiniLM": (12, 12, 32), "BERT": (12, 12, 64), "grouped": (16, 4, 64)}
    for (shape, sizes), (name, window) in product(shapes.items(), windows.items()):
        exact = _attended(sizes, window, "float32", bench.device)
        for precision in precisions:
            out = _attended(sizes, window, precision, bench.device)
            error = float((out - exact).norm() / exact.norm())
            found[f"{shape}, {name}, {precision}"] = error
            if not error < _KERNEL_ERROR[precision]:
                wrong.append(f"{shape}, {name}, {precision}: {error:.1e}")
    check(not wrong, f"relative error too large: {'; '.join(wrong)}")


def _attended(
    sizes: tuple[int, int, int], window: tuple[int, int], precision: str, device: str
) -> torch.Tensor:
    heads, key_heads, width = sizes
    lengths = torch.tensor([0, *_LENGTHS, 0, 0, 0])
    offsets = lengths.cumsum(0).to(device, torch.int32)
    generator = torch.Generator().manual_seed(0)
    # The same numbers in both precisions, so that only the arithmetic differs.
    query, key, value = (
        torch.randn(sum(_LENGTHS), count, width, generator=generator)
        .to(torch.bfloat16)
        .to(device, getattr(torch, precision))
        for count in (heads, key_heads, key_heads)
    )
    return attend(query, key, value, offsets, 512, width**-0.5, window).float()


def architectures(bench: Bench, found: Found) -> None:
    """Every architecture, tiny and not compiled, against padded batches in float32."""
    wrong = []
    lengths = np.arange(1, _TINY_TOKENS + 1, dtype=np.int64)
    batch = token_batch(lengths, _TINY_VOCABULARY)
    for architecture, (config, *_) in (CONFIGURATIONS | OTHERS | MORE).items():
        if not hasattr(transformers, config):
            found[architecture] = f"not in transformers {transformers.__version__}"
            continue
        spec = _tiny_spec(bench, architecture, device="cpu", precision="float32")
        exact = load_encoder(in_float32(spec)).encode(batch)
        for precision in _precisions(bench):
            spec = _tiny_spec(bench, architecture, precision=precision)
            unpadded = spec.placement.unpadded
            encoder = load_stream(spec) if unpadded else load_encoder(spec)
            compared = agreement(encoder.encode(batch), exact)
            how = "stream" if unpadded else "padded"
            found[f"{architecture}, {precision}, {how}"] = compared
            if not compared["least_cosine"] >= LEAST_COSINE[precision]:
                wrong.append(f"{architecture} in {precision}: {compared['least_cosine']:.6f}")
    check(not wrong, f"not as in float32 (least cosine): {'; '.join(wrong)}")


def _tiny_spec(bench: Bench, architecture: str, **settings: str) -> TransformerSpec:
    directory = bench.folder / "tiny" / architecture
    if not directory.is_dir():
        save_transformer(directory, architecture)
    kept = {"max_tokens": _TINY_TOKENS, "pooling": "mean", "normalize": True}
    return bench.spec(str(directory), **kept, **settings)


def _precisions(bench: Bench) -> tuple[str, ...]:
    return ("float32", "float16", "bfloat16") if bench.device == "cuda" else ("float32",)


def _some_rows(bench: Bench, rows: int = _ROWS) -> TokenBatch:
    return token_batch(
        rows_of_text(-(-rows // 10) if bench.tiny else rows), bench.size("MiniLM-L6").vocabulary
    )


def precisions(bench: Bench, found: Found) -> None:
    """Each precision against float32 on the CPU, on rows of text's lengths."""
    directory = bench.directory("MiniLM-L6")
    batch = _some_rows(bench)
    spec = bench.spec(directory, device="cpu", precision="float32")
    exact = load_encoder(in_float32(spec)).encode(batch)
    for precision in _precisions(bench):
        vectors = load_encoder(bench.spec(directory, precision=precision)).encode(batch)
        compared = found[precision] = agreement(vectors, exact)
        norms = np.linalg.norm(vectors, axis=1)
        check(bool(np.abs(norms - 1).max() < 1e-6), f"{precision}: vectors not of length 1")
        if precision == "float32":
            greatest = compared["greatest_difference"]
            check(greatest <= _FLOAT32_DIFFERENCE, f"float32 differs by {greatest:.1e}")
        least = compared["least_cosine"]
        check(least >= LEAST_COSINE[precision], f"{precision}: least cosine {least:.6f}")


def same_bytes(bench: Bench, found: Found) -> None:
    """The same batch gives the same bytes, whatever came before, in this encoder or another."""
    batch, encoder = _some_rows(bench), bench.encoder
    first = encoder.encode(batch).tobytes()
    encoder.encode(token_batch(rows_of_text(50)[::-1].copy(), 150, seed=1))
    for again in range(2, 6):
        # Streams of a shape are started one kernel at a time at first, and then as one.
        check(encoder.encode(batch).tobytes() == first, f"other bytes the {again}. time")
    another = load_encoder(bench.spec(bench.directory("MiniLM-L6")))
    check(another.encode(batch).tobytes() == first, "from another encoder other bytes")
    found["rows"] = len(batch)


def calls_at_once(bench: Bench, found: Found) -> None:
    """Threads that encode at once get what each gets alone."""
    spec, encoder = bench.spec(bench.directory("MiniLM-L6")), bench.encoder
    calls = calls_of(_some_rows(bench, 20 * _ROWS), bench.call_tokens // 4, mixed=True)[:12]
    alone = [encoder.encode(call).tobytes() for call in calls]
    with ThreadPoolExecutor(spec.calls_at_once) as pool:
        together = [vectors.tobytes() for vectors in pool.map(encoder.encode, calls)]
    found |= {"calls": len(calls), "threads": spec.calls_at_once}
    wrong = sum(one != other for one, other in zip(alone, together, strict=True))
    check(not wrong, f"{wrong} of {len(calls)} calls gave other bytes beside another one")


def memory_runs_out(bench: Bench, found: Found) -> None:
    """A call that cannot fit is divided until it does, and the vectors are the same."""
    if _is_cpu(bench, found):
        return
    directory = bench.directory("MiniLM-L6")
    batch = _some_rows(bench, 8_192)
    exact = load_encoder(in_float32(bench.spec(directory))).encode(batch)
    for precision in ("float32", bench.precision):
        encoder = load_encoder(bench.spec(directory, precision=precision, batch_tokens=1 << 20))
        before = torch.cuda.memory_stats()["num_ooms"]
        with _memory_left(512 << 20):
            vectors = encoder.encode(batch)
            ran_out = torch.cuda.memory_stats()["num_ooms"] - before
            encoder.encode(batch)
            again = torch.cuda.memory_stats()["num_ooms"] - before - ran_out
        least = agreement(vectors, exact)["least_cosine"]
        found[precision] = {"ran_out": ran_out, "again": again, "least_cosine": least}
        check(ran_out > 0, f"{precision}: the memory did not run out")
        # A graph may be tried then, which runs out of memory once.
        check(again <= 1, f"{precision}: it ran out in the next call as well, {again} times")
        check(least >= LEAST_COSINE[precision], f"{precision}: least cosine {least:.6f}")


def budget(bench: Bench, found: Found) -> None:
    """Streams are as long as asked for where they fit, and shorter where they do not."""
    if _is_cpu(bench, found):
        return
    spec = bench.spec(bench.directory("MiniLM-L6"))
    batch = _some_rows(bench)
    roomy = load_stream(spec)
    vectors = roomy.encode(batch)
    with _memory_left(256 << 20):
        narrow = load_stream(spec)
        compared = agreement(narrow.encode(batch), vectors)
    budgets = [encoder._backend.budget for encoder in (roomy, narrow)]
    found |= {"asked": spec.placement.batch_tokens, "found": budgets, **compared}
    check(budgets[0] == spec.placement.batch_tokens, f"with all memory the budget is {budgets[0]}")
    check(budgets[1] < budgets[0], f"with 256 MiB it is {budgets[1]} as well")
    check(compared["least_cosine"] >= LEAST_COSINE[bench.precision], "with it other vectors")


def compiled_once(bench: Bench, found: Found) -> None:
    """Layers are compiled for the first stream, and for none after it, whatever its shape."""
    spec = bench.spec(bench.directory("MiniLM-L6"))
    _check_compiled(bench, found, spec, lambda rows: _some_rows(bench, rows))


def compiled_architectures(bench: Bench, found: Found) -> None:
    """The same of those that are compiled by default, which have several kinds of layers."""

    def rows_of(rows: int) -> TokenBatch:
        return token_batch(np.minimum(rows_of_text(rows), _TINY_TOKENS), _TINY_VOCABULARY)

    for architecture in ("modernbert", "qwen3"):
        spec = _tiny_spec(bench, architecture, precision=bench.precision)
        _check_compiled(bench, found.setdefault(architecture, {}), spec, rows_of)


def _check_compiled(
    bench: Bench, found: Found, spec: TransformerSpec, rows_of: Callable[[int], TokenBatch]
) -> None:
    expected = load_stream(spec, graphs=False)
    with _said_by(compiled) as said:
        encoder = load_stream(spec, compiled=True)
        start = time.perf_counter()
        encoder.encode(rows_of(10))
        found["first_call_seconds"] = time.perf_counter() - start
        found["graphs"] = graphs = counters["stats"]["unique_graphs"]
        for rows in (1, 2, 3, 7, 20, 60, 200, 600, 2_000):
            batch = rows_of(rows)
            for _ in range(3):
                vectors = encoder.encode(batch)
            least = agreement(vectors, expected.encode(batch))["least_cosine"]
            found[f"{rows} rows"] = least
            check(least >= LEAST_COSINE[bench.precision], f"{rows} rows: least cosine {least:.6f}")
    check(not said, "; ".join(said))
    more = counters["stats"]["unique_graphs"] - graphs
    check(graphs > 0 and not more, f"{graphs} graphs at first, and {more} afterwards")


@contextmanager
def _said_by(module: ModuleType) -> Iterator[list[str]]:
    """Keeps the warnings of a module, which tell what it does without."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(module.__name__)
    logger.addHandler(handler)
    try:
        yield said
    finally:
        logger.removeHandler(handler)


def _is_cpu(bench: Bench, found: Found) -> bool:
    if bench.device == "cpu":
        found["not_here"] = "a CPU's memory is not limited"
    return bench.device == "cpu"


@contextmanager
def _memory_left(size: int) -> Iterator[None]:
    """Lets this process have so many bytes of the device more than it has now."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    room = torch.cuda.memory_reserved() + size
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total))
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
