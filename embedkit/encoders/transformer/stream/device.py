"""What streams need of a device: queues of work, events between them, memory on both sides.

What CUDA calls a stream is called a queue here, where a stream is one of tokens. Work that is put
on a queue is done in its order, whenever the device comes to it; only events order one queue after
another, or the host after a queue.
"""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from embedkit.encoders.hardware import processor_name

_ROOM = 1 / 16
"""Share of a card's memory that the largest stream leaves free: for the model once more in float32,
which computes odd rows again, for fragments between shapes, and for others on the card."""


class Event(Protocol):
    """A point in a queue's work, as of ``torch.cuda.Event``."""

    def synchronize(self) -> None:
        """Waits until the work before it is done."""
        ...

    def elapsed_time(self, end: Any, /) -> float:
        """Returns the milliseconds to a later event; both have passed."""
        ...


class Queue(Protocol):
    """Work that the device does in its order, as of ``torch.cuda.Stream``."""

    def record_event(self, event: Any, /) -> Any:
        """Puts an event behind the work so far."""
        ...

    def wait_event(self, event: Any, /) -> None:
        """Lets the work from here on wait for an event of another queue."""
        ...


class Device(Protocol):
    """A device that computes streams."""

    @property
    def name(self) -> str:
        """The device's name."""
        ...

    @property
    def has_graphs(self) -> bool:
        """Whether work can be captured, to be started again all at once."""
        ...

    def queue(self) -> Queue:
        """Makes a queue; what was begun on the device before comes before its work."""
        ...

    def event(self, timed: bool = False) -> Event:
        """Makes an event; ``timed`` where time is measured by it."""
        ...

    def on(self, queue: Any) -> AbstractContextManager[Any]:
        """Puts what the body does on the device on a queue; memory it makes belongs to that."""
        ...

    def buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        """Makes device memory; what stands in it is left open."""
        ...

    def host_buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        """Makes host memory that the device copies from and to by itself."""
        ...

    def capture(self, work: Callable[[], None], queue: Any) -> Callable[[], None]:
        """Captures work, which is not done now, and returns what does it again on the queue.

        Raises:
            RuntimeError: It cannot be captured, which is no harm to the device.
        """
        ...

    def synchronize(self) -> None:
        """Waits until everything is done.

        Raises:
            RuntimeError: The device is lost.
        """
        ...

    def free_memory(self) -> None:
        """Gives back what nothing holds any more."""
        ...

    def has_room(self, work: Callable[[], None]) -> bool:
        """Does some work, and tells whether its memory would fit again and leave room then.

        Raises:
            OutOfMemoryError: It does not fit even once.
        """
        ...


def device_of(device: torch.device | str) -> Device:
    """Returns what streams need of a device of torch: a CUDA device or the CPU."""
    device = torch.device(device)
    return CudaDevice(device) if device.type == "cuda" else CpuDevice()


class CudaDevice:
    """A CUDA device.

    Args:
        device: The device of torch.
    """

    has_graphs = True

    def __init__(self, device: torch.device) -> None:
        index = torch.cuda.current_device() if device.index is None else device.index
        self._device = torch.device("cuda", index)
        self._pool: Any = None

    @property
    def name(self) -> str:
        """The device's name."""
        return torch.cuda.get_device_name(self._device)

    def queue(self) -> torch.cuda.Stream:
        """Makes a queue behind what was begun by this thread, such as copying the weights."""
        queue = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        queue.wait_stream(torch.cuda.current_stream(self._device))
        return queue

    def event(self, timed: bool = False) -> torch.cuda.Event:
        """Makes an event; who waits for it sleeps, and leaves its core to the tokenizer."""
        return torch.cuda.Event(enable_timing=timed, blocking=True)  # type: ignore[no-untyped-call]

    def on(self, queue: torch.cuda.Stream) -> AbstractContextManager[Any]:
        """Puts the body's work on a queue."""
        return torch.cuda.stream(queue)

    def buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        """Makes device memory."""
        return torch.empty(size, dtype=dtype, device=self._device)

    def host_buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        """Makes pinned host memory."""
        return torch.empty(size, dtype=dtype, pin_memory=True)

    def capture(self, work: Callable[[], None], queue: torch.cuda.Stream) -> Callable[[], None]:
        """Captures work in a CUDA graph.

        All graphs share one pool of memory: they run one after the other on one queue, and what
        one leaves is copied out of the pool within it.
        """
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # Other threads wait for events and make pinned memory meanwhile, which in this mode is
        # forbidden to the capturing thread alone.
        with torch.cuda.graph(
            graph, pool=self._pool, stream=queue, capture_error_mode="thread_local"
        ):
            work()
        replay: Callable[[], None] = graph.replay
        return replay

    def synchronize(self) -> None:
        """Waits for the device."""
        torch.cuda.synchronize(self._device)

    def free_memory(self) -> None:
        """Gives cached memory back to the card, and that of graphs which are gone."""
        self._pool = None
        torch.cuda.empty_cache()

    def has_room(self, work: Callable[[], None]) -> bool:
        """Does some work, and tells whether it fits twice, as work and as a graph, with room."""
        torch.cuda.empty_cache()
        before = torch.cuda.memory_reserved(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        work()
        grown = torch.cuda.max_memory_reserved(self._device) - before
        free, total = torch.cuda.mem_get_info(self._device)
        return free >= grown + total * _ROOM


class _Instant:
    """An event of a device that does everything at once."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def synchronize(self) -> None:
        """Everything is done."""

    def elapsed_time(self, end: "_Instant") -> float:
        """Returns the milliseconds to a later event."""
        return 1_000 * (end.seconds - self.seconds)


class _AtOnce:
    """A queue of a device that does everything at once."""

    def record_event(self, event: _Instant) -> None:
        """Notes the time."""
        event.seconds = time.perf_counter()

    def wait_event(self, event: _Instant) -> None:
        """Everything is done."""


class CpuDevice:
    """The CPU, which does everything at once."""

    has_graphs = False

    @property
    def name(self) -> str:
        """The processor's name."""
        return processor_name()

    def queue(self) -> _AtOnce:
        """Makes a queue."""
        return _AtOnce()

    def event(self, timed: bool = False) -> _Instant:
        """Makes an event."""
        return _Instant()

    def on(self, queue: _AtOnce) -> AbstractContextManager[None]:
        """Does nothing."""
        return nullcontext()

    def buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        """Makes memory."""
        return torch.empty(size, dtype=dtype)

    def host_buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        """Makes memory."""
        return torch.empty(size, dtype=dtype)

    def capture(self, work: Callable[[], None], queue: _AtOnce) -> Callable[[], None]:
        """There are no graphs."""
        raise RuntimeError("the CPU has no graphs")

    def synchronize(self) -> None:
        """Everything is done."""

    def free_memory(self) -> None:
        """There is no cache."""

    def has_room(self, work: Callable[[], None]) -> bool:
        """Does some work; the memory of a host is not looked at."""
        work()
        return True
