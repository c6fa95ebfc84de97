"""What the manifests promise together: rights, deadlines, networks, storage, the command."""

import itertools
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from manifests import Document, only, pods, render

from embedkit.cli.app import command_of
from embedkit.cli.options import read_job
from embedkit.config import JobConfig
from embedkit.errors import ConfigError, GatesFailedError, RejectsExceededError, ResumableError

Rendered = dict[str, tuple[Document, ...]]
UNITS = {"": 1.0, "m": 1e-3, "Mi": 2.0**20, "Gi": 2.0**30}
DAY = 24 * 60 * 60


def quantity(value: str | int) -> float:
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(value))
    assert match is not None, value
    return float(match[1]) * UNITS[match[2]]


def containers(pod: Document) -> list[Document]:
    return list(pod["spec"]["containers"])


def of_kind(documents: tuple[Document, ...], kind: str) -> list[Document]:
    return [one for one in documents if one["kind"] == kind]


def run_spec(documents: tuple[Document, ...]) -> Document:
    """The RayJob's spec, wherever it stands."""
    scheduled = of_kind(documents, "RayCronJob")
    return dict(
        scheduled[0]["spec"]["jobTemplate"] if scheduled else only(documents, "RayJob")["spec"]
    )


def test_the_trigger_may_create_and_read_rayjobs_only() -> None:
    documents = render("overlays/gpu")
    assert only(documents, "Role")["rules"] == [
        {"apiGroups": ["ray.io"], "resources": ["rayjobs"], "verbs": ["create", "get"]}
    ]
    binding = only(documents, "RoleBinding")
    trigger = pods(documents)["trigger"]["spec"]["serviceAccountName"]
    assert [subject["name"] for subject in binding["subjects"]] == [trigger]
    assert of_kind(documents, "ClusterRole") == of_kind(documents, "ClusterRoleBinding") == []


def test_no_two_runs_and_no_endless_run() -> None:
    documents = render("overlays/gpu")
    schedule, run = only(documents, "CronJob")["spec"], run_spec(documents)
    job = schedule["jobTemplate"]["spec"]
    assert schedule["concurrencyPolicy"] == "Forbid"
    # KubeRay counts the deadline anew for each try.
    tries = (run["backoffLimit"] + 1) * run["activeDeadlineSeconds"]
    assert tries + run["ttlSecondsAfterFinished"] < job["activeDeadlineSeconds"] < DAY
    assert run["preRunningDeadlineSeconds"] < run["activeDeadlineSeconds"]
    assert run["shutdownAfterJobFinishes"] is True
    assert re.fullmatch(r"\d+ \d+ \* \* \*", schedule["schedule"])


