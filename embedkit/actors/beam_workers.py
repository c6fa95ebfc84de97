"""Beam workers as Ray actors, and what a runner has to do with each of them."""

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import ray
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    DATA_BUFFER_TIME_LIMIT_MS,
    FNAPI_RUNNER_CAPABILITIES,
    STATE_CACHE_SIZE_MB,
    BeamFnControlServicer,
    GrpcWorkerHandler,
    WorkerHandler,
)
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from embedkit.actors.beam_streams import ControlStream, DataStream, Link
from embedkit.errors import WorkerLostError

URN = "embedkit:env:ray_actor:v1"
"""Beam's name for the environment of steps that run in Ray actors."""

_POLL_SECONDS = 0.5
_VERDICT_SECONDS = 30.0
"""Ray needs so long to tell that a whole node is gone; a stream breaks at once."""

_WATCHER_SECONDS = 5.0
_OUT_OF_MEMORY = "NODE_OUT_OF_MEMORY"
_MIB = 1 << 20


class BeamWorker:
    """One SDK harness, as a Ray actor."""

    def node(self) -> str:
        """Returns the id of the Ray node it runs on; answers as soon as it runs."""
        node: str = ray.get_runtime_context().get_node_id()
        return node

    def run(self, control_address: str, worker_id: str, options: dict[str, Any]) -> None:
        """Works for a runner until that closes the connection.

        Args:
            control_address: ``HOST:PORT`` of the runner's control service.
            worker_id: What the runner calls this worker.
            options: The pipeline's options that differ from their defaults.
        """
        from apache_beam.internal import pickler
        from apache_beam.io.filesystems import FileSystems
        from apache_beam.options.pipeline_options import SetupOptions
        from apache_beam.options.value_provider import RuntimeValueProvider
        from apache_beam.runners.worker.sdk_worker import SdkHarness

        # Beam warns of optional packages that nothing here needs.
        logging.getLogger("apache_beam").setLevel(logging.ERROR)
        RuntimeValueProvider.set_runtime_options(options)
        found = PipelineOptions.from_dictionary(options)
        FileSystems.set_options(found)
        pickler.set_library(found.view_as(SetupOptions).pickle_library)
        SdkHarness(
            control_address,
            worker_id=worker_id,
            state_cache_size=STATE_CACHE_SIZE_MB * _MIB,
            data_buffer_time_limit_ms=DATA_BUFFER_TIME_LIMIT_MS,
            runner_capabilities=FNAPI_RUNNER_CAPABILITIES,
        ).run()


@dataclass
class Workers:
    """The workers of one run of a pipeline, shared by the runner and its handlers.

    Attributes:
        actor_options: What Ray is told of each worker.
        placement_timeout: Seconds to wait for Ray to place a worker.
        pipeline_options: The pipeline's options.
        handlers: The workers' handlers.
    """

    actor_options: dict[str, Any]
    placement_timeout: float
    pipeline_options: dict[str, Any] = field(default_factory=dict)
    handlers: list["RayWorkerHandler"] = field(default_factory=list)

    @property
    def lost(self) -> Exception | None:
        """Why a worker was lost, or None while none was."""
        losses = (handler.link.lost for handler in self.handlers)
        return next((loss for loss in losses if loss is not None), None)


WORKERS_OF_RUNS: dict[str, Workers] = {}
"""The workers of each run of a pipeline that goes on in this process, by the run's key."""


@WorkerHandler.register_environment(URN, bytes)
class RayWorkerHandler(GrpcWorkerHandler):
    """Starts a worker as a Ray actor, and tells the runner when it is gone."""

    def __init__(self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._workers = WORKERS_OF_RUNS[payload.decode()]
        self.link = Link()
        self.node: str | None = None
        self.control_conn = ControlStream(self.link)
        self.data_conn = DataStream(self.link)
        control, data = grpc_server.control_handler, grpc_server.data_plane_handler
        control._connections_by_worker_id[self.worker_id] = self.control_conn
        data._connections_by_worker_id[self.worker_id, ""] = self.data_conn
        self._workers.handlers.append(self)

    def host_from_worker(self) -> str:
        """Returns the address of this node that the others reach it by."""
        host: str = ray.util.get_node_ip_address()
        return f"[{host}]" if ":" in host else host

    def start_worker(self) -> None:
        """Asks Ray for the actor; its placement is waited for in a thread."""
        actor = ray.remote(BeamWorker).options(max_restarts=0, **self._workers.actor_options)
        self._actor = actor.remote()
        name = f"watch-{self.worker_id}"
        self._watcher = threading.Thread(target=self._watch, name=name, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        placed = self._actor.node.remote()
        if not self._wait_until(placed):
            self.give_up(
                f"Ray could not place a Beam worker in {self._workers.placement_timeout:.0f} s; "
                "give the cluster room, or ask for fewer --workers"
            )
            return
        try:
            self.node = ray.get(placed)
        except RayError as error:
            self.give_up(f"a Beam worker could not be started: {_cause(error)}")
            return
        running = self._actor.run.remote(
            self.control_address, self.worker_id, self._workers.pipeline_options
        )
        while not ray.wait([running], timeout=_POLL_SECONDS)[0]:
            if self.link.broken.is_set() and not ray.wait([running], timeout=_VERDICT_SECONDS)[0]:
                self.give_up("a Beam worker was lost: its connection broke")
                return
        try:
            ray.get(running)
        except RayActorError as error:
            self.give_up(f"a Beam worker was lost: {_cause(self._verdict(error))}")
        except RayError as error:
            self.give_up(f"a Beam worker failed: {_cause(error)}")
        else:
            self.give_up("a Beam worker ended before its work did")

    def _verdict(self, error: RayActorError) -> RayActorError:
        """Waits until Ray knows what was lost; at first it says that the connection broke."""
        deadline = time.monotonic() + _VERDICT_SECONDS
        while isinstance(error, ActorUnavailableError) and time.monotonic() < deadline:
            if self.link.over:
                break
            question = self._actor.node.remote()
            if ray.wait([question], timeout=_POLL_SECONDS)[0]:
                error = _answer(question) or error
            time.sleep(_POLL_SECONDS)
        return error

    def _wait_until(self, placed: Any) -> bool:
        deadline = time.monotonic() + self._workers.placement_timeout
        while time.monotonic() < deadline and not self.link.over:
            if ray.wait([placed], timeout=_POLL_SECONDS)[0]:
                return True
        return False

    def give_up(self, why: str) -> None:
        """Fails what the runner waits for, unless the worker was ended on purpose."""
        if not self.link.over:
            self.control_conn.abort(WorkerLostError(why))

    def close(self) -> None:
        """Ends the worker; one that outlived another's loss finishes its bundles before."""
        if self._workers.lost is not None:
            self.control_conn.wait_for_bundles()
        self.link.ended.set()
        if self.link.lost is None:
            super().close()
        else:
            # Its streams have broken, and closing them would raise that once more.
            self.control_conn.push(BeamFnControlServicer._DONE_MARKER)
            self.stop_worker()

    def stop_worker(self) -> None:
        """Ends the actor's process, and the thread that asks Ray for it."""
        ray.kill(self._actor, no_restart=True)
        self._watcher.join(_WATCHER_SECONDS)


def _answer(question: Any) -> RayActorError | None:
    try:
        ray.get(question)
    except RayActorError as error:
        return error
    return None


def _cause(error: RayError) -> str:
    text = str(error)
    if _OUT_OF_MEMORY in text:
        return "Ray ended it because its node ran low on memory"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    said = next((line for line in lines if " is dead because " in line), last)
    return said.partition(". ")[0]
