"""How a run is fitted to a cluster's nodes."""

import pytest

from embedkit.config import EncoderRange, JobConfig
from embedkit.encoders.fitting import (
    Fitting,
    fit_cluster,
    fit_machine,
    workers_on_cluster,
    workers_on_machine,
)
from embedkit.encoders.host_cores import HostCores
from embedkit.encoders.spec import Placement
from embedkit.errors import ConfigError

HEAD = {"memory": 1e9}
CPU_NODES = [HEAD, {"CPU": 8.0}, {"CPU": 4.0}]
GPU_NODES = [{"CPU": 4.0}, {"CPU": 16.0, "GPU": 2.0}, {"CPU": 8.0, "GPU": 1.0}]


def job(**settings) -> JobConfig:
    return JobConfig(inputs=("a",), model="m", output="o", engine="ray", **settings)


def fit(config: JobConfig, device: str, nodes: list[dict[str, float]]) -> Fitting:
    return fit_cluster(
        config, Placement("torch", device, "float32", 2048, config.encoder_threads), nodes
    )


def test_without_gpus_an_encoder_takes_a_node_of_the_smallest_size():
    fitting = fit(job(), "cpu", CPU_NODES)
    assert fitting.encoders == EncoderRange(1, 3)
    assert (fitting.encoder_cpus, fitting.encoder_gpus, fitting.threads) == (4, 0.0, 4)
    assert fitting.worker_cpus == 0


def test_the_job_says_how_large_cpu_encoders_are():
    fitting = fit(job(encoder_cpus=2, encoder_threads=3, encoders="2..5"), "cpu", CPU_NODES)
    assert fitting.encoders == EncoderRange(2, 5)
    assert (fitting.encoder_cpus, fitting.threads) == (2, 3)


def test_on_gpus_there_is_an_encoder_for_each_or_for_its_share():
    fitting = fit(job(), "cuda", GPU_NODES)
    assert fitting.encoders == EncoderRange(1, 3)
    assert (fitting.encoder_cpus, fitting.encoder_gpus, fitting.threads) == (1.0, 1.0, None)
    assert fitting.worker_cpus == 1
    shared = fit(job(encoders_per_gpu=2), "cuda", GPU_NODES)
    assert shared.encoders == EncoderRange(1, 6)
    assert (shared.encoder_cpus, shared.encoder_gpus) == (0.5, 0.5)


def test_a_cluster_that_has_no_gpu_yet_is_asked_for_one():
    assert fit(job(), "cuda", [{"CPU": 4.0}]).encoders == EncoderRange(1, 1)


def test_a_cluster_without_cpus_is_refused():
    with pytest.raises(ConfigError, match="no node of the Ray cluster has a CPU to give"):
        fit(job(), "cpu", [HEAD])


@pytest.mark.parametrize(
    ("settings", "device", "encoders", "cores", "workers"),
    [
        ({}, "cpu", 1, 0.0, 3),
        ({}, "cpu", 3, 0.0, 5),
        ({"workers": 7}, "cpu", 3, 0.0, 7),
        # One that waits for each encoder, and two for each core that is to work.
        ({"workers": "auto"}, "cuda", 3, 1.6, 13),
        ({"encoders_per_gpu": 2}, "cuda", 6, 1.6, 16),
        ({"workers": "auto"}, "cuda", 1, 1.6, 5),
        # As good as nothing to do: one writes and one reads ahead all the same.
        ({}, "cuda", 3, 0.1, 5),
        # More than the cluster's 28 CPUs have room for beside the encoders.
        ({}, "cuda", 3, 17.9, 25),
        ({"workers": 2}, "cuda", 3, 17.9, 2),
    ],
)
def test_workers_follow_the_encoders_and_what_keeps_them_busy(
    settings, device, encoders, cores, workers
):
    nodes = CPU_NODES if device == "cpu" else GPU_NODES
    config = job(**settings)
    fitting = fit(config, device, nodes)
    cpus = sum(node.get("CPU", 0.0) for node in nodes)
    assert workers_on_cluster(config, fitting, encoders, cpus, HostCores(cores)) == workers


def test_workers_leave_the_encoders_their_cpus_and_there_is_always_one():
    config = job()
    fitting = fit(config, "cuda", [{"CPU": 4.0, "GPU": 1.0}])
    assert workers_on_cluster(config, fitting, 1, 4.0, HostCores(8.0)) == 3
    assert workers_on_cluster(config, fitting, 1, 1.0, HostCores(8.0)) == 1


@pytest.mark.parametrize(
    ("settings", "resources", "cores", "workers"),
    [
        ({}, {"CPU": 8.0}, 0.0, 3),
        ({"encoders": 4}, {"CPU": 2.0}, 0.0, 6),
        ({"workers": 5}, {"CPU": 2.0}, 0.0, 5),
        ({}, {"CPU": 16.0, "GPU": 1.0}, 1.6, 5),
        ({}, {"CPU": 16.0, "GPU": 2.0}, 1.6, 9),
        ({"encoders_per_gpu": 2}, {"CPU": 16.0, "GPU": 2.0}, 1.6, 11),
        ({"encoders": 1}, {"CPU": 16.0, "GPU": 2.0}, 1.6, 5),
        ({}, {"CPU": 16.0, "GPU": 1.0}, 0.4, 3),
        # No more than there are CPUs, and never fewer than where encoders run on those.
        ({}, {"CPU": 8.0, "GPU": 1.0}, 17.9, 8),
        ({}, {"CPU": 2.0, "GPU": 1.0}, 17.9, 3),
        ({"workers": 20}, {"CPU": 2.0, "GPU": 1.0}, 17.9, 20),
        # Nor more than one process has a use for.
        ({}, {"CPU": 96.0, "GPU": 8.0}, 9.4, 17),
    ],
)
def test_threads_of_one_machine_follow_them_as_well(settings, resources, cores, workers):
    device = "cuda" if "GPU" in resources else "cpu"
    config = job(**settings)
    fitting = fit_machine(config, Placement("torch", device, "float32", 2048, None), resources)
    assert workers_on_machine(config, fitting, HostCores(cores, 9.0), resources["CPU"]) == workers


@pytest.mark.parametrize(
    ("settings", "device", "resources", "encoders", "cpus", "gpus"),
    [
        ({}, "cpu", {"CPU": 8.0}, 1, 8, 0.0),
        ({"encoders": 2}, "cpu", {"CPU": 8.0}, 2, 4, 0.0),
        ({"encoders": "1..3"}, "cpu", {"CPU": 8.0}, 3, 2, 0.0),
        # More encoders than CPUs are placed all the same, and take turns.
        ({"encoders": 4}, "cpu", {"CPU": 2.0}, 4, 1e-3, 0.0),
        ({}, "cuda", {"CPU": 8.0, "GPU": 2.0}, 2, 1.0, 1.0),
        ({"encoders_per_gpu": 4}, "cuda", {"CPU": 2.0, "GPU": 1.0}, 4, 0.5, 0.25),
        ({"encoders": 1}, "cuda", {"CPU": 8.0, "GPU": 2.0}, 1, 1.0, 1.0),
        ({}, "cuda", {"CPU": 8.0}, 1, 1.0, 1.0),
    ],
)
def test_one_machine_is_its_encoders_alone(settings, device, resources, encoders, cpus, gpus):
    placement = Placement("torch", device, "float32", 2048, 3)
    fitting = fit_machine(job(**settings), placement, resources)
    assert fitting.encoders == EncoderRange(encoders, encoders)
    assert (fitting.encoder_cpus, fitting.encoder_gpus, fitting.threads) == (cpus, gpus, 3)
