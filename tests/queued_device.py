"""A device of queues on the CPU that finds what real queues would get wrong.

Every operation of torch is done at once, but noted on the queue that it would be put on, with what
it reads and writes. Two operations on the same memory, of which one writes, must be ordered: by
their queue, by events, or by a wait of the host; else on a device they might come in either order,
which is noted as a fault. This is how race detectors work, with vector clocks. Moreover:

- What is copied to the host stands there only after the host has waited for it; NaN until then.
- Work that is captured is not done; what it writes is NaN until it is replayed.
- Memory that is made on one queue and used first, or let go, on another is a fault, as is work on
  no queue, and waiting for the device while work is captured.
"""

import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

HOST = "host"


@dataclass
class Access:
    """An operation's use of some bytes of a buffer."""

    lane: str
    time: int
    write: bool
    start: int
    end: int
    what: str


@dataclass
class Buffer:
    """Memory that a device made, and who used it."""

    lane: str
    on_device: bool
    start: int
    size: int
    accesses: list[Access] = field(default_factory=list)


@dataclass
class Lane:
    """A queue, or the host: how far it is, and how far it knows the others to be."""

    name: str
    clock: dict[str, int] = field(default_factory=dict)
    milliseconds: float = 0.0

    def join(self, clock: dict[str, int], milliseconds: float = 0.0) -> None:
        for lane, time in clock.items():
            self.clock[lane] = max(self.clock.get(lane, 0), time)
        self.milliseconds = max(self.milliseconds, milliseconds)

    def step(self) -> int:
        self.clock[self.name] = self.clock.get(self.name, 0) + 1
        return self.clock[self.name]


class FakeEvent:
    """An event, which knows what was before it when it was last recorded."""

    def __init__(self, device: "QueuedDevice", timed: bool) -> None:
        self.device, self.timed = device, timed
        self.clock: dict[str, int] = {}
        self.milliseconds: float | None = None

    def synchronize(self) -> None:
        device = self.device
        ahead = {q.lane.name: q.lane.clock.get(q.lane.name, 0) for q in device.queues}
        device.ahead.append(sum(n > self.clock.get(lane, 0) for lane, n in ahead.items()))
        device.wait_host(self.clock)

    def elapsed_time(self, end: "FakeEvent") -> float:
        assert self.timed
        assert end.timed
        device = self.device
        with device.lock:
            for event in (self, end):
                if not device.known(event.clock):
                    device.faults.append("a time is asked for before its event has passed")
        return end.milliseconds - self.milliseconds


class FakeQueue:
    """A queue."""

    def __init__(self, device: "QueuedDevice", name: str) -> None:
        self.device, self.lane = device, Lane(name)

    def record_event(self, event: FakeEvent) -> None:
        with self.device.lock:
            self.lane.join(self.device.host.clock)
            event.clock, event.milliseconds = dict(self.lane.clock), self.lane.milliseconds

    def wait_event(self, event: FakeEvent) -> None:
        with self.device.lock:
            self.lane.join(self.device.host.clock)
            self.lane.join(event.clock, event.milliseconds or 0.0)


