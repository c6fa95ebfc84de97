"""What `plan` says against what a run then finds."""

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import Dataset, records, tiny_job, write_corpus, write_jsonl
from tiny_models import make_tokenizer, save_transformer

from embedkit.corpus import sampling
from embedkit.dataset.committed import committed
from embedkit.encoders.hardware import Gpu, Machine
from embedkit.encoders.host_cores import HostWork, host_cores
from embedkit.encoders.kinds import read_model, tokens_per_second
from embedkit.engines import estimate, gpu_estimate
from embedkit.engines.estimate import expected_work, plan_job, vector_bytes
from embedkit.engines.run import run_job
from embedkit.flow.prepare import prepare
from embedkit.reports.phrasing import size as size_text
from embedkit.vectors import vectors_of


def test_a_sample_that_is_everything_estimates_nothing_wrongly(make_job, tmp_path):
    config = make_job(split_bytes=1 << 20)
    found = plan_job(config)
    assert not (tmp_path / "out").exists()
    result = run_job(config)
    assert (found.files, found.skipped_files, found.splits) == (3, 0, 1)
    assert found.bytes == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert (found.rows, found.tokens) == (result.rows, result.tokens)
    assert found.truncated_share == pytest.approx(result.truncated_share)
    assert found.seconds > 0
    assert found.model == config.model


@pytest.mark.parametrize("chunk", ["none", "tokens"])
@pytest.mark.few(1)
def test_a_sample_of_a_larger_corpus_is_near(tiny_model, tmp_path, chunk):
    corpus = write_corpus(tmp_path / "in", shards=3, rows=2000)
    settings = {"chunk": chunk, "chunk_tokens": 16} if chunk != "none" else {}
    config = tiny_job(
        tiny_model,
        corpus,
        tmp_path / "out",
        max_tokens=24,
        block_rows=4096,
        split_bytes=1 << 20,
        call_tokens=4096,
        **settings,
    )
    found = plan_job(config)
    result = run_job(config)
    assert found.rows == pytest.approx(result.rows, rel=0.1)
    assert found.tokens == pytest.approx(result.tokens, rel=0.1)
    assert found.truncated_share == pytest.approx(result.truncated_share, abs=0.05)


def test_a_trial_is_no_larger_than_its_limit(tiny_model, tmp_path):
    corpus = write_corpus(tmp_path / "in", shards=2, rows=300)
    settings = {"split_bytes": 1 << 20, "limit": 40}
    config = tiny_job(tiny_model, corpus, tmp_path / "out", **settings)
    found = plan_job(config)
    result = run_job(config)
    assert found.records == result.documents == 40
    assert found.rows == pytest.approx(result.rows, abs=4)
    assert found.tokens == pytest.approx(result.tokens, rel=0.2)


def test_files_that_are_passed_over_are_counted(make_job, tmp_path, caplog):
    (tmp_path / "in" / "_notes.txt").write_text("x")
    with caplog.at_level(logging.WARNING):
        found = plan_job(make_job())
    assert (found.files, found.skipped_files) == (3, 1)
    assert "files      3, and 1 skipped\n" in found.to_text()


def test_an_empty_corpus(tiny_model, tmp_path):
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    found = plan_job(tiny_job(tiny_model, empty, tmp_path / "out"))
    assert (found.files, found.rows, found.tokens, found.truncated_share) == (1, 0, 0, 0)
    assert found.seconds == found.start_seconds


@pytest.mark.parametrize("architecture", ["distilbert", "modernbert", "t5"])
def test_models_that_name_their_sizes_otherwise(architecture, tmp_path):
    """DistilBERT has `dim` and `n_layers`, T5 `d_model` and `d_ff`."""
    model = save_transformer(tmp_path / architecture, architecture)
    file = write_jsonl(tmp_path / "a.jsonl", records(50))
    found = plan_job(tiny_job(model, file, tmp_path / "out"))
    assert 0 < found.seconds < 60


def test_as_text_and_as_json(make_job):
    found = plan_job(make_job())
    names = [line.split("  ")[0] for line in found.to_text().splitlines()]
    assert names == [
        "files", "bytes", "splits", "rows", "tokens", "vectors", "truncated", "time", "model"
    ]  # fmt: skip
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()


