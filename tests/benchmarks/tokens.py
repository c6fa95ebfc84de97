"""Vectors of tokens and words against pooled ones: an encoder alone, and whole runs.

All runs have the same splits. With larger ones a small corpus is tokenized before its first call
and written after its last, so that the rate of pooled vectors between them knows nothing of either.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from safetensors.numpy import load_file, save_file

from embedkit.config import CorpusConfig, ModelConfig
from embedkit.encoders.base import Encoder
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.flow.block_size import with_block_size
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch, TokenSpans
from tests.benchmarks.corpus import MODEL, Texts, read_texts
from tests.benchmarks.machine import describe_machine, wait_until_quiet, watched
from tests.benchmarks.memory import memory_of
from tests.benchmarks.speed import ROUNDS, spread

_PROMISED = 0.85
_CALL_TOKENS = 32_768
"""Tokens of a call whose vectors of tokens are 48 MB, as flow cuts calls."""

_GRANULARITIES = ("document", "token", "word")
_WORD = 1.3
"""Tokens of a word, about; which ones are together makes no difference to the speed."""


def token_spans(batch: TokenBatch) -> TokenSpans:
    """Returns each token as a span, special tokens included."""
    places = np.arange(len(batch.input_ids)) - np.repeat(batch.offsets[:-1], batch.lengths)
    starts = places.astype(np.int32)
    return TokenSpans(starts, starts + 1, batch.offsets)


def word_spans(batch: TokenBatch) -> TokenSpans:
    """Returns spans of one and two tokens in turn, so that they have about as many as words."""
    of_token = token_spans(batch).starts
    first = np.flatnonzero(np.floor(of_token / _WORD) != np.floor((of_token - 1) / _WORD))
    rows = np.searchsorted(batch.offsets, first, side="right") - 1
    offsets = np.searchsorted(first, batch.offsets).astype(np.int32)
    ends = np.append(of_token[first[1:]], 0).astype(np.int32)
    last = np.append(rows[1:] != rows[:-1], True)
    ends[last] = batch.lengths[rows[last]]
    return TokenSpans(of_token[first], ends, offsets)


def light_model(folder: Path, width: int) -> str:
    """Makes a model of one layer of this one's, its inner layer cut to some units.

    On a CPU without bf16 units it can be as fast as the whole one is on a CPU that has them, so
    that what runs beside it weighs as much as there.
    """
    shutil.copytree(MODEL, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"num_hidden_layers": 1, "intermediate_size": width}
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    kept = {}
    for name, weight in weights.items():
        if ".layer." in name and ".layer.0." not in name:
            continue
        if ".intermediate.dense." in name:
            weight = weight[:width]
        elif ".layer.0.output.dense.weight" in name:
            weight = weight[:, :width]
        kept[name] = np.ascontiguousarray(weight)
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    return str(folder)


def calls_of(model: str, texts: Texts, granularity: str) -> list[TokenBatch]:
    """Returns calls of rows of all lengths, with the spans that are asked for."""
    spec = read_model(ModelConfig(model=model))
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(texts.texts)
    whole = TokenBatch(ids, offsets)
    number = -(-len(ids) // _CALL_TOKENS)
    calls = [whole.take(np.arange(first, len(whole), number)) for first in range(number)]
    if granularity == "document":
        return calls
    make = token_spans if granularity == "token" else word_spans
    return [TokenBatch(call.input_ids, call.offsets, make(call)) for call in calls]


def encode(encoder: Encoder, calls: list[TokenBatch]) -> float:
    """Returns the tokens per second of some calls."""
    start = time.perf_counter()
    for call in calls:
        encoder.encode(call)
    return sum(len(call.input_ids) for call in calls) / (time.perf_counter() - start)


def measure_encoders(model: str, texts: Texts, rounds: int, wait: float) -> dict[str, list[float]]:
    """Returns tokens per second by granularity, in the order of the rounds."""
    encoders = {
        name: load_encoder(read_model(ModelConfig(model=model, granularity=name)))
        for name in _GRANULARITIES
    }
    calls = {name: calls_of(model, texts, name) for name in _GRANULARITIES}
    rates: dict[str, list[float]] = {name: [] for name in _GRANULARITIES}
    for number in range(rounds):
        wait_until_quiet(wait)
        # Call by call in turn, as a machine's speed changes by the second.
        seconds = dict.fromkeys(_GRANULARITIES, 0.0)
        for place in range(len(calls["document"])):
            turn = (number + place) % len(_GRANULARITIES)
            for name in _GRANULARITIES[turn:] + _GRANULARITIES[:turn]:
                call = calls[name][place]
                seconds[name] += len(call.input_ids) / encode(encoders[name], [call])
        tokens = sum(len(call.input_ids) for call in calls["document"])
        for name in _GRANULARITIES:
            rates[name].append(tokens / seconds[name])
    return rates


def measure_runs(
    model: str, texts: Texts, rounds: int, wait: float
) -> dict[str, list[dict[str, float]]]:
    """Returns what whole runs gave by granularity, in the order of the rounds."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in _GRANULARITIES}
    of_tokens = read_model(ModelConfig(model=model, granularity="token"))
    with tempfile.TemporaryDirectory() as folder:
        corpus = texts.write_shards(Path(folder) / "corpus")
        most = with_block_size(CorpusConfig(inputs=(str(corpus),)), of_tokens).split_bytes
        for number in range(rounds):
            turn = number % len(_GRANULARITIES)
            for name in _GRANULARITIES[turn:] + _GRANULARITIES[:turn]:
                wait_until_quiet(wait)
                output = Path(folder) / f"{number}-{name}"
                found[name].append(run(model, corpus, output, name, most))
                for file in output.rglob("*.parquet"):
                    file.unlink()
    return found


