"""What Dataflow would be sent: stages, fusion breaks, resource hints, images and machines."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.dataflow.internal.apiclient import DataflowJobAlreadyExistsError
from beam_running import results
from copied import check_copied, spoiled
from google.api_core.exceptions import Forbidden, ServiceUnavailable, TooManyRequests
from google.auth.exceptions import DefaultCredentialsError
from running import Dataset, records, tiny_job, write_corpus, write_jsonl

from embedkit.actors.local_ray import LocalRay
from embedkit.config import JobConfig
from embedkit.dataset.version import Version
from embedkit.encoders.local_client import LocalConnection
from embedkit.engines import dataflow
from embedkit.engines.dataflow import (
    DataflowConfig,
    build_pipeline,
    check_for_dataflow,
    start_on_dataflow,
)
from embedkit.engines.dataflow_flags import _schemas, parse, settings, template_metadata
from embedkit.errors import ConfigError, RejectsExceededError, ResumableError
from embedkit.reports.account import RunAccount

GPU = "type:nvidia-l4;count:1;install-nvidia-driver"
IMAGE = "registry.example.com/embedkit/beam:1"
_ACCELERATOR = "beam:resources:accelerator:v1"
_MIN_RAM = "beam:resources:min_ram_bytes:v1"


def options(*flags: str, **changes: str | None) -> PipelineOptions:
    """Beam's options of a good job, changed by name; None leaves one out."""
    given: dict[str, str | None] = {
        "project": "project-1",
        "region": "europe-west4",
        "temp_location": "gs://bucket/tmp",
        "sdk_container_image": IMAGE,
        **changes,
    }
    arguments = [f"--{name}={value}" for name, value in given.items() if value is not None]
    # Nothing is sent, and nobody is asked for credentials.
    dry = ("--dry_run=True", "--no_auth")
    return PipelineOptions(["--runner=DataflowRunner", *dry, *arguments, *flags])


def open_job(model: str, folder: Path, id_column: str | None = None) -> JobConfig:
    """A job in which all is left open that workers decide."""
    corpus = write_corpus(folder / "in", shards=2, rows=20)
    open_ = {"backend": "auto", "device": "auto", "precision": "auto"}
    return tiny_job(model, corpus, folder / "out", id_column=id_column, **open_)


@pytest.fixture
def job(tiny_model: str, tmp_path: Path) -> JobConfig:
    return open_job(tiny_model, tmp_path)


class Translated:
    """A pipeline as the service gets it."""

    def __init__(self, job: JobConfig, workers: DataflowConfig, folder: Path, *flags: str) -> None:
        sdk = folder / "sdk.tar.gz"
        sdk.write_bytes(b"stands for Beam itself")
        chosen = options(f"--sdk_location={sdk}", *flags)
        self.pipeline, self.job = build_pipeline(job, workers, chosen)
        self.pipeline.run()
        self.proto = self.pipeline.runner.proto_pipeline
        self.environment = apiclient.Environment(
            [], chosen, "1", "gs://bucket/pipeline", proto_pipeline=self.proto
        ).proto
        components = self.proto.components
        self.steps = {
            one.unique_name: one for one in components.transforms.values() if not one.subtransforms
        }

    def hints(self, step: str) -> dict[str, bytes]:
        environment = self.steps[step].environment_id
        return dict(self.proto.components.environments[environment].resource_hints)

    def between(self, first: str, last: str) -> list[str]:
        """Names of the steps on the way from one step's output to another's input, in order."""
        producers = {
            output: step for step in self.steps.values() for output in step.outputs.values()
        }
        way: list[str] = []
        step = self.steps[last]
        while step.unique_name != first:
            (main,) = [
                pcollection
                for name, pcollection in step.inputs.items()
                if not name.startswith("side")
            ]
            step = producers[main]
            way.insert(0, step.unique_name)
        return way[1:]


READ = "ReadCorpus/ReadSplit"
TOKENIZE = "MakeVersion/EmbedBlocks/TokenizeText/Tokenize"
ENCODE = "MakeVersion/EmbedBlocks/EncodeTokens/Encode"
WRITE = "MakeVersion/EmbedBlocks/WriteEmbeddings/Write"
COMPLETE = "MakeVersion/CompleteVersion/Complete"


