"""What commands that run a job have in common."""

from typing import TYPE_CHECKING, Literal

from embedkit.cli.logs import display_named, say, summary

if TYPE_CHECKING:
    from embedkit.config import EvaluationConfig, JobConfig

ENDS_OF_RUN = (
    "Exit codes: 0 done; 2 a bad setting, input or surroundings, which another try cannot help; "
    "3 finished, but more was rejected than allowed; 4 stopped or failed, and the same command "
    "resumes it; 5 finished, but a gate failed."
)


def run_and_say(
    job: "JobConfig",
    as_json: bool,
    progress: Literal["auto", "bar", "lines", "none"],
    evaluation: "EvaluationConfig | None" = None,
) -> None:
    """Runs a job and prints what came of it.

    Raises:
        NotPublishedError: The version is complete, but is not to be published.
    """
    from embedkit.cli.memory import return_freed_memory
    from embedkit.engines.run import run_job
    from embedkit.flow.publish import raise_where_refused

    if job.engine != "plain":
        return_freed_memory()
    result = run_job(job, display_named(progress), evaluation)
    say(result.to_json() if as_json else summary(result))
    raise_where_refused(result)
