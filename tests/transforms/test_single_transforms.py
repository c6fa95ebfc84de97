"""Each transform alone, as a user composes them; blocks across a shuffle; what can be pickled."""

import pickle
from pathlib import Path
from typing import Any

import apache_beam as beam
import cloudpickle
import numpy as np
import pyarrow as pa
import pytest
from beam_running import results
from hypothesis import given, settings
from hypothesis import strategies as st
from running import connect_sum_client, records, write_corpus
from span_blocks import span_block

from embedkit.config import CorpusConfig, RecordConfig
from embedkit.corpus.documents import Documents
from embedkit.corpus.plan import plan_corpus
from embedkit.corpus.rows import (
    add_kinds,
    as_mapping,
    blocks_from_rows,
    row_metadata,
    row_split,
    value_kinds,
)
from embedkit.dataset.committed import committed, ended_splits
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError
from embedkit.flow.encode import encode_tokens
from embedkit.flow.prepare import ChunkerFactory
from embedkit.flow.read import read_pending
from embedkit.records import DocumentBlock, Reject, TokenBlock
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text
from embedkit.transforms.blocks import BlocksFromRows, RowsFromBlocks
from embedkit.transforms.complete import CompleteVersion
from embedkit.transforms.encode import EncodeTokens
from embedkit.transforms.read import ChunkDocuments, ReadCorpus
from embedkit.transforms.tokenize import TokenizeText
from embedkit.transforms.write import SkipCommitted, WriteEmbeddings
from embedkit.vectors import EmbeddingBlock

OPTIONS = PartOptions(dimension=4, file_metadata={})


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    folder = write_corpus(tmp_path / "in", shards=2, rows=12)
    return CorpusConfig(inputs=(str(folder),), id_column="id", block_rows=5)


@pytest.fixture
def spec(tiny_model: str) -> TokenizerSpec:
    return TokenizerSpec(tiny_model, 24)


def plain_blocks(corpus: CorpusConfig) -> list[DocumentBlock]:
    plan = plan_corpus(corpus)
    return [block for split in plan.splits for block in read_pending(split, plan, corpus)]


def by_id(blocks: list[Any]) -> list[Any]:
    return sorted(blocks, key=lambda block: block.block_id)


def test_each_transform_does_what_its_function_does(corpus, spec):
    documents = plain_blocks(corpus)
    assert by_id(results(lambda p: p | ReadCorpus(corpus))) == documents

    def source(blocks: list[Any], kind: type) -> Any:
        return beam.Create(blocks).with_output_types(kind)

    tokenizer = load_tokenizer(spec)
    tokens = [tokenize_text(block, tokenizer) for block in documents]
    found = results(lambda p: p | source(documents, DocumentBlock) | TokenizeText(spec))
    assert by_id(found) == tokens
    client = connect_sum_client()
    vectors = [encode_tokens(block, client, 100) for block in tokens]
    encode = EncodeTokens(connect_sum_client, 100)
    found = results(lambda p: p | source(tokens, TokenBlock) | encode)
    assert by_id(found) == vectors
    make_chunker = ChunkerFactory(RecordConfig(chunk="tokens", chunk_tokens=6), spec)
    chunk = ChunkDocuments(make_chunker)
    chunked = by_id(results(lambda p: p | source(documents, DocumentBlock) | chunk))
    assert [block.documents for block in chunked] == [block.documents for block in documents]
    for block, whole in zip(chunked, documents, strict=True):
        assert block.rows.num_rows > whole.rows.num_rows
        texts = dict(zip(*(whole.rows.column(n).to_pylist() for n in ("id", "text")), strict=True))
        for row in block.rows.to_pylist():
            text = texts[row["doc_id"]]
            assert row["text"] == text[row["char_start"] : row["char_end"]]


def test_writing_commits_and_what_is_committed_is_skipped(corpus, spec, tmp_path):
    version = Version(str(tmp_path / "out"), "v1")

    def write(p: beam.Pipeline) -> beam.PCollection:
        return (
            p
            | ReadCorpus(corpus)
            | SkipCommitted(version)
            | TokenizeText(spec)
            | EncodeTokens(connect_sum_client)
            | WriteEmbeddings(version, OPTIONS, 24)
        )

    documents = plain_blocks(corpus)
    found = results(write)
    assert {record.block_id: record for record in found} == committed(version)
    assert sorted(committed(version)) == [block.block_id for block in documents]
    assert sum(end.documents for end in ended_splits(version).values()) == 24
    first = next(block for block in documents if block.last)
    version.store.remove(version.commit_key(first.block_id))
    version.store.remove(version.split_key(first.split_id))
    assert [record.block_id for record in results(write)] == [first.block_id]
    # An end that alone is missing is made good.
    version.store.remove(version.split_key(first.split_id))
    assert results(write) == []
    assert first.split_id in ended_splits(version)
    skip = results(lambda p: p | ReadCorpus(corpus, version=version))
    assert skip == []