@pytest.fixture(scope="module")
def on_gpu(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Translated:
    folder = tmp_path_factory.mktemp("gpu")
    workers = DataflowConfig(accelerator=GPU, min_ram="16GB")
    flags = ("--max_num_workers=8", "--machine_type=g2-standard-8")
    return Translated(open_job(tiny_model, folder), workers, folder, *flags)


def test_fusion_is_broken_between_splits_and_reading_and_nowhere_else_before_writing(on_gpu):
    shuffles = [
        name
        for name in on_gpu.between("ReadCorpus/Splits/Impulse", READ)
        if on_gpu.steps[name].spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
    ]
    assert shuffles == ["ReadCorpus/Spread/ReshufflePerKey/GroupByKey"]
    assert on_gpu.between(READ, WRITE) == [TOKENIZE, ENCODE]
    # Blocks and vectors have no other reader that would have them materialized.
    for producer, consumer in ((READ, TOKENIZE), (TOKENIZE, ENCODE), (ENCODE, WRITE)):
        (output,) = on_gpu.steps[producer].outputs.values()
        readers = [name for name, step in on_gpu.steps.items() if output in step.inputs.values()]
        assert readers == [consumer]


def test_ids_are_looked_at_by_workers_before_any_split_is_read(tiny_model, tmp_path):
    job = open_job(tiny_model, tmp_path, id_column="id")
    translated = Translated(job, DataflowConfig(accelerator=GPU), tmp_path)
    steps = translated.steps
    (splits,) = steps[READ].inputs.values()
    (noted,) = [name for name, step in steps.items() if splits in step.outputs.values()]
    # Each split comes to its reader out of a shuffle that waits for all ids.
    assert noted == "ReadCorpus/CheckIds/Noted"
    grouped = [
        name for name, step in steps.items()
        if step.spec.urn == common_urns.primitives.GROUP_BY_KEY.urn
        and name.startswith("ReadCorpus/CheckIds/")
    ]  # fmt: skip
    for kind in ("ByPartition", "Suspects", "ById", "BySplit"):
        assert any(name.startswith(f"ReadCorpus/CheckIds/{kind}") for name in grouped)
    for name in steps:
        if name.startswith("ReadCorpus/CheckIds/") and steps[name].environment_id:
            assert translated.hints(name) == {}
    # The driver has written the plan, and has read no id.
    assert not translated.job.plan.ids_checked
    assert not list(translated.job.version.store.list(translated.job.version.key("_meta/ids/")))


def sides_of(translated: Translated, name: str) -> list[str]:
    """The steps that a step's side inputs come from."""
    step = translated.steps[name]
    payload = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
    waited = [step.inputs[side] for side in payload.side_inputs]
    return sorted(
        one.unique_name
        for one in translated.steps.values()
        if any(found in one.outputs.values() for found in waited)
    )


def test_completion_waits_for_all_commits_by_a_side_input(on_gpu):
    (counted,) = sides_of(on_gpu, "MakeVersion/CompleteVersion/FindRuns")
    assert counted.startswith("MakeVersion/CompleteVersion/CountBlocks/")
    # What the workers have read is added up before one of them completes the version.
    added, gathered = sides_of(on_gpu, COMPLETE)
    assert added.startswith("MakeVersion/CompleteVersion/Survey/AddUp/")
    assert gathered.startswith("MakeVersion/CompleteVersion/Survey/Gather/")


def test_only_the_steps_on_the_encoders_worker_ask_for_a_gpu(on_gpu):
    expected = {_ACCELERATOR: GPU.encode(), _MIN_RAM: b"16000000000"}
    assert [on_gpu.hints(step) for step in (READ, TOKENIZE, ENCODE, WRITE)] == [expected] * 4
    # In one environment they can be fused; another one's steps could not.
    environments = {on_gpu.steps[step].environment_id for step in (READ, TOKENIZE, ENCODE, WRITE)}
    assert len(environments) == 1
    others = set(on_gpu.steps) - {READ, TOKENIZE, ENCODE, WRITE}
    assert COMPLETE in others
    for step in others:
        if on_gpu.steps[step].environment_id:
            assert on_gpu.hints(step) == {}


def test_every_step_runs_in_the_given_image(on_gpu):
    images = {
        beam_runner_api_pb2.DockerPayload.FromString(one.payload).container_image
        for one in on_gpu.proto.components.environments.values()
    }
    assert images == {IMAGE}
    (pool,) = on_gpu.environment.worker_pools
    assert {one.container_image for one in pool.sdk_harness_container_images} == {IMAGE}
    for one in pool.sdk_harness_container_images:
        # Processes of one machine in one container, where they find each other's Ray.
        assert common_urns.protocols.SIBLING_WORKERS.urn in one.capabilities


def test_machines_and_experiments_are_what_was_asked_for(on_gpu):
    environment = on_gpu.environment
    (pool,) = environment.worker_pools
    assert pool.machine_type == "g2-standard-8"
    assert pool.autoscaling_settings.max_num_workers == 8
    assert "use_sibling_sdk_workers" in environment.experiments
    assert not [one for one in environment.service_options if "accelerator" in one]
    assert environment.version["job_type"] == "FNAPI_BATCH"


def test_one_process_per_machine_can_be_had(job, tmp_path):
    flag = "--experiments=no_use_multiple_sdk_containers"
    environment = Translated(job, DataflowConfig(), tmp_path, flag).environment
    assert list(environment.experiments) == ["no_use_multiple_sdk_containers"]


def test_on_cpus_nothing_is_asked_for(job, tmp_path):
    on_cpu = Translated(job, DataflowConfig(), tmp_path)
    assert all(not one.resource_hints for one in on_cpu.proto.components.environments.values())
    model = on_cpu.job.model
    assert (model.placement.device, model.placement.precision) == ("cpu", "float32")


def test_a_job_wide_gpu_is_no_hint(job, tmp_path):
    flag = f"--dataflow_service_options=worker_accelerator={GPU}"
    translated = Translated(job, DataflowConfig(), tmp_path, flag)
    assert translated.hints(ENCODE) == {}
    assert list(translated.environment.service_options) == [f"worker_accelerator={GPU}"]
    assert translated.job.model.placement.device == "cuda"


@pytest.mark.parametrize(
    ("accelerator", "asked", "precision"),
    [
        (GPU, "auto", "bfloat16"),
        ("type:nvidia-tesla-t4;count:1;install-nvidia-driver", "auto", "float32"),
        ("type:nvidia-tesla-t4;count:1;install-nvidia-driver", "float16", "float16"),
        (GPU, "float32", "float32"),
        (GPU, "float8", "float8"),
        ("type:nvidia-h100-80gb;count:1;install-nvidia-driver", "float8", "float8"),
    ],
)
def test_the_model_is_settled_for_the_workers_and_not_for_this_machine(
    job, accelerator, asked, precision
):
    job = job.model_copy(update={"precision": asked, "batch_tokens": None})
    model = dataflow.Dataflow(DataflowConfig(accelerator=accelerator), options()).read_model(job)
    placed = model.placement
    assert (placed.backend, placed.device, placed.precision) == ("torch", "cuda", precision)
    assert placed.batch_tokens > 10_000


def test_float8_is_refused_for_a_gpu_without(job):
    a100 = DataflowConfig(accelerator="type:nvidia-tesla-a100;count:1;install-nvidia-driver")
    job = job.model_copy(update={"precision": "float8"})
    with pytest.raises(ConfigError, match=r"float8, which needs a GPU of compute capability 8\.9"):
        dataflow.Dataflow(a100, options()).read_model(job)


def test_workers_connect_to_the_ray_of_their_machine(job, monkeypatch):
    made: list[Any] = []
    real = dataflow.MakeVersion

    def seen(*arguments: Any, **options: Any) -> Any:
        made.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(dataflow, "MakeVersion", seen)
    _, settled = build_pipeline(job, DataflowConfig(), options())
    connect = made[0][1]
    assert isinstance(connect, LocalRay)
    assert connect.model == settled.model
    assert connect.name == settled.version.url


def run_here(job: JobConfig, patch: pytest.MonkeyPatch) -> RunAccount:
    """Runs the pipeline of a job on Beam's own runner, its encoders in the process."""

    def build(pipeline: beam.Pipeline) -> beam.PCollection:
        applied: list[beam.PCollection] = []
        real = dataflow.MakeVersion.expand

        def kept(self: Any, blocks: beam.PCollection) -> beam.PCollection:
            applied.append(real(self, blocks))
            return applied[-1]

        with patch.context() as patched:
            patched.setattr(dataflow, "_pipeline", lambda _: pipeline)
            patched.setattr(dataflow, "LocalRay", lambda model, **_: LocalConnection(model))
            patched.setattr(dataflow.MakeVersion, "expand", kept)
            build_pipeline(job, DataflowConfig(), options())
        return applied[0]

    (result,) = results(build)
    return result


def test_the_pipeline_runs_as_well_as_it_translates(job, monkeypatch):
    result = run_here(job, monkeypatch)
    assert result.rows == 40
    Dataset.latest(job.output).check_accounts(40)


@pytest.mark.soak
def test_files_that_did_not_change_are_copied_and_not_read(tiny_model, tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "in", 6, 40)
    settings = {"id_column": "id", "block_rows": 8}
    job = tiny_job(tiny_model, corpus, tmp_path / "out", version="v0", **settings)
    assert run_here(job, monkeypatch).rows_encoded == 240
    for night, number in ((1, 2), (2, 4)):
        last = records(1, 10_000 + night)
        write_jsonl(corpus / f"shard-{number}.jsonl", [*records(39, number * 40), *last])
        full = {"output": str(tmp_path / f"full{night}"), "version": "v0"}
        run_here(job.model_copy(update=full), monkeypatch)
        with spoiled(corpus, but=f"shard-{number}.jsonl"):
            again = job.model_copy(update={"version": f"v{night}"})
            result = run_here(again, monkeypatch)
        assert (result.rows_reused, result.rows_encoded, result.rejects) == (239, 1, 0)
        check_copied(Version(job.output, f"v{night}"), Dataset.latest(full["output"]), number)


# --- what is refused ---


@pytest.fixture
def remote(job: JobConfig) -> JobConfig:
    """A job whose places workers can reach; nothing is read from them here."""
    return job.model_copy(
        update={"inputs": ("gs://bucket/docs/*.jsonl",), "output": "gs://bucket/embeddings"}
    )


def refused(job: JobConfig, workers: DataflowConfig, chosen: PipelineOptions) -> str:
    with pytest.raises(ConfigError) as found:
        check_for_dataflow(job, workers, chosen)
    message = str(found.value)
    assert "\n" not in message
    return message


NO_GPU = DataflowConfig()
ON_GPU = DataflowConfig(accelerator=GPU)
ALL_GPU = f"--dataflow_service_options=worker_accelerator={GPU}"


@pytest.mark.parametrize("workers", [NO_GPU, ON_GPU, DataflowConfig(min_ram="8GiB")])
def test_a_good_job_is_not_refused(remote, workers):
    check_for_dataflow(remote, workers, options())
    check_for_dataflow(remote, NO_GPU, options("--flexrs_goal=COST_OPTIMIZED"))
    check_for_dataflow(remote, NO_GPU, options(ALL_GPU))


@pytest.mark.parametrize("name", ["project", "region", "temp_location", "sdk_container_image"])
def test_what_dataflow_cannot_do_without_is_asked_for(remote, name):
    message = refused(remote, NO_GPU, options(**{name: None}))
    assert f"{name} is missing" in message
    assert f"--{name}" in message
    assert message.count("; ") <= 1


CONTRADICTIONS: list[tuple[dict[str, Any], DataflowConfig, tuple[str, ...], str]] = [
    ({}, ON_GPU, ("--flexrs_goal=COST_OPTIMIZED",), "FlexRS has neither GPUs nor right fitting"),
    ({}, NO_GPU, (ALL_GPU, "--flexrs_goal=SPEED_OPTIMIZED"), "FlexRS has neither GPUs"),
    ({}, DataflowConfig(min_ram="8GB"), ("--flexrs_goal=COST_OPTIMIZED",), "FlexRS has neither"),
    ({}, ON_GPU, (ALL_GPU,), "Dataflow takes one of both"),
    ({}, ON_GPU, (f"--experiments=worker_accelerator={GPU}",), "Dataflow takes one of both"),
    ({}, ON_GPU, ("--resource_hint=accelerator=type:x",), "give --accelerator alone"),
    ({}, DataflowConfig(accelerator="type:nvidia-l4;count:1"), (), "append ;install-nvidia-driver"),
    ({"device": "cpu"}, ON_GPU, (), "would stand idle"),
    ({"device": "cuda"}, NO_GPU, (), "the workers have no GPU; give --accelerator"),
    ({"backend": "openvino"}, ON_GPU, (), "backend openvino runs on CPUs"),
    ({"backend": "onnx"}, ON_GPU, (), "backend onnx runs on CPUs"),
    ({"precision": "int8"}, NO_GPU, (), "precision is int8, for which a run measures a sample"),
    ({"inputs": ("docs/*.jsonl",)}, NO_GPU, (), "inputs docs/*.jsonl: is on this machine"),
    ({"inputs": ("memory://x",)}, NO_GPU, (), "inputs memory://x: is on this machine"),
    ({"output": "file:///out"}, NO_GPU, (), "output file:///out: is on this machine"),
    ({"model": "sentence-transformers/all-MiniLM-L6-v2"}, NO_GPU, (), "give its directory there"),
    ({"model": "gs://bucket/model"}, NO_GPU, (), "give its directory there"),
    ({"model": "/nowhere/model"}, NO_GPU, (), "which has to be here too"),
    (
        {"tokenizer": "microsoft/deberta-base"},
        NO_GPU,
        (),
        "tokenizer microsoft/deberta-base: workers",
    ),
    ({}, NO_GPU, ("--temp_location=/tmp/x",), "temp_location /tmp/x: is no place on Cloud Storage"),
    ({}, NO_GPU, ("--staging_location=gs://x",), "staging_location gs://x: is no place"),
    ({}, NO_GPU, ("--streaming",), "leave --streaming out"),
]


@pytest.mark.parametrize(("changes", "workers", "flags", "reason"), CONTRADICTIONS)
def test_what_contradicts_itself_or_the_workers_is_refused_with_the_reason(
    remote, changes, workers, flags, reason
):
    message = refused(remote.model_copy(update=changes), workers, options(*flags))
    assert reason in message
    # One fault, one reason.
    assert message.count("; ") <= 1


def test_all_faults_are_told_at_once(remote):
    message = refused(
        remote.model_copy(update={"output": "out"}), ON_GPU, options(ALL_GPU, project=None)
    )
    assert all(word in message for word in ("project", "output out", "worker_accelerator"))


def test_a_refused_job_is_not_planned_and_not_sent(remote, monkeypatch):
    monkeypatch.setattr(dataflow, "build_pipeline", pytest.fail)
    with pytest.raises(ConfigError):
        dataflow.start_on_dataflow(remote, NO_GPU, options(region=None))


def test_what_beam_itself_refuses_is_an_error_of_one_line(job):
    with pytest.raises(ConfigError, match="Invalid Project ID") as found:
        build_pipeline(job, NO_GPU, options(project="p"))
    assert "\n" not in str(found.value)


def test_a_complete_version_is_not_sent_again(job, monkeypatch):
    monkeypatch.setattr(dataflow, "check_for_dataflow", lambda *_: None)
    sent: list[str] = []

    class Pipeline:
        def run(self) -> str:
            sent.append("sent")
            return "running"

    class Settled:
        class version:
            complete = False

            @classmethod
            def is_complete(cls) -> bool:
                return cls.complete

    refused: list[str | None] = [None]

    def result(_: object) -> SimpleNamespace:
        return SimpleNamespace(refusal=refused[-1], gates=())

    monkeypatch.setattr(dataflow, "account_of_complete", result)
    monkeypatch.setattr(dataflow, "build_pipeline", lambda *_: (Pipeline(), Settled))
    assert dataflow.start_on_dataflow(job, NO_GPU, options())[1] == "running"
    monkeypatch.setattr(Settled.version, "complete", True)
    assert dataflow.start_on_dataflow(job, NO_GPU, options())[1] is None
    assert sent == ["sent"]
    refused.append("too many rejects")
    with pytest.raises(RejectsExceededError, match="too many rejects"):
        dataflow.start_on_dataflow(job, NO_GPU, options())
    assert sent == ["sent"]


# --- the command line and the template ---

METADATA = Path(dataflow.__file__).with_name("dataflow_metadata.json")


def test_a_command_line_is_read_into_the_job_the_workers_and_beams_options():
    job, workers, chosen = parse(
        [
            "--inputs=gs://a/1.jsonl,gs://a/2.jsonl",
            "--model=/models/x",
            "--output=gs://a/out",
            "--metadata_columns=stars:int64,title",
            "--store_text=true",
            "--split_bytes=1000",
            "--prompt=",
            f"--accelerator={GPU}",
            "--project=project-1",
            "--max_num_workers=3",
        ]
    )
    assert job.inputs == ("gs://a/1.jsonl", "gs://a/2.jsonl")
    assert job.metadata_columns == ("stars:int64", "title")
    assert (job.store_text, job.split_bytes, job.prompt) == (True, 1000, None)
    assert workers.accelerator == GPU
    assert chosen.get_all_options()["runner"] == "DataflowRunner"
    assert chosen.view_as(GoogleCloudOptions).project == "project-1"
    _, _, chosen = parse(["--inputs=a", "--model=b", "--output=c", "--runner=X"])
    assert chosen.get_all_options()["runner"] == "X"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--model=x", "--output=y"], "--inputs: missing; give it"),
        (["--inputs=x", "--model=x", "--output=y", "--block_rows=0"], "--block_rows: Input"),
        (
            ["--inputs=x", "--model=x", "--output=y", "--accelerator=l4"],
            "--accelerator: expected type:",
        ),
        (["--inputs=x", "--model=x", "--output=y", "--min_ram=much"], "--min_ram: expected a size"),
        (
            ["--inputs=x", "--model=x", "--output=y", "--metadata-columns=id"],
            "--job: metadata_columns: id",
        ),
        (
            ["--modle=x"],
            "--modle: no setting of a job on Dataflow and no option of Beam's, did you mean "
            "--model?",
        ),
        (
            ["--text_colum", "body"],
            "--text_colum: no setting of a job on Dataflow and no option of Beam's, did you mean "
            "--text-column?",
        ),
        (["--temp-location=gs://a/b"], "did you mean --temp_location?"),
        (["--engine=ray"], "--engine: no setting of a job on Dataflow"),
        (["corpus.jsonl"], "corpus.jsonl: no setting of a job"),
        (["--text-column"], "--text_column/--text-column: expected one argument"),
    ],
)
@pytest.mark.few(4)
def test_a_wrong_command_line_is_an_error_of_one_line(flags, reason):
    with pytest.raises(ConfigError, match=re.escape(reason)) as found:
        parse(flags)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("joined", [True, False])
