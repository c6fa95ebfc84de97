"""Starts a scheduled run on Kubernetes and waits for its end: what the CronJob's pod does.

``python -m pipelines.submit_rayjob --template embedkit --job-file /etc/embedkit/job.yaml``

It reads a suspended RayJob, the template, and creates a copy that runs, named after the pod's
Job. So a pod that is started again finds the run of its Job instead of starting a second one, and
``concurrencyPolicy: Forbid`` covers the whole run, since the Job lasts as long as the run. The exit
code is embedkit's own: 0 done, 2 bad configuration or input, 3 too many rejects, 4 failed and
resumable. Anything else means that this program, not the run, should be started again.
"""

import argparse
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from embedkit.cli.options import read_job
from embedkit.errors import ConfigError, EmbedkitError, ResumableError
from pipelines.kubernetes_api import ExistsError, KubernetesApi, MissingError, UnavailableError

# KubeRay refuses a longer name: it appends to it, and services end at 63 characters.
LONGEST_NAME = 47
_LABELS = ("app.kubernetes.io/name", "app.kubernetes.io/part-of")
_QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
_EXIT_CODE = re.compile(r"failed with exit code (\d+)")
_EXIT_CODES = (2, 3, 4, 5)


def run_name(job_name: str) -> str:
    """Returns the name of a Job's RayJob.

    It differs from the Job's own, because KubeRay gives its submitter Job the RayJob's name and
    would take the CronJob's Job for it.

    Args:
        job_name: Name of the Job.

    Raises:
        ConfigError: The name would be longer than KubeRay allows.
    """
    name = f"{job_name}-run"
    if len(name) > LONGEST_NAME:
        raise ConfigError(
            f"{name}: a RayJob's name has at most {LONGEST_NAME} characters; shorten the CronJob's"
        )
    return name


def run_manifest(
    template: dict[str, Any], job_name: str, job_uid: str, queue: str | None
) -> dict[str, Any]:
    """Returns the RayJob of one run.

    Args:
        template: The suspended RayJob to copy.
        job_name: Name of the Job that owns the run; deleting it stops the run.
        job_uid: Its uid.
        queue: Kueue's LocalQueue that decides when the run starts; at once where None.

    Raises:
        ConfigError: The template is not suspended, so it is a run itself.
    """
    metadata, spec = template["metadata"], template["spec"]
    if not spec.get("suspend"):
        raise ConfigError(f"RayJob {metadata['name']}: a template needs spec.suspend: true")
    labels = {key: metadata["labels"][key] for key in _LABELS if key in metadata.get("labels", {})}
    if queue:
        labels[_QUEUE_LABEL] = queue
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job_name, "uid": job_uid}
    return {
        "apiVersion": template["apiVersion"],
        "kind": template["kind"],
        "metadata": {"name": run_name(job_name), "labels": labels, "ownerReferences": [owner]},
        "spec": {**spec, "suspend": bool(queue)},
    }


def exit_code(status: dict[str, Any]) -> int | None:
    """Returns embedkit's exit code from a RayJob's status, or None while it is not over.

    Args:
        status: The RayJob's ``status``.
    """
    deployment = status.get("jobDeploymentStatus")
    if deployment == "Complete":
        return 0 if status.get("jobStatus") == "SUCCEEDED" else ResumableError.exit_code
    if deployment == "ValidationFailed":
        return ConfigError.exit_code
    if deployment != "Failed":
        return None
    found = _EXIT_CODE.search(status.get("message") or "")
    code = int(found[1]) if found else 0
    return code if code in _EXIT_CODES else ResumableError.exit_code