@pytest.mark.parametrize(
    ("granularity", "chunk", "settings"),
    [
        (None, "none", {}),
        (None, "tokens", {}),
        ("token", "none", {"vector_dtype": "float16"}),
        ("token", "tokens", {"special_tokens": True}),
        ("word", "none", {"words": ("corpus", "vectors")}),
    ],
)
@pytest.mark.few(2)
def test_the_size_on_disk_is_that_of_the_vectors_there_will_be(
    make_job, granularity, chunk, settings
):
    """The corpus is so small that the sample is all of it."""
    config = make_job(granularity=granularity, chunk=chunk, split_bytes=1 << 20, **settings)
    found = plan_job(config)
    run_job(config)
    vectors = vectors_of(Dataset.latest(config.output).table)
    assert found.vectors == len(vectors.stacked)
    assert found.vector_bytes == vectors.stacked.nbytes
    assert f"vectors    about {found.vectors:,}, " in found.to_text()


def test_what_vectors_take_on_disk():
    of_tokens = vector_bytes(1_000_000 * 200, 384, "float32")
    assert (of_tokens, size_text(of_tokens)) == (307_200_000_000, "307 GB")
    assert size_text(vector_bytes(1_000_000 * 200, 384, "float16")) == "154 GB"
    assert size_text(vector_bytes(1_000_000, 384, "float32")) == "1.54 GB"
    told = {0: "0 bytes", 999: "999 bytes", 1000: "1 kB", 999_600: "1 MB"}
    assert {size: size_text(size) for size in told} == told


def test_the_work_left_of_a_job(make_job, embed_some):
    """The corpus is so small that the sample is all of it, so the expectation is exact."""
    config = make_job()
    job = prepare(config)
    whole = expected_work(job, job.plan.splits, {})
    tokens = embed_some(job, job.plan.splits[:2])
    left = expected_work(job, job.plan.splits[2:], committed(job.version))
    assert (whole.documents, left.documents) == (180, 180)
    assert left.tokens == whole.tokens - tokens
    result = run_job(config)
    assert whole.tokens == result.tokens
    assert left.tokens == result.tokens_encoded
    assert whole.host is None
    assert Dataset.latest(config.output).manifest["rows"] == 180


def test_the_work_left_of_a_split_half_done(make_job, embed_some):
    job = prepare(make_job(split_bytes=1 << 20))
    whole = expected_work(job, job.plan.splits, {})
    embed_some(job, job.plan.splits)
    records = committed(job.version)
    assert len(records) == 12
    before = dict(list(records.items())[:5])
    left = expected_work(job, job.plan.splits, before)
    assert left.documents == whole.documents == 180
    assert left.tokens == whole.tokens - sum(record.tokens for record in before.values())


def test_blank_lines_are_no_documents_and_rejects_are(tiny_model, tmp_path, monkeypatch):
    """More than is sampled, so that the total is an estimate."""
    lines = [json.dumps({"id": str(at), "text": f"text {at} " * 20}) for at in range(4000)]
    lines[::4] = ["no JSON" + "." * 160] * 1000
    file = tmp_path / "a.jsonl"
    file.write_text("".join(f"{line}\n\n\n\n\n\n" for line in lines))
    job = prepare(tiny_job(tiny_model, file, tmp_path / "out"))
    monkeypatch.setattr(sampling, "_PLACE_BYTES", 1 << 13)
    assert file.stat().st_size > 3 * sampling._PLACES << 13
    found = expected_work(job, job.plan.splits, {})
    assert found.documents == pytest.approx(4000, rel=0.05)
    planned = plan_job(job.config)
    assert planned.rows == pytest.approx(3000, rel=0.05)
    assert planned.rejects == pytest.approx(1000, rel=0.05)
    assert f"about {planned.rejects:,} of {found.documents:,} records" in planned.to_text()


def test_what_is_committed_is_not_planned_again(make_job):
    config = make_job()
    before = plan_job(config)
    assert before.committed_rows == 0
    assert before.seconds > before.start_seconds > 0
    run_job(config)
    after = plan_job(config)
    assert after.committed_rows == 180
    assert after.seconds == pytest.approx(after.start_seconds, abs=0.5)
    assert "committed  180 rows" in after.to_text()


