"""A function over splits, on whatever workers there are."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from embedkit.corpus.splits import Split
from embedkit.threads import GeneratorThreads

_THREADS = 4
_WAITING_THREADS = 16
"""Threads that read no file of a split and wait for a store alone."""


class HasSplit(Protocol):
    """Something to be done with a split."""

    @property
    def split(self) -> Split:
        """The split."""
        ...


OfSplit = TypeVar("OfSplit", bound=HasSplit)
Result = TypeVar("Result")


class MapSplits(Protocol):
    """Maps a function over splits, or over what is to be done with them."""

    def __call__(
        self, function: Callable[[OfSplit], Result], items: Sequence[OfSplit], /
    ) -> Iterable[Result]:
        """Returns what the function returned of each item, in their order.

        Args:
            function: Picklable, as its results are; called again where a worker was lost.
            items: What it is given, each with its ``split``.

        Raises:
            EmbedkitError: What stopped it.
        """
        ...


def map_in_threads(
    function: Callable[[OfSplit], Result], items: Sequence[OfSplit], /
) -> Iterator[Result]:
    """Maps a function over splits in this process, a few at a time: some may wait for a store."""
    read = any(one.split.ranges for one in items)
    count = _THREADS if read else _WAITING_THREADS
    with GeneratorThreads(count, thread_name_prefix="splits") as threads:
        yield from threads.map(function, items)
