"""The encoder on OpenVINO beside the throughput that OpenVINO reaches by itself.

That is the model as transformers has it, converted and compiled for throughput, with batches of
texts sorted by length and as many requests in flight as it asks for; the batch size that does best
counts. Tokens are those of texts, without padding; pooling and normalizing are the encoder's alone.
"""

import argparse
import time
from statistics import median
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.transformer.silent_openvino import openvino
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch
from tests.benchmarks.corpus import MODEL, Texts, read_texts
from tests.benchmarks.machine import describe_machine, wait_until_quiet
from tests.benchmarks.speed import ROUNDS, spread

_PROMISED = 0.9
_SIZES = (1, 4, 8, 16, 32, 64)
_TYPES = {"float32": "f32", "bfloat16": "bf16"}


class Throughput:
    """The model by OpenVINO alone."""

    def __init__(self, precision: str) -> None:
        model = AutoModel.from_pretrained(MODEL).eval()
        ids = torch.ones((2, 8), dtype=torch.int64)
        example = {"input_ids": ids, "attention_mask": ids}
        network = openvino.convert_model(model, example_input=example)
        hints = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_PRECISION_HINT": _TYPES[precision]}
        compiled = openvino.Core().compile_model(network, "CPU", hints)
        self._queue = openvino.AsyncInferQueue(compiled)
        self.inputs = {one.any_name for one in compiled.inputs}

    def run(self, batches: list[dict[str, Any]]) -> None:
        """Computes all batches."""
        for batch in batches:
            self._queue.start_async(batch)
        self._queue.wait_all()


def padded_batches(whole: TokenBatch, size: int) -> list[dict[str, Any]]:
    """Returns rows sorted by length in batches of a size, padded, as the model takes them."""
    order = np.argsort(-whole.lengths, kind="stable")
    batches = []
    for first in range(0, len(order), size):
        rows = whole.take(order[first : first + size])
        mask = np.arange(rows.lengths.max()) < rows.lengths[:, np.newaxis]
        ids = np.zeros(mask.shape, dtype=np.int64)
        ids[mask] = rows.input_ids
        batch = {"input_ids": ids, "attention_mask": mask.astype(np.int64)}
        batches.append(batch | {"token_type_ids": np.zeros_like(ids)})
    return batches


def measure(texts: Texts, precision: str, rounds: int, wait: float) -> dict[str, list[float]]:
    """Returns tokens per second of embedkit, and of OpenVINO by batch size, round by round."""
    spec = read_model(ModelConfig(model=MODEL, backend="openvino", precision=precision))
    encoder, alone = load_encoder(spec), Throughput(precision)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(texts.texts)
    whole = TokenBatch(ids, offsets)
    runs: dict[str, Any] = {"embedkit": lambda: encoder.encode(whole)}
    for size in _SIZES:
        batches = [
            {name: one[name] for name in alone.inputs & one.keys()}
            for one in padded_batches(whole, size)
        ]
        runs[str(size)] = lambda batches=batches: alone.run(batches)
    for run in runs.values():
        run()
    rates: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        turn = number % len(runs)
        for name in [*runs][turn:] + [*runs][:turn]:
            wait_until_quiet(wait)
            start = time.perf_counter()
            runs[name]()
            rates[name].append(len(ids) / (time.perf_counter() - start))
    return rates


def report(rates: dict[str, list[float]], precision: str) -> str:
    """Returns the table."""
    alone = {name: rate for name, rate in rates.items() if name != "embedkit"}
    best = max(alone, key=lambda name: median(alone[name]))
    ratios = [ours / its for ours, its in zip(rates["embedkit"], alone[best], strict=True)]
    lines = [
        f"\nTokens/s in {precision}; embedkit makes {spread(ratios, '.2f')} of OpenVINO's best "
        f"(wanted: >= {_PROMISED})",
        "",
        "| | tokens/s: median (lowest to highest) |",
        "|---|---|",
    ]
    for name, rate in rates.items():
        said = name if name == "embedkit" else f"OpenVINO, batches of {name}"
        lines.append(f"| {said} | {spread(rate, ',.0f')} |")
    return "\n".join(lines)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options; its rounds and its patience are those of ``speed``."""
    parser.add_argument("--throughput-every", type=int, default=8, help="texts: one in so many")
    parser.add_argument("--throughput-precision", choices=[*_TYPES], default="float32")


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    print(describe_machine(), flush=True)
    texts = read_texts().every(options.throughput_every)
    print(f"{texts.name}: {len(texts.texts):,} texts", flush=True)
    precision = options.throughput_precision
    print(report(measure(texts, precision, options.rounds or ROUNDS, options.wait), precision))
