"""Repeated ids, found on an engine's workers before it embeds anything."""

from dataclasses import replace

from embedkit.corpus.plan import Split
from embedkit.engines.display import Display
from embedkit.flow.check_ids import check_ids_by_workers
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.prepare import Job


def with_ids_checked(
    job: Job, splits: tuple[Split, ...], map_splits: MapSplits, display: Display
) -> tuple[Job, tuple[Split, ...]]:
    """Returns a job and its splits with the records noted that repeat an id.

    Args:
        job: The job.
        splits: The splits that are left to do; those that are done count as well.
        map_splits: Reaches the engine's workers.
        display: Shows what the run is at.

    Raises:
        InputError: So many ids repeat that the column holds none, or a file cannot be read.
    """
    if job.plan.ids_checked:
        return job, splits
    display.phase("looking for repeated ids")
    earlier = None if job.reuse is None else job.reuse.version
    plan = check_ids_by_workers(job.plan, job.config, job.version, map_splits, earlier)
    left = {split.split_id for split in splits}
    return replace(job, plan=plan), tuple(one for one in plan.splits if one.split_id in left)
