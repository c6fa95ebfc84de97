"""Beam and Ray on this machine."""

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

from embedkit.config import JobConfig
from embedkit.corpus.plan import Split
from embedkit.dataset.committed import CommitRecord
from embedkit.encoders.kinds import read_job_model
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.display import Display
from embedkit.flow.map_splits import OfSplit, Result, map_in_threads
from embedkit.flow.prepare import Job
from embedkit.flow.tally import documents_by_split

if TYPE_CHECKING:
    from embedkit.engines.local_work import LocalWork

_READ_HERE = 32 << 20
"""Bytes of files that this process has read sooner than others have started."""


class LocalEngine:
    """Embeds splits with Beam on threads of this process, and encoders in a Ray of its own.

    Beam and Ray take seconds to load, which a finished job need not wait for: both are first
    imported when they are needed.

    Args:
        config: The job.
        display: Shows the phases of a start.
    """

    def __init__(self, config: JobConfig, display: Display) -> None:
        self._config = config
        self._display = display
        self._ray: ExitStack | None = None

    def __enter__(self) -> Self:
        """Starts nothing yet."""
        return self

    def __exit__(self, *error: Any) -> None:
        """Ends Ray, if it was started."""
        if self._ray is not None:
            self._ray.__exit__(*error)

    def read_model(self, config: JobConfig) -> ModelSpec:
        """Settles a model for this machine."""
        return read_job_model(config, config)

    def map_splits(
        self, function: Callable[[OfSplit], Result], items: Sequence[OfSplit], /
    ) -> Iterable[Result]:
        """Maps a function over splits on all CPUs, or here where it would not be worth a start."""
        if sum(piece.stored for one in items for piece in one.split.ranges) <= _READ_HERE:
            return map_in_threads(function, items)
        self._start_ray()
        from embedkit.engines.local_work import map_in_ray

        return map_in_ray(self._config, function, items)

    def begin(
        self, job: Job, splits: Sequence[Split], committed: Mapping[str, CommitRecord]
    ) -> AbstractContextManager["LocalWork"]:
        """Starts Ray and the encoders, and waits until they have loaded the model."""
        self._start_ray()
        from embedkit.engines.local_work import local_work

        return local_work(job, splits, documents_by_split(committed.values()), self._display)

    def _start_ray(self) -> None:
        if self._ray is not None:
            return
        self._display.phase("starting Ray")
        from embedkit.engines.ray_start import ray_on_this_machine

        # This process does little but wait until Ray's own have come up.
        loading = threading.Thread(target=import_module, args=("apache_beam",), daemon=True)
        loading.start()
        self._ray = ExitStack()
        self._ray.enter_context(ray_on_this_machine("embedkit"))
        loading.join()
