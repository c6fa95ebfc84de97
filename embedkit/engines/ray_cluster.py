"""Beam and Ray on a cluster: workers and encoders spread over its nodes.

Each worker is a Beam pipeline of its own with one SDK harness, a Ray actor, and all of them take
their splits from one queue. So a fast worker takes more than a slow one, a lost worker concerns no
other, and workers can be added while the run goes on. A worker that takes a lost one's place is
another pass over what is left: the number of passes is bounded, and each must make progress.
"""

import logging
import math
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import apache_beam as beam
import ray
from apache_beam.options.pipeline_options import PipelineOptions
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embedkit.actors.beam_runner import RayBeamRunner
from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.metrics import RunMetrics, RunState
from embedkit.actors.private_ray import connect
from embedkit.actors.split_queue import MOST_CRASHES, QueueState, RunQueue
from embedkit.config import EncoderRange, JobConfig
from embedkit.corpus.plan import Split
from embedkit.encoders.model_files import ModelSpec, read_model
from embedkit.engines.beam import run_to_end
from embedkit.engines.signals import handlers_kept
from embedkit.errors import (
    ConfigError,
    EmbedkitError,
    EncoderError,
    ResumableError,
    WorkerLostError,
    error_in_traceback,
)
from embedkit.job import Job
from embedkit.transforms.claim import ReadClaimed
from embedkit.transforms.embed_corpus import EmbedBlocks

_LOG = logging.getLogger("embedkit")
_CONNECT_SECONDS = 10.0
_POLL_SECONDS = 0.5
_MESSAGE_SECONDS = 30.0
_METRICS_SECONDS = 10.0
_END_SECONDS = 10.0
_WORKERS_PER_GPU = 8
_LOSSES_WITHOUT_PROGRESS = 3


