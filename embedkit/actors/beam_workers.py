"""A Beam runner whose workers are Ray actors, so that Ray places them over a cluster's nodes.

Beam's own ``FnApiRunner`` runs the pipeline from the driver: it translates and fuses it, hands each
worker its bundles over gRPC and holds what passes between stages. Only where a worker's SDK harness
runs is new: in a Ray actor.
"""

import logging
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import ray
from apache_beam import Pipeline
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    DATA_BUFFER_TIME_LIMIT_MS,
    FNAPI_RUNNER_CAPABILITIES,
    STATE_CACHE_SIZE_MB,
    BeamFnControlServicer,
    ControlConnection,
    GrpcWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.worker.data_plane import _GrpcDataChannel
from apache_beam.transforms.environments import Environment, python_sdk_capabilities
from ray.exceptions import ActorUnavailableError, RayActorError, RayError

from embedkit.errors import WorkerLostError

_LOG = logging.getLogger("embedkit")
_URN = "embedkit:env:ray_actor:v1"
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
class _Crew:
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
    handlers: list["_RayWorkerHandler"] = field(default_factory=list)

    @property
    def lost(self) -> Exception | None:
        """Why a worker was lost, or None while none was."""
        losses = (handler.link.lost for handler in self.handlers)
        return next((loss for loss in losses if loss is not None), None)


_crews: dict[str, _Crew] = {}


@Environment.register_urn(_URN, bytes)
class RayActorEnvironment(Environment):
    """The environment of steps that run in Ray actors.

    Args:
        crew: Key of the workers that a runner starts for it.
    """

    def __init__(
        self,
        crew: str = "",
        capabilities: Any = (),
        artifacts: Any = (),
        resource_hints: Any = None,
    ) -> None:
        super().__init__(capabilities, artifacts, resource_hints)
        self.crew = crew

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.crew == getattr(other, "crew", None)

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.crew))

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """Returns the environment's name and the key of its workers."""
        return _URN, self.crew.encode()

    @staticmethod
    def from_runner_api_parameter(
        payload: bytes, capabilities: Any, artifacts: Any, resource_hints: Any, context: Any
    ) -> "RayActorEnvironment":
        """Reads back what ``to_runner_api_parameter`` gave."""
        return RayActorEnvironment(payload.decode(), capabilities, artifacts, resource_hints)


class _Link:
    """Whether a worker's streams hold.

    Attributes:
        lost: Why its worker is lost, or None.
        broken: Set when a stream broke.
        ended: Set when nobody is interested any more.
    """

    def __init__(self) -> None:
        self.lost: Exception | None = None
        self.broken = threading.Event()
        self.ended = threading.Event()

    def until_broken(self, stream: Iterable[Any]) -> Iterator[Any]:
        """Yields a stream's items; one that broke ends when it is known what became of its worker.

        Beam takes the end of a stream for a fault of its own, and says so first.
        """
        try:
            yield from stream
        except grpc.RpcError:
            self.broken.set()
            while not self.over:
                time.sleep(_POLL_SECONDS)

    @property
    def over(self) -> bool:
        """Whether the worker is lost, or nobody is interested any more."""
        return self.lost is not None or self.ended.is_set()


class _ControlConnection(ControlConnection):
    """A control connection that fails what is asked of a lost worker, then and ever after.

    Beam's own fails what was asked before the loss, and waits for good for what is asked later.
    """

    def __init__(self, link: _Link) -> None:
        super().__init__()
        self._link = link
        self._bundles: list[Any] = []

    def push(self, req: Any) -> Any:
        """Sends a request; returns its future."""
        future = super().push(req)
        if future is not None:
            if req.WhichOneof("request") == "process_bundle":
                self._bundles.append(future)
            if self._link.lost is not None:
                future.abort(self._link.lost)
        return future

    def set_input(self, input: Any) -> None:
        """Begins to read the worker's answers."""
        super().set_input(self._link.until_broken(input))

    def abort(self, exn: Exception) -> None:
        """Fails all that is waited for and all that will be."""
        self._link.lost = exn
        for future in list(self._futures_by_id.values()):
            future.abort(exn)

    def wait_for_bundles(self) -> None:
        """Waits until the bundles under way are done or their worker is lost."""
        while self._link.lost is None and not all(bundle.is_done() for bundle in self._bundles):
            time.sleep(_POLL_SECONDS)


class _DataConnection(_GrpcDataChannel):
    """A data connection whose worker may be lost, which is no fault of the thread that reads it."""

    def __init__(self, link: _Link) -> None:
        super().__init__(DATA_BUFFER_TIME_LIMIT_MS)
        self._link = link

    def _read_inputs(self, elements_iterator: Any) -> None:
        super()._read_inputs(self._link.until_broken(elements_iterator))


