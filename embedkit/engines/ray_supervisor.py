"""Keeping the workers of a run on a cluster at work: more of them, fewer, others for lost ones.

A worker that takes a lost one's place is another pass over what is left: the number of passes is
bounded, and each must make progress.
"""

import logging
import math
import time
from collections import Counter
from typing import Any

import ray

from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.metrics import RunMetrics, RunState
from embedkit.actors.split_queue import RunQueue
from embedkit.encoders.fitting import Fitting, workers_on_cluster
from embedkit.encoders.host_cores import HostCores
from embedkit.engines.ray_join import alive_nodes, draining_nodes
from embedkit.engines.ray_worker import Worker
from embedkit.errors import EncoderError, ResumableError, WorkerLostError
from embedkit.flow.ledger import MOST_CRASHES
from embedkit.flow.prepare import Job

_LOG = logging.getLogger("embedkit")
_POLL_SECONDS = 0.5
_MESSAGE_SECONDS = 30.0
_METRICS_SECONDS = 10.0
_END_SECONDS = 10.0
_LOSSES_WITHOUT_PROGRESS = 3


class Supervisor:
    """Keeps a run's workers at work until nothing is left to do.

    Args:
        job: The job.
        fitting: How it fits the cluster.
        pool: Its encoders.
        queue: Its splits.
    """

    def __init__(self, job: Job, fitting: Fitting, pool: EncoderPool, queue: RunQueue) -> None:
        self._cores = HostCores()
        self._metrics = RunMetrics(job.version.name)
        self._shown = -math.inf
        self._job = job
        self._fitting = fitting
        self._pool = pool
        self._queue = queue
        self._workers: list[Worker] = []
        self._started = 0
        self._losses = 0
        self._fruitless = 0
        self._blocks = 0
        self._no_encoder_since: float | None = None
        self._said = 0.0
        self.state = queue.state()

    def run(self, cores: HostCores) -> None:
        """Works until every split is done.

        Args:
            cores: How many cores have something to do.

        Raises:
            ResumableError: Too many workers were lost, or no encoder could be placed for too long.
            EmbedkitError: What stopped a worker.
        """
        self._cores = cores
        try:
            while True:
                self.state = self._queue.state()
                self._collect_ended()
                if not (self._workers or self.state.waiting or self.state.claimed):
                    return
                self._dismiss_unneeded()
                draining = draining_nodes()
                self._retire_on(draining)
                self._start_wanted(draining)
                self._look_after_encoders()
                if time.monotonic() - self._shown > _METRICS_SECONDS:
                    self._show_metrics()
                time.sleep(_POLL_SECONDS)
        finally:
            self._end()
            self._show_metrics()

    def _show_metrics(self) -> None:
        self._shown = time.monotonic()
        self._metrics.show(
            RunState(
                documents=self.state.documents_of_run,
                rejects=self.state.rejects,
                splits_waiting=self.state.waiting,
                splits_claimed=self.state.claimed,
                workers=len(self._workers),
                lost_workers=self._losses,
                encoders=self._pool.running,
                loads=tuple(self._pool.loads(timeout=1.0)),
            )
        )

    def _collect_ended(self) -> None:
        for worker in [worker for worker in self._workers if not worker.is_alive()]:
            self._workers.remove(worker)
            if isinstance(worker.error, WorkerLostError):
                self._replace_lost(worker, worker.error)
            elif worker.error is not None:
                raise worker.error
        self.state = self._queue.state()

    def _replace_lost(self, worker: Worker, error: WorkerLostError) -> None:
        # Also of one that was dismissed, as it may have found a split at the last moment.
        what = self._queue.release(worker.name, not worker.dismissed and worker.at_fault())
        if worker.dismissed:
            return
        self._losses += 1
        self._fruitless = (
            0 if self.state.blocks > self._blocks or what.crashes else self._fruitless + 1
        )
        self._blocks = self.state.blocks
        place = f"at block {what.block}" if what.block else f"reading split {what.split}"
        _LOG.warning(
            "%s was lost %s: %s; another takes over what it had not committed",
            worker.name,
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
        if self._fruitless > _LOSSES_WITHOUT_PROGRESS + len(self._workers):
            raise ResumableError(
                f"{self._fruitless} workers in a row were lost before any of them finished a "
                f"block; the last one because: {error}"
            )

    def _dismiss_unneeded(self) -> None:
        """Ends workers that Ray has not placed yet when no work is left for them."""
        if self.state.waiting:
            return
        for worker in self._workers:
            if worker.name not in self.state.started and not worker.dismissed:
                worker.dismiss("no work is left for it")

    def _retire_on(self, draining: set[str]) -> None:
        """Lets workers of nodes that are to leave finish their blocks; others take their splits."""
        for worker in self._workers:
            if not worker.leaving and draining.intersection(worker.nodes):
                worker.leaving = True
                self._queue.retire(worker.name)
                _LOG.info("%s ends after its block, as its node is draining", worker.name)

    def _start_wanted(self, draining: set[str]) -> None:
        nodes = [node for node in alive_nodes() if node["NodeID"] not in draining]
        cpus = sum(node["Resources"].get("CPU", 0.0) for node in nodes)
        wanted = workers_on_cluster(
            self._job.config,
            self._fitting,
            max(1, self._pool.running),
            cpus,
            self._cores,
        )
        fresh = sum(worker.name not in self.state.started for worker in self._workers)
        staying = sum(not worker.leaving for worker in self._workers)
        missing = min(wanted - staying, self.state.waiting - fresh)
        if missing > 0 and self._fitting.worker_cpus:
            # Workers that cannot be placed yet would wait in vain while others do the work.
            room = int(ray.available_resources().get("CPU", 0)) - fresh
            missing = min(missing, max(room, 0 if self._workers else 1))
        for _ in range(missing):
            self._start_worker(nodes)

    def _start_worker(self, nodes: list[dict[str, Any]]) -> None:
        node = None
        if not self._fitting.worker_cpus:
            workers_on = Counter(worker.node for worker in self._workers)
            able = [one["NodeID"] for one in nodes if one["Resources"].get("CPU", 0) >= 1]
            node = min(able, key=lambda one: (workers_on[one], one), default=None)
        name = f"worker-{self._started}"
        self._started += 1
        cpus = self._fitting.worker_cpus
        worker = Worker(name, node, self._job, self._pool, self._queue, cpus)
        worker.start()
        self._workers.append(worker)

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
        for worker in self._workers:
            worker.dismiss("the run has ended")
        deadline = time.monotonic() + _END_SECONDS
        for worker in self._workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        self._workers = []
