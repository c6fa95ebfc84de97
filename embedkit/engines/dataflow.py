"""A job as a Dataflow pipeline, checked before it is sent there."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import apache_beam as beam
from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    StandardOptions,
    WorkerOptions,
)
from pydantic import BaseModel, ConfigDict, Field

from embedkit.actors.local_ray import LocalRay
from embedkit.config import JobConfig
from embedkit.encoders.hardware import Gpu, Machine
from embedkit.encoders.kinds import read_job_model
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError, ResumableError
from embedkit.errors.foreign import one_line
from embedkit.errors.urls import holds_secret
from embedkit.flow.completed import account_of_complete
from embedkit.flow.prepare import Job, prepare
from embedkit.flow.publish import raise_where_refused
from embedkit.transforms.embed import MakeVersion
from embedkit.transforms.read import ReadCorpus

_DRIVER = "install-nvidia-driver"
_WITHOUT_BF16 = re.compile(r"type:nvidia-tesla-(t4|p4|p100|v100|k80)\b")
_WITH_FLOAT8 = re.compile(r"type:nvidia-(l4|h100|h200)\b")
_BUCKET = re.compile(r"gs://[a-z0-9][-_a-z0-9.]+[a-z0-9](/|$)")
_JOB_WIDE = "worker_accelerator="
_ONE_PROCESS = "no_use_multiple_sdk_containers"
_NOT_SENT = "Dataflow: the job could not be sent ({}); send it again"
_SIBLINGS = "use_sibling_sdk_workers"


class DataflowConfig(BaseModel):
    """What the workers that encode are to have."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    accelerator: (
        Annotated[str, Field(pattern=r"^type:[a-z0-9-]+(;[a-z_-]+(:[A-Za-z0-9.-]+)?)*$")] | None
    ) = Field(
        None,
        description="GPU of the workers that encode, such as "
        "'type:nvidia-l4;count:1;install-nvidia-driver'; they encode on CPUs without one.",
    )
    min_ram: (
        Annotated[str, Field(pattern=r"^[1-9][0-9]*(\.[0-9]+)?(KB|MB|GB|TB|KiB|MiB|GiB|TiB|B)$")]
        | None
    ) = Field(None, description="Memory of the workers that encode, at least, such as 16GB.")

    @property
    def hints(self) -> dict[str, str]:
        """Beam's resource hints for the steps that share a worker with encoding."""
        return {name: value for name, value in self if value is not None}


def start_on_dataflow(
    job: JobConfig, workers: DataflowConfig, options: PipelineOptions
) -> tuple[Job, Any]:
    """Sends a job to Dataflow, which completes its version there.

    Args:
        job: The job; what it says of engines on this machine does not count.
        workers: What the workers that encode are to have.
        options: Beam's own options: project, region, temp_location, sdk_container_image, ...

    Returns:
        The settled job, and Beam's result, on which one may wait; None where the version is
        complete already, so that nothing was sent.

    Raises:
        ConfigError: Settings contradict each other, or would fail on the workers.
        InputError: An input cannot be used.
        NotPublishedError: The version is complete already, but is not to be published.
    """
    check_for_dataflow(job, workers, options)
    pipeline, settled = build_pipeline(job, workers, options)
    if settled.version.is_complete():
        raise_where_refused(account_of_complete(settled))
        return settled, None
    return settled, _sent(pipeline)


def _sent(pipeline: beam.Pipeline) -> Any:
    # The runner needs Google's packages itself.
    from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
    from google.api_core.exceptions import ClientError, GoogleAPICallError, TooManyRequests
    from google.auth.exceptions import GoogleAuthError

    try:
        return pipeline.run()
    except GoogleAuthError as error:
        raise ConfigError(
            f"Dataflow: nobody is logged in ({one_line(error)}); log in by 'gcloud auth "
            "application-default login', or run where a service account is"
        ) from error
    except (OSError, TooManyRequests, DataflowJobAlreadyExistsError) as error:
        raise ResumableError(_NOT_SENT.format(one_line(error))) from error
    except (RuntimeError, ValueError, ClientError) as error:
        raise ConfigError(
            f"Dataflow: the job cannot be sent ({one_line(error)}); correct the options of Beam's "
            "that this is about"
        ) from error
    except GoogleAPICallError as error:
        raise ResumableError(_NOT_SENT.format(one_line(error))) from error


