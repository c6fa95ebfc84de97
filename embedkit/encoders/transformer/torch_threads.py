"""How many CPU threads torch computes with."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from embedkit.forks import torch_has_no_threads


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Computes with a number of threads, where there is one, and gives the process its own back.

    It is the process's, where another model or the program may have set it since; vectors' last
    bits depend on it.
    """
    before = torch.get_num_threads()
    if torch_has_no_threads():
        number = 1
    if number is None or number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
