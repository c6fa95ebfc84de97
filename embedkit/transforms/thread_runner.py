"""A Beam runner whose workers are threads of this process, which opens no socket for them.

Beam's own ``FnApiRunner`` has several workers only over gRPC: its ports listen on every address of
the machine, and one of them hands out whatever file is asked for. Its single worker within the
process needs none, and here there are several of those.
"""

import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from apache_beam import Pipeline
from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
from apache_beam.portability import python_urns
from apache_beam.portability.api import beam_fn_api_pb2, beam_provision_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.fn_api_runner.fn_runner import ExtendedProvisionInfo
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    ControlFuture,
    EmbeddedWorkerHandler,
    WorkerHandler,
)
from apache_beam.runners.worker.data_plane import InMemoryDataChannel, InMemoryDataChannelFactory
from apache_beam.utils.thread_pool_executor import shared_unbounded_instance


class ThreadRunner(FnApiRunner):
    """Runs any batch pipeline on threads of this process.

    Args:
        workers: Number of threads that a stage's elements are divided among, in one bundle each.

    Raises:
        RuntimeError: From ``run``: a step failed; the message has its traceback.
    """

    def __init__(self, workers: int = 1) -> None:
        self._workers = workers
        super().__init__(provision_info=_OnThreads())

    def run_pipeline(self, pipeline: Pipeline, options: PipelineOptions) -> Any:
        """Runs a pipeline to its end."""
        direct = options.view_as(DirectOptions)
        direct.direct_num_workers = self._workers
        # None of Beam's own modes, which would set another environment or warn of this one.
        direct.direct_running_mode = "threads"
        return super().run_pipeline(pipeline, options)


class _OnThreads(ExtendedProvisionInfo):
    """Tells the workers of a ``ThreadRunner`` from those of other runners in this process."""

    def __init__(self) -> None:
        super().__init__(beam_provision_api_pb2.ProvisionInfo(retrieval_token="none"))

    def for_environment(self, environment: Any) -> "_OnThreads":
        """Returns itself: a worker in this process has what this process has."""
        return self


class _Elements(defaultdict[str, list[Any]]):
    """What has been sent to one side of a channel, by the bundle that it belongs to."""

    def __init__(self) -> None:
        super().__init__(list)

    def append(self, element: Any) -> None:
        self[element.instruction_id].append(element)


class _Channel(InMemoryDataChannel):
    """A data channel in memory that several bundles may use at once.

    Beam's own goes through one list for all of them, and may lose an element between two threads.
    """

    def __init__(self, inverse: InMemoryDataChannel | None = None) -> None:
        super().__init__(inverse or _Channel(self))
        self._inputs = _Elements()

    def input_elements(
        self,
        instruction_id: str,
        unused_expected_inputs: Any,
        abort_callback: Callable[[], bool] | None = None,
    ) -> Iterator[Any]:
        """Yields what was sent to this side for a bundle, all of which is there."""
        for element in self._inputs.pop(instruction_id, ()):
            is_timer = isinstance(element, beam_fn_api_pb2.Elements.Timers)
            if not element.is_last if is_timer else element.data or element.is_last:
                yield element


class _ThreadWorkerHandler(EmbeddedWorkerHandler):
    def __init__(self, payload: None, state: Any, provision_info: Any, manager: Any) -> None:
        super().__init__(payload, state, provision_info, manager)
        self.data_conn = self.data_plane_handler = _Channel()
        self.bundle_processor_cache.data_channel_factory = InMemoryDataChannelFactory(
            self.data_conn.inverse()
        )

    def push(self, request: Any) -> ControlFuture:
        """Carries a request out, on a thread, and returns its answer.

        A signal ends the main thread's wait for it, and is no matter of the steps that run.
        """
        running = shared_unbounded_instance().submit(super().push, request)
        error = running.exception()
        if error is None:
            answered: ControlFuture = running.result()
            return answered
        failed = beam_fn_api_pb2.InstructionResponse(
            instruction_id=request.instruction_id,
            error="".join(traceback.format_exception(error)),
        )
        return ControlFuture(request.instruction_id, failed)


@WorkerHandler.register_environment(python_urns.EMBEDDED_PYTHON, None)
def _worker_in_process(payload: None, state: Any, provision_info: Any, manager: Any) -> Any:
    ours = isinstance(provision_info, _OnThreads)
    make = _ThreadWorkerHandler if ours else EmbeddedWorkerHandler
    return make(payload, state, provision_info, manager)