def build_pipeline(
    job: JobConfig, workers: DataflowConfig, options: PipelineOptions
) -> tuple[beam.Pipeline, Job]:
    """Builds the pipeline of a job: read, embed, complete.

    Each worker machine runs one Ray, which all of its processes share. Splits are spread over the
    workers; from reading to writing nothing leaves a worker again, so all steps between ask for
    what encoding needs.

    Args:
        job: The job.
        workers: What the workers that encode are to have.
        options: Beam's own options.
    """
    settled = prepare(job, Dataflow(workers, options).read_model(job))
    experiments = options.view_as(DebugOptions).experiments or []
    if _ONE_PROCESS not in experiments:
        # Processes in containers of their own could not find each other's Ray.
        options.view_as(DebugOptions).add_experiment(_SIBLINGS)
    connect = LocalRay(
        model=settled.model,
        name=settled.version.url,
        encoders_per_gpu=job.encoders_per_gpu,
        calls_in_flight=job.calls_in_flight,
        timeout=job.encoder_timeout,
        canaries=job.canaries,
    )
    pipeline = _pipeline(options)
    read = ReadCorpus(
        job, settled.plan, settled.make_chunker, settled.version, workers.hints, settled
    )
    make = MakeVersion(settled, connect, job.call_tokens, workers.hints, spread=True, corpus=job)
    _ = pipeline | "ReadCorpus" >> read | "MakeVersion" >> make
    return pipeline, settled


def _pipeline(options: PipelineOptions) -> beam.Pipeline:
    try:
        return beam.Pipeline(options=options)
    except ValueError as error:
        # Beam's own checks, such as that of the project's name.
        raise ConfigError(one_line(error)) from error


@dataclass(frozen=True)
class Dataflow:
    """Dataflow as an engine: what has to be known of its workers before a pipeline is sent there.

    Attributes:
        workers: What the workers that encode are to have.
        options: Beam's own options.
    """

    workers: DataflowConfig
    options: PipelineOptions

    def read_model(self, config: JobConfig) -> ModelSpec:
        """Settles a model as workers run it, of which this machine tells nothing.

        On a GPU it is run by torch, in bfloat16 where that GPU has it; on CPUs in float32 unless
        the job names a precision, as nobody knows which CPUs they will be.

        Raises:
            ConfigError: The model cannot be used there.
        """
        accelerator = _accelerator(self.workers, self.options)
        if accelerator is None:
            machine = Machine(lambda: None)
            return read_job_model(config.model_copy(update={"device": "cpu"}), config, machine)
        gpu = Gpu(
            has_bf16=not _WITHOUT_BF16.match(accelerator),
            has_float8=_WITH_FLOAT8.match(accelerator) is not None,
        )
        machine = Machine(lambda: gpu)
        return read_job_model(config.model_copy(update={"device": "cuda"}), config, machine)


def check_for_dataflow(job: JobConfig, workers: DataflowConfig, options: PipelineOptions) -> None:
    """Refuses what would fail on Dataflow, before anything is sent there.

    Raises:
        ConfigError: It says all that is wrong, and why.
    """
    problems = [
        *_place_problems(options),
        *_path_problems(job),
        *_image_problems(options),
        *_accelerator_problems(job, workers, options),
        *_precision_problems(job),
    ]
    if problems:
        raise ConfigError("; ".join(problems))


def _place_problems(options: PipelineOptions) -> Iterator[str]:
    cloud = options.view_as(GoogleCloudOptions)
    for name in ("project", "region", "temp_location"):
        if not getattr(cloud, name):
            yield f"{name} is missing, give --{name}"
    for name in ("temp_location", "staging_location"):
        place = getattr(cloud, name)
        if place and not _BUCKET.match(place):
            # Beam would create a bucket of its own choice instead.
            yield f"{name} {place}: is no place on Cloud Storage; give gs://BUCKET/PATH"
    if options.view_as(StandardOptions).streaming:
        yield "streaming: a version is complete when its corpus ends; leave --streaming out"


