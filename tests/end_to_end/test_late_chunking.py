"""Late chunking: chunks pooled from their document, against the library's own token vectors."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from running import Dataset, write_jsonl
from texts import paragraphs

from embedkit.config import JobConfig
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.flow.prepare import prepare

SHORT = "The river rises in the hills. It passes the mill. Boats carry grain to the sea. " * 2


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    long = "\n\n".join(paragraphs()[200:212])
    emoji = "Rain 👩‍👩‍👧‍👦 fell. " * 12
    return {"short": SHORT, "long": long, "again": long, "emoji": emoji}


def job(documents, model, folder, **settings) -> JobConfig:
    rows = [{"key": name, "text": text} for name, text in documents.items()]
    write_jsonl(folder / "docs.jsonl", rows)
    given = {"chunk": "sentences", "chunk_tokens": 24, "engine": "plain", "device": "cpu"}
    return JobConfig(
        inputs=(str(folder / "docs.jsonl"),),
        id_column="key",
        model=model,
        output=str(folder / "out"),
        backend="torch",
        precision="float32",
        store_text=True,
        **given | settings,
    )


def token_vectors(oracle, text: str):
    inputs = oracle.tokenizer(text, return_offsets_mapping=True, return_tensors="pt")
    offsets = inputs.pop("offset_mapping")[0].numpy()
    with torch.no_grad():
        hidden = oracle[0].model(**inputs).last_hidden_state[0].numpy()
    return hidden, offsets


def pooled(hidden, offsets, start: int, end: int):
    own = (offsets[:, 0] < end) & (offsets[:, 1] > start) & (offsets[:, 0] < offsets[:, 1])
    mean = hidden[own].mean(axis=0)
    return mean / np.linalg.norm(mean)


def test_chunks_are_pooled_from_their_whole_document(documents, minilm, oracle, tmp_path):
    result = run_job(job(documents, minilm, tmp_path, late_chunking=True, block_rows=9))
    dataset = Dataset.latest(tmp_path / "out")
    dataset.check_accounts(len(documents))
    assert result.truncated_share == 0
    rows = dataset.table.to_pylist()
    assert all(r["text"] == documents[r["doc_id"]][r["char_start"] : r["char_end"]] for r in rows)
    whole = {name: token_vectors(oracle, documents[name]) for name in ("short", "emoji")}
    for row in rows:
        if row["doc_id"] in whole:
            expected = pooled(*whole[row["doc_id"]], row["char_start"], row["char_end"])
            np.testing.assert_allclose(row["embedding"], expected, rtol=0, atol=2e-5)
    # Equal documents have equal vectors, and parts of a long one know what is around them.
    of = {name: [r for r in rows if r["doc_id"] == name] for name in documents}
    for one, same in zip(of["long"], of["again"], strict=True):
        np.testing.assert_allclose(one["embedding"], same["embedding"], rtol=0, atol=2e-5)
    assert len(of["long"]) > 20
    alone = oracle.encode([row["text"] for row in of["long"]])
    cosines = (alone * np.array([row["embedding"] for row in of["long"]])).sum(axis=1)
    assert cosines.max() < 0.999
    assert cosines.mean() > 0.5


@pytest.fixture
def bare_minilm(minilm, tmp_path) -> str:
    """The transformer alone, whose directory names no pooling."""
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare").mkdir(exist_ok=True)
        shutil.copy(Path(minilm) / name, tmp_path / "bare" / name)
    return str(tmp_path / "bare")


def test_late_chunks_have_a_recipe_of_their_own(minilm, bare_minilm, tmp_path):
    first = prepare(job({"short": SHORT}, minilm, tmp_path))
    late = prepare(job({"short": SHORT}, minilm, tmp_path, late_chunking=True))
    assert first.version != late.version
    assert late.description["recipe"] != first.description["recipe"]
    assert late.model.vectors.in_windows and not first.model.vectors.in_windows
    with pytest.raises(ConfigError, match="late_chunking: pools chunks, but with granularity word"):
        run_job(job({"short": SHORT}, minilm, tmp_path, late_chunking=True, granularity="word"))
    with pytest.raises(ConfigError, match=r"late_chunking: .* makes no vector of the tokens"):
        run_job(job({"short": SHORT}, bare_minilm, tmp_path, late_chunking=True, pooling="cls"))