def test_the_jobs_pod_is_not_repeated_for_exit_codes_of_the_run() -> None:
    policy = only(render("base"), "CronJob")["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]
    fails = next(rule for rule in policy["rules"] if rule["action"] == "FailJob")["onExitCodes"]
    kinds = (ConfigError, RejectsExceededError, ResumableError, GatesFailedError)
    assert fails["values"] == sorted(kind.exit_code for kind in kinds)
    assert fails["containerName"] == "trigger"


def test_templates_never_run_by_themselves(rendered: Rendered) -> None:
    for documents in rendered.values():
        for rayjob in of_kind(documents, "RayJob"):
            assert rayjob["spec"]["suspend"] is True
            assert "kueue.x-k8s.io/queue-name" not in rayjob["metadata"]["labels"]


def test_the_alternative_schedule_runs_the_same_job() -> None:
    ours, theirs = render("overlays/gpu"), render("overlays/gpu-raycronjob")
    assert run_spec(theirs) == {**run_spec(ours), "suspend": False}
    left = {one["kind"] for one in theirs}
    assert left.isdisjoint({"CronJob", "RayJob", "Role", "RoleBinding"})
    assert (
        only(theirs, "RayCronJob")["spec"]["schedule"] == only(ours, "CronJob")["spec"]["schedule"]
    )


def test_everything_that_a_pod_names_is_there(rendered: Rendered) -> None:
    for made, documents in rendered.items():
        there = {(one["kind"], one["metadata"]["name"]) for one in documents}
        for pod in pods(documents).values():
            volumes = {one["name"]: one for one in pod["spec"].get("volumes", [])}
            for volume in volumes.values():
                if "configMap" in volume:
                    assert ("ConfigMap", volume["configMap"]["name"]) in there, made
                if "persistentVolumeClaim" in volume:
                    claim = volume["persistentVolumeClaim"]["claimName"]
                    assert ("PersistentVolumeClaim", claim) in there, made
                if "secret" in volume:
                    assert volume["secret"]["optional"] is True
            account = pod["spec"].get("serviceAccountName")
            assert account is None or ("ServiceAccount", account) in there
            for container in containers(pod):
                assert {one["name"] for one in container["volumeMounts"]} <= set(volumes)


def test_only_mounted_volumes_can_be_written_and_they_fit(rendered: Rendered) -> None:
    for documents in rendered.values():
        for name, pod in pods(documents).items():
            spec = pod["spec"]
            disk = memory = 0.0
            for volume in spec.get("volumes", []):
                if "emptyDir" in volume:
                    size = quantity(volume["emptyDir"]["sizeLimit"])
                    memory += size * (volume["emptyDir"].get("medium") == "Memory")
                    disk += size * (volume["emptyDir"].get("medium") != "Memory")
            limits = [container["resources"]["limits"] for container in containers(pod)]
            assert disk <= sum(quantity(one["ephemeral-storage"]) for one in limits), name
            assert memory < sum(quantity(one["memory"]) for one in limits), name
            # A scheduler that sees less memory or disk than a pod may take gets it evicted.
            for container in containers(pod):
                requests, most = (container["resources"][one] for one in ("requests", "limits"))
                for kind in ("memory", "ephemeral-storage", "nvidia.com/gpu"):
                    assert requests.get(kind) == most.get(kind), name
                mounts = {one["mountPath"] for one in container["volumeMounts"]}
                if name != "trigger":
                    assert "/tmp" in mounts
                    assert {"name": "HOME", "value": "/tmp"} in container["env"]


def test_ray_asks_for_its_token(rendered: Rendered) -> None:
    for documents in rendered.values():
        cluster = run_spec(documents)["rayClusterSpec"]
        assert cluster["authOptions"] == {"mode": "token"}


def test_a_drained_pod_has_the_time_that_its_hook_takes() -> None:
    spec = pods(render("overlays/gpu"))["gpu"]["spec"]
    command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1]
    seconds = re.findall(r"timeout (\d+)|sleep (\d+)|--grace-period (\d+)", command)
    assert len(seconds) == 3
    assert sum(int("".join(one)) for one in seconds) <= spec["terminationGracePeriodSeconds"]


def test_gpu_workers_come_and_go() -> None:
    cluster = run_spec(render("overlays/gpu"))["rayClusterSpec"]
    group = cluster["workerGroupSpecs"][0]
    assert cluster["enableInTreeAutoscaling"] is True
    assert group["minReplicas"] <= group["replicas"] < group["maxReplicas"]
    spec = group["template"]["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= {
        t["key"] for t in spec["tolerations"]
    }
    # KubeRay refuses any other restart policy with autoscaler v2.
    assert cluster["autoscalerOptions"]["version"] == "v2"
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert spec["restartPolicy"] == head["restartPolicy"] == "Never"


