"""What a process keeps of the memory that its blocks have freed."""

import platform
import subprocess
import sys

import pytest

_SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, psutil, pyarrow as pa
from embedkit.cli.memory import return_freed_memory

def work(number):
    for _ in range(3):
        vectors = np.ones((16_384, 384), dtype=np.float32)
        part = vectors.tobytes()
        sink = pa.BufferOutputStream()
        for start in range(0, len(part), 1 << 20):
            sink.write(part[start : start + (1 << 20)])
        sink.getvalue()

if sys.argv[1] == "return":
    return_freed_memory()
with ThreadPoolExecutor(3) as threads:
    before = psutil.Process().memory_info().rss
    list(threads.map(work, range(3)))
    print((psutil.Process().memory_info().rss - before) >> 20)
"""


def kept(how: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries keep little")
def test_freed_blocks_go_back_to_the_system():
    assert kept("return") < 24
    assert kept("keep") > 48, "the C library gives memory back by itself by now"
