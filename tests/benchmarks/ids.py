"""Looking for repeated ids with one and with two workers, each on a raylet of its own."""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.actors.map_on_ray import MapOnRay
from embedkit.config import CorpusConfig
from embedkit.corpus.duplicates import Suspect, check_ids
from embedkit.corpus.plan import plan_inputs
from embedkit.dataset.version import Version
from embedkit.flow.check_ids import IdLook, check_ids_by_workers
from tests.benchmarks.machine import describe_machine, wait_until_quiet, watched
from tests.benchmarks.speed import ROUNDS, spread

_WANTED = 1.7
_STORE_BYTES = 1 << 28


@dataclass(frozen=True)
class Waiting:
    """A look that waits first, as it would for the bytes of a split to come from a store."""

    look_at: Callable[[IdLook], list[Suspect]]
    seconds: float

    def __call__(self, look: IdLook) -> list[Suspect]:
        time.sleep(self.seconds)
        return self.look_at(look)


@contextmanager
def two_raylets() -> Iterator[None]:
    """A head that offers no CPU, and two nodes of one CPU each."""
    import ray
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings = {"object_store_memory": _STORE_BYTES}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0} | settings)
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, **settings)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield
    finally:
        ray.shutdown()
        cluster.shutdown()


@contextmanager
def one_of_two_taken() -> Iterator[None]:
    """Keeps the CPU of one node from everybody else."""
    import ray

    class Holder:
        def here(self) -> None:
            pass

    holder = ray.remote(Holder).options(num_cpus=1).remote()
    ray.get(holder.here.remote())
    try:
        yield
    finally:
        ray.kill(holder)


def write_corpus(folder: Path, shards: int, rows: int) -> CorpusConfig:
    """JSONL shards of short records, in which two ids repeat."""
    folder.mkdir()
    for shard in range(shards):
        with (folder / f"{shard:03d}.jsonl").open("w") as file:
            for row in range(rows):
                number = 0 if row == 5 and shard in (3, 4) else shard * rows + row
                text = f"record {number}, of which nothing but its id is wanted " * 3
                file.write(json.dumps({"id": f"document-{number:09d}", "text": text}) + "\n")
    return CorpusConfig(inputs=(str(folder),), id_column="id", split_bytes=8 << 20)


def look(config: CorpusConfig, output: Path, seconds: float) -> float:
    """Looks for repeated ids of a corpus once, from its plan on; returns how long it took."""
    plan = plan_inputs(config)
    on_ray = MapOnRay(most_lost=0, timeout=60)

    def on_workers(look_at: Any, looks: Sequence[IdLook]) -> Iterator[list[Suspect]]:
        return on_ray(Waiting(look_at, seconds) if seconds else look_at, looks)

    start = time.perf_counter()
    found = check_ids_by_workers(plan, config, Version(str(output), "v1"), on_workers)
    took = time.perf_counter() - start
    if found.duplicates != 2:
        raise RuntimeError(f"{found.duplicates} ids repeat, expected 2")
    return took


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options; rounds and patience are those of ``speed``."""
    parser.add_argument("--id-shards", type=int, default=288, help="splits whose ids are read")
    parser.add_argument("--id-rows", type=int, default=40_000, help="records of each of them")
    parser.add_argument(
        "--id-wait", type=float, default=0.1, help="seconds that a split waits for its store"
    )


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    print(describe_machine(), flush=True)
    waits = {"files on this machine": 0.0, f"{options.id_wait:g} s for a store": options.id_wait}
    ratios: dict[str, list[float]] = {kind: [] for kind in waits}
    foreign = []
    with tempfile.TemporaryDirectory() as folder, two_raylets():
        config = write_corpus(Path(folder) / "in", options.id_shards, options.id_rows)
        look(config, Path(folder) / "warm", 0.0)
        start = time.perf_counter()
        check_ids(plan_inputs(config), config)
        print(f"  in the driver, on one thread: {time.perf_counter() - start:.2f} s", flush=True)
        for number in range(options.rounds or ROUNDS):
            for kind, seconds in waits.items():
                wait_until_quiet(options.wait)
                with watched(os.getpid()) as usage:
                    with one_of_two_taken():
                        one = look(config, Path(folder) / f"{number}-{seconds}-one", seconds)
                    two = look(config, Path(folder) / f"{number}-{seconds}-two", seconds)
                ratios[kind].append(one / two)
                foreign.append(usage.foreign)
                print(
                    f"  round {number + 1}  {kind}: one worker {one:.2f} s, two {two:.2f} s, "
                    f"others used {usage.foreign:.0%} of the machine",
                    flush=True,
                )
    records = options.id_shards * options.id_rows
    print(f"\nRepeated ids among {records:,} records in {options.id_shards} splits, two raylets:\n")
    print(f"| reading | one worker's time by that of two (wanted: >= {_WANTED}) |\n|---|---|")
    for kind, found in ratios.items():
        print(f"| {kind} | {spread(found, '.2f', 'x')} |")
    print(f"\nNoise: other processes used {spread(foreign, '.0%')} of the machine during a round.")