def run(model: str, corpus: Path, output: Path, granularity: str, most: int) -> dict[str, float]:
    """Runs the command line once; returns its rate, its peak memory, and what it wrote."""
    command = [str(Path(sys.executable).parent / "embedkit"), "run", str(corpus)]
    command += ["--model", model, "--output", str(output), "--json", "--progress", "none"]
    command += ["--granularity", granularity]
    command += ["--split-bytes", str(most), "--block-bytes", str(most)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    with watched(process.pid, 0.5, memory_of) as usage:
        printed, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    figures = json.loads(printed.strip().splitlines()[-1])
    written = sum(file.stat().st_size for file in output.rglob("*.parquet"))
    return {
        "rate": figures["tokens_encoded"] / figures["encode_seconds"],
        "whole": figures["tokens_encoded"] / usage.seconds,
        "driver": usage.peaks["driver and workers"],
        "encoder": usage.peaks["encoder"],
        "written": written / 2**20,
    }


def report(texts: Texts, encoders: dict[str, list[float]], runs) -> str:
    """Returns the table."""
    lines = [
        "",
        f"Vectors of tokens and words on {texts.name}: {len(texts.texts):,} documents, "
        f"{texts.tokens:,} tokens",
        "",
        "| vectors of | encoder alone, tokens/s | ratio to pooled | whole run, tokens/s steady | "
        "ratio to pooled | MiB written | peak MiB of the driver | of the encoder |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in _GRANULARITIES:
        alone = [f"{median(encoders[name]):,.0f}", ratio(encoders[name], encoders["document"])]
        cells = [name, *alone]
        if runs:
            rates = [one["rate"] for one in runs[name]]
            cells += [
                f"{median(rates):,.0f}",
                ratio(rates, [one["rate"] for one in runs["document"]]),
                f"{median(one['written'] for one in runs[name]):,.0f}",
                f"{max(one['driver'] for one in runs[name]):,.0f}",
                f"{max(one['encoder'] for one in runs[name]):,.0f}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"Promised of tokens: >= {_PROMISED:g} of pooled vectors."])


def ratio(rates: list[float], pooled: list[float]) -> str:
    """Returns the ratio of each round to that of pooled vectors in it."""
    return spread([one / other for one, other in zip(rates, pooled, strict=True)], ".2f", "x")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--token-every", type=int, default=1, help="take 1 document in this many")
    parser.add_argument("--alone", action="store_true", help="of tokens, the encoder alone")
    parser.add_argument(
        "--light", type=int, default=0, metavar="UNITS",
        help="of tokens, a model of one layer whose inner layer has this many units",
    )  # fmt: skip


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    texts = read_texts().every(options.token_every)
    print(describe_machine(), flush=True)
    rounds, wait = options.rounds or ROUNDS, options.wait
    with tempfile.TemporaryDirectory() as folder:
        light = Path(folder) / "light"
        model = light_model(light, options.light) if options.light else MODEL
        encoders = measure_encoders(model, texts, rounds, wait)
        runs = {} if options.alone else measure_runs(model, texts, rounds, wait)
    print(report(texts, encoders, runs))