@WorkerHandler.register_environment(_URN, bytes)
class _RayWorkerHandler(GrpcWorkerHandler):
    """Starts a worker as a Ray actor, and tells the runner when it is gone."""

    def __init__(self, payload: bytes, state: Any, provision_info: Any, grpc_server: Any) -> None:
        super().__init__(state, provision_info, grpc_server)
        self._crew = _crews[payload.decode()]
        self.link = _Link()
        self.node: str | None = None
        self.control_conn = _ControlConnection(self.link)
        self.data_conn = _DataConnection(self.link)
        control, data = grpc_server.control_handler, grpc_server.data_plane_handler
        control._connections_by_worker_id[self.worker_id] = self.control_conn
        data._connections_by_worker_id[self.worker_id, ""] = self.data_conn
        self._crew.handlers.append(self)

    def host_from_worker(self) -> str:
        """Returns the address of this node that the others reach it by."""
        host: str = ray.util.get_node_ip_address()
        return f"[{host}]" if ":" in host else host

    def start_worker(self) -> None:
        """Asks Ray for the actor; its placement is waited for in a thread."""
        actor = ray.remote(BeamWorker).options(max_restarts=0, **self._crew.actor_options)
        self._actor = actor.remote()
        name = f"watch-{self.worker_id}"
        self._watcher = threading.Thread(target=self._watch, name=name, daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        placed = self._actor.node.remote()
        if not self._wait_until(placed):
            self.give_up(
                f"Ray could not place a Beam worker in {self._crew.placement_timeout:.0f} s; give "
                "the cluster room, or ask for fewer --workers"
            )
            return
        try:
            self.node = ray.get(placed)
        except RayError as error:
            self.give_up(f"a Beam worker could not be started: {_cause(error)}")
            return
        running = self._actor.run.remote(
            self.control_address, self.worker_id, self._crew.pipeline_options
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
        deadline = time.monotonic() + self._crew.placement_timeout
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
        if self._crew.lost is not None:
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


class _NothingToHandOut(ExtendedProvisionInfo):
    """Has Beam serve no artifacts, which workers here do not ask for: it would give out any file.

    Beam serves them, to whoever reaches its control port, where this counts as true.
    """

    def __bool__(self) -> bool:
        return False

    def for_environment(self, environment: Any) -> "_NothingToHandOut":
        """Returns itself: nodes have what a worker needs."""
        return self


class RayBeamRunner(FnApiRunner):
    """Runs any Beam pipeline with its workers as Ray actors.

    Ray must be initialized. Every worker must be able to import what the pipeline's steps import,
    and to open a connection to the driver's node.

    What it does not do: it runs batch pipelines alone. A stage's elements are divided among the
    workers before it begins, in one bundle each. What passes from one stage to the next, such as
    the groups of a ``GroupByKey``, passes through the driver's memory, so move descriptions of
    data between stages and the data itself within one. The connections carry no authentication:
    keep the cluster's network to itself. Steps with resource hints get workers of their own.

    A worker that is lost, with its process or with its node, is noticed within seconds, whatever
    the stage: the others finish the bundles they have, and then ``run`` raises. It starts nothing
    again by itself, since only the pipeline knows what of its work is already done.

    Args:
        workers: Number of workers.
        actor_options: What Ray is told of each, such as ``num_cpus``, ``resources`` or
            ``scheduling_strategy``; one CPU, spread over the nodes, unless given.
        placement_timeout: Seconds to wait for Ray to place a worker.

    Raises:
        WorkerLostError: From ``run``: a worker was lost, or could not be placed in time.
        RuntimeError: From ``run``: a step failed; the message has its traceback.
    """

    def __init__(
        self,
        workers: int = 1,
        actor_options: Mapping[str, Any] | None = None,
        placement_timeout: float = 600.0,
    ) -> None:
        self._key = uuid.uuid4().hex
        wanted = {"num_cpus": 1, "scheduling_strategy": "SPREAD", **(actor_options or {})}
        self._crew = _Crew(wanted, placement_timeout)
        self._workers = workers
        super().__init__(
            default_environment=RayActorEnvironment(
                self._key, capabilities=python_sdk_capabilities()
            )
        )
        self._provision_info = _NothingToHandOut()

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> Any:
        """Runs a pipeline to its end."""
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = self._workers
        # Neither of Beam's own modes, each of which would set another environment.
        direct.direct_running_mode = "ray"
        self._crew.pipeline_options = options.get_all_options(drop_default=True)
        _crews[self._key] = self._crew
        try:
            return super().run_pipeline(pipeline, options)
        except RuntimeError as error:
            # A stage with outputs may fail at its data stream before it hears of the loss.
            if self._crew.lost is None:
                raise
            raise self._crew.lost from error
        finally:
            del _crews[self._key]

    @property
    def worker_nodes(self) -> list[str]:
        """Ids of the Ray nodes that the workers were placed on, as far as they were."""
        return [handler.node for handler in self._crew.handlers if handler.node is not None]

    def lose_workers(self, why: str) -> None:
        """Gives all workers up: ``run`` ends soon, with ``WorkerLostError``.

        Args:
            why: The error's message.
        """
        for handler in list(self._crew.handlers):
            handler.give_up(why)
