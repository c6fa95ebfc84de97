"""The streams between a runner and its workers, any of which may break at any time."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any

import grpc
from apache_beam.runners.portability.fn_api_runner.worker_handlers import (
    DATA_BUFFER_TIME_LIMIT_MS,
    ControlConnection,
)
from apache_beam.runners.worker.data_plane import _GrpcDataChannel

_POLL_SECONDS = 0.5


class Link:
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


class ControlStream(ControlConnection):
    """A control connection that fails what is asked of a lost worker, then and ever after.

    Beam's own fails what was asked before the loss, and waits for good for what is asked later.
    """

    def __init__(self, link: Link) -> None:
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


class DataStream(_GrpcDataChannel):
    """A data connection whose worker may be lost, which is no fault of the thread that reads it."""

    def __init__(self, link: Link) -> None:
        super().__init__(DATA_BUFFER_TIME_LIMIT_MS)
        self._link = link

    def _read_inputs(self, elements_iterator: Any) -> None:
        super()._read_inputs(self._link.until_broken(elements_iterator))