@contextmanager
def ray_on_cluster(address: str, namespace: str) -> Iterator[None]:
    """Joins a Ray cluster, and leaves it; stays in one that this process has joined before.

    Raises:
        ConfigError: There is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    try:
        _check_listener(address)
        with handlers_kept():
            connect(address, namespace)
    except (OSError, RuntimeError, ValueError) as error:
        what = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"ray_address: no Ray cluster answers at {address!r} ({what}); start one with 'ray "
            "start --head', give its --ray-address, or take --engine local"
        ) from error
    try:
        yield
    except Exception:
        ray.shutdown()
        raise
    # After a signal this process leaves at once, whose threads may be inside Ray's calls.
    ray.shutdown()


def _check_listener(address: str) -> None:
    """Fails at once where nothing listens: Ray itself would try for minutes, and say so often."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address == "auto":
        return
    place = urlsplit(f"//{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("expected HOST:PORT or auto")
    socket.create_connection((place.hostname, place.port), _CONNECT_SECONDS).close()


def settle_model(config: JobConfig) -> ModelSpec:
    """Reads the model on a node of the kind that will run it, as the driver's may have no GPU.

    Raises:
        ConfigError: The model cannot be used there.
        EncoderError: No such node could be had in time.
    """
    on_gpu = config.device == "cuda" or (
        config.device == "auto" and ray.cluster_resources().get("GPU", 0) > 0
    )
    options = {"num_gpus": 1.0 / config.encoders_per_gpu} if on_gpu else {"num_cpus": 0}
    found = ray.remote(read_model).options(**options).remote(config)
    try:
        model: ModelSpec = ray.get(found, timeout=config.encoder_timeout)
    except GetTimeoutError as error:
        raise EncoderError(
            f"no node with {'a GPU' if on_gpu else 'CPUs'} could be had in "
            f"{config.encoder_timeout:.0f} s; give the cluster room, or take another --device"
        ) from error
    except RayError as error:
        known = error_in_traceback(str(error))
        raise known or EncoderError(f"the model could not be read: {error}") from error
    return model


@dataclass(frozen=True)
class Fitting:
    """What a run takes of a cluster.

    Attributes:
        encoders: How many encoders it needs, and takes at most.
        encoder_cpus: CPUs that Ray sets aside for each.
        encoder_gpus: GPUs, or a fraction of one.
        threads: CPU threads of an encoder on CPUs; None on GPUs.
        worker_cpus: CPUs that Ray sets aside for a worker; 0 where encoders take whole nodes.
    """

    encoders: EncoderRange
    encoder_cpus: float
    encoder_gpus: float
    threads: int | None
    worker_cpus: int


def fit(config: JobConfig, device: str, nodes: list[dict[str, float]]) -> Fitting:
    """Fits a run to a cluster.

    On GPUs an encoder takes its GPU and one CPU, and a worker one CPU. Without GPUs an encoder
    takes a node's CPUs and workers share them with it, as its own threads leave gaps enough.

    Args:
        config: The job.
        device: ``cpu`` or ``cuda``.
        nodes: The resources of each node, by their names in Ray.

    Raises:
        ConfigError: No node has what an encoder needs.
    """
    if device == "cuda":
        gpus = sum(node.get("GPU", 0.0) for node in nodes)
        most = max(1, math.floor(gpus)) * config.encoders_per_gpu
        share = 1.0 / config.encoders_per_gpu
        asked = config.encoders or EncoderRange(1, most)
        return Fitting(asked, min(1.0, share), share, config.encoder_threads, 1)
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cpus:
        raise ConfigError("no node of the Ray cluster has a CPU to give; start one with --num-cpus")
    each = config.encoder_cpus or min(cpus)
    most = max(1, sum(count // each for count in cpus))
    asked = config.encoders or EncoderRange(1, most)
    return Fitting(asked, each, 0.0, config.encoder_threads or each, 0)


def wanted_workers(config: JobConfig, fitting: Fitting, encoders: int, cpus: float) -> int:
    """Returns how many workers a run should have.

    Args:
        config: The job, whose ``workers`` counts where it is given.
        fitting: How the run fits the cluster.
        encoders: Encoders that run.
        cpus: All CPUs of the cluster.
    """
    if config.workers is not None:
        return config.workers
    if not fitting.encoder_gpus:
        # One that writes, one that reads ahead, beside one for every encoder.
        return encoders + 2
    room = int(cpus - encoders * fitting.encoder_cpus)
    return max(1, min(room, math.ceil(_WORKERS_PER_GPU * encoders * fitting.encoder_gpus)))


@contextmanager
def encoders_on_cluster(job: Job, fitting: Fitting) -> Iterator[EncoderPool]:
    """Starts the job's encoders and waits for those that it needs at least."""
    pool = EncoderPool(
        replace(job.model, threads=fitting.threads),
        encoders=fitting.encoders.most,
        namespace=ray.get_runtime_context().namespace,
        calls_in_flight=job.config.calls_in_flight,
        timeout=job.config.encoder_timeout,
        cpus=fitting.encoder_cpus,
        gpus=fitting.encoder_gpus,
        least=fitting.encoders.least,
        wait=job.config.encoder_wait,
    )
    try:
        yield pool
    finally:
        pool.stop()


class _Lane(threading.Thread):
    """One worker: a Beam pipeline over the splits that the queue hands to it."""

    def __init__(
        self, name: str, node: str | None, job: Job, pool: EncoderPool, queue: RunQueue, cpus: int
    ) -> None:
        super().__init__(name=name, daemon=True)
        options: dict[str, Any] = {"num_cpus": cpus}
        if node is not None:
            # Softly, Ray would place it anywhere, as it asks for no CPU. One whose node is gone by
            # then is replaced.
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        self.node = node
        self.error: EmbedkitError | None = None
        self.dismissed = False
        self.leaving = False
        self._runner = RayBeamRunner(1, options, placement_timeout=job.config.encoder_wait)
        self._pipeline = beam.Pipeline(
            runner=self._runner, options=PipelineOptions(flags=[], pickle_library="cloudpickle")
        )
        blocks = self._pipeline | "ReadClaimed" >> ReadClaimed(
            source=queue.connection(name),
            corpus=job.config,
            plan=job.plan,
            version=job.version,
            make_chunker=job.make_chunker,
        )
        _ = blocks | "EmbedBlocks" >> EmbedBlocks(
            tokenizer=job.model.tokenizer,
            connect=pool.connection,
            call_tokens=job.config.call_tokens,
            version=job.version,
            options=job.options,
        )

    def run(self) -> None:
        """Runs the pipeline; what stopped it stands in ``error``."""
        # Stands until the end, so that what nobody foresaw is not taken for an end of the work.
        self.error = ResumableError(
            f"{self.name} stopped unexpectedly, see above; run the same command again to resume"
        )
        try:
            run_to_end(self._pipeline)
        except EmbedkitError as error:
            self.error = error
        else:
            self.error = None

    @property
    def nodes(self) -> list[str]:
        """Ids of the nodes that its worker was placed on: one, or none before."""
        return self._runner.worker_nodes

    def at_fault(self) -> bool:
        """Whether the worker's process was lost while its node lives on."""
        alive = {node["NodeID"] for node in alive_nodes()}
        return all(node in alive for node in self.nodes)

    def dismiss(self, why: str) -> None:
        """Ends the worker, whatever it does."""
        self.dismissed = True
        self._runner.lose_workers(why)


class Supervisor:
    """Keeps a run's workers at work until nothing is left to do.

    Args:
        job: The job.
        fitting: How it fits the cluster.
        pool: Its encoders.
        queue: Its splits.
        counts: Returns the documents and rejects that the run has committed so far.
    """

    def __init__(
        self,
        job: Job,
        fitting: Fitting,
        pool: EncoderPool,
        queue: RunQueue,
        counts: Callable[[], tuple[int, int]],
    ) -> None:
        self._metrics = RunMetrics(job.version.name)
        self._shown = -math.inf
        self._counts = counts
        self._job = job
        self._fitting = fitting
        self._pool = pool
        self._queue = queue
        self._lanes: list[_Lane] = []
        self._started = 0
        self._losses = 0
        self._barren = 0
        self._blocks = 0
        self._no_encoder_since: float | None = None
        self._said = 0.0
        self.state = queue.state()

    def run(self) -> None:
        """Works until every split is done.

        Raises:
            ResumableError: Too many workers were lost, or no encoder could be placed for too long.
            EmbedkitError: What stopped a worker.
        """
        try:
            while True:
                self.state = self._queue.state()
                self._part_with_ended()
                if not (self._lanes or self.state.waiting or self.state.claimed):
                    return
                self._dismiss_unneeded()
                draining = draining_nodes()
                self._clear(draining)
                self._hire(draining)
                self._look_after_encoders()
                if time.monotonic() - self._shown > _METRICS_SECONDS:
                    self._show_metrics()
                time.sleep(_POLL_SECONDS)
        finally:
            self._end()
            self._show_metrics()

    def _show_metrics(self) -> None:
        self._shown = time.monotonic()
        documents, rejects = self._counts()
        self._metrics.show(
            RunState(
                documents=documents,
                rejects=rejects,
                splits_waiting=self.state.waiting,
                splits_claimed=self.state.claimed,
                workers=len(self._lanes),
                lost_workers=self._losses,
                encoders=self._pool.running,
                loads=tuple(self._pool.loads(timeout=1.0)),
            )
        )

    def _part_with_ended(self) -> None:
        for lane in [lane for lane in self._lanes if not lane.is_alive()]:
            self._lanes.remove(lane)
            if isinstance(lane.error, WorkerLostError):
                self._replace_lost(lane, lane.error)
            elif lane.error is not None:
                raise lane.error
        self.state = self._queue.state()

    def _replace_lost(self, lane: _Lane, error: WorkerLostError) -> None:
        # Also of one that was dismissed, as it may have found a split at the last moment.
        what = self._queue.release(lane.name, not lane.dismissed and lane.at_fault())
        if lane.dismissed:
            return
        self._losses += 1
        self._barren = 0 if self.state.blocks > self._blocks or what.crashes else self._barren + 1
        self._blocks = self.state.blocks
        place = f"at block {what.block}" if what.block else f"reading split {what.split}"
        _LOG.warning(
            "%s was lost %s: %s; another takes over what it had not committed",
            lane.name,
            place if what.split else "with nothing in hand",
            error,
        )
        if what.block is None and what.crashes >= MOST_CRASHES:
            raise ResumableError(
                f"reading split {what.split} killed {what.crashes} workers; look at its files "
                f"({', '.join(what.files[:3])}), or give the workers more memory"
            )
        if what.block and what.crashes >= MOST_CRASHES:
            _LOG.warning("block %s killed its worker twice and becomes rejects", what.block)
        self._check_bounds(error)

    def _check_bounds(self, error: WorkerLostError) -> None:
        most = self._job.config.max_lost_workers
        if self._losses > most:
            raise ResumableError(
                f"{self._losses} workers were lost, more than --max-lost-workers {most} allows; "
                f"the last one because: {error}"
            )
        if self._barren > _LOSSES_WITHOUT_PROGRESS + len(self._lanes):
            raise ResumableError(
                f"{self._barren} workers in a row were lost before any of them finished a block; "
                f"the last one because: {error}"
            )

    def _dismiss_unneeded(self) -> None:
        """Ends workers that Ray has not placed yet when no work is left for them."""
        if self.state.waiting:
            return
        for lane in self._lanes:
            if lane.name not in self.state.started and not lane.dismissed:
                lane.dismiss("no work is left for it")

    def _clear(self, draining: set[str]) -> None:
        """Lets workers of nodes that are to leave finish their blocks; others take their splits."""
        for lane in self._lanes:
            if not lane.leaving and draining.intersection(lane.nodes):
                lane.leaving = True
                self._queue.retire(lane.name)
                _LOG.info("%s ends after its block, as its node is draining", lane.name)

    def _hire(self, draining: set[str]) -> None:
        nodes = [node for node in alive_nodes() if node["NodeID"] not in draining]
        cpus = sum(node["Resources"].get("CPU", 0.0) for node in nodes)
        wanted = wanted_workers(self._job.config, self._fitting, max(1, self._pool.running), cpus)
        fresh = sum(lane.name not in self.state.started for lane in self._lanes)
        staying = sum(not lane.leaving for lane in self._lanes)
        missing = min(wanted - staying, self.state.waiting - fresh)
        if missing > 0 and self._fitting.worker_cpus:
            # Workers that cannot be placed yet would wait in vain while others do the work.
            room = int(ray.available_resources().get("CPU", 0)) - fresh
            missing = min(missing, max(room, 0 if self._lanes else 1))
        for _ in range(missing):
            self._start_lane(nodes)

    def _start_lane(self, nodes: list[dict[str, Any]]) -> None:
        node = None
        if not self._fitting.worker_cpus:
            crowd = Counter(lane.node for lane in self._lanes)
            able = [one["NodeID"] for one in nodes if one["Resources"].get("CPU", 0) >= 1]
            node = min(able, key=lambda one: (crowd[one], one), default=None)
        name = f"worker-{self._started}"
        self._started += 1
        cpus = self._fitting.worker_cpus
        lane = _Lane(name, node, self._job, self._pool, self._queue, cpus)
        lane.start()
        self._lanes.append(lane)

    def _look_after_encoders(self) -> None:
        now = time.monotonic()
        self._pool.loads(timeout=1.0)
        if self._pool.running:
            self._no_encoder_since = None
            return
        if self._no_encoder_since is None:
            self._no_encoder_since, self._said = now, -math.inf
        waited, most = now - self._no_encoder_since, self._job.config.encoder_wait
        if waited > most:
            raise EncoderError(
                f"no encoder could be placed for {most:.0f} s; give the cluster room and run the "
                "same command again to resume"
            )
        if waited > _POLL_SECONDS and now - self._said > _MESSAGE_SECONDS:
            self._said = now
            _LOG.warning(
                "no encoder runs at present; waiting up to %.0f s for one to be placed",
                most - waited,
            )

    def _end(self) -> None:
        for lane in self._lanes:
            lane.dismiss("the run has ended")
        deadline = time.monotonic() + _END_SECONDS
        for lane in self._lanes:
            lane.join(max(0.0, deadline - time.monotonic()))
        self._lanes = []


def alive_nodes() -> list[dict[str, Any]]:
    """Returns the cluster's nodes that are alive, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def draining_nodes() -> set[str]:
    """Returns the ids of the nodes that are about to leave, such as spot machines taken back."""
    return set(ray._private.state.state.get_draining_nodes())


@contextmanager
def run_queue(splits: tuple[Split, ...]) -> Iterator[RunQueue]:
    """Starts the queue of a run's splits, and ends it."""
    queue = RunQueue(splits, ray.get_runtime_context().namespace)
    try:
        yield queue
    finally:
        queue.stop()


@dataclass
class ClusterRun:
    """A run on a cluster: its encoders and, once it works, its workers.

    Attributes:
        pool: The encoders.
        supervisor: Keeps the workers at work.
    """

    pool: EncoderPool
    supervisor: Supervisor

    @property
    def state(self) -> QueueState:
        """How far the queue was when it was last looked at."""
        return self.supervisor.state


@contextmanager
def cluster_run(
    job: Job, splits: tuple[Split, ...], counts: Callable[[], tuple[int, int]]
) -> Iterator[ClusterRun]:
    """Starts what a run on a cluster needs, and ends it.

    Args:
        job: The job.
        splits: The splits that are left to do.
        counts: Returns the documents and rejects that the run has committed so far.
    """
    nodes = [node["Resources"] for node in alive_nodes()]
    fitting = fit(job.config, job.model.device, nodes)
    with ExitStack() as stack:
        pool = stack.enter_context(encoders_on_cluster(job, fitting))
        queue = stack.enter_context(run_queue(splits))
        pool.wait_until_ready()
        yield ClusterRun(pool, Supervisor(job, fitting, pool, queue, counts))
