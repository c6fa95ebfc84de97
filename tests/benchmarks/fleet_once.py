"""The driver of a run over cards that are not there, in a process of its own.

``python -m tests.benchmarks.fleet_once JSON`` does what ``embedkit run --engine ray`` does from the
plan to the last commit, and prints one JSON object. The supervisor, the queue, the pipelines, the
heartbeat and what is shown are those of a run; encoders and workers are threads of ``Machine``.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import apache_beam as beam
import ray

from embedkit.actors import encoder_pool, pool_use
from embedkit.actors.beam_workers import RayWorkerHandler
from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.encoders.kinds import read_model
from embedkit.engines import ray_worker
from embedkit.engines.display import Lines
from embedkit.engines.encode_splits import encode_splits
from embedkit.engines.ray_cluster import RayCluster
from embedkit.engines.ray_supervisor import Supervisor
from embedkit.flow.beats import beating
from embedkit.flow.completed import begin_account
from embedkit.flow.prepare import Job, prepare
from tests.benchmarks.corpus import MODEL
from tests.benchmarks.fleet_machine import DIMENSION, Machine, Work

_CARDS_EACH = 8
_GATE_SECONDS = 0.2


@dataclass(frozen=True)
class Shape:
    """What is simulated.

    Attributes:
        address: The Ray cluster.
        corpus: A file that stands for all those of the splits.
        output: Where the version goes.
        encoders: Cards.
        workers: Workers.
        splits: Splits.
        blocks: Blocks of a split.
        rows: Documents of a block.
        block_seconds: What a block takes a card.
    """

    address: str
    corpus: str
    output: str
    encoders: int
    workers: int
    splits: int
    blocks: int
    rows: int
    block_seconds: float


@dataclass(frozen=True)
class _Call:
    """A method of a machine's actor, with the card that is asked."""

    method: Any
    arguments: tuple[str, ...] = ()

    def remote(self, *more: Any) -> Any:
        return self.method.remote(*self.arguments, *more)


class _Card:
    """An encoder as the pool sees it."""

    def __init__(self, machine: Any, name: str) -> None:
        self.describe = _Call(machine.describe)
        self.load = _Call(machine.load, (name,))


class _Machines:
    """All machines, in the place of the class of encoders."""

    def __init__(self, shape: Shape) -> None:
        names = [f"encoder-{number}" for number in range(shape.encoders)]
        count = -(-shape.encoders // _CARDS_EACH)
        # Each of them may get more than its share of workers.
        threads = 2 * -(-shape.workers // count) + 2
        remote = ray.remote(concurrency_groups={"observe": 1}, max_concurrency=threads)(Machine)
        self.actors = [
            remote.options(num_cpus=0).remote(names[first::count], shape.block_seconds)
            for first in range(count)
        ]
        self._of = {name: self.actors[number % count] for number, name in enumerate(names)}
        self._next = 0

    def options(self, **_: Any) -> "_Machines":
        return self

    def remote(self, name: str, *_: Any) -> _Card:
        return _Card(self._of[name], name)

    def claims(self) -> list[list[float]]:
        """Returns the seconds that workers waited for each split, by machine."""
        found: list[list[float]] = ray.get([one.claims.remote() for one in self.actors])
        return found

    def start_worker(self, handler: Any) -> None:
        """Has a machine run a worker, where a run would ask Ray for an actor."""
        handler._actor = self.actors[self._next % len(self.actors)]
        self._next += 1
        handler._watcher = threading.Thread(target=handler._watch, daemon=True)
        handler._watcher.start()


@dataclass
class _Simulated(beam.PTransform):
    """Takes the place of reading: all that a worker does."""

    source: Any
    work: Work

    def expand(self, pipeline: beam.Pipeline) -> beam.PCollection:
        return (
            pipeline
            | "Queue" >> beam.Create([self.source], reshuffle=False)
            | "Work" >> beam.ParDo(self.work)
        )


class _Driver(RayCluster):
    """The engine, which notes what it took to start all workers, and has them begin together."""

    start_cpu = start_seconds = 0.0
    gate: Path
    workers: int

    @contextmanager
    def begin(
        self, job: Job, splits: Sequence[Split], committed: Mapping[str, CommitRecord]
    ) -> Iterator[Any]:
        with super().begin(job, splits, committed) as work:
            watch = threading.Thread(target=self._open_gate, args=(work.supervisor,), daemon=True)
            watch.start()
            yield work

    def _open_gate(self, supervisor: Supervisor) -> None:
        begun, used = time.monotonic(), time.process_time()
        while len(supervisor.state.started) < self.workers:
            time.sleep(_GATE_SECONDS)
        self.start_cpu = time.process_time() - used
        self.start_seconds = time.monotonic() - begun
        self.gate.touch()


def job_of(shape: Shape) -> Job:
    """Returns the job, as it would be if its encoders ran on GPUs."""
    config = JobConfig(
        inputs=(shape.corpus,), model=MODEL, output=shape.output, version="v1", engine="ray",
        ray_address=shape.address, encoders=shape.encoders, workers=shape.workers,
        canaries="never",
    )  # fmt: skip
    model = read_model(config)
    assert model.vectors.dimension == DIMENSION
    job = prepare(config, replace(model, placement=replace(model.placement, device="cuda")))
    piece = job.plan.splits[0].ranges[0]
    splits = tuple(
        Split(f"{number:05d}", (replace(piece, source=f"shard-{number:05d}.jsonl"),))
        for number in range(shape.splits)
    )
    return replace(job, plan=replace(job.plan, splits=splits))


def main(shape: Shape) -> None:
    """Runs the driver up to its last commit and prints what it knows of the run."""
    job, display = job_of(shape), Lines()
    Path(job.version.url, "_meta", "commits").mkdir(parents=True, exist_ok=True)
    gate = Path(shape.output, "gate")
    work = Work(job.version, gate, shape.blocks, shape.rows)
    with _Driver(job.config, display) as engine:
        engine.gate, engine.workers = gate, shape.workers
        machines = _Machines(shape)
        with (
            patch.object(encoder_pool, "encoder_class", lambda model: machines),
            patch.object(encoder_pool.EncoderPool, "stop", lambda pool: pool_use.end(pool.name)),
            patch.object(RayWorkerHandler, "start_worker", lambda one: machines.start_worker(one)),
            patch.object(RayWorkerHandler, "stop_worker", lambda one: one._watcher.join()),
            patch.object(ray_worker, "ReadClaimed", lambda source, _: _Simulated(source, work)),
            patch.object(ray_worker, "EmbedBlocks", lambda *_: beam.Map(_same)),
            beating(job),
        ):
            account = encode_splits(job, {}, begin_account([]), engine, display)
        claims = sorted(one for found in machines.claims() for one in found)
    found = {
        "start_cpu": engine.start_cpu,
        "start_seconds": engine.start_seconds,
        "busy": account.encoder_busy_share,
        "idle": account.worker_idle_share,
        "claim_seconds": claims[len(claims) // 2],
        "longest_claim_seconds": claims[-1],
    }
    print(json.dumps(found))


def _same(record: CommitRecord) -> CommitRecord:
    return record


if __name__ == "__main__":
    main(Shape(**json.loads(sys.argv[1])))
