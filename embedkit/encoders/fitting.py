"""How many encoders fit where they are to run, and what each of them takes: here and nowhere else.

One machine, the nodes of a cluster and each worker machine of Dataflow are told by their resources,
by the names that Ray has for them.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedkit.config import EncoderRange, EngineConfig, ModelConfig
from embedkit.encoders.host_cores import HostCores
from embedkit.encoders.spec import Placement
from embedkit.errors import ConfigError

_MORE_THAN_ENCODERS = 2
"""Workers beside one for every encoder: one that writes, one that reads ahead."""

_TO_SPARE = 2
"""Of other corpora, such as of long texts in chunks, and other tokenizers cores have more to do."""


@dataclass(frozen=True)
class Fitting:
    """What a run takes of a cluster.

    Attributes:
        encoders: How many encoders it needs, and takes at most.
        encoder_cpus: CPUs that Ray sets aside for each.
        encoder_gpus: GPUs, or a fraction of one.
        threads: CPU threads of an encoder on CPUs; None on GPUs.
        worker_cpus: CPUs that Ray sets aside for a worker; 0 where encoders take whole nodes.
    """

    encoders: EncoderRange
    encoder_cpus: float
    encoder_gpus: float
    threads: int | None
    worker_cpus: int


def runs_on_gpu(config: ModelConfig, resources: Mapping[str, float]) -> bool:
    """Tells whether a model is to run on a GPU, before it is read where that is.

    Args:
        config: The model as it is asked for.
        resources: All resources of the cluster.
    """
    return config.device == "cuda" or (config.device == "auto" and resources.get("GPU", 0) > 0)


def fit_cluster(
    config: EngineConfig, placement: Placement, nodes: Sequence[Mapping[str, float]]
) -> Fitting:
    """Fits a job to a cluster.

    On GPUs an encoder takes its GPU and one CPU, and a worker one CPU. Without GPUs an encoder
    takes a node's CPUs and workers share them with it, as its own threads leave gaps enough.

    Args:
        config: The job.
        placement: Where its model runs.
        nodes: The resources of each node.

    Raises:
        ConfigError: No node has what an encoder needs.
    """
    if placement.device == "cuda":
        gpus = sum(node.get("GPU", 0.0) for node in nodes)
        most = max(1, math.floor(gpus)) * config.encoders_per_gpu
        share = 1.0 / config.encoders_per_gpu
        asked = config.encoders or EncoderRange(1, most)
        return Fitting(asked, min(1.0, share), share, placement.threads, 1)
    cpus = [int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1]
    if not cpus:
        raise ConfigError("no node of the Ray cluster has a CPU to give; start one with --num-cpus")
    each = config.encoder_cpus or min(cpus)
    most = max(1, sum(count // each for count in cpus))
    asked = config.encoders or EncoderRange(1, most)
    return Fitting(asked, each, 0.0, placement.threads or each, 0)


def fit_machine(
    config: EngineConfig, placement: Placement, resources: Mapping[str, float]
) -> Fitting:
    """Fits the encoders of a job to one machine, which is theirs alone.

    There is one for each GPU, or one for all CPUs, unless the job says otherwise.

    Args:
        config: The job.
        placement: Where its model runs.
        resources: The machine's resources.
    """
    on_gpu = placement.device == "cuda"
    per_gpu = config.encoders_per_gpu
    count = max(1, int(resources.get("GPU", 0))) * per_gpu if on_gpu else 1
    if config.encoders is not None:
        count = config.encoders.most
    share = resources.get("CPU", 1) / count
    return Fitting(
        encoders=EncoderRange(count, count),
        encoder_cpus=min(1.0, share) if on_gpu else max(1e-3, math.floor(share)),
        encoder_gpus=1.0 / per_gpu if on_gpu else 0.0,
        threads=placement.threads,
        worker_cpus=0,
    )


def workers_on_machine(
    config: EngineConfig, fitting: Fitting, cores: HostCores, cpus: float
) -> int:
    """Returns how many threads of one machine read, tokenize and write.

    Args:
        config: The job, whose ``workers`` counts where it is given.
        fitting: How its encoders fit the machine.
        cores: How many cores have something to do.
        cpus: The machine's CPUs.
    """
    encoders = fitting.encoders.most
    most = min(int(cpus), encoders + math.ceil(cores.per_process))
    wanted = min(most, _wanted_workers(fitting, encoders, cores))
    return config.workers or max(encoders + _MORE_THAN_ENCODERS, wanted)


def workers_on_cluster(
    config: EngineConfig, fitting: Fitting, encoders: int, cpus: float, cores: HostCores
) -> int:
    """Returns how many workers a run should have.

    Args:
        config: The job, whose ``workers`` counts where it is given.
        fitting: How the run fits the cluster.
        encoders: Encoders that run.
        cpus: All CPUs of the cluster.
        cores: How many cores have something to do.
    """
    if config.workers is not None:
        return config.workers
    wanted = _wanted_workers(fitting, encoders, cores)
    if not fitting.encoder_gpus:
        return min(wanted, max(encoders + _MORE_THAN_ENCODERS, int(cpus)))
    room = int(cpus - encoders * fitting.encoder_cpus)
    return max(1, min(room, wanted))


def _wanted_workers(fitting: Fitting, encoders: int, cores: HostCores) -> int:
    """Returns a worker for each encoder, which waits for it, and those that keep cores at work.

    Some tokenizers use every core of a node for one worker, whatever Ray sets aside for it; so what
    counts is how much all workers have to do, and not how many cores one of them could use.
    """
    busy = (cores.per_gpu * fitting.encoder_gpus + cores.per_cpu_encoder) * encoders
    return encoders + max(_MORE_THAN_ENCODERS, math.ceil(_TO_SPARE * busy))
