"""Threads that work for a generator."""

from concurrent.futures import ThreadPoolExecutor


class GeneratorThreads(ThreadPoolExecutor):
    """Threads of a generator, which is never waited for where somebody has abandoned it.

    What an error leaves behind is closed by the collector of garbage, at whatever point some thread
    is: also where that thread has begun, and holds the lock that the end of any other takes. Who
    waits for an end there waits forever.
    """

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Waits for what is under way, unless the generator was closed before its end."""
        abandoned = kind is not None and issubclass(kind, GeneratorExit)
        self.shutdown(wait=not abandoned, cancel_futures=abandoned)
