"""The sample that codes are calibrated with, read on an engine's workers before any is made."""

from embedkit.corpus.text_sample import TextSample
from embedkit.engines.display import Display
from embedkit.flow.calibrate import needs_calibration, sample_by_workers
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.prepare import Job


def sample_texts(job: Job, map_splits: MapSplits, display: Display) -> TextSample | None:
    """Samples the texts of a corpus where nothing says yet how its codes are made.

    Args:
        job: The job; splits that are done count as well.
        map_splits: Reaches the engine's workers.
        display: Shows what the run is at.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    if not needs_calibration(job):
        return None
    display.phase("choosing texts to calibrate codes with")
    return sample_by_workers(job, job.config, map_splits)