class QueuedDevice:
    """The device; used by a backend whose threads are inside ``watching``.

    Attributes:
        faults: What a real device might have got wrong.
        captures: Shapes of graphs, as often as one was captured.
        replays: How many were replayed.
        waits: How often the host waited for the whole device.
        ahead: For each event that the host waited for, how many queues had work after it.
        done: Operations by queue.
    """

    name = "queues"
    has_graphs = True

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.faults: list[str] = []
        self.captures = self.replays = self.waits = self.freed = 0
        self.ahead: list[int] = []
        self.done: Counter[str] = Counter()
        self.capture_error: Exception | None = None
        self.lost: Exception | None = None
        self.host = Lane(HOST)
        self.queues: list[FakeQueue] = []
        self.buffers: list[Buffer] = []
        self.owners: dict[int, tuple[str, StorageWeakRef]] = {}
        self.arriving: list[tuple[str, int, Tensor, Tensor]] = []
        self.local = threading.local()

    # --- what backends ask for ---

    def queue(self) -> FakeQueue:
        self.queues.append(FakeQueue(self, f"queue-{len(self.queues)}"))
        return self.queues[-1]

    def event(self, timed: bool = False) -> FakeEvent:
        return FakeEvent(self, timed)

    @contextmanager
    def on(self, queue: FakeQueue) -> Iterator[None]:
        before, self.local.queue = self.current(), queue
        try:
            yield
        finally:
            self.local.queue = before

    def current(self) -> FakeQueue | None:
        return getattr(self.local, "queue", None)

    def buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        queue = self.current()
        return self._made(size, dtype, queue.lane.name if queue else "no queue", on_device=True)

    def host_buffer(self, size: int, dtype: torch.dtype) -> Tensor:
        return self._made(size, dtype, HOST, on_device=False)

    def _made(self, size: int, dtype: torch.dtype, lane: str, on_device: bool) -> Tensor:
        with torch.utils._python_dispatch._disable_current_modes(), self.lock:
            made = torch.empty(size, dtype=dtype)
            made.fill_(torch.nan if dtype.is_floating_point else 0)
            buffer = Buffer(lane, on_device, made.data_ptr(), made.nbytes)
            self.buffers.append(buffer)
            weakref.finalize(made, self._let_go, buffer)
            return made

    def _let_go(self, buffer: Buffer) -> None:
        with self.lock:
            self.buffers.remove(buffer)
            owner = next((q.lane for q in self.queues if q.lane.name == buffer.lane), self.host)
            seen = dict(owner.clock)
            for lane, time in self.host.clock.items():
                seen[lane] = max(seen.get(lane, 0), time)
            for access in buffer.accesses if buffer.on_device else ():
                if seen.get(access.lane, 0) < access.time:
                    self.faults.append(f"memory of {buffer.lane} let go before {access.what}")

    def capture(self, work: Callable[[], None], queue: FakeQueue) -> Callable[[], None]:
        self.synchronize()
        if self.capture_error is not None:
            raise self.capture_error
        self.local.captured = captured = []
        try:
            work()
        finally:
            self.local.captured = None
        self.captures += 1

        last: dict[str, int] = {}

        def replay() -> None:
            assert self.current() is queue, "a graph is replayed on the queue it belongs to"
            self.replays += 1
            work()
            last.update(queue.lane.clock)

        weakref.finalize(replay, self._let_graph_go, last)
        with torch.utils._python_dispatch._disable_current_modes():
            for tensor in captured:
                tensor.fill_(torch.nan)
        return replay

    def _let_graph_go(self, last: dict[str, int]) -> None:
        if not self.known(last):
            self.faults.append("a graph is let go while it is under way")

    def synchronize(self) -> None:
        if self.lost is not None:
            raise self.lost
        self.waits += 1
        with self.lock:
            for queue in self.queues:
                self.wait_host(dict(queue.lane.clock))

    def free_memory(self) -> None:
        self.freed += 1

    def has_room(self, work: Callable[[], None]) -> bool:
        work()
        return True

    # --- what happens on it ---

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watches this thread's operations."""
        with _Watch(self):
            yield

    def known(self, clock: dict[str, int]) -> bool:
        return all(self.host.clock.get(lane, 0) >= time for lane, time in clock.items())

    def wait_host(self, clock: dict[str, int]) -> None:
        with self.lock, torch.utils._python_dispatch._disable_current_modes():
            if getattr(self.local, "captured", None) is not None:
                raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
            self.host.join(clock)
            for arrival in list(self.arriving):
                lane, time, to, values = arrival
                if self.host.clock.get(lane, 0) >= time:
                    to.copy_(values)
                    self.arriving.remove(arrival)

    def note(self, what: str, read: list[Tensor], written: list[Tensor]) -> Lane | None:
        """Notes an operation; returns its lane, or None where it is captured."""
        with self.lock:
            uses = [(one, False) for one in read] + [(one, True) for one in written]
            found = [(self._buffer_of(one), one, write) for one, write in uses]
            on_device = any(
                buffer.on_device if buffer else self._owner_of(one) for buffer, one, _ in found
            )
            if getattr(self.local, "captured", None) is not None:
                self.local.captured += [
                    one for buffer, one, write in found if write and buffer is not None
                ]
                return None
            lane = self._lane(what, on_device)
            time = lane.step()
            self.done[lane.name] += 1
            lane.milliseconds += on_device
            for buffer, one, write in found:
                if buffer is not None:
                    self._use(buffer, Access(lane.name, time, write, *_extent(one), what), lane)
                elif on_device:
                    owner = self._owner_of(one)
                    if owner not in (None, lane.name):
                        self.faults.append(f"{what}: {lane.name} uses memory of {owner}")
            return lane

    def _lane(self, what: str, on_device: bool) -> Lane:
        if not on_device:
            return self.host
        queue = self.current()
        if queue is None:
            self.faults.append(f"{what}: work of the device on no queue")
            return self.host
        queue.lane.join(self.host.clock)
        return queue.lane

    def _use(self, buffer: Buffer, use: Access, lane: Lane) -> None:
        if buffer.on_device and not buffer.accesses and buffer.lane != lane.name:
            self.faults.append(f"{use.what}: {lane.name} is first to use memory of {buffer.lane}")
        for other in buffer.accesses:
            overlaps = other.start < use.end and use.start < other.end
            ordered = lane.clock.get(other.lane, 0) >= other.time
            if overlaps and (other.write or use.write) and not ordered:
                self.faults.append(f"{use.what} on {use.lane} races {other.what} on {other.lane}")
        buffer.accesses.append(use)
        del buffer.accesses[:-64]

    def _buffer_of(self, tensor: Tensor) -> Buffer | None:
        start = tensor.untyped_storage().data_ptr()
        return next((one for one in self.buffers if one.start == start), None)

    def _owner_of(self, tensor: Tensor) -> str | None:
        lane, storage = self.owners.get(tensor.untyped_storage()._cdata, (None, None))
        return None if storage is None or storage.expired() else lane

    def own(self, tensor: Tensor, lane: Lane | None) -> None:
        """Notes whose memory the result of an operation is."""
        with self.lock:
            storage = tensor.untyped_storage()
            if lane is not None and lane.name != HOST:
                # A weak reference keeps the address from being that of another.
                self.owners[storage._cdata] = lane.name, StorageWeakRef(storage)