def test_a_plan_says_of_which_version_rows_are_taken_over(make_job, tmp_path):
    config = make_job()
    assert "reuse" not in plan_job(config).to_text()
    name = run_job(config).version
    assert "reuses" not in plan_job(config).to_dict()
    (tmp_path / "in" / "more.jsonl").write_text('{"text": "one more"}\n')
    grown = plan_job(make_job())
    assert grown.to_dict()["reuses"] == name
    assert f"equal rows of version {name} are taken over" in grown.to_text()
    assert plan_job(make_job(reuse="off")).reuses == ""
    assert plan_job(make_job(max_tokens=5)).reuses == ""


@pytest.fixture
def on_gpus(make_job, monkeypatch):
    """Plans a job on so many GPUs of a name and so many cores; the model and the estimate."""

    def plan(name: str, count: int, cores: int, **settings):
        monkeypatch.setattr(gpu_estimate, "usable_cores", lambda: cores)
        machine = Machine(lambda: Gpu(has_bf16=True, name=name, count=count))
        config = make_job(device="cuda", **{"engine": "local"} | settings)
        return read_model(config, machine), plan_job(config, machine)

    return plan


def test_on_gpus_it_says_how_many_cores_keep_them_busy(on_gpus):
    model, found = on_gpus("NVIDIA L4", 2, 10_000, engine="ray")
    gpu = found.gpu
    assert (gpu.name, gpu.datasheet, gpu.gpus, gpu.cores) == ("NVIDIA L4", "L4", 2, 9_998)
    assert gpu.tokens_per_second == tokens_per_second(model, "NVIDIA L4")
    # So small a sample is not timed.
    assert gpu.cores_per_gpu == host_cores(model, "NVIDIA L4").per_gpu
    assert (gpu.bottleneck, gpu.job_tokens_per_second) == ("gpu", 2 * gpu.tokens_per_second)
    rate = 2 * gpu.tokens_per_second
    assert found.seconds == pytest.approx(found.start_seconds + found.tokens / rate)
    lines = found.to_text().splitlines()
    assert [line.split("  ")[0] for line in lines[-4:]] == ["time", "gpu", "cores", "model"]
    speed = f"{float(f'{gpu.tokens_per_second:.2g}'):,.0f} tokens/s each"
    assert f"2 x NVIDIA L4, about {speed} by the datasheet of the L4, not measured" in lines[-3]
    assert (
        f"about {float(f'{gpu.cores_per_gpu:.2g}'):g} per GPU to read, tokenize and write"
        in lines[-2]
    )
    assert lines[-2].endswith("9998 here: the GPUs stay busy")
    assert json.loads(json.dumps(found.to_dict()))["gpu"]["cores_per_gpu"] == gpu.cores_per_gpu


def test_too_few_cores_hold_gpus_up(on_gpus):
    model, found = on_gpus("NVIDIA H200", 1, 2)
    gpu, a_core = found.gpu, HostWork(model.vectors.dimension).tokens_per_second
    assert (gpu.cores, gpu.bottleneck) == (1, "cores")
    assert gpu.job_tokens_per_second == pytest.approx(a_core)
    assert gpu.job_tokens_per_second < gpu.tokens_per_second
    assert "1 here: too few, they let about " in found.to_text()


def test_one_process_holds_up_many_gpus_and_a_cluster_has_more(on_gpus):
    model, found = on_gpus("NVIDIA H200", 8, 10_000)
    assert found.gpu.bottleneck == "process"
    most = HostWork(model.vectors.dimension).process_tokens_per_second
    assert found.gpu.job_tokens_per_second == most < 8 * found.gpu.tokens_per_second
    assert " tokens/s through, and --engine ray has several" in found.to_text()
    _, found = on_gpus("NVIDIA H200", 8, 10_000, engine="ray")
    assert found.gpu.bottleneck != "process"


def test_so_few_workers_of_a_cluster_hold_gpus_up(on_gpus):
    settings = {"engine": "ray", "max_tokens": 24}
    model, found = on_gpus("NVIDIA H200", 8, 10_000, workers=2, **settings)
    most = 2 * HostWork(model.vectors.dimension).process_tokens_per_second
    assert (found.gpu.bottleneck, found.gpu.job_tokens_per_second) == ("workers", most)
    assert ": so few --workers let about " in found.to_text()
    _, found = on_gpus("NVIDIA H200", 8, 10_000, workers=100_000, **settings)
    assert found.gpu.bottleneck != "workers"


