"""One, two and four raylets of one core each around encoders that cost nothing.

What does not fall with raylets is the driver, the queue and Ray itself, which share the cores here.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from embedkit.engines.progress import repeated
from tests.benchmarks.corpus import MODEL, Texts, read_texts
from tests.benchmarks.machine import describe_machine, family, wait_until_quiet, watched
from tests.benchmarks.speed import ROUNDS, spread

_WANTED = 1.8
_STORE_BYTES = 1 << 28
_FREE = Path(__file__).with_name("free_encoders")
_WORKERS = 2
"""Of each raylet: while one waits for its encoder or its disk, the other works."""

_BLOCK_ROWS = 1_024
_SPLITS = 32
_SECONDS = 0.5
_FULL = 0.9
_WARM = 4
"""One block in so many is committed before it counts: each worker meets the words anew."""

_KINDS = {
    "ray::BeamWorker": "workers",
    "ray::EncoderActor": "encoders",
    "ray::SplitQueue": "queue",
    "ray::Machine": "machines",
}
_DRIVER, _RAY = "driver", "Ray"


@dataclass(frozen=True)
class Commit:
    """A block that was committed: when, by the clock of its file, and how many documents it has."""

    time: float
    documents: int


@dataclass(frozen=True)
class Run:
    """One run, from a quarter of its commits to the last.

    Attributes:
        rate: Documents per second.
        cores: Cores that each kind of process used.
        documents_per_cpu: Documents per CPU second of workers and encoders.
        idle: Share of the raylets' cores that nobody used.
        foreign: Share of the machine that other processes used during the whole run.
    """

    rate: float
    cores: Mapping[str, float]
    documents_per_cpu: float
    idle: float
    foreign: float


@contextmanager
def raylets(count: int) -> Iterator[tuple[str, list[int]]]:
    """Starts a head that offers no CPU, and raylets that are each held to a core.

    Yields:
        The head's address, and the process ids of Ray's servers.
    """
    from ray.cluster_utils import Cluster

    cores = sorted(os.sched_getaffinity(0))
    settings = {"object_store_memory": _STORE_BYTES}
    before = {name: os.environ.get(name) for name in ("PYTHONPATH", "RAY_USAGE_STATS_ENABLED")}
    os.environ |= {"PYTHONPATH": str(_FREE), "RAY_USAGE_STATS_ENABLED": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | settings)
    try:
        for number in range(count):
            # What a process starts is held to the cores that its own thread is held to.
            os.sched_setaffinity(0, {cores[number]})
            try:
                cluster.add_node(num_cpus=1, **settings)
            finally:
                os.sched_setaffinity(0, cores)
        yield cluster.address, servers_of(cluster)
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def servers_of(cluster: Any) -> list[int]:
    """Returns the process ids of a cluster's servers, whose children are all others of Ray's."""
    return [
        server.process.pid
        for node in cluster.list_all_nodes()
        for kind in ("gcs_server", "raylet")
        for server in node.all_processes.get(kind, ())
    ]


@dataclass
class Samples:
    """CPU seconds over time.

    Attributes:
        used: At each moment those of each kind of process so far.
        idle: At each moment those that cores were idle so far, by core.
        memory: At each moment the MiB of the driver.
    """

    used: list[tuple[float, Counter[str]]] = field(default_factory=list)
    idle: list[tuple[float, Counter[str]]] = field(default_factory=list)
    memory: list[tuple[float, float]] = field(default_factory=list)

    def cores(self, begin: float, end: float) -> dict[str, float]:
        """Returns the cores that each kind of process used between two moments."""
        return grown(self.used, begin, end)

    def idle_share(self, count: int, begin: float, end: float) -> float:
        """Returns the share of the first cores that nobody used between two moments."""
        found = grown(self.idle, begin, end)
        return sum(found[str(core)] for core in sorted(map(int, found))[:count]) / count

    def driver_memory(self, begin: float, end: float) -> tuple[float, float]:
        """Returns the MiB of the driver at a moment, and at most from there to another."""
        found = [size for time, size in self.memory if begin <= time <= end + _SECONDS]
        return found[0], max(found)


def grown(
    samples: Sequence[tuple[float, Counter[str]]], begin: float, end: float
) -> dict[str, float]:
    """Returns by how much totals grew per second between the samples next to two moments."""
    first = max((one for one in samples if one[0] <= begin), default=samples[0], key=lambda s: s[0])
    last = min((one for one in samples if one[0] >= end), default=samples[-1], key=lambda s: s[0])
    seconds = last[0] - first[0]
    return {name: (total - first[1][name]) / seconds for name, total in last[1].items()}


@contextmanager
def sampled(driver: int, servers: Sequence[int]) -> Iterator[Samples]:
    """Samples what a driver, its workers and encoders, and Ray use while the body runs."""
    samples, ended = Samples(), dict[int, tuple[str, float]]()

    def look() -> None:
        own = [(one, _DRIVER) for one in family(driver)]
        for process, kind in own + [(one, _RAY) for pid in servers for one in family(pid)]:
            try:
                times = process.cpu_times()
                name = next((of for of in _KINDS if process.cmdline()[0].startswith(of)), "")
            except (psutil.Error, IndexError):
                continue
            ended[process.pid] = _KINDS.get(name, kind), times.user + times.system
        now, used = time.time(), Counter[str]()
        for kind, seconds in ended.values():
            used[kind] += seconds
        samples.used.append((now, used))
        with suppress(psutil.Error):
            samples.memory.append((now, psutil.Process(driver).memory_info().rss / 2**20))
        cores = psutil.cpu_times(percpu=True)
        samples.idle.append((now, Counter({str(n): one.idle for n, one in enumerate(cores)})))

    look()
    try:
        with repeated(look, _SECONDS, "watch"):
            yield samples
    finally:
        look()


def commits_below(output: Path) -> list[Commit]:
    """Returns the commits of the one version below a root, in the order of their time."""
    found = [
        Commit(path.stat().st_mtime, json.loads(path.read_bytes())["documents"])
        for path in output.glob("*/_meta/commits/*.json")
    ]
    return sorted(found, key=lambda one: one.time)


def between(commits: Sequence[Commit], before: int) -> tuple[float, float, int]:
    """Returns when the steady part of a run began and ended, and the documents committed in it.

    It begins when so many blocks are committed: as many as there are workers at least, as all of
    them began at once.
    """
    first, rest = commits[before - 1], commits[before:]
    return first.time, rest[-1].time, documents_of(rest)


def bottleneck(cores: Mapping[str, float], idle: float) -> str:
    """Names what held a run up, and the largest part of it.

    Args:
        cores: Cores that each kind of process used.
        idle: Share of the raylets' cores that nobody used.
    """
    single = {kind: cores.get(kind, 0.0) for kind in (_DRIVER, "queue")}
    slowest = max(single, key=lambda kind: single[kind])
    if single[slowest] >= _FULL:
        return f"the {slowest}, which uses {single[slowest]:.2f} of a core"
    if idle > 1 - _FULL:
        return f"waiting: the raylets' cores are idle for {idle:.0%}"
    largest = max(cores, key=lambda kind: cores[kind])
    return f"cores, of which {largest} use {cores[largest] / sum(cores.values()):.0%}"


def documents_of(commits: Sequence[Commit]) -> int:
    """Returns the documents of all commits."""
    return sum(one.documents for one in commits)


def run_once(count: int, corpus: Path, documents: int, output: Path) -> Run:
    """Runs the command line on so many raylets until all documents are committed."""
    split = sum(file.stat().st_size for file in corpus.iterdir()) // _SPLITS
    command = [str(Path(sys.executable).parent / "embedkit"), "run", str(corpus)]
    command += ["--model", MODEL, "--output", str(output), "--progress", "none"]
    command += ["--engine", "ray", "--encoders", str(count), "--workers", str(_WORKERS * count)]
    command += ["--split-bytes", str(split), "--block-rows", str(_BLOCK_ROWS)]
    # Of vectors that cost nothing, all say the same.
    command += ["--near-duplicates", "off"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    with raylets(count) as (address, servers), watched(os.getpid()) as usage:
        command += ["--ray-address", address]
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        with sampled(process.pid, servers) as samples:
            while process.poll() is None and documents_of(commits_below(output)) < documents:
                time.sleep(_SECONDS)
            # What follows, the report above all, is not of the raylets.
            process.terminate()
            _, said = process.communicate()
    if documents_of(commits_below(output)) < documents:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    commits = commits_below(output)
    begin, end, counted = between(commits, max(_WORKERS * count, len(commits) // _WARM))
    cores = samples.cores(begin, end)
    at_work = (cores["workers"] + cores["encoders"]) * (end - begin)
    idle = samples.idle_share(count, begin, end)
    return Run(counted / (end - begin), cores, counted / at_work, idle, usage.foreign)


def measure(texts: Texts, counts: list[int], rounds: int, wait: float) -> dict[int, list[Run]]:
    """Runs on each number of raylets once per round, each round in the other order."""
    found: dict[int, list[Run]] = {count: [] for count in counts}
    with tempfile.TemporaryDirectory() as folder:
        corpus = texts.write_shards(Path(folder) / "corpus", 4)
        for number in range(rounds):
            for count in counts[:: -1 if number % 2 else 1]:
                wait_until_quiet(wait)
                output = Path(folder) / f"{number}-{count}"
                run = run_once(count, corpus, len(texts.texts), output)
                found[count].append(run)
                print(
                    f"  round {number + 1}  {count} raylets{run.rate:>9,.0f} documents/s, "
                    f"{run.documents_per_cpu:,.0f} per CPU s, cores by kind "
                    f"{ {kind: round(used, 2) for kind, used in run.cores.items()} }, raylets' "
                    f"cores idle {run.idle:.0%}, others used {run.foreign:.0%} of the machine",
                    flush=True,
                )
    return found


def report(texts: Texts, found: dict[int, list[Run]]) -> str:
    """Returns the table."""
    kinds = ["workers", "encoders", "queue", _DRIVER, _RAY]
    lines = [
        "",
        f"Raylets of one core each around encoders that cost nothing, on {texts.name}: "
        f"{len(texts.texts):,} documents, {_WORKERS} workers a raylet, from a quarter of the "
        f"commits to the last; {os.cpu_count()} cores:",
        "",
        "| raylets | documents/s: median (lowest to highest) | of half as many | documents per CPU "
        f"s of workers and encoders | of half as many | cores used by {', '.join(kinds)} | "
        "raylets' cores idle | used by others | bottleneck |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for count, runs in found.items():
        cores = {kind: median(run.cores.get(kind, 0.0) for run in runs) for kind in kinds}
        idle = median(run.idle for run in runs)
        half = found.get(count // 2, [])
        rates = [one.rate / two.rate for one, two in zip(runs, half, strict=False)]
        per_cpu = [
            one.documents_per_cpu / two.documents_per_cpu
            for one, two in zip(runs, half, strict=False)
        ]
        cells = [
            f"| {count}",
            spread([run.rate for run in runs], ",.0f"),
            spread(rates, ".2f", "x") if rates else "",
            spread([run.documents_per_cpu for run in runs], ",.0f"),
            spread(per_cpu, ".2f", "x") if per_cpu else "",
            ", ".join(f"{used:.2f}" for used in cores.values()),
            f"{idle:.0%}",
            spread([run.foreign for run in runs], ".0%"),
            f"{bottleneck(cores, idle)} |",
        ]
        lines.append(" | ".join(cells))
    return "\n".join([*lines, "", f"Wanted: twice as many raylets give >= {_WANTED}x."])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options; rounds and patience are those of ``speed``."""
    parser.add_argument(
        "--raylets", type=int, nargs="*", default=[1, 2, 4], help="numbers of raylets of one core"
    )
    parser.add_argument(
        "--raylet-times", type=int, default=16, help="repeats of the corpus on the raylets"
    )


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    cores = len(os.sched_getaffinity(0))
    counts = [count for count in options.raylets if count <= cores]
    print(describe_machine(), flush=True)
    for count in sorted(set(options.raylets) - set(counts)):
        print(f"{count} raylets are left out: this machine has {cores} cores")
    texts = read_texts().repeated(options.raylet_times)
    print(report(texts, measure(texts, counts, options.rounds or ROUNDS, options.wait)))


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    arguments.add_argument("--rounds", type=int)
    arguments.add_argument("--wait", type=float, default=60.0)
    main(arguments.parse_args())
