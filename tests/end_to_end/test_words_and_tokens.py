"""Vectors of words and tokens as they stand in a dataset, against transformers itself."""

import itertools

import apache_beam as beam
import numpy as np
import pytest
import torch
from beam_running import results
from running import Dataset, tiny_job, write_corpus, write_jsonl
from texts import paragraphs
from transformers import AutoModel, AutoTokenizer

from embedkit.config import CorpusConfig, JobConfig, ModelConfig, OutputConfig
from embedkit.dataset.validate import validate
from embedkit.dataset.version import find_version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.search.query import search_text
from embedkit.transforms.embed_corpus import EmbedCorpus
from embedkit.transforms.read_version import ReadVersion
from embedkit.vectors import vectors_of

pytestmark = pytest.mark.timeout(600)

TEXTS = [
    "The bat flew out of the cave.  He swung the bat\tat the ball 😀 café.",
    "日本語 text, naïve façade — unbelievable! مرحبا بالعالم",
    "",
    *paragraphs()[:12],
    "The bat flew out of the cave.  He swung the bat\tat the ball 😀 café.",
    " ".join(paragraphs()[20:24]),
]
"""One without a word, one twice, and one that is longer than the model sees."""


@pytest.fixture(scope="module")
def last_hidden_states(minilm):
    """Gives each token of a text: its word, its characters, its vector."""
    tokenizer, model = AutoTokenizer.from_pretrained(minilm), AutoModel.from_pretrained(minilm)
    model.eval()

    def encode(text, prompt=""):
        fed = tokenizer(
            prompt + text,
            return_tensors="pt",
            truncation=True,
            max_length=128,
            return_offsets_mapping=True,
        )
        offsets = (fed.pop("offset_mapping")[0] - len(prompt)).tolist()
        with torch.no_grad():
            states = model(**fed).last_hidden_state[0].numpy()
        tokens = fed.tokens()
        found = zip(fed.word_ids(), offsets, states, tokens, strict=True)
        return [one for one in found if one[0] is not None and one[1][0] >= 0]

    return encode


def job_of(model, folder, **changes):
    rows = [{"id": f"{n:02d}", "text": text} for n, text in enumerate(TEXTS)]
    settings = {
        "inputs": (str(write_jsonl(folder / "in.jsonl", rows)),),
        "id_column": "id",
        "model": model,
        "max_tokens": 128,
        "output": str(folder / "out"),
        "backend": "torch",
        "precision": "float32",
        "engine": "plain",
        "max_reject_share": 0.5,
    }
    return JobConfig(**(settings | changes))


def test_tokens(minilm, last_hidden_states, tmp_path):
    changes = {"granularity": "token", "store_tokens": True, "prompt": "passage: "}
    job = job_of(minilm, tmp_path, **changes)
    result = run_job(job)
    dataset = Dataset.latest(job.output)
    dataset.check_accounts(len(TEXTS))
    table, vectors = dataset.table, vectors_of(dataset.table)
    assert table.num_rows == len(TEXTS) - 1
    for row, (name, spans, tokens) in enumerate(
        zip(*(table[column].to_pylist() for column in ("id", "spans", "tokens")), strict=True)
    ):
        expected = last_hidden_states(TEXTS[int(name)], "passage: ")
        assert [[one["char_start"], one["char_end"]] for one in spans] == [
            one[1] for one in expected
        ]
        assert tokens == [one[3] for one in expected]
        states = np.stack([one[2] for one in expected])
        np.testing.assert_allclose(vectors.of_row(row), states, atol=2e-5)
    assert table["truncated"].to_pylist()[-1]
    # Equal texts were encoded once.
    assert result.tokens_encoded == result.tokens - table["n_tokens"].to_pylist()[0]

    assert validate(find_version(job.output)).problems == ()
    with pytest.raises(ConfigError, match="holds vectors of tokens, and search needs a version"):
        search_text(job.output, "bat")
    again = run_job(job)
    assert (again.tokens_encoded, again.rows_resumed) == (0, table.num_rows)


def words_of(text, encode):
    """The words of a text as the tokenizer has them, and the means of their tokens' vectors."""
    for _, group in itertools.groupby(encode(text), key=lambda one: one[0]):
        tokens = list(group)
        vector = np.mean([one[2] for one in tokens], axis=0)
        yield tokens[0][1][0], tokens[-1][1][1], vector