def _path_problems(job: JobConfig) -> Iterator[str]:
    places = [("inputs", path) for path in job.inputs] + [("output", job.output)]
    for name, path in places:
        scheme = path.partition("://")[0] if "://" in path else "file"
        if scheme in ("file", "local", "memory"):
            yield (
                f"{name} {path}: is on this machine, where workers cannot see it; give a URL such "
                "as gs://BUCKET/PATH"
            )
        elif holds_secret(path):
            yield (
                f"{name} {path}: its secrets would be kept with the job, where others see them; "
                "leave them out, and give the workers' service account the right to read and write"
            )
    for name, place in (("model", job.model), ("tokenizer", job.tokenizer)):
        if place is not None and not (Path(place).is_absolute() and Path(place).is_dir()):
            yield (
                f"{name} {place}: workers load the {name} from their image and fetch it from "
                "nowhere else, so give its directory there, such as /models/NAME, which has to be "
                "here too"
            )


def _image_problems(options: PipelineOptions) -> Iterator[str]:
    if not options.view_as(WorkerOptions).sdk_container_image:
        yield (
            "sdk_container_image is missing: Beam's own image has neither embedkit nor the model; "
            "give --sdk_container_image with the image that `make images` builds"
        )


def _accelerator_problems(
    job: JobConfig, workers: DataflowConfig, options: PipelineOptions
) -> Iterator[str]:
    flexrs = options.view_as(GoogleCloudOptions).flexrs_goal
    hints = list(options.view_as(StandardOptions).resource_hints or [])
    job_wide = _job_wide_accelerator(options)
    accelerator = _accelerator(workers, options)
    if workers.accelerator and job_wide:
        yield (
            f"accelerator {workers.accelerator} and {_JOB_WIDE}{job_wide}: the one is for the "
            "encoding step (right fitting), the other for every worker, and Dataflow takes one of "
            "both; leave the service option out"
        )
    if workers.hints and any(hint.startswith("accelerator=") for hint in hints):
        yield "resource_hints: an accelerator for every step; give --accelerator alone"
    if flexrs and (accelerator or workers.hints or hints):
        yield (
            f"flexrs_goal {flexrs}: FlexRS has neither GPUs nor right fitting (accelerator, "
            "min_ram); leave it out, or encode on CPUs without either"
        )
    if accelerator and _DRIVER not in accelerator.split(";"):
        yield f"accelerator {accelerator}: installs no driver; append ;{_DRIVER}"
    if accelerator and job.device == "cpu":
        yield f"device is cpu, so accelerator {accelerator} would stand idle; leave one of them out"
    if accelerator and job.backend in ("openvino", "onnx"):
        yield (
            f"backend {job.backend} runs on CPUs; take backend torch, or leave the accelerator out"
        )
    if job.device == "cuda" and not accelerator:
        yield (
            "device is cuda, but the workers have no GPU; give --accelerator, such as "
            f"'type:nvidia-l4;count:1;{_DRIVER}'"
        )


def _precision_problems(job: JobConfig) -> Iterator[str]:
    if job.precision == "int8":
        yield (
            "precision is int8, for which a run measures a sample of its corpus before it starts "
            "encoders, and Dataflow starts them itself; take bfloat16 or float32"
        )


def _job_wide_accelerator(options: PipelineOptions) -> str | None:
    cloud, debug = options.view_as(GoogleCloudOptions), options.view_as(DebugOptions)
    chosen = [*(cloud.dataflow_service_options or []), *(debug.experiments or [])]
    found = [one.removeprefix(_JOB_WIDE) for one in chosen if one.startswith(_JOB_WIDE)]
    return found[0] if found else None


def _accelerator(workers: DataflowConfig, options: PipelineOptions) -> str | None:
    return workers.accelerator or _job_wide_accelerator(options)
