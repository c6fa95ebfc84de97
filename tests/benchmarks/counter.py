"""Counts what this process does instead of timing it: instructions, or calls and allocations."""

import ctypes
import os
import platform
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Self

import pyarrow as pa

import embedkit

INSTRUCTIONS = (0, 1)
"""``PERF_TYPE_HARDWARE``, ``PERF_COUNT_HW_INSTRUCTIONS``."""

TASK_CLOCK = (1, 1)
"""``PERF_TYPE_SOFTWARE``, ``PERF_COUNT_SW_TASK_CLOCK``: nanoseconds, counted on any machine."""

# linux/perf_event.h: struct perf_event_attr as it was at first, of which the later ones are longer.
_ATTRIBUTES = struct.Struct("=IIQQQQQIIQ")
_INHERIT, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 1, 1 << 5, 1 << 6
_TIME_ENABLED, _TIME_RUNNING = 1, 2
_CALL_NUMBERS = {"x86_64": 298, "aarch64": 241}
_PACKAGE = f"{Path(embedkit.__file__).parent}{os.sep}"


class KernelCounter:
    """A counter of the Linux kernel for the calling thread and all threads it starts from now on.

    Threads that were there before, such as those of Arrow's pool, are left out, and so is what the
    kernel does for any of them.

    Args:
        event: Type and number of what is counted, as in ``linux/perf_event.h``.

    Raises:
        OSError: The machine has no such counter, or does not let this process use it.
    """

    def __init__(self, event: tuple[int, int] = INSTRUCTIONS) -> None:
        kind, number = event
        flags = _INHERIT | _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR
        times = _TIME_ENABLED | _TIME_RUNNING
        attributes = _ATTRIBUTES.pack(
            *(kind, _ATTRIBUTES.size, number, 0, 0, times, flags, 0, 0, 0)
        )
        call = _CALL_NUMBERS.get(platform.machine()) if sys.platform == "linux" else None
        if call is None:
            raise OSError(f"no counters known on {sys.platform} {platform.machine()}")
        libc = ctypes.CDLL(None, use_errno=True)
        # Of this thread, on whatever core, in no group, without flags.
        self._file = libc.syscall(call, attributes, 0, -1, -1, ctypes.c_ulong(0))
        if self._file < 0:
            raise OSError(ctypes.get_errno(), f"perf_event_open: {os.strerror(ctypes.get_errno())}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)

    def read(self) -> int:
        """Returns the count so far, of the whole time where others had the counter for some of it.

        Raises:
            OSError: Others have had it all the time.
        """
        count, enabled, running = struct.unpack("=QQQ", os.read(self._file, 24))
        if not running:
            raise OSError("perf_event_open: others use all counters of this machine")
        return int(count * enabled / running)


@dataclass
class Calls:
    """Calls and allocations, which are the same each time the same work is done.

    Attributes:
        by_part: Calls of functions, of Python and of C, by the module or package right below
            ``embedkit`` that does them; what others do for it is counted to it.
        allocations: Blocks of memory that Arrow allocated.
        allocated_bytes: Their bytes.
    """

    by_part: Counter[str] = field(default_factory=Counter)
    allocations: int = 0
    allocated_bytes: int = 0


@contextmanager
def counted_calls() -> Iterator[Calls]:
    """Counts calls of this thread and of those that it starts while the body runs.

    Yields:
        The counts, which are whole when the body has ended.
    """
    found, pool = Calls(), pa.default_memory_pool()

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_call"):
            found.by_part[_part_of(frame)] += 1

    before = sys.getprofile()
    allocations, allocated = pool.num_allocations(), pool.total_bytes_allocated()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(before)
        threading.setprofile(before)
    found.allocations = pool.num_allocations() - allocations
    found.allocated_bytes = pool.total_bytes_allocated() - allocated


def _part_of(frame: FrameType | None) -> str:
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(_PACKAGE):
            return name.removeprefix(_PACKAGE).split(os.sep)[0].removesuffix(".py")
        frame = frame.f_back
    return "others"


def count_instructions(work: Callable[[], object], counter: KernelCounter) -> int:
    """Returns what a counter says more after some work than before.

    Raises:
        OSError: Others have had the counter all the time.
    """
    before = counter.read()
    work()
    return counter.read() - before
