"""The sample that codes and int8 are calibrated with, read on an engine's workers before."""

from collections.abc import Mapping

from embedkit.corpus.text_sample import TextSample
from embedkit.dataset.calibration import check_calibration
from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.finalize import Totals
from embedkit.engines.display import Display
from embedkit.flow.calibrate import needs_calibration, sample_by_workers
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.prepare import Job, with_standing_ranges
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
    """Samples the texts of a corpus where nothing says yet how its vectors are rounded.

    Args:
        job: The job; splits that are done count as well.
        map_splits: Reaches the engine's workers.
        display: Shows what the run is at.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    if not (job.model.needs_ranges or needs_calibration(job)):
        return None
    display.phase("choosing texts to calibrate with")
    return sample_by_workers(job, job.config, map_splits)


def with_ranges(
    job: Job, sample: TextSample | None, map_splits: MapSplits, display: Display
) -> Job:
    """Returns a job that knows what layers of int8 are given, measured now if nothing says it yet.

    Args:
        job: The job.
        sample: What ``sample_texts`` returned.
        map_splits: Reaches the engine's workers.
        display: Shows what the run is at.

    Raises:
        ConfigError: There is no text to measure with, or the model cannot run in int8.
        EncoderError: The model's files are not what they were.
        StoreError: The store failed.
    """
    if sample is None or not job.model.needs_ranges:
        return job
    display.phase("measuring layers for int8")
    from embedkit.flow.layer_ranges import measure_ranges

    measure_ranges(job, sample.texts, map_splits, job.config.call_tokens)
    return with_standing_ranges(job)