def _splits(splits: Any) -> Any:
    return tuple(splits)


@pytest.mark.parametrize("commits", [[], ["a", "b"]])
def test_completion_waits_for_commits_and_runs_once_without_any(commits):
    found = results(
        lambda p: p | beam.Create(commits) | CompleteVersion(_splits, splits=("00001", "00000"))
    )
    assert found == [("00000", "00001")]


def test_completion_knows_the_splits_that_are_only_seen_on_the_way():
    def build(p: beam.Pipeline) -> beam.PCollection:
        seen = p | "Seen" >> beam.Create(["00003", "00002", "00003"])
        return p | beam.Create([1]) | CompleteVersion(_splits, ("00001",), also=seen)

    assert results(build) == [("00001", "00002", "00003")]


# --- coders ---


def block_of_every_kind(spec: TokenizerSpec) -> list[Any]:
    rejects = (Reject("a.jsonl", 7, "empty_text", "leave it out", None, 'x"\n日'),)
    rows = [{"id": "a", "text": "one\n日本", "n": 1}, {"id": "b", "text": "two", "n": None}]
    config = RecordConfig()
    (block,) = blocks_from_rows("00007", rows, config, (("n", "int64"),))
    block = DocumentBlock("00007", 3, 3, True, rejects, block.rows, 12)
    tokens = tokenize_text(block, load_tokenizer(spec))
    vectors = encode_tokens(tokens, connect_sum_client(), 100)
    halves = encode_tokens(tokens, connect_sum_client(), 100, "float16")
    (empty,) = blocks_from_rows("00008", [], config)
    return [block, tokens, vectors, halves, empty]


@pytest.mark.parametrize("number", range(5))
def test_a_block_comes_through_a_shuffle_as_it_was(spec, number):
    block = block_of_every_kind(spec)[number]
    kind = type(block)
    assert beam.coders.registry.get_coder(kind).is_deterministic()
    (found,) = results(
        lambda p: (
            p
            | beam.Create([block.to_ipc()])
            | beam.Map(kind.from_ipc).with_output_types(kind)
            | beam.Reshuffle()
            | beam.Map(_checked, kind).with_output_types(kind)
        )
    )
    assert found == block
    assert found.rows.schema.equals(block.rows.schema, check_metadata=True)
    if kind is EmbeddingBlock:
        assert found.vectors.matrix.dtype == block.vectors.matrix.dtype
        assert found.vectors.matrix.tolist() == block.vectors.matrix.tolist()


def _checked(block: Any, kind: type) -> Any:
    assert type(block) is kind
    return block


def test_vectors_are_not_pickled_when_they_are_shuffled(spec):
    block = block_of_every_kind(spec)[2]
    coder = beam.coders.registry.get_coder(EmbeddingBlock)
    assert coder.encode(block) == block.to_ipc()


def test_beam_measures_blocks_between_steps_without_encoding_them(monkeypatch):
    block = span_block(["the cat sat on the mat"] * 400)
    coder = beam.coders.registry.get_coder(EmbeddingBlock)
    assert coder.estimate_size(block) == pytest.approx(len(coder.encode(block)), rel=0.05)
    half = block.with_rows(block.rows.slice(200))
    assert coder.estimate_size(half) == pytest.approx(len(coder.encode(half)), rel=0.05)
    data = [block.to_ipc()] * 3
    encoded: list[object] = []
    monkeypatch.setattr(EmbeddingBlock, "to_ipc", lambda self: encoded.append(self) or b"")
    found = results(
        lambda p: (
            p
            | beam.Create(data, reshuffle=False)
            | beam.Map(EmbeddingBlock.from_ipc).with_output_types(EmbeddingBlock)
            | beam.Map(lambda one: one.rows.num_rows)
        )
    )
    assert found == [400] * 3
    assert encoded == []


# --- rows ---


