"""What a process must mind that was forked from one which had torch."""

import logging
import os
import sys

_log = logging.getLogger(__name__)
_parent_had_torch = False


def note_forks() -> None:
    """Has every fork of this process note whether torch came along."""
    os.register_at_fork(after_in_child=_note_fork)


def _note_fork() -> None:
    global _parent_had_torch
    _parent_had_torch = "torch" in sys.modules


def torch_has_no_threads() -> bool:
    """Tells whether torch may wait in this process forever for threads that only its parent has.

    They are of its library for parallel loops, GNU's OpenMP, which is not made for forks:
    https://docs.pytorch.org/docs/stable/notes/multiprocessing.html. Whether the parent has begun
    any, nobody can ask.
    """
    return _parent_had_torch


def settle_after_fork() -> None:
    """Lets torch compute with one thread in a process that has none of its parent's."""
    if not torch_has_no_threads():
        return
    import torch

    if torch.get_num_threads() > 1:
        torch.set_num_threads(1)
        _log.warning(
            "process %d was forked from one that had imported torch, whose threads are not in it: "
            "torch computes with one thread here; start processes by 'spawn' to have more",
            os.getpid(),
        )
