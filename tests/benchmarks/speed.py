"""Speed against the peers: JSONL in four shards to Parquet, in interleaved rounds."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from tests.benchmarks.corpus import MODEL, Texts, read_texts
from tests.benchmarks.history import LIMIT_SHARE, Measured
from tests.benchmarks.limit import flops_per_token
from tests.benchmarks.machine import describe_machine, wait_until_quiet, watched
from tests.benchmarks.peers import PEERS

ROUNDS = 3
"""Interleaved rounds, unless others are asked for."""

_PROMISED = {"sentence-transformers": 5.0, "Beam MLTransform": 7.0, "Ray Data": 7.0}
_INCLUDED = {
    "embedkit": "read, tokenize, encode, write and commit, all at once",
    "sentence-transformers": "tokenize and encode; texts already in memory, nothing written",
    "Beam MLTransform": "tokenize and encode, Beam's steps in between",
    "Ray Data": "tokenize and encode, Ray's blocks in between",
}


@dataclass(frozen=True)
class Run:
    """One run of one entrant.

    Attributes:
        tokens: Tokens encoded.
        seconds: From the first call to the encoder to the end of the last.
        wall: The whole process, from its start to its end.
        foreign: Share of the machine that other processes used meanwhile.
        busy: Share of ``seconds`` that the encoder encoded, where it is known.
    """

    tokens: int
    seconds: float
    wall: float
    foreign: float
    busy: float | None = None

    @property
    def rate(self) -> float:
        """Tokens per second, steady state."""
        return self.tokens / self.seconds

    @property
    def wall_rate(self) -> float:
        """Tokens per second of the whole process."""
        return self.tokens / self.wall


def run_embedkit(corpus: Path, output: Path) -> Run:
    """Runs the command line once; each shard is a split, so that splits overlap."""
    command = [str(Path(sys.executable).parent / "embedkit"), "run", str(corpus)]
    command += ["--model", MODEL, "--output", str(output), "--json", "--progress", "none"]
    command += ["--split-bytes", str(max(file.stat().st_size for file in corpus.iterdir()))]
    figures, wall, foreign = _run(command)
    return Run(
        figures["tokens_encoded"],
        figures["encode_seconds"],
        wall,
        foreign,
        figures["encoder_busy_share"],
    )


def run_peer(name: str, corpus: Path, output: Path, texts: Texts) -> Run:
    """Runs a peer once in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.peers", name]
    figures, wall, foreign = _run([*command, MODEL, str(corpus), str(output)])
    if figures["texts"] != len(texts.texts):
        raise RuntimeError(f"{name} encoded {figures['texts']} texts of {len(texts.texts)}")
    return Run(texts.tokens, figures["seconds"], wall, foreign)


def run_limit(precision: str) -> dict[str, float]:
    """Measures matrix products once in a process of its own."""
    figures, _, _ = _run([sys.executable, "-m", "tests.benchmarks.limit", MODEL, precision])
    return figures


def _run(command: list[str]) -> tuple[dict[str, Any], float, float]:
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryFile("w+") as noise:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=noise, text=True, env=environment
        )
        with watched(process.pid) as usage:
            printed, _ = process.communicate()
        if process.returncode:
            noise.seek(0)
            raise RuntimeError(
                f"{' '.join(command)} ended with {process.returncode}:\n{noise.read()}"
            )
    return json.loads(printed.strip().splitlines()[-1]), usage.seconds, usage.foreign


@dataclass
class Rounds:
    """All runs of all rounds, by entrant in the order of the rounds."""

    runs: dict[str, list[Run]]
    limits: list[dict[str, float]]


def measure(texts: Texts, rounds: int, every: int, wait: float) -> Rounds:
    """Runs every entrant once per round, each round in another order."""
    precision = read_model(ModelConfig(model=MODEL)).placement.precision
    part = texts.every(every)
    found = Rounds({name: [] for name in ("embedkit", *PEERS)}, [])
    with tempfile.TemporaryDirectory() as folder:
        whole, subset = Path(folder) / "whole", Path(folder) / "part"
        texts.write_shards(whole)
        part.write_shards(subset)
        for number in range(rounds):
            names = [*found.runs]
            for name in names[number % len(names) :] + names[: number % len(names)]:
                output = Path(folder) / f"{number}-{name}"
                wait_until_quiet(wait)
                if name == "embedkit":
                    run = run_embedkit(whole, output)
                else:
                    run = run_peer(name, subset, output, part)
                found.runs[name].append(run)
                print(_run_line(number, name, run), flush=True)
            wait_until_quiet(wait)
            found.limits.append(run_limit(precision))
    return found