@pytest.mark.soak
def test_words_of_chunks_in_half_precision(minilm, last_hidden_states, tmp_path):
    job = job_of(
        minilm,
        tmp_path,
        granularity="word",
        chunk="sentences",
        chunk_tokens=40,
        vector_dtype="float16",
        store_text=True,
        block_rows=8,
    )
    run_job(job)
    dataset = Dataset.latest(job.output)
    dataset.check_accounts(len(TEXTS))
    table, vectors = dataset.table, vectors_of(dataset.table)
    assert table.num_rows > len(TEXTS) + 5
    assert vectors.values.dtype == np.float16
    assert len(dataset.parts) > 2
    for row, one in enumerate(table.select(["doc_id", "text", "char_start", "spans"]).to_pylist()):
        document, begin = TEXTS[int(one["doc_id"])], one["char_start"]
        expected = list(words_of(one["text"], last_hidden_states))
        found = [document[span["char_start"] : span["char_end"]] for span in one["spans"]]
        assert found == [one["text"][start:end] for start, end, _ in expected]
        assert [span["char_start"] - begin for span in one["spans"]] == [
            start for start, _, _ in expected
        ]
        states = np.stack([vector for _, _, vector in expected])
        # Half precision has 11 bits.
        np.testing.assert_allclose(vectors.of_row(row), states, rtol=1e-3, atol=1e-4)
    page = (dataset.folder / "report" / "report.html").read_text()
    assert f"There are {len(vectors.stacked):,} vectors, one for each word." in page


def test_a_concordance_encodes_only_the_texts_that_have_the_words(minilm, tmp_path):
    job = job_of(minilm, tmp_path, granularity="word", words=("bat", "cave"))
    result = run_job(job)
    table = Dataset.latest(job.output).table
    found = [
        [TEXTS[int(name)][span["char_start"] : span["char_end"]] for span in spans]
        for name, spans in zip(table["id"].to_pylist(), table["spans"].to_pylist(), strict=True)
    ]
    assert found[0] == found[-2] == ["bat", "cave", "bat"]
    assert sum(map(bool, found)) == 2
    # One of the two equal texts.
    assert result.tokens_encoded == table["n_tokens"].to_pylist()[0]


def test_every_engine_writes_the_same(tiny_model, ray_session, tmp_path):
    corpus = write_corpus(tmp_path / "in", shards=2, rows=40)
    changes = {"granularity": "token", "store_tokens": True, "chunk": "sentences"}
    settings = {"id_column": "id", "chunk_tokens": 12, "calls_in_flight": 2, "call_tokens": 100}
    job = tiny_job(tiny_model, corpus, tmp_path / "plain", **settings, **changes)
    run_job(job)
    plain = Dataset.latest(tmp_path / "plain")
    assert len(plain.parts) > 4
    run_job(job.model_copy(update={"engine": "local", "output": str(tmp_path / "local")}))
    parts = {
        name: {field: getattr(job, field) for field in kind.model_fields}
        for name, kind in (("records", CorpusConfig), ("model", ModelConfig))
    }
    output = OutputConfig(output=str(tmp_path / "beam"), store_tokens=True)
    transform = EmbedCorpus(
        ModelConfig(**parts["model"]), output, CorpusConfig(**parts["records"]), call_tokens=100
    )
    assert len(results(lambda pipeline: pipeline | transform)) == 1
    for engine in ("local", "beam"):
        dataset = Dataset.latest(tmp_path / engine)
        assert dataset.folder.name == plain.folder.name
        assert dataset.part_hashes == plain.part_hashes


def test_rows_of_beam_have_their_vectors_and_spans(tiny_model, tmp_path):
    model = ModelConfig(model=tiny_model, granularity="word", backend="torch", encoder_threads=1)
    output = OutputConfig(output=str(tmp_path / "out"), version="v1")
    rows = [{"id": str(n), "text": text} for n, text in enumerate(["two words", "one"])]
    (_,) = results(lambda p: p | beam.Create(rows) | EmbedCorpus(model, output, shards=2))
    batches = results(lambda p: p | ReadVersion(str(tmp_path / "out"), ["id", "spans"]))
    found = {row["id"]: row["spans"] for batch in batches for row in batch.to_pylist()}
    spans = {
        "0": [{"char_start": 0, "char_end": 3}, {"char_start": 4, "char_end": 9}],
        "1": [{"char_start": 0, "char_end": 3}],
    }
    assert found == spans
    embedder = TextEmbedder(model.model, granularity="word", backend="torch")
    embedded = embedder.embed(["two words", "", "one"])
    table = Dataset.latest(tmp_path / "out").table
    first, reject, last = embedded
    assert reject.reason == "empty_text"
    assert [*first.spans.tolist(), *last.spans.tolist()] == [[0, 3], [4, 9], [0, 3]]
    vectors = vectors_of(table)
    for row, one in ((0, first), (1, last)):
        np.testing.assert_allclose(one.vectors, vectors.of_row(row), atol=1e-5)
    assert embedded.vectors.shape == (3, vectors.width)