class Patience:
    """Repeats calls while the API is away, for so long without an answer.

    Args:
        seconds: After so long without an answer ``UnavailableError`` is let through.
        pause: Seconds between two calls.
    """

    def __init__(self, seconds: float, pause: float) -> None:
        self._seconds = seconds
        self._pause = pause

    def call(self, function: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
        """Returns what the function returns.

        Args:
            function: A call to the API.
            arguments: Its arguments.

        Raises:
            UnavailableError: The API stayed away too long.
        """
        start = time.monotonic()
        while True:
            try:
                return function(*arguments)
            except UnavailableError as error:
                if time.monotonic() - start > self._seconds:
                    raise
                _say(f"the Kubernetes API is away, trying again: {error}")
                time.sleep(self._pause)


def submit(api: KubernetesApi, options: argparse.Namespace, patience: Patience) -> str:
    """Creates the run of this Job, or finds the one that an earlier pod created.

    Args:
        api: The Kubernetes API.
        options: The command line.
        patience: How long to wait for the API.

    Returns:
        The name of the RayJob.

    Raises:
        ConfigError: The template is missing, or the API refuses the run.
        UnavailableError: The API stayed away too long.
    """
    try:
        template = patience.call(api.get, options.template)
    except MissingError as error:
        raise ConfigError(f"RayJob {options.template}: there is no such template") from error
    rayjob = run_manifest(template, options.job_name, options.job_uid, options.queue)
    name = str(rayjob["metadata"]["name"])
    try:
        patience.call(api.create, rayjob)
        _say(f"created RayJob {name}")
    except ExistsError:
        _say(f"RayJob {name} exists, waiting for it")
    return name


def wait(api: KubernetesApi, name: str, pause: float, patience: Patience) -> int:
    """Waits until a run is over, saying every change of its state.

    Args:
        api: The Kubernetes API.
        name: The RayJob.
        pause: Seconds between two looks.
        patience: How long to wait for the API.

    Returns:
        embedkit's exit code.

    Raises:
        ResumableError: The RayJob was deleted before it was over.
        UnavailableError: The API stayed away too long.
    """
    said = ""
    while True:
        try:
            status = patience.call(api.get, name).get("status") or {}
        except MissingError as error:
            raise ResumableError(f"RayJob {name} was deleted before it was over") from error
        state = f"{status.get('jobDeploymentStatus') or 'New'} {status.get('jobStatus') or ''}"
        if state != said:
            _say(f"{name}: {state}")
            said = state
        code = exit_code(status)
        if code:
            _say(f"{name}: {status.get('reason') or ''} {status.get('message') or ''}")
        if code is not None:
            return code
        time.sleep(pause)


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Starts a scheduled run and waits for its end.")
    environment = os.environ.get
    parser.add_argument("--template", required=True, help="Suspended RayJob to copy.")
    parser.add_argument("--job-file", required=True, help="Job file of the run, checked first.")
    parser.add_argument("--job-name", default=environment("JOB_NAME"), help="This pod's Job.")
    parser.add_argument("--job-uid", default=environment("JOB_UID"), help="The Job's uid.")
    parser.add_argument("--queue", default=environment("KUEUE_QUEUE"), help="Kueue's LocalQueue.")
    parser.add_argument("--server", help="URL of the API server; this cluster's unless given.")
    parser.add_argument("--account", type=Path, help="Folder of the service account's files.")
    parser.add_argument("--poll", type=float, default=15, help="Seconds between two looks.")
    parser.add_argument("--patience", type=float, default=900, help="Seconds to wait for the API.")
    options = parser.parse_args(arguments)
    if not options.job_name or not options.job_uid:
        parser.error("--job-name and --job-uid, or JOB_NAME and JOB_UID, are needed")
    return options


def main(arguments: list[str] | None = None) -> None:
    """Starts the run and exits with its exit code.

    Args:
        arguments: The command line; the process's own where None.
    """
    # The first process of a container ignores SIGTERM unless it says otherwise.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options(arguments)
    api = KubernetesApi.in_cluster() if options.server is None else KubernetesApi(options.server)
    if options.account is not None:
        api = KubernetesApi(api.server, options.account)
    patience = Patience(options.patience, options.poll)
    try:
        read_job([options.job_file], {})
        sys.exit(wait(api, submit(api, options, patience), options.poll, patience))
    except EmbedkitError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except UnavailableError as error:
        sys.exit(f"gave up on the Kubernetes API: {error}")


if __name__ == "__main__":
    main()
