"""JobConfig -> RunAccount, whatever the engine."""

import logging
import time
from contextlib import ExitStack
from dataclasses import replace

from embedkit.config import EvaluationConfig, JobConfig
from embedkit.dataset.committed import committed
from embedkit.engines.display import Display, Nothing
from embedkit.engines.engine import RunningEngine
from embedkit.engines.plain import PlainEngine
from embedkit.engines.ray_output import ray_says_in_the_log
from embedkit.errors.wrong_kinds import check_kind
from embedkit.flow.beats import beating
from embedkit.flow.completed import account_of_complete, begin_account
from embedkit.flow.evaluated import Evaluate
from embedkit.flow.prepare import prepare
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
    check_kind("config", config, JobConfig)
    if evaluation is not None:
        check_kind("evaluation", evaluation, EvaluationConfig)
    display = display or Nothing()
    evaluate = None if evaluation is None else _evaluate(config, evaluation)
    # The heartbeat goes on when the engine has ended, until the version is complete.
    with ray_says_in_the_log(), display, ExitStack() as kept:
        with _engine(config, display) as engine:
            job = prepare(config, engine.read_model(config))
            if job.version.is_complete():
                return account_of_complete(job, evaluate)
            # What a run of a finished job need not wait for.
            from embedkit.engines.encode_splits import encode_splits
            from embedkit.engines.near_duplicates import look_for_near_duplicates

            before = committed(job.version)
            account = replace(begin_account(before.values()), started=started)
            beats = kept.enter_context(beating(job, before.values()))
            account = encode_splits(job, before, account, engine, display)
            look_for_near_duplicates(job, engine.map_splits, display)
        from embedkit.flow.complete import complete_version

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
