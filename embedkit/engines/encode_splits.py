"""The splits of a job that are still to do, on whatever engine."""

import logging
from dataclasses import replace

from embedkit.dataset.committed import CommitRecord, done_splits
from embedkit.dataset.device import record_device
from embedkit.encoders.hardware import processor_name
from embedkit.engines.calibration import check_codes, sample_texts, with_ranges
from embedkit.engines.copying import copy_unchanged
from embedkit.engines.display import Display
from embedkit.engines.engine import RunningEngine
from embedkit.engines.estimate import expected_work
from embedkit.engines.id_check import with_ids_checked
from embedkit.engines.progress import Watch, shown
from embedkit.flow.account import with_loads
from embedkit.flow.calibrate import calibrate, needs_calibration
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.prepare import Job
from embedkit.reports.account import RunAccount

_LOG = logging.getLogger("embedkit")


def encode_splits(
    job: Job,
    before: dict[str, CommitRecord],
    account: RunAccount,
    engine: RunningEngine,
    display: Display,
) -> RunAccount:
    """Encodes what no earlier try of a version has done, or takes it over from an earlier version.

    Args:
        job: The job.
        before: What earlier tries have committed, by block.
        account: The account of the run so far.
        engine: What runs it.
        display: Shows progress.

    Returns:
        The account with what the encoders did.
    """
    done = done_splits(job.version, before)
    splits = tuple(split for split in job.plan.splits if split.split_id not in done)
    _LOG.info(
        "version %s: %d of %d splits to do, %d rows committed before",
        job.version.name,
        len(splits),
        len(job.plan.splits),
        account.rows_resumed,
    )
    copied: dict[str, CommitRecord] = {}
    if splits:
        job, splits = with_ids_checked(job, splits, engine.map_splits, display)
        copied, splits = copy_unchanged(job, splits, engine.map_splits, display)
    check_codes(job, before, copied)
    before = before | copied
    if not splits:
        on_cpu = job.model.placement.device == "cpu"
        return with_loads(account, (), processor_name() if on_cpu else job.model.placement.device)
    if job.reuse is not None and job.reuse.scope == "global":
        display.phase(f"looking at the rows of version {job.reuse.version.name}")
        EarlierRows(job.reuse).write_index(engine.map_splits)
    sample = sample_texts(job, engine.map_splits, display)
    job = with_ranges(job, sample, engine.map_splits, display)
    with engine.begin(job, splits, before) as work:
        record_device(job.version, work.device)
        if sample is not None and needs_calibration(job):
            display.phase("calibrating codes")
            calibrate(job, sample.texts, work.connect, job.config.call_tokens)
        expected = expected_work(job, splits, before)
        with shown(Watch(work.loads, work.documents, expected), display):
            work.run(expected.host)
        account = replace(account, worker_idle_share=work.worker_idle_share)
        return with_loads(account, work.last_loads(), work.device)
