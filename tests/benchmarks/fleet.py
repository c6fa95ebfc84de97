"""One driver over many encoders that are not there: what it does for each split and each commit.

The driver is a run's own, and so is the queue; encoders and workers are threads of a process for
every eight encoders, which sleep as long as a card would compute. So this machine's few cores have
to do with little but the driver, and its CPU seconds are what they are on a cluster.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.fleet_machine import ROW_TOKENS
from tests.benchmarks.fleet_once import Shape
from tests.benchmarks.machine import describe_machine, wait_until_quiet, watched
from tests.benchmarks.raylets import Samples, between, commits_below, sampled, servers_of

_ROOT = Path(__file__).parents[2]
_STORE_BYTES = 1 << 28
_BLOCKS = 4
_BLOCK_ROWS = 8_192
_SETTINGS = {
    # Where tests is imported from.
    "PYTHONPATH": str(_ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    # Else Ray starts a process for each of the CPUs that are not there.
    "RAY_enable_worker_prestart": "0",
    "RAY_prestart_worker_first_driver": "0",
}


@dataclass(frozen=True)
class Case:
    """What is measured: so many documents in so many splits, on so many encoders."""

    encoders: int
    documents: int
    splits: int

    @property
    def rows(self) -> int:
        """Documents of a block."""
        return max(1, self.documents // (self.splits * _BLOCKS))


@dataclass(frozen=True)
class Found:
    """What one driver did, between its first commits and its last.

    Attributes:
        seconds: That time.
        splits: Splits per second.
        cores: Cores that each kind of process used.
        start_cpu: CPU seconds of the driver for each worker that it started before.
        memory: MiB of the driver then, at the first commits and at most.
        busy: Share of their time that cards were busy.
        idle: Share of their time that workers had no split.
        claim: Seconds that workers waited for a split: the median and the longest.
        foreign: Share of the machine that other processes used meanwhile.
    """

    seconds: float
    splits: float
    cores: dict[str, float]
    start_cpu: float
    memory: tuple[float, float]
    busy: float
    idle: float
    claim: tuple[float, float]
    foreign: float


@contextmanager
def cluster_of(encoders: int, workers: int) -> Iterator[tuple[str, list[int]]]:
    """Starts one node with GPUs and CPUs that are not there.

    Yields:
        The head's address, and the process id of Ray's servers.
    """
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ |= _SETTINGS
    resources = {"num_cpus": encoders + workers, "num_gpus": encoders}
    cluster = Cluster(
        initialize_head=True, head_node_args={"object_store_memory": _STORE_BYTES} | resources
    )
    try:
        yield cluster.address, servers_of(cluster)
    finally:
        cluster.shutdown()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def measure(case: Case, workers_each: int, block_seconds: float, folder: Path) -> Found:
    """Runs the driver once."""
    workers = workers_each * case.encoders
    if case.splits < 2 * workers:
        raise ValueError(f"{case.splits} splits are too few for {workers} workers")
    corpus, output = folder / "corpus.jsonl", folder / "output"
    corpus.write_text("".join(f'{{"text": "document {n} of a sample"}}\n' for n in range(1000)))
    with cluster_of(case.encoders, workers) as (address, servers), watched(os.getpid()) as usage:
        shape = Shape(
            address, str(corpus), str(output), case.encoders, workers, case.splits, _BLOCKS,
            case.rows, block_seconds,
        )  # fmt: skip
        command = [sys.executable, "-m", "tests.benchmarks.fleet_once", json.dumps(asdict(shape))]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        with sampled(process.pid, servers) as samples:
            printed, said = process.communicate()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
    return found_in(case, workers, samples, output, json.loads(printed), usage.foreign)


def found_in(
    case: Case, workers: int, samples: Samples, output: Path, said: dict[str, float], foreign: float
) -> Found:
    """Puts together what was sampled, committed and said."""
    commits = commits_below(output)
    if len(commits) != case.splits * _BLOCKS:
        raise RuntimeError(f"{len(commits)} blocks were committed, not {case.splits * _BLOCKS}")
    begin, end, _ = between(commits, workers)
    seconds = end - begin
    return Found(
        seconds=seconds,
        splits=(len(commits) - workers) / _BLOCKS / seconds,
        cores=samples.cores(begin, end),
        start_cpu=said["start_cpu"] / workers,
        memory=samples.driver_memory(begin, end),
        busy=said["busy"],
        idle=said["idle"],
        claim=(said["claim_seconds"], said["longest_claim_seconds"]),
        foreign=foreign,
    )


def row(case: Case, found: Found) -> str:
    """Returns a row of the table."""
    driver, queue = found.cores["driver"], found.cores["queue"]
    cells = [
        f"| {case.encoders}",
        f"{case.rows * case.splits * _BLOCKS:,} in {case.splits:,}",
        f"{found.splits:.1f}, {_BLOCKS * found.splits:.0f}",
        f"{driver:.1%}",
        f"{1e3 * driver / found.splits:.1f}",
        f"{queue:.1%}",
        f"{1e3 * queue / found.splits:.2f}",
        f"{found.cores['Ray']:.1%}",
        f"{1e3 * found.start_cpu:.0f}",
        f"{found.memory[0]:,.0f}, {found.memory[1]:,.0f}",
        f"{found.busy:.0%}",
        f"{1e3 * found.claim[0]:.0f}, {1e3 * found.claim[1]:.0f}",
        f"{found.foreign:.0%} |",
    ]
    return " | ".join(cells)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument(
        "--fleet", type=_case, nargs="*", metavar="ENCODERS:DOCUMENTS:SPLITS",
        default=[
            Case(16, 1_000_000, 80), Case(64, 10_000, 320), Case(64, 100_000, 320),
            Case(64, 1_000_000, 320), Case(64, 10_000_000, 1_280),
        ],
        help="what one driver is measured over",
    )  # fmt: skip
    parser.add_argument(
        "--fleet-workers", type=int, default=2, help="workers for each of the encoders"
    )
    parser.add_argument(
        "--fleet-rate", type=float, default=5e5, help="tokens per second of a card, of full blocks"
    )


def _case(text: str) -> Case:
    return Case(*map(int, text.split(":")))


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    seconds = _BLOCK_ROWS * ROW_TOKENS / options.fleet_rate
    print(describe_machine(), flush=True)
    print(
        f"\nOne driver over cards that are not there, {options.fleet_workers} workers each, "
        f"{_BLOCKS} blocks a split. A block takes a card {seconds:.2f} s, as {_BLOCK_ROWS:,} "
        f"documents of {ROW_TOKENS} tokens do at {options.fleet_rate:,.0f} tokens/s:\n"
    )
    print(
        "| encoders | documents in splits | splits/s, commits/s | the driver, of a core | ms of it "
        "per split | the queue, of a core | ms of it per split | Ray's servers, of a core | ms of "
        "the driver to start a worker | MiB of the driver at the first commits, at most | cards "
        "busy | ms for a split: median, longest | used by others |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|", flush=True)
    for case in options.fleet:
        wait_until_quiet(options.wait)
        with tempfile.TemporaryDirectory() as folder:
            found = measure(case, options.fleet_workers, seconds, Path(folder))
        print(row(case, found), flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    arguments.add_argument("--wait", type=float, default=60.0)
    main(arguments.parse_args())
