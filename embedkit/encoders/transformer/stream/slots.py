"""The memory of a stream on its way through the device, on both sides."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from embedkit.encoders.transformer.stream.device import Device, Queue
from embedkit.encoders.transformer.stream.layout import Stream

_ALIGNED = 64
"""Arrays of an input begin at multiples of so many int32: 256 bytes, as CUDA's own memory does."""


@dataclass(frozen=True)
class StreamShape:
    """The shape of a stream, whose three arrays travel as one.

    Attributes:
        length: Tokens.
        slots: Rows, dummy and empty ones included.
        longest: No row has more tokens.
    """

    length: int
    slots: int
    longest: int

    @property
    def size(self) -> int:
        """Length of the one array."""
        return 2 * _aligned(self.length) + self.slots + 1

    @property
    def behind(self) -> int:
        """Where in a slot begins what stands behind the one array."""
        return _aligned(self.size)

    def arrays(self, whole: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns ids, places and offsets as views of the one array."""
        places = _aligned(self.length)
        offsets = 2 * places
        return (
            whole[: self.length],
            whole[places : places + self.length],
            whole[offsets : offsets + self.slots + 1],
        )


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


class Slot:
    """Room for one stream: its input and output on the host and on the device.

    What keeps the memory right, and what each line of ``submit`` is for:

    - The host writes ``_host_in`` and reads ``_host_out`` only while nothing is under way in the
      slot: before ``submit``, and after ``done`` has passed, behind which nothing of it is left.
    - ``copied`` orders computing behind the copy in; ``end`` orders the copy out behind computing.
      Nothing else is shared by two queues: what computing reads and writes beside the slot, such
      as the fixed memory of graphs, belongs to its queue alone, which works in its order. So the
      copies of one slot overlap the computing of another.
    - Device memory is made on the queue that writes it first, and let go only while nothing is
      under way in the slot: the allocator gives memory that is let go to the next who asks on the
      same queue, without waiting for others.
    - What the host has grows last, so that its size is that of both where there was no memory.

    Args:
        device: The device.
        copying_in: The queue of copies to the device.
        computing: The queue of computing.
        copying_out: The queue of copies from the device.
    """

    def __init__(
        self, device: Device, copying_in: Queue, computing: Queue, copying_out: Queue
    ) -> None:
        self._device = device
        self._copying_in, self._computing, self._copying_out = copying_in, computing, copying_out
        self._copied, self._done = device.event(), device.event()
        self._start, self._end = device.event(timed=True), device.event(timed=True)
        self._host_in = self._device_in = torch.empty(0, dtype=torch.int32)
        self._host_out = self._device_out = torch.empty(0)
        self._found = self._host_out
        self._filled = 0
        self._under_way = False

    def fill(self, stream: Stream, more: NDArray[np.int32] | None = None) -> StreamShape:
        """Writes a stream into the slot, which is free.

        Args:
            stream: The stream.
            more: What is put behind it, at ``StreamShape.behind``.
        """
        if self._under_way:
            # Its last stream failed half-way: nobody has waited for what was begun of it.
            self._device.synchronize()
            self._under_way = False
        shape = StreamShape(len(stream.input_ids), len(stream.offsets) - 1, stream.longest)
        self._filled = shape.size if more is None else shape.behind + len(more)
        if self._filled > len(self._host_in):
            size = 1 << (self._filled - 1).bit_length()
            host_in = self._device.host_buffer(size, torch.int32)
            with self._device.on(self._copying_in):
                self._device_in = self._device.buffer(size, torch.int32)
            self._host_in = host_in
        arrays = (stream.input_ids, stream.places, stream.offsets)
        for to, array in zip(shape.arrays(self._host_in), arrays, strict=True):
            to.copy_(torch.from_numpy(array))
        if more is not None:
            self._host_in[shape.behind : self._filled].copy_(torch.from_numpy(more))
        return shape

    def submit(
        self, shape: StreamShape, number: int, compute: Callable[[StreamShape, Tensor], Tensor]
    ) -> None:
        """Puts a stream's way through the device on the queues, and waits for nothing.

        Args:
            shape: The shape of the stream that the slot was filled with.
            number: How many of its vectors are wanted, the first ones.
            compute: Takes the shape and the input on the device, and returns the vectors, of shape
                (that number or more, dimension). They are copied before anything else is computed.
        """
        self._under_way = True
        whole = self._device_in[: self._filled]
        with self._device.on(self._copying_in):
            whole.copy_(self._host_in[: self._filled], non_blocking=True)
            self._copying_in.record_event(self._copied)
        self._computing.wait_event(self._copied)
        with self._device.on(self._computing):
            self._computing.record_event(self._start)
            vectors = compute(shape, whole)[:number]
            self._make_out(vectors.numel())
            kept = self._device_out[: vectors.numel()].view_as(vectors)
            kept.copy_(vectors)
            self._computing.record_event(self._end)
        self._copying_out.wait_event(self._end)
        with self._device.on(self._copying_out):
            self._found = self._host_out[: vectors.numel()].view_as(vectors)
            self._found.copy_(kept, non_blocking=True)
            self._copying_out.record_event(self._done)

    def _make_out(self, size: int) -> None:
        if size > len(self._host_out):
            size = 1 << (size - 1).bit_length()
            host_out = self._device.host_buffer(size, torch.float32)
            self._device_out = self._device.buffer(size, torch.float32)
            self._host_out = host_out

    def wait(self) -> tuple[NDArray[np.float32], float]:
        """Waits until the vectors have come.

        Returns:
            The vectors, as a view into the slot, shape (number, dimension), and the seconds during
            which the device computed them.
        """
        self._done.synchronize()
        self._under_way = False
        vectors: NDArray[np.float32] = self._found.numpy()
        return vectors, self._start.elapsed_time(self._end) / 1_000
