"""What a process keeps of the memory that its blocks have freed."""

import os
import platform
import subprocess
import sys
from pathlib import Path

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


_WRITE = """
import resource
import threading
import numpy as np
from embedkit.cli.memory import return_freed_memory
return_freed_memory()
import pyarrow as pa
from embedkit.dataset.parquet import write_part
from embedkit.dataset.schema import PartOptions
from embedkit.vectors import Vectors
from span_blocks import span_block

block = span_block(["word " * 100] * 100)
vectors = Vectors(np.ones(10_000 * 384, np.float32), 384, block.vectors.offsets)
place = block.rows.schema.get_field_index("embeddings")
rows = block.rows.set_column(place, "embeddings", vectors.to_arrow())
block, options = block.with_rows(rows), PartOptions(384, file_metadata={}, column="embeddings")

def work():
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        size = len(write_part(block, options))
        faults = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before
    print(faults * resource.getpagesize() / size)

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries do as they like")
def test_writing_a_part_takes_new_memory_for_its_bytes_alone():
    done = subprocess.run(
        [sys.executable, "-c", _WRITE], capture_output=True, text=True, check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip
    assert float(done.stdout) < 1.3
