"""The sample that codes are calibrated with, read on an engine's workers before any is made."""

from collections.abc import Mapping

from embedkit.corpus.text_sample import TextSample
from embedkit.dataset.calibration import check_calibration
from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.finalize import Totals
from embedkit.engines.display import Display
from embedkit.flow.calibrate import needs_calibration, sample_by_workers
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.prepare import Job
from embedkit.quantization import CALIBRATED


def check_codes(job: Job, *committed: Mapping[str, CommitRecord]) -> None:
    """Makes sure that codes which are committed are made as those to come will be.

    Args:
        job: The job.
        committed: Its blocks by where they come from, of each of which one is looked at.

    Raises:
        IntegrityError: They are made by another calibration than the one that stands.
        StoreError: The store failed.
    """
    if job.output.vector_dtype in CALIBRATED:
        for records in committed:
            check_calibration(job.version, Totals.of(tuple(records.values())).parts)


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
