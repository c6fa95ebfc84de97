"""Near duplicates of a larger version, looked for on an engine's workers before it ends."""

from embedkit.dataset.committed import committed, committed_blocks
from embedkit.dataset.finalize import Totals
from embedkit.engines.display import Display
from embedkit.engines.estimate import vector_bytes
from embedkit.flow.large_documents import reject_whole_documents
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.near_duplicates import find_by_workers, is_gated, is_surely_small
from embedkit.flow.prepare import Job


def look_for_near_duplicates(job: Job, map_splits: MapSplits, display: Display) -> None:
    """Looks for near duplicates where the version is large; of others it is part of completing it.

    Args:
        job: The job, every block committed.
        map_splits: Reaches the engine's workers.
        display: Shows what the run is at.

    Raises:
        ConfigError: They were asked for, and what it takes is not installed.
        IntegrityError: A file of the version is damaged.
        StoreError: The store failed.
    """
    version, asked = job.version, job.output.near_duplicates
    size = vector_bytes(1, job.model.vectors.dimension, job.output.vector_dtype)
    if asked == "off" or is_surely_small(version, size):
        return
    display.phase("looking for near duplicates")
    if job.records.has_many_rows:
        # What that takes away would have been looked at for nothing.
        reject_whole_documents(version, committed_blocks(version))
    totals = Totals.of(tuple(committed(version).values()))
    taken_over = 0 if is_gated(job.output) else totals.reuse.versions.total()
    find_by_workers(version, totals.parts, asked, job.shows_texts, map_splits, taken_over)
