"""Looking at each of very many files, of which a look may take microseconds or a round trip."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

from embedkit.corpus.splits import FileRange
from embedkit.threads import GeneratorThreads

FILES_AT_ONCE = 32
"""Files that are looked at at the same time, where a look waits for a store."""

_OF_A_THREAD = 64
_AHEAD = 256
# A file that the system holds takes 20 us, one that a disk reads 150 us, a store's 50 ms.
_LONG_SECONDS = 1e-4
_WAITING_SECONDS = 1e-3

_Result = TypeVar("_Result")


def look_at(
    look: Callable[[FileRange], _Result],
    files: Sequence[FileRange],
    announce: Callable[[FileRange], None] | None = None,
) -> Iterator[_Result]:
    """Looks at files, in the way that is quickest for those there are.

    A look at a file that the system holds is over before a thread can begin it, and threads that
    contend for the interpreter take four times as long. For files of a disk they take two to four
    times as long as one thread that has the system read the next files meanwhile. So one file is
    looked at by itself, now and then, and tells how the next ones are.

    Args:
        look: Takes a file, by any thread.
        files: The files.
        announce: Has the system begin to read what ``look`` will need of a file.

    Yields:
        What is returned for each file, in their order.
    """
    with GeneratorThreads(FILES_AT_ONCE, thread_name_prefix="plan") as threads:
        place = 0
        while place < len(files):
            begun = time.perf_counter()
            found = look(files[place])
            seconds = time.perf_counter() - begun
            yield found
            place += 1
            waits = seconds > (_WAITING_SECONDS if announce else _LONG_SECONDS)
            some = files[place : place + (FILES_AT_ONCE * _OF_A_THREAD if waits else _AHEAD)]
            if waits:
                each = max(1, len(some) // FILES_AT_ONCE)
                parts = [some[start : start + each] for start in range(0, len(some), each)]
                yield from chain.from_iterable(
                    threads.map(lambda part: list(map(look, part)), parts)
                )
            else:
                if announce and seconds > _LONG_SECONDS:
                    for file in some:
                        announce(file)
                yield from map(look, some)
            place += len(some)
