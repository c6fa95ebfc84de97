"""A run on a Ray cluster beside the same run on the local engine, in interleaved rounds."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.corpus import MODEL, Texts, read_texts
from tests.benchmarks.machine import describe_machine, wait_until_quiet, watched
from tests.benchmarks.speed import ROUNDS, spread

_PROMISED = 0.93
_STORE_BYTES = 1 << 29
_ENGINES = ("local", "ray")


@dataclass(frozen=True)
class Run:
    """One run.

    Attributes:
        rate: Tokens per second, from the first call to an encoder to the end of the last.
        busy: Share of that time that an encoder encoded.
        idle: Share of their time that workers had no split, on the cluster.
        wall: Seconds of the whole process.
        foreign: Share of the machine that other processes used meanwhile.
    """

    rate: float
    busy: float
    idle: float | None
    wall: float
    foreign: float


@contextmanager
def ray_cluster() -> Iterator[str]:
    """Starts a head that offers no CPU and a node with all of them; yields the head's address."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings = {"object_store_memory": _STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | settings)
    try:
        cluster.add_node(num_cpus=os.cpu_count(), **settings)
        yield cluster.address
    finally:
        cluster.shutdown()


def run_engine(engine: str, address: str, corpus: Path, output: Path) -> Run:
    """Runs the command line once; each shard is a split."""
    command = [str(Path(sys.executable).parent / "embedkit"), "run", str(corpus)]
    command += ["--model", MODEL, "--output", str(output), "--json", "--progress", "none"]
    command += ["--split-bytes", str(max(file.stat().st_size for file in corpus.iterdir()))]
    command += ["--engine", engine]
    if engine == "ray":
        command += ["--ray-address", address]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    # The raylets are this process's children, and what they start is theirs.
    with watched(os.getpid()) as usage:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    figures = json.loads(done.stdout)
    report = json.loads(Path(figures["report"]).with_name("report.json").read_text())
    return Run(
        figures["tokens_per_second"],
        figures["encoder_busy_share"],
        report["run"]["worker_idle_share"],
        usage.seconds,
        usage.foreign,
    )


def measure(texts: Texts, shards: int, rounds: int, wait: float) -> dict[str, list[Run]]:
    """Runs both engines once per round, each round in the other order."""
    found: dict[str, list[Run]] = {engine: [] for engine in _ENGINES}
    with tempfile.TemporaryDirectory() as folder, ray_cluster() as address:
        corpus = texts.write_shards(Path(folder) / "corpus", shards)
        for number in range(rounds):
            for engine in _ENGINES[:: -1 if number % 2 else 1]:
                wait_until_quiet(wait)
                run = run_engine(engine, address, corpus, Path(folder) / f"{number}-{engine}")
                found[engine].append(run)
                print(
                    f"  round {number + 1}  {engine:<6}{run.rate:>8,.0f} tokens/s, encoder "
                    f"{run.busy:.1%} busy, {run.wall:.0f} s in all, others used "
                    f"{run.foreign:.0%} of the machine",
                    flush=True,
                )
    return found


def report(texts: Texts, found: dict[str, list[Run]]) -> str:
    """Returns the table."""
    ratios = [
        ray.rate / local.rate for ray, local in zip(found["ray"], found["local"], strict=True)
    ]
    foreign = [run.foreign for runs in found.values() for run in runs]
    return "\n".join(
        [
            "",
            f"A Ray cluster of one node with all CPUs on {texts.name}: {len(texts.texts):,} "
            f"documents, {texts.tokens:,} tokens",
            "",
            "| engine | tokens/s: median (lowest to highest) | encoder busy | workers without a "
            "split | whole process |",
            "|---|---|---|---|---|",
            *(_row(engine, runs) for engine, runs in found.items()),
            "",
            f"The cluster's rate by the local engine's: {spread(ratios, '.2f', 'x')}. Promised: "
            f"encoders busy for >= {_PROMISED:.0%} on the cluster.",
            f"Noise: other processes used {spread(foreign, '.0%')} of the machine during a run.",
        ]
    )


def _row(engine: str, runs: list[Run]) -> str:
    idle = [run.idle for run in runs if run.idle is not None]
    cells = [
        f"| {engine}",
        spread([run.rate for run in runs], ",.0f"),
        spread([run.busy for run in runs], ".1%"),
        spread(idle, ".1%") if idle else "",
        f"{median(run.wall for run in runs):.0f} s |",
    ]
    return " | ".join(cells)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options; rounds and patience are those of ``speed``."""
    parser.add_argument("--times", type=int, default=2, help="repeats of the corpus on the cluster")
    parser.add_argument("--shards", type=int, default=8, help="splits of the corpus on the cluster")


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    texts = read_texts().repeated(options.times)
    print(describe_machine(), flush=True)
    print(report(texts, measure(texts, options.shards, options.rounds or ROUNDS, options.wait)))
