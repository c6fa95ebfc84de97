"""A Beam runner whose workers are Ray actors, so that Ray places them over a cluster's nodes.

Beam's own ``FnApiRunner`` runs the pipeline from the driver: it translates and fuses it, hands each
worker its bundles over gRPC and holds what passes between stages. Only where a worker's SDK harness
runs is new: in a Ray actor.
"""

import uuid
from collections.abc import Mapping
from typing import Any

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.transforms.environments import Environment, python_sdk_capabilities

from embedkit.actors.beam_workers import URN, WORKERS_OF_RUNS, Workers


@Environment.register_urn(URN, bytes)
class RayActorEnvironment(Environment):
    """The environment of steps that run in Ray actors.

    Args:
        run: Key of the run whose workers they are.
    """

    def __init__(
        self,
        run: str = "",
        capabilities: Any = (),
        artifacts: Any = (),
        resource_hints: Any = None,
    ) -> None:
        super().__init__(capabilities, artifacts, resource_hints)
        self.run = run

    def __eq__(self, other: object) -> bool:
        return super().__eq__(other) and self.run == getattr(other, "run", None)

    def __hash__(self) -> int:
        return hash((super().__hash__(), self.run))

    def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
        """Returns the environment's name and the key of its workers."""
        return URN, self.run.encode()

    @staticmethod
    def from_runner_api_parameter(
        payload: bytes, capabilities: Any, artifacts: Any, resource_hints: Any, context: Any
    ) -> "RayActorEnvironment":
        """Reads back what ``to_runner_api_parameter`` gave."""
        return RayActorEnvironment(payload.decode(), capabilities, artifacts, resource_hints)


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
        self._workers = Workers(wanted, placement_timeout)
        self._count = workers
        super().__init__(
            default_environment=RayActorEnvironment(
                self._key, capabilities=python_sdk_capabilities()
            )
        )
        self._provision_info = _NothingToHandOut()

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> Any:
        """Runs a pipeline to its end."""
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = self._count
        # Neither of Beam's own modes, each of which would set another environment.
        direct.direct_running_mode = "ray"
        self._workers.pipeline_options = options.get_all_options(drop_default=True)
        WORKERS_OF_RUNS[self._key] = self._workers
        try:
            return super().run_pipeline(pipeline, options)
        except RuntimeError as error:
            # A stage with outputs may fail at its data stream before it hears of the loss.
            if self._workers.lost is None:
                raise
            raise self._workers.lost from error
        finally:
            del WORKERS_OF_RUNS[self._key]

    @property
    def worker_nodes(self) -> list[str]:
        """Ids of the Ray nodes that the workers were placed on, as far as they were."""
        return [handler.node for handler in self._workers.handlers if handler.node is not None]

    def lose_workers(self, why: str) -> None:
        """Gives all workers up: ``run`` ends soon, with ``WorkerLostError``.

        Args:
            why: The error's message.
        """
        for handler in list(self._workers.handlers):
            handler.give_up(why)
