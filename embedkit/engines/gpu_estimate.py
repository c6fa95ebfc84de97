"""Whether the CPU cores of a machine keep its GPUs busy, told before anything is run."""

import math
from dataclasses import dataclass

from embedkit.config import EngineConfig
from embedkit.encoders.fitting import fit_machine
from embedkit.encoders.gpus import published_rates
from embedkit.encoders.hardware import Gpu, usable_cores
from embedkit.encoders.host_cores import HostWork, host_cores
from embedkit.encoders.kinds import tokens_per_second
from embedkit.encoders.spec import ModelSpec


@dataclass(frozen=True)
class GpuEstimate:
    """What a run on this machine's GPUs would be held up by; all speeds are estimated.

    Attributes:
        name: The GPU's name.
        datasheet: The GPU whose published rates the speeds are told from: this one, or one that
            it is taken for.
        gpus: How many GPUs the encoders would take.
        tokens_per_second: What one of them encodes.
        cores_per_gpu: CPU cores that read, tokenize and write as much.
        cores: CPU cores that encoders leave for that.
        bottleneck: ``gpu``; ``cores`` where there are too few of them; ``process`` where one
            process, whose threads take turns in Python, cannot use as many as would be needed; or
            ``workers`` where as many processes of a cluster as the job asks for cannot.
        job_tokens_per_second: What the bottleneck lets through.
    """

    name: str
    datasheet: str
    gpus: int
    tokens_per_second: float
    cores_per_gpu: float
    cores: int
    bottleneck: str
    job_tokens_per_second: float

    def to_text(self) -> list[str]:
        """Returns the lines for a person."""
        rate = f"{_rounded(self.job_tokens_per_second):,} tokens/s"
        held = {
            "gpu": "the GPU stays busy" if self.gpus == 1 else "the GPUs stay busy",
            "cores": f"too few, they let about {rate} through",
            "process": f"one process lets about {rate} through, and --engine ray has several",
            "workers": f"so few --workers let about {rate} through, auto takes more",
        }[self.bottleneck]
        each = " each" if self.gpus > 1 else ""
        needed = f"{float(f'{self.cores_per_gpu:.2g}'):g}"
        return [
            f"gpu        {self.gpus} x {self.name}, about {_rounded(self.tokens_per_second):,} "
            f"tokens/s{each} by the datasheet of the {self.datasheet}, not measured",
            f"cores      about {needed} per GPU to read, tokenize and write, "
            f"{self.cores} here: {held}",
        ]


def _rounded(value: float) -> int:
    """Returns a value to two figures, as more of an estimate say nothing."""
    return int(float(f"{value:.2g}"))


def gpu_estimate(
    config: EngineConfig, model: ModelSpec, gpu: Gpu | None, work: HostWork | None
) -> GpuEstimate | None:
    """Estimates what holds up a run on the GPUs of this machine.

    Args:
        config: The job.
        model: The model, which runs on them.
        gpu: What they are.
        work: What CPU cores have to do for the corpus.

    Returns:
        The estimate, or None where nothing is known of the model's speed.
    """
    speed = None if gpu is None else tokens_per_second(model, gpu.name)
    if gpu is None or speed is None:
        return None
    work = work or HostWork(model.vectors.dimension)
    cores = usable_cores()
    usable = 1 if config.engine == "plain" else gpu.count
    fitting = fit_machine(config, model.placement, {"GPU": usable, "CPU": cores})
    gpus = min(usable, math.ceil(fitting.encoders.most * fitting.encoder_gpus))
    left = max(1, cores - math.ceil(fitting.encoders.most * fitting.encoder_cpus))
    rates = {"gpu": gpus * speed, "cores": left * work.tokens_per_second}
    if config.engine != "ray":
        rates["process"] = work.process_tokens_per_second
    elif config.workers is not None:
        rates["workers"] = config.workers * work.process_tokens_per_second
    bottleneck = min(rates, key=lambda what: rates[what])
    return GpuEstimate(
        name=gpu.name or model.placement.device,
        datasheet=published_rates(gpu.name).name,
        gpus=gpus,
        tokens_per_second=speed,
        cores_per_gpu=host_cores(model, gpu.name, work).per_gpu,
        cores=left,
        bottleneck=bottleneck,
        job_tokens_per_second=rates[bottleneck],
    )
