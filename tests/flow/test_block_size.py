"""How much text blocks have where words or tokens get vectors, and what names such a version."""

from dataclasses import replace

import pytest
from running import tiny_job, write_corpus

from embedkit.config import CorpusConfig, JobConfig, RecordConfig
from embedkit.encoders.kinds import read_model
from embedkit.errors import ConfigError
from embedkit.flow.block_size import BLOCK_VECTOR_BYTES, with_block_size
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.flow.prepare import prepare, version_of_job
from embedkit.transforms.run_inference import EncoderHandler


@pytest.fixture
def config(tiny_model, tmp_path) -> JobConfig:
    corpus = write_corpus(tmp_path / "in", shards=1, rows=20)
    return tiny_job(tiny_model, corpus, tmp_path / "out")


def of(config, dimension=384, **changes):
    model = read_model(config.model_copy(update=changes))
    return replace(model, vectors=replace(model.vectors, dimension=dimension))


@pytest.mark.parametrize("granularity", ["token", "word"])
@pytest.mark.parametrize("dimension", [384, 768, 4096])
def test_the_vectors_of_a_block_take_some_64_mb(config, granularity, dimension):
    model = of(config, dimension, granularity=granularity)
    size = with_block_size(RecordConfig(), model).block_bytes
    # At four bytes of text per token.
    assert size / 4 * dimension * 4 == pytest.approx(BLOCK_VECTOR_BYTES, rel=0.01)
    assert with_block_size(with_block_size(RecordConfig(), model), model).block_bytes == size


def test_splits_have_no_more_text_than_blocks_do(config):
    model = of(config, granularity="token")
    corpus = CorpusConfig(inputs=config.inputs)
    settled = with_block_size(corpus, model)
    assert settled.split_bytes == settled.block_bytes < corpus.block_bytes
    assert with_block_size(settled, model) == settled
    given = CorpusConfig(inputs=config.inputs, split_bytes=1 << 20)
    assert with_block_size(given, model).split_bytes == 1 << 20
    assert with_block_size(corpus, of(config)) == corpus


def test_a_concordance_takes_more_text_and_short_vectors_no_more_than_others(config):
    some = of(config, granularity="word", words=("bat", "bank"))
    every = of(config, granularity="word")
    sizes = [with_block_size(RecordConfig(), model).block_bytes for model in (some, every)]
    assert sizes[0] == 8 * sizes[1]
    tiny = of(config, 2, granularity="token")
    assert with_block_size(RecordConfig(), tiny).block_bytes == 8 << 20


@pytest.mark.parametrize("given", [1, 100_000, 8 << 21])
def test_what_was_given_stays_and_so_do_blocks_of_one_vector_per_row(config, given):
    records = RecordConfig(block_bytes=given)
    assert with_block_size(records, of(config, granularity="token")) == records
    assert with_block_size(RecordConfig(), of(config)) == RecordConfig()


def test_a_job_and_its_plan_settle_the_same_version(config, monkeypatch):
    monkeypatch.setattr("embedkit.flow.block_size.BLOCK_VECTOR_BYTES", 64 << 10)
    asked = config.model_copy(update={"granularity": "token"})
    job = prepare(asked)
    assert job.config.block_bytes == job.records.block_bytes < 64 << 10
    assert version_of_job(asked, job.model, job.plan) == job.version
    again = prepare(asked)
    assert (again.version, again.config) == (job.version, job.config)
    assert job.options.column == "embeddings"
    assert (job.description["column"], job.description["granularity"]) == ("embeddings", "token")


def test_stored_tokens_are_another_version_of_the_same_vectors(config):
    plain, stored, words = (
        prepare(config.model_copy(update=changes))
        for changes in (
            {"granularity": "token"},
            {"granularity": "token", "store_tokens": True},
            {"granularity": "word"},
        )
    )
    assert plain.fingerprint == stored.fingerprint != words.fingerprint
    assert len({job.version.name for job in (plain, stored, words)}) == 3
    kept = [job.model.tokenizer.spans.token_texts for job in (plain, stored)]
    assert kept == [False, True]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"granularity": "document", "chunk": "tokens"}, "granularity: document, but with chunk"),
        ({"granularity": "chunk"}, "granularity: chunk, but documents stay whole"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(config, tmp_path, changes, said):
    with pytest.raises(ConfigError, match=said) as raised:
        prepare(config.model_copy(update=changes))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("made", [TextEmbedder, EncoderHandler])
def test_texts_in_memory_have_no_chunks(tiny_model, made):
    with pytest.raises(ConfigError, match="granularity: chunk, but documents stay whole"):
        made(tiny_model, granularity="chunk")
