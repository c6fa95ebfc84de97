"""One worker of a run on a cluster, as the driver sees it."""

import threading
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from embedkit.actors.beam_runner import RayBeamRunner
from embedkit.actors.encoder_pool import EncoderPool
from embedkit.actors.split_queue import RunQueue
from embedkit.engines.beam import run_to_end
from embedkit.engines.ray_join import alive_nodes
from embedkit.errors import EmbedkitError, ResumableError
from embedkit.flow.prepare import Job
from embedkit.transforms.embed import EmbedBlocks
from embedkit.transforms.read import ReadClaimed


class Worker(threading.Thread):
    """A Beam pipeline over the splits that the queue hands to it."""

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
        source = queue.connection(name)
        blocks = self._pipeline | "ReadClaimed" >> ReadClaimed(source, job)
        _ = blocks | "EmbedBlocks" >> EmbedBlocks(
            job, pool.connection, job.config.call_tokens, source.on_commit
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
        """Ids of the nodes that it was placed on: one, or none before."""
        return self._runner.worker_nodes

    def at_fault(self) -> bool:
        """Whether its process was lost while its node lives on."""
        alive = {node["NodeID"] for node in alive_nodes()}
        return all(node in alive for node in self.nodes)

    def dismiss(self, why: str) -> None:
        """Ends it, whatever it does."""
        self.dismissed = True
        self._runner.lose_workers(why)