def test_rows_from_blocks_gives_rows_as_mappings(spec):
    tokens = tokenize_text(block_of_every_kind(spec)[0], load_tokenizer(spec))
    vectors = encode_tokens(tokens, connect_sum_client(), 100)
    found = results(
        lambda p: p | beam.Create([vectors]).with_output_types(EmbeddingBlock) | RowsFromBlocks()
    )
    assert [row["id"] for row in found] == ["a", "b"]
    assert [row["n"] for row in found] == [1, None]
    assert all(isinstance(row["embedding"], np.ndarray) for row in found)
    assert np.stack([row["embedding"] for row in found]).tolist() == vectors.vectors.matrix.tolist()


def rows_in(blocks: list[DocumentBlock]) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for block in blocks for row in block.rows.to_pylist()}


def test_rows_come_back_as_they_went_in_through_both_transforms():
    rows = [
        {"id": 1, "text": "one", "n": 1, "x": 0.5, "ok": True, "tags": ["a", "b"]},
        {"id": "2", "text": "two", "n": None, "x": 2, "ok": False, "tags": None},
        {"id": "3", "text": "three", "n": np.int64(3), "x": np.float32(0.25)},
        {"text": "nameless", "note": "ja"},
    ]
    found = results(lambda p: p | beam.Create(rows) | BlocksFromRows(shards=3) | RowsFromBlocks())
    known = {row["text"]: row for row in found}
    assert len(found) == 4
    assert [known[text]["id"] for text in ("one", "two", "three")] == ["1", "2", "3"]
    assert [known[text]["n"] for text in ("one", "two", "three", "nameless")] == [1, None, 3, None]
    assert [known[text]["x"] for text in ("one", "two", "three")] == [0.5, 2.0, 0.25]
    assert known["one"]["tags"] == '["a","b"]'
    assert known["nameless"]["note"] == "ja"
    assert known["nameless"]["doc_id"] == known["nameless"]["id"] != ""
    assert len({(row["source"], row["row_index"]) for row in found}) == 4


def test_every_block_has_the_same_columns_whatever_its_rows_have():
    rows = [{"id": str(n), "text": f"t{n}", **({"n": n} if n % 7 == 0 else {})} for n in range(40)]
    config = RecordConfig(block_rows=4)
    blocks = results(lambda p: p | beam.Create(rows) | BlocksFromRows(config, shards=5))
    assert len({str(block.rows.schema) for block in blocks}) == 1
    assert blocks[0].rows.schema.field("n").type == pa.int64()
    assert {block.split_id for block in blocks if block.last} == {f"{n:05d}" for n in range(5)}
    assert max(block.rows.num_rows for block in blocks) <= 4


def test_declared_columns_alone_are_carried_along_with_their_types():
    config = RecordConfig(metadata_columns=("n:string", "absent:int64"), text_template="{a} {b}")
    rows = [{"id": "x", "a": "one", "b": 2, "n": 5, "other": 1}]
    (block,) = [
        block
        for block in results(lambda p: p | beam.Create(rows) | BlocksFromRows(config, shards=1))
        if block.rows.num_rows
    ]
    (row,) = block.rows.to_pylist()
    assert (row["text"], row["n"], row["absent"]) == ("one 2", "5", None)
    assert "other" not in row


def test_a_column_that_is_embedkits_own_is_refused():
    with pytest.raises(ConfigError, match="source is a column of embedkit's own; rename it"):
        results(
            lambda p: p | beam.Create([{"text": "x", "source": "y"}]) | BlocksFromRows(shards=1)
        )


def test_rows_that_cannot_be_used_are_rejects_with_their_reason():
    rows = [
        {"id": "a", "text": "good"},
        {"id": "b", "text": "  "},
        {"id": "c", "text": 5},
        {"id": "d"},
        {"id": "e", "text": "nul \0"},
        {"id": 5.5, "text": "a float as an id"},
        {"id": "a", "text": "again"},
        {"id": "f", "text": "x" * 200},
    ]
    (block,) = blocks_from_rows("00000", rows, RecordConfig(max_record_bytes=100))
    assert block.documents == 8
    assert block.rows.column("id").to_pylist() == ["a"]
    assert sorted(one.reason for one in block.rejects) == [
        "duplicate_id",
        "empty_text",
        "missing_column",
        "nul_byte",
        "too_long",
        "wrong_type",
        "wrong_type",
    ]
    named = RecordConfig(id_column="key")
    (block,) = blocks_from_rows("00000", [{"text": "no key"}], named)
    assert [one.reason for one in block.rejects] == ["missing_id"]