def test_the_queue_admits_a_whole_run(rendered: Rendered) -> None:
    documents = next(made for name, made in rendered.items() if "kueue" in name)
    group = only(documents, "ClusterQueue")["spec"]["resourceGroups"][0]
    quota = {r["name"]: quantity(r["nominalQuota"]) for r in group["flavors"][0]["resources"]}
    assert sorted(group["coveredResources"]) == sorted(quota)
    cluster = run_spec(documents)["rayClusterSpec"]
    counts = {one["groupName"]: one["replicas"] for one in cluster["workerGroupSpecs"]}
    needed = dict.fromkeys(quota, 0.0)
    for name, pod in pods(documents).items():
        for container in containers(pod) if name != "trigger" else []:
            for resource, value in container["resources"]["requests"].items():
                needed[resource] += quantity(value) * counts.get(name, 1)
    assert all(needed[name] <= quota[name] for name in quota), needed
    # Kueue refuses clusters that change their size.
    assert cluster["enableInTreeAutoscaling"] is False
    trigger = containers(pods(documents)["trigger"])[0]
    queue = only(documents, "LocalQueue")["metadata"]["name"]
    assert {"name": "KUEUE_QUEUE", "value": queue} in trigger["env"]


OPERATOR = {
    "namespace": "kuberay-system",
    "labels": {"app.kubernetes.io/component": "kuberay-operator"},
}
STRANGER = {"namespace": "default", "labels": {"app.kubernetes.io/component": "ray-node"}}
PROMETHEUS = {"namespace": "monitoring", "labels": {}}
NEWCOMER = {"namespace": "embedkit", "labels": {}}


def peers(documents: tuple[Document, ...]) -> dict[str, Document]:
    """Pods as a NetworkPolicy sees them, with the labels that KubeRay adds."""
    made = {"operator": OPERATOR, "stranger": STRANGER, "prometheus": PROMETHEUS}
    made["newcomer"] = NEWCOMER
    for name, pod in pods(documents).items():
        meta = pod["metadata"]
        kind = {"head": "head"}.get(name, "worker")
        added = {"ray.io/node-type": kind} if name in ("head", "cpu", "gpu") else {}
        made[name] = {"namespace": meta["namespace"], "labels": meta["labels"] | added}
    return made


