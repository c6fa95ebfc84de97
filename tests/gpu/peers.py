"""sentence-transformers at its best settings, on the same rows."""

import importlib.util
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from bench import Bench
from models import texts_of
from sentence_transformers import SentenceTransformer

from embedkit.vectors import TokenBatch

_BATCH_SIZES = (64, 128, 256, 512, 1_024)


def attentions(device: str) -> list[str]:
    """Returns the attention implementations of the library that can be tried here."""
    flash = device == "cuda" and importlib.util.find_spec("flash_attn") is not None
    return ["flash_attention_2", "sdpa"] if flash else ["sdpa"]


def best_sentence_transformers(bench: Bench, directory: str, batch: TokenBatch) -> dict[str, Any]:
    """Measures ``SentenceTransformer`` with each attention and batch size, and the best for longer.

    Two figures: ``encode`` of texts, tokenizing included; and its forward pass alone over rows that
    are tokenized and sorted beforehand, whose vectors stay on the device, so that neither Python
    nor the tokenizer holds it up. The second is the one to be compared with.

    Args:
        bench: The run's options.
        directory: The model's directory.
        batch: The rows.
    """
    sizes = (8, 16) if bench.tiny else _BATCH_SIZES
    dtype = getattr(torch, bench.precision)
    tried: dict[str, float] = {}
    best: tuple[float, Callable[[], None], SentenceTransformer, int, str] | None = None
    for attention in attentions(bench.device):
        settings = {"attn_implementation": attention, "dtype": dtype}
        model = SentenceTransformer(directory, device=bench.device, model_kwargs=settings)
        model.eval()
        for rows in sizes:
            run = _forward_pass(model, batch, rows, bench.device)
            rate = _rate(run, len(batch.input_ids), bench.seconds / 4, bench.device)
            tried[f"{attention}, {rows} rows"] = rate
            if best is None or rate > best[0]:
                best = rate, run, model, rows, attention
    assert best is not None
    _, run, model, rows, attention = best
    rate = _rate(run, len(batch.input_ids), bench.seconds, bench.device)
    return {
        "tokens_per_second": rate,
        "of_texts": _rate_of_texts(bench, model, batch, rows),
        "attention": attention,
        "batch_rows": rows,
        "tried": tried,
    }


def _forward_pass(
    model: SentenceTransformer, batch: TokenBatch, rows: int, device: str
) -> Callable[[], None]:
    """Returns a pass over all rows in sorted, padded batches, as ``encode`` makes them."""
    order = np.argsort(-batch.lengths, kind="stable")
    features = []
    for start in range(0, len(order), rows):
        part = batch.take(order[start : start + rows])
        mask = np.arange(int(part.lengths.max())) < part.lengths[:, None]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = part.input_ids
        features.append(
            {
                "input_ids": torch.from_numpy(ids).to(device),
                "attention_mask": torch.from_numpy(mask.astype(np.int64)).to(device),
            }
        )

    def run() -> None:
        with torch.inference_mode():
            for one in features:
                model(dict(one))

    return run


def _rate(run: Callable[[], None], tokens: int, seconds: float, device: str) -> float:
    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    run()
    wait()
    start, rounds = time.perf_counter(), 0
    while not rounds or time.perf_counter() - start < seconds:
        run()
        wait()
        rounds += 1
    return rounds * tokens / (time.perf_counter() - start)


def _rate_of_texts(bench: Bench, model: SentenceTransformer, batch: TokenBatch, rows: int) -> float:
    texts = texts_of(batch)
    model.encode(texts[:rows], batch_size=rows)
    start = time.perf_counter()
    model.encode(texts, batch_size=rows, show_progress_bar=False)
    return len(batch.input_ids) / (time.perf_counter() - start)