def test_encoders_that_the_job_names_take_no_other_gpus(on_gpus):
    settings = {"engine": "local", "encoders": 4, "encoders_per_gpu": 2}
    _, found = on_gpus("NVIDIA H100 PCIe", 8, 64, **settings)
    assert (found.gpu.gpus, found.gpu.cores) == (2, 60)
    _, found = on_gpus("NVIDIA H100 PCIe", 8, 64, engine="plain")
    assert (found.gpu.gpus, found.gpu.cores) == (1, 63)


def test_an_unknown_gpu_is_taken_for_another_and_that_is_said(on_gpus):
    _, found = on_gpus("NVIDIA GeForce RTX 9999", 1, 4)
    assert found.gpu.datasheet == "A100"
    assert "by the datasheet of the A100, not measured" in found.to_text()


def test_a_sample_of_some_size_tells_what_tokenizing_takes(tiny_model, tmp_path, monkeypatch):
    """Of texts of which the model sees little, most of the work is for what it does not see."""
    monkeypatch.setattr(estimate, "_TIMED_TOKENS", 100)
    # Whole texts, as they have no words but a few.
    monkeypatch.setattr("embedkit.tokens.text_tokenizer.tokenizes_words", lambda tokenizer: False)
    machine = Machine(lambda: Gpu(has_bf16=True, name="NVIDIA L4"))
    needed = []
    for words in (10, 4000):
        texts = [
            {"text": f"one two three {at} " + "four five " * (words // 2)} for at in range(100)
        ]
        file = write_jsonl(tmp_path / f"{words}.jsonl", texts)
        settings = {"device": "cuda", "max_tokens": 10, "split_bytes": 1 << 20}
        config = tiny_job(tiny_model, file, tmp_path / "out", **settings)
        found = plan_job(config, machine)
        needed.append(found.gpu.cores_per_gpu)
    assert needed[1] > 3 * needed[0]


def test_a_run_knows_what_the_sample_told(make_job, monkeypatch):
    config = make_job(device="cuda")
    job = prepare(config, read_model(config, Machine(lambda: Gpu(has_bf16=True))))
    usual = HostWork(job.model.vectors.dimension)
    # So small a sample is not timed.
    assert expected_work(job, job.plan.splits, {}).host == usual
    monkeypatch.setattr(estimate, "_TIMED_TOKENS", 100)
    host = expected_work(job, job.plan.splits, {}).host
    assert host.dimension == usual.dimension
    assert host.row_tokens < 25
    assert 0 < host.tokenizing != usual.tokenizing


def test_an_empty_corpus_on_gpus(tiny_model, tmp_path):
    empty = write_jsonl(tmp_path / "empty.jsonl", [])
    job = tiny_job(tiny_model, empty, tmp_path / "out", device="cuda")
    found = plan_job(job, Machine(lambda: Gpu(has_bf16=True)))
    assert found.gpu.cores_per_gpu > 0
    assert found.seconds == found.start_seconds


@pytest.mark.parametrize("text", ["\u200b", "\u00ad \u2060"])
@pytest.mark.parametrize("chunk", ["none", "tokens"])
def test_long_texts_without_a_token_on_gpus(text, chunk, tmp_path):
    """Of a tokenizer that adds none, there is nothing by which its time could be divided."""
    model = save_transformer(tmp_path / "bare", "bert")
    make_tokenizer("bare").save_pretrained(model)
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": [text * 50_000] * 6}), file)
    config = tiny_job(model, file, tmp_path / "out", device="cuda", chunk=chunk)
    found = plan_job(config, Machine(lambda: Gpu(has_bf16=True, name="NVIDIA L4")))
    assert found.tokens == 0
    assert found.gpu.cores_per_gpu > 0
    assert found.seconds == found.start_seconds


def test_on_cpus_nothing_of_it_is_said(make_job):
    found = plan_job(make_job())
    assert found.gpu is None
    assert "gpu" not in found.to_dict()