def test_flags_are_written_with_hyphens_or_underscores(joined):
    def read(sign: str) -> tuple:
        given = {
            "inputs": "gs://a/b",
            "model": "/m",
            "output": "gs://a/o",
            "text_column": "body",
            "split_bytes": "1000",
            "min_ram": "16GB",
        }
        names = [(f"--{name.replace('_', sign)}", value) for name, value in given.items()]
        flags = [f"{one}={value}" for one, value in names] if joined else [*itertools.chain(*names)]
        # Beam's own, with a value, as a list and alone.
        beams = ["--temp_location=gs://a/t", "--experiments", "x", "--no_auth", "--streaming"]
        job, workers, chosen = parse([*flags, f"--store{sign}text", *beams])
        return job, workers, chosen.get_all_options()

    job, workers, beams = read("-")
    assert (job.text_column, job.split_bytes, job.store_text) == ("body", 1000, True)
    assert workers.min_ram == "16GB"
    assert (beams["temp_location"], beams["experiments"]) == ("gs://a/t", ["x"])
    assert (beams["no_auth"], beams["streaming"]) == (True, True)
    assert read("_") == (job, workers, beams)


GOOD = ["--inputs=gs://a/b", "--model=/m", "--output=gs://a/o"]


def test_a_list_is_what_all_its_flags_say():
    flags = ["--inputs= gs://a/c , gs://a/d", "--metadata_columns=stars", "--metadata-columns="]
    job, _, _ = parse([*GOOD, *flags, "--metadata_columns", "title"])
    assert job.inputs == ("gs://a/b", "gs://a/c", "gs://a/d")
    assert job.metadata_columns == ("stars", "title")
    with pytest.raises(ConfigError, match=r"--metadata_columns: a,,b has an empty item"):
        parse([*GOOD, "--metadata_columns=a,,b"])


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--max_num_workers=x", "--max_num_workers: invalid int value: 'x'; correct this option"),
        ("--streaming=true", "--streaming/--no_streaming: ignored explicit argument 'true'"),
    ],
)
def test_a_wrong_value_of_beams_is_said_without_all_its_usage(flag, said, capsys):
    with pytest.raises(ConfigError, match=re.escape(said.partition("/")[0])) as found:
        parse([*GOOD, flag])
    assert "\n" not in str(found.value)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("raised", "kind", "said"),
    [
        (RuntimeError("The file /nope.py cannot be found"), ConfigError, "(The file /nope.py"),
        (DefaultCredentialsError("none"), ConfigError, "gcloud auth application-default login"),
        (Forbidden("no right"), ConfigError, "cannot be sent (403 no right)"),
        (TooManyRequests("later"), ResumableError, "send it again"),
        (ServiceUnavailable("later"), ResumableError, "send it again"),
        (DataflowJobAlreadyExistsError("active"), ResumableError, "(active); send it again"),
        (OSError("Could not upload"), ResumableError, "(Could not upload); send it again"),
    ],
)
def test_what_keeps_a_job_from_being_sent_is_one_line(raised, kind, said, job, monkeypatch):
    def run(self: beam.Pipeline) -> None:
        raise raised

    monkeypatch.setattr(beam.Pipeline, "run", run)
    monkeypatch.setattr(dataflow, "check_for_dataflow", lambda *_: None)
    with pytest.raises(kind, match=re.escape(said)) as found:
        start_on_dataflow(job, DataflowConfig(), options())
    assert str(found.value).startswith("Dataflow: ")