TEXTS = st.sampled_from(["one", "two", "three", " ", "\0"])
ROWS = st.lists(
    st.fixed_dictionaries(
        {"text": TEXTS},
        optional={"id": st.sampled_from(["a", "b", "c", 1, 2, None]), "n": st.integers(0, 3)},
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(ROWS, st.randoms(use_true_random=False), st.integers(1, 6))
def test_the_same_rows_give_the_same_blocks_in_whatever_order_they_come(rows, chance, block_rows):
    config = RecordConfig(block_rows=block_rows)
    blocks = list(blocks_from_rows("00000", rows, config, (("n", "int64"),)))
    shuffled = list(rows)
    chance.shuffle(shuffled)
    assert list(blocks_from_rows("00000", shuffled, config, (("n", "int64"),))) == blocks
    assert sum(block.documents for block in blocks) == len(rows)
    assert [block.seq for block in blocks] == list(range(len(blocks)))
    ids = [one for block in blocks for one in block.rows.column("id").to_pylist()]
    rejects = [one for block in blocks for one in block.rejects]
    assert len(set(ids)) == len(ids)
    assert len(ids) + len(rejects) == len(rows)
    # Rows without an id are never lost for having a text that another has.
    usable = [row for row in rows if row.get("id") is None and row["text"] not in (" ", "\0")]
    assert len([one for one in ids if len(one) == 32]) == len(usable)


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("ab"),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        )
    )
)
def test_kinds_add_up_in_any_grouping(values):
    config = RecordConfig()
    kinds = [value_kinds(row, config) for row in values]
    whole: dict[str, frozenset[str]] = {}
    for one in kinds:
        whole = add_kinds(whole, one)
    back: dict[str, frozenset[str]] = {}
    for one in reversed(kinds):
        back = add_kinds(one, back)
    assert whole == back == add_kinds(whole, whole)
    names = [name for name, _ in row_metadata(whole, config)]
    assert names == sorted({name for row in values for name in row})


def test_splits_are_evenly_filled():
    config = RecordConfig()
    counts = [0] * 8
    for row in records(4000):
        counts[int(row_split(row, config, 8))] += 1
    assert min(counts) > 400


def test_large_texts_are_cut_into_batches_that_arrow_can_hold(monkeypatch):
    monkeypatch.setattr("embedkit.corpus.parts._SLICE_CHARS", 100)
    sizes: list[int] = []
    real = Documents.__init__

    def counted(self, rows, *rest):
        sizes.append(rows.num_rows)
        real(self, rows, *rest)

    monkeypatch.setattr(Documents, "__init__", counted)
    rows = [{"id": f"{n:03d}", "text": "x" * (n * 7 % 60 + 1)} for n in range(50)]
    blocks = list(blocks_from_rows("00000", rows, RecordConfig()))
    assert len(sizes) > 10
    assert max(sizes) < 50
    assert sorted(rows_in(blocks)) == [row["id"] for row in rows]


def test_a_row_may_be_a_mapping_or_have_asdict():
    assert as_mapping(beam.Row(a=1)) == {"a": 1}
    assert as_mapping({"a": np.float32(0.5)}) == {"a": 0.5}
    assert as_mapping({"a": pa.scalar("x"), "b": pa.scalar(None, pa.int64())}) == {
        "a": "x", "b": None,
    }  # fmt: skip
    with pytest.raises(ConfigError, match="an element is a list"):
        as_mapping([1])


# --- pickling ---


@pytest.mark.parametrize("pickler", [pickle, cloudpickle])
def test_every_step_can_be_sent_to_a_worker(corpus, spec, pickler):
    version = Version("/nowhere", "v1")
    transforms = [
        ReadCorpus(corpus, plan_corpus(corpus), ChunkerFactory(corpus, spec), version),
        ChunkDocuments(ChunkerFactory(RecordConfig(chunk="tokens"), spec)),
        TokenizeText(spec),
        EncodeTokens(connect_sum_client),
        WriteEmbeddings(version, OPTIONS, 24),
        SkipCommitted(version),
        BlocksFromRows(RecordConfig(), 4, ChunkerFactory(corpus, spec)),
        RowsFromBlocks(),
    ]
    for transform in transforms:
        again = pickler.loads(pickler.dumps(transform))
        assert vars(again).keys() == vars(transform).keys()