def _extent(tensor: Tensor) -> tuple[int, int]:
    start = tensor.storage_offset() * tensor.itemsize
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    last = sum((size - 1) * stride for size, stride in steps) if tensor.numel() else -1
    return start, start + (last + 1) * tensor.itemsize


class _Watch(TorchDispatchMode):
    def __init__(self, device: QueuedDevice) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        flat, _ = torch.utils._pytree.tree_flatten((args, kwargs))
        tensors = [one for one in flat if isinstance(one, Tensor)]
        schema = function._schema
        named = dict(zip([one.name for one in schema.arguments], args, strict=False)) | kwargs
        written = [
            named[one.name]
            for one in schema.arguments
            if one.alias_info is not None and one.alias_info.is_write and one.name in named
        ]
        if not written and any(one.alias_info is not None for one in schema.returns):
            viewed = function(*args, **kwargs)
            storages = {one.untyped_storage()._cdata for one in tensors}
            leaves = torch.utils._pytree.tree_leaves(viewed)
            if all(one.untyped_storage()._cdata in storages for one in leaves):
                return viewed
        read = [one for one in tensors if all(one is not other for other in written)]
        if schema.name == "aten::copy_" and (arrived := self._copied(written[0], read[0])):
            return arrived[0]
        lane = self.device.note(schema.name, read, written)
        result = function(*args, **kwargs)
        for one in torch.utils._pytree.tree_leaves(result):
            if isinstance(one, Tensor) and all(one is not other for other in written):
                self.device.own(one, lane)
        return result

    def _copied(self, to: Tensor, values: Tensor) -> tuple[Tensor] | None:
        """Copies from the device to the host, where it arrives when the host has waited for it."""
        device = self.device
        ours, theirs = device._buffer_of(to), device._buffer_of(values)
        if (
            ours is None
            or ours.on_device
            or not (theirs.on_device if theirs else device._owner_of(values))
        ):
            return None
        lane = device.note("aten::copy_ to the host", [values], [to])
        if lane is not None:
            with device.lock:
                moment = lane.clock[lane.name]
                device.arriving.append((lane.name, moment, to, values.clone()))
                to.fill_(torch.nan)
        return (to,)