def test_every_pattern_of_a_setting_has_its_words():
    for name in settings():
        schema = _schemas()[name]
        if "pattern" in schema:
            with pytest.raises(ConfigError) as found:
                parse(["--inputs=x", "--model=x", "--output=y", f"--{name}=/%/"])
            assert schema["pattern"] not in str(found.value)
            assert "Value error" not in str(found.value)


def test_no_setting_has_the_name_of_one_of_beams_options():
    assert not set(settings()) & set(PipelineOptions([]).get_all_options())


def test_the_templates_metadata_is_that_of_the_settings():
    remedy = f"write it anew: embedkit dataflow --write_metadata {METADATA}"
    assert json.loads(METADATA.read_text()) == template_metadata(), remedy


@pytest.fixture(scope="module")
def parameters() -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in json.loads(METADATA.read_text())["parameters"]}


def test_a_template_has_a_parameter_for_every_setting(parameters):
    assert set(parameters) == set(settings())
    required = [name for name, one in parameters.items() if not one["isOptional"]]
    assert sorted(required) == ["inputs", "model", "output"]
    assert all(re.fullmatch(r"[a-z][a-z_]+", name) for name in parameters)
    assert all(one["helpText"].endswith(".") for one in parameters.values())


def values() -> Iterator[tuple[str, str, bool]]:
    yield "inputs", "gs://bucket/a.jsonl", True
    yield "inputs", "gs://bucket/a.jsonl,s3://bucket/*.parquet", True
    yield "inputs", "a.jsonl", False
    yield "inputs", "gs://bucket/a.jsonl,b.jsonl", False
    yield "output", "gs://bucket/out", True
    yield "output", "/out", False
    yield "model", "/models/x", True
    yield "model", "name", False
    yield "accelerator", GPU, True
    yield "accelerator", "nvidia-l4", False
    yield "min_ram", "16GB", True
    yield "min_ram", "16", False
    yield "chunk", "sentences", True
    yield "chunk", "sentence", False
    yield "store_text", "true", True
    yield "store_text", "yes", False
    yield "block_rows", "100", True
    yield "block_rows", "0", False
    yield "chunk_overlap", "0", True
    yield "chunk_overlap", "-1", False
    yield "calls_in_flight", "4", True
    yield "calls_in_flight", "5", False
    yield "encoder_timeout", "1.5", True
    yield "encoder_timeout", "soon", False
    yield "version", "2026-01-31", True
    yield "version", "../x", False
    yield "prompt", "anything: ", True
    yield "max_tokens", "", True


@pytest.mark.parametrize(("name", "value", "good"), values())
def test_a_parameter_takes_what_its_setting_takes(parameters, name, value, good):
    regexes = parameters[name].get("regexes", [])
    assert all(re.search(regex, value) for regex in regexes) is good


def takes(name: str) -> Callable[[str], bool]:
    required = {"inputs": "gs://a/b", "model": "/m", "output": "gs://a/o"}

    def good(value: str) -> bool:
        try:
            parse([f"--{key}={text}" for key, text in (required | {name: value}).items()])
        except ConfigError:
            return False
        return True

    return good


@pytest.mark.parametrize(
    ("name", "value", "good"),
    [one for one in values() if one[0] not in ("inputs", "output", "model", "store_text")],
)
@pytest.mark.few(6)
def test_a_setting_takes_what_its_parameter_takes(name, value, good):
    assert takes(name)(value) is good
