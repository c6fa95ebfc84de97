"""JobConfig -> RunAccount, whatever the engine."""

import logging
import time
from contextlib import ExitStack
from dataclasses import replace

from embedkit.config import EvaluationConfig, JobConfig
from embedkit.dataset.committed import CommitRecord, committed, done_splits
from embedkit.dataset.device import record_device
from embedkit.encoders.hardware import processor_name
from embedkit.engines.calibration import check_codes, sample_texts
from embedkit.engines.copying import copy_unchanged
from embedkit.engines.display import Display, Nothing
from embedkit.engines.engine import RunningEngine
from embedkit.engines.estimate import expected_work
from embedkit.engines.id_check import with_ids_checked
from embedkit.engines.near_duplicates import look_for_near_duplicates
from embedkit.engines.plain import PlainEngine
from embedkit.engines.progress import Watch, shown
from embedkit.engines.ray_output import ray_says_in_the_log
from embedkit.flow.account import with_loads
from embedkit.flow.beats import beating
from embedkit.flow.calibrate import calibrate
from embedkit.flow.complete import account_of_complete, begin_account, complete_version
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.evaluated import Evaluate
from embedkit.flow.prepare import Job, prepare
from embedkit.reports.account import RunAccount

_LOG = logging.getLogger("embedkit")


def run_job(
    config: JobConfig,
    display: Display | None = None,
    evaluation: EvaluationConfig | None = None,
) -> RunAccount:
    """Runs a job to its complete version, or finds that it is complete already.

    Args:
        config: The job.
        display: Shows progress; nothing is shown without one.
        evaluation: What the complete version is held against before it is published.

    Raises:
        ConfigError: A setting, the model or the output cannot be used.
        InputError: An input, or a file of labels, cannot be used.
        ResumableError: The run stopped; the same job resumes it.
    """
    started = time.time()
    display = display or Nothing()
    evaluate = None if evaluation is None else _evaluate(config, evaluation)
    # The heartbeat goes on when the engine has ended, until the version is complete.
    with ray_says_in_the_log(), display, ExitStack() as kept:
        with _engine(config, display) as engine:
            job = prepare(config, engine.read_model(config))
            if job.version.is_complete():
                return account_of_complete(job, evaluate)
            before = committed(job.version)
            account = replace(begin_account(before.values()), started=started)
            beats = kept.enter_context(beating(job, before.values()))
            account = _embed(job, before, account, engine, display)
            look_for_near_duplicates(job, engine.map_splits, display)
        display.phase("completing the version")
        beats.stop_listing()
        return complete_version(job, account, evaluate=evaluate)


def _evaluate(config: JobConfig, evaluation: EvaluationConfig) -> Evaluate | None:
    if config.limit is not None:
        _LOG.warning("a trial is not evaluated: most of what queries look for is not in it")
        return None
    from embedkit.search.evaluate.of_job import JobEvaluation

    return JobEvaluation.of(config, evaluation)


def _engine(config: JobConfig, display: Display) -> RunningEngine:
    # Beam and Ray take seconds to load, which the plain engine need not wait for.
    if config.engine == "plain":
        return PlainEngine(display)
    if config.engine == "local":
        from embedkit.engines.local import LocalEngine

        return LocalEngine(config, display)
    from embedkit.engines.ray_cluster import RayCluster

    return RayCluster(config, display)


def _embed(
    job: Job,
    before: dict[str, CommitRecord],
    account: RunAccount,
    engine: RunningEngine,
    display: Display,
) -> RunAccount:
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
    with engine.begin(job, splits, before) as work:
        record_device(job.version, work.device)
        if sample is not None:
            display.phase("calibrating codes")
            calibrate(job, sample.texts, work.connect, job.config.call_tokens)
        expected = expected_work(job, splits, before)
        with shown(Watch(work.loads, work.documents, expected), display):
            work.run(expected.host)
        account = replace(account, worker_idle_share=work.worker_idle_share)
        return with_loads(account, work.last_loads(), work.device)
