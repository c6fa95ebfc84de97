"""How a process that is embedkit's own gives memory back."""

import ctypes
import platform

import pyarrow as pa

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_LARGE = 2 << 20
_KEPT = 8 << 20


def return_freed_memory() -> None:
    """Makes this process return large buffers to the system as soon as they are freed.

    By default glibc takes the first large buffer that is freed as a sign to keep those that
    follow, up to 32 MiB each and apart for every thread, and Arrow's pool keeps what it had as
    well: after a few blocks a process holds several times what it uses. A buffer from the system
    costs some page faults more, so this is for processes that read, tokenize and write, and for
    none that runs a model or belongs to somebody else. Smaller ones are given back only above 8 MiB
    for each thread: else each page of a Parquet file faults anew, which takes a quarter of the time
    of writing it. Where the C library is not glibc, only Arrow changes.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGE)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT)
    pa.set_memory_pool(pa.system_memory_pool())