def selects(selector: Document, labels: dict[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}
    return selector.get("matchLabels", {}).items() <= labels.items()


def lets(rule: Document, side: str, peer: Document, home: str, port: int) -> bool:
    if "ports" in rule and port not in [one["port"] for one in rule["ports"]]:
        return False
    for one in rule.get(side, [{}]):
        if "ipBlock" in one:
            continue
        namespace = {"kubernetes.io/metadata.name": peer["namespace"]}
        inside = (
            selects(one["namespaceSelector"], namespace)
            if "namespaceSelector" in one
            else peer["namespace"] == home
        )
        if inside and selects(one.get("podSelector", {}), peer["labels"]):
            return True
    return False


def reaches(documents: tuple[Document, ...], source: str, target: str, port: int) -> bool:
    """Whether the policies let one pod connect to another's port."""
    all_peers = peers(documents)
    policies = of_kind(documents, "NetworkPolicy")

    def passes(me: Document, other: Document, way: str, side: str) -> bool:
        mine = [
            policy["spec"]
            for policy in policies
            if policy["metadata"]["namespace"] == me["namespace"]
            and selects(policy["spec"]["podSelector"], me["labels"])
            and way.capitalize() in policy["spec"]["policyTypes"]
        ]
        rules = itertools.chain.from_iterable(spec.get(way, []) for spec in mine)
        return not mine or any(lets(rule, side, other, me["namespace"], port) for rule in rules)

    one, other = all_peers[source], all_peers[target]
    return passes(one, other, "egress", "to") and passes(other, one, "ingress", "from")


BEAM_PORT, GCS, DASHBOARD, METRICS = 41123, 6379, 8265, 8080


@pytest.mark.parametrize(
    ("source", "target", "port", "open_"),
    [
        ("gpu", "head", GCS, True),
        ("gpu", "head", BEAM_PORT, True),
        ("head", "gpu", BEAM_PORT, True),
        ("gpu", "gpu", BEAM_PORT, True),
        ("submitter", "head", DASHBOARD, True),
        ("operator", "head", DASHBOARD, True),
        ("submitter", "head", GCS, False),
        ("submitter", "gpu", DASHBOARD, False),
        ("operator", "gpu", BEAM_PORT, False),
        ("trigger", "head", DASHBOARD, False),
        ("trigger", "gpu", BEAM_PORT, False),
        ("stranger", "head", DASHBOARD, False),
        ("stranger", "head", GCS, False),
        ("stranger", "gpu", BEAM_PORT, False),
        ("gpu", "stranger", BEAM_PORT, False),
        ("newcomer", "head", GCS, False),
        ("newcomer", "stranger", GCS, False),
        ("stranger", "newcomer", GCS, False),
        ("head", "submitter", BEAM_PORT, False),
        ("prometheus", "gpu", METRICS, True),
        ("prometheus", "head", DASHBOARD, False),
        ("prometheus", "gpu", BEAM_PORT, False),
    ],
)
def test_who_reaches_whom(
    rendered: Rendered, source: str, target: str, port: int, open_: bool
) -> None:
    documents = next(made for name, made in rendered.items() if "gpu+kueue" in name)
    assert reaches(documents, source, target, port) is open_


def test_nobody_reaches_the_machines_own_credentials(rendered: Rendered) -> None:
    for documents in rendered.values():
        for policy in of_kind(documents, "NetworkPolicy"):
            if policy["metadata"]["name"] == "gke-metadata-server":
                continue
            for rule in policy["spec"].get("egress", []):
                for one in rule["to"]:
                    block = one.get("ipBlock")
                    assert block is None or block["except"] == ["169.254.0.0/16"]


def test_no_manifest_holds_a_secret(rendered: Rendered) -> None:
    suspicious = re.compile(r"AKIA|BEGIN [A-Z ]*PRIVATE KEY|password|secret_?access", re.IGNORECASE)
    for documents in rendered.values():
        assert of_kind(documents, "Secret") == []
        for document in documents:
            assert suspicious.search(yaml.safe_dump(document)) is None


@pytest.mark.parametrize("overlay", ["base", "overlays/gpu", "overlays/cpu-smoke"])
def test_the_run_is_one_command_that_embedkit_understands(overlay: str, tmp_path: Path) -> None:
    documents = render(overlay)
    spec = run_spec(documents)
    # KubeRay puts it into a line for a shell.
    assert set(spec["entrypoint"]).isdisjoint(";&|<>$`\"'\\\n()")
    program, command, *arguments = shlex.split(spec["entrypoint"])
    assert (program, command) == ("embedkit", "run")
    run = command_of("run")
    given: dict[str, Any] = run.make_context("run", arguments).params
    assert given.pop("inputs") == ["/etc/embedkit/job.yaml"]
    settings = {name: given[name] for name in JobConfig.model_fields if given.get(name)}
    job_file = tmp_path / "job.yaml"
    job_file.write_text(only(documents, "ConfigMap")["data"]["job.yaml"])
    job = read_job([str(job_file)], settings)
    assert (job.engine, job.ray_address) == ("ray", "auto")
    assert job.model.startswith("/models/")
    # As many encoders as the cluster can grow to, and it grows for encoders that wait.
    groups = spec["rayClusterSpec"]["workerGroupSpecs"]
    assert job.encoders is not None
    assert job.encoders.most == sum(one["maxReplicas"] for one in groups)


def test_the_trigger_checks_the_file_that_the_run_reads() -> None:
    documents = render("overlays/gpu")
    trigger = containers(pods(documents)["trigger"])[0]
    assert "--job-file=/etc/embedkit/job.yaml" in trigger["args"]
    assert f"--template={only(documents, 'RayJob')['metadata']['name']}" in trigger["args"]
    fields = {one["name"]: one["valueFrom"]["fieldRef"]["fieldPath"] for one in trigger["env"]}
    assert fields == {
        "JOB_NAME": "metadata.labels['batch.kubernetes.io/job-name']",
        "JOB_UID": "metadata.labels['batch.kubernetes.io/controller-uid']",
    }