def _run_line(number: int, name: str, run: Run) -> str:
    busy = f", encoder {run.busy:.1%} busy" if run.busy is not None else ""
    return (
        f"  round {number + 1}  {name:<22}{run.rate:>8,.0f} tokens/s steady, "
        f"{run.wall_rate:,.0f} whole process, others used {run.foreign:.0%} of the machine{busy}"
    )


def report(texts: Texts, every: int, found: Rounds) -> str:
    """Returns the tables."""
    lines = [
        "",
        f"Speed on {texts.name}: {len(texts.texts):,} documents, {texts.tokens:,} tokens "
        f"(peers: 1 document in {every})",
        "",
        "| | tokens/s, steady: median (lowest to highest) | whole process | embedkit is faster "
        "by: median (lowest to highest) | promised | steady state includes |",
        "|---|---|---|---|---|---|",
        *(_row(name, found) for name in found.runs),
        "",
        *_limit_lines(texts, found),
    ]
    return "\n".join(lines)


def _row(name: str, found: Rounds) -> str:
    runs, ours = found.runs[name], found.runs["embedkit"]
    ratios = [us.rate / them.rate for us, them in zip(ours, runs, strict=True)]
    whole = median(run.wall_rate for run in runs)
    peer = name in _PROMISED
    return " | ".join(
        [
            f"| {name}",
            spread([run.rate for run in runs], ",.0f"),
            f"{whole:,.0f}",
            spread(ratios, ".1f", "x") if peer else "",
            f">= {_PROMISED[name]:g}x" if peer else "",
            f"{_INCLUDED[name]} |",
        ]
    )


def limit_share(texts: Texts, found: Rounds) -> float:
    """Returns how much of what matrix products allow embedkit's best round reached."""
    best = max(run.rate for run in found.runs["embedkit"])
    square = max(limit["square"] for limit in found.limits)
    return best * flops_per_token(MODEL, texts.lengths) / square


def _limit_lines(texts: Texts, found: Rounds) -> list[str]:
    spec = read_model(ModelConfig(model=MODEL))
    flops = flops_per_token(MODEL, texts.lengths)
    square = max(limit["square"] for limit in found.limits)
    layers = max(limit["layers"] for limit in found.limits)
    busy = [run.busy or 0.0 for run in found.runs["embedkit"]]
    foreign = [run.foreign for runs in found.runs.values() for run in runs]
    return [
        f"Limit: {flops / 1e6:.1f} MFLOP per token at the {square / 1e9:,.0f} GFLOP/s that "
        f"{spec.placement.precision} matrix products reach here is {square / flops:,.0f} tokens/s",
        f"({layers / 1e9:,.0f} GFLOP/s in the shapes of the model's layers). embedkit's best round "
        f"reached {limit_share(texts, found):.0%} of it,",
        f"on {spec.placement.backend} {spec.placement.precision}. The encoder was busy for "
        f"{spread(busy, '.1%')} of its time (promised: >= 95 %).",
        f"Noise: other processes used {spread(foreign, '.0%')} of the machine during a run.",
    ]


def spread(values: list[float], form: str, unit: str = "") -> str:
    """Returns the median with the lowest and highest value."""
    middle, low, high = (
        format(value, form) for value in (median(values), min(values), max(values))
    )
    return f"{middle}{unit} ({low} to {high})"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--rounds", type=int, help="interleaved rounds; 3, of start-up 9")
    parser.add_argument("--every", type=int, default=4, help="peers get 1 document in this many")
    parser.add_argument(
        "--wait", type=float, default=60.0, help="most seconds to wait for a quiet machine"
    )


def main(options: argparse.Namespace) -> Measured:
    """Measures and prints."""
    texts = read_texts()
    print(describe_machine(), flush=True)
    found = measure(texts, options.rounds or ROUNDS, options.every, options.wait)
    print(report(texts, options.every, found))
    others = max(run.foreign for run in found.runs["embedkit"])
    return Measured({LIMIT_SHARE: limit_share(texts, found)}, others)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    main(arguments.parse_args())
