"""A kind of encoder is a folder and a line: a toy one, from its directory to a search."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from beam_running import results
from running import Dataset, records, tiny_job, write_jsonl
from tokenizers import Tokenizer
from toy_kind.kind import ToyKind, ToySpec, save_toy

from embedkit.config import CorpusConfig, JobConfig, ModelConfig, OutputConfig
from embedkit.dataset.validate import validate
from embedkit.dataset.version import find_version
from embedkit.encoders import kinds
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.engines.estimate import plan_job
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, EncoderError
from embedkit.flow.encode import call_batches
from embedkit.search.query import search_text
from embedkit.transforms.embed_corpus import EmbedCorpus


@pytest.fixture
def toy(tmp_path, monkeypatch) -> str:
    """A model of the toy kind, which one line registers."""
    monkeypatch.setattr(kinds, "KINDS", {"toy": ToyKind(), **kinds.KINDS})
    return save_toy(tmp_path / "toy")


@pytest.fixture
def job(toy, tmp_path) -> JobConfig:
    corpus = write_jsonl(tmp_path / "in.jsonl", records(60))
    settings = {"pooling": None, "normalize": None, "backend": "auto", "precision": "auto"}
    return tiny_job(toy, corpus, tmp_path / "out", id_column="id", store_text=True, **settings)


def by_hand(directory: str, text: str) -> np.ndarray:
    """The vector of a text from the model's files, by other libraries' readers of them alone."""
    from safetensors import safe_open

    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    tokenizer.enable_truncation(24)
    with safe_open(Path(directory) / "model.safetensors", "np") as tensors:
        table = tensors.get_tensor("table").astype(np.float64)
    vector = table[tokenizer.encode(text).ids].mean(axis=0)
    return vector / np.linalg.norm(vector)


def test_a_version_of_another_kind_from_its_directory_to_a_search(job, toy):
    run_job(job)
    assert validate(find_version(job.output)).problems == ()
    dataset = Dataset.latest(job.output)
    dataset.check_accounts(60)
    texts = {row["id"]: row["text"] for row in records(60)}
    for row in dataset.table.select(["id", "embedding"]).to_pylist():
        expected = by_hand(toy, texts[row["id"]])
        np.testing.assert_allclose(row["embedding"], expected, rtol=0, atol=1e-6)
    described = dataset.manifest["description"]
    assert (described["toy_scale"], described["dimension"]) == ("0.5", 6)
    assert (described["backend"], "pooling" in described) == ("numpy", False)
    assert described["ingredients"]["scale"] == "0.5"
    assert {"numpy", "tokenizers"} <= set(described["libraries"])
    footer = pq.read_schema(dataset.parts[0]).metadata
    assert footer[b"embedkit.toy_scale"] == b"0.5"
    for place in (3, 41):
        row = records(60)[place]
        best, *_ = search_text(job.output, row["text"], 3)
        assert (best.id, best.score) == (row["id"], pytest.approx(1, abs=1e-6))


def test_what_only_the_kind_knows_names_another_version(job, toy):
    first = run_job(job).dataset
    assert run_job(job).dataset == first
    said = Path(toy) / "toy.json"
    said.write_text(json.dumps(json.loads(said.read_text()) | {"scale": 2.0}))
    assert run_job(job).dataset != first


@pytest.mark.parametrize("mixed", [True, False])
def test_the_spec_says_how_calls_are_cut_whatever_runs_them(job, monkeypatch, mixed):
    """Packs of rows of one length fill badly: a way that forgot to ask would only be slower."""
    said = []

    def cut(batch, call_tokens, mixed, only):
        said.append(mixed)
        return call_batches(batch, call_tokens, mixed, only)

    monkeypatch.setattr("embedkit.flow.encode.call_batches", cut)
    monkeypatch.setattr(ToySpec, "mixed_calls", mixed)
    run_job(job)
    assert set(said) == {mixed}
    said.clear()
    output = OutputConfig(output=job.output, version="beam", reuse="off")
    model, corpus = ModelConfig(model=job.model), CorpusConfig(inputs=job.inputs)
    assert [one.rows for one in results(lambda p: p | EmbedCorpus(model, output, corpus))] == [60]
    assert set(said) == {mixed}


def test_its_speed_is_its_own_guess(job):
    found = plan_job(job)
    assert found.seconds == pytest.approx(found.start_seconds + found.tokens / 1e6)


def test_a_spec_finds_its_kind_by_name_wherever_it_is_loaded(toy, monkeypatch):
    spec = pickle.loads(pickle.dumps(read_model(ModelConfig(model=toy))))
    assert load_encoder(spec).dimension == 6
    monkeypatch.setattr(kinds, "KINDS", {"transformer": kinds.KINDS["transformer"]})
    with pytest.raises(EncoderError, match="kind of encoder 'toy' is not known in this process"):
        load_encoder(spec)


def test_other_directories_stay_with_their_kind(toy, tiny_model, tmp_path):
    assert read_model(ModelConfig(model=tiny_model, pooling="mean")).kind == "transformer"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="is this a model's directory"):
        read_model(ModelConfig(model=str(tmp_path / "empty")))


def test_every_kind_has_the_name_of_its_specs(tiny_model):
    spec = read_model(ModelConfig(model=tiny_model, pooling="mean"))
    assert list(kinds.KINDS)[-1] == spec.kind
    assert list(kinds.KINDS) == ["static", "transformer"]


def test_the_registry_loads_no_library_that_runs_models():
    code = (
        "import sys, embedkit.encoders.kinds\n"
        "print([name for name in ('torch', 'transformers', 'openvino', 'ray', 'apache_beam') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
