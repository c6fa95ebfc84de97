"""The flow as plain functions, over an encoder that costs nothing."""

import itertools
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from blocks import token_block
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from processes import wait_until
from running import Dataset, SumClient, records, write_corpus, write_jsonl

from embedkit.config import CorpusConfig, JobConfig
from embedkit.corpus.plan import plan_corpus
from embedkit.dataset.commit import end_split
from embedkit.dataset.committed import SplitEnd, committed, ended_splits
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import seal
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.publication import publish
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.errors import EncoderError, InputError, ResumableError
from embedkit.flow.calls import call_batches
from embedkit.flow.embed import embed_splits
from embedkit.flow.encode import encode_tokens
from embedkit.flow.read import read_ahead, read_pending
from embedkit.flow.write import write_embeddings
from embedkit.records import DOCUMENT_SCHEMA, DocumentBlock, Reject
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

ID_LISTS = st.lists(st.lists(st.integers(1, 30_000), min_size=1, max_size=6), max_size=40)
LENGTHS = hnp.arrays(np.int32, st.integers(0, 60), elements=st.integers(1, 50))


@given(LENGTHS, st.integers(1, 200))
def test_calls_cover_every_row_exactly_once(lengths, call_tokens):
    batch = TokenBatch.from_lists([np.full(length, n) for n, length in enumerate(lengths)])
    calls = list(call_batches(batch, call_tokens))
    rows = [row for places, _ in calls for row in places.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    sizes = []
    for places, call in calls:
        assert call.lengths.tolist() == lengths[places].tolist()
        assert call.input_ids.tolist() == np.repeat(places, lengths[places]).tolist()
        assert len(places) == 1 or len(call.input_ids) <= call_tokens
        sizes += call.lengths.tolist()
    assert sizes == sorted(sizes, reverse=True)
    # No call could have taken the first row of the next one.
    for (_, call), (_, following) in itertools.pairwise(calls):
        assert len(call.input_ids) + int(following.lengths[0]) > call_tokens


@given(LENGTHS, st.integers(1, 200))
def test_mixed_calls_cover_every_row_exactly_once_with_rows_of_all_lengths(lengths, call_tokens):
    batch = TokenBatch.from_lists([np.full(length, n) for n, length in enumerate(lengths)])
    calls = list(call_batches(batch, call_tokens, mixed=True))
    rows = [row for places, _ in calls for row in places.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    for places, call in calls:
        assert call.lengths.tolist() == lengths[places].tolist()
        assert call.input_ids.tolist() == np.repeat(places, lengths[places]).tolist()
        assert len(places) == 1 or len(call.input_ids) <= call_tokens
    if len(lengths) and max(lengths) <= call_tokens // 2:
        # However they are dealt, a row of one call is as long as its neighbours in the others.
        ordered = [sorted(call.lengths.tolist(), reverse=True) for _, call in calls]
        assert max(map(len, ordered)) - min(map(len, ordered)) <= 1
        for one, other in itertools.pairwise(ordered):
            assert all(a >= b for a, b in zip(one, other, strict=False))
            assert all(b >= a for a, b in zip(one[1:], other, strict=False))


@given(LENGTHS, st.integers(1, 200))
def test_full_calls_cover_every_row_exactly_once_with_rows_of_all_lengths(lengths, call_tokens):
    batch = TokenBatch.from_lists([np.full(length, n) for n, length in enumerate(lengths)])
    calls = list(call_batches(batch, call_tokens, mixed="full"))
    rows = [row for places, _ in calls for row in places.tolist()]
    assert sorted(rows) == list(range(len(lengths)))
    for places, call in calls:
        assert len(places)
        assert call.input_ids.tolist() == np.repeat(places, lengths[places]).tolist()
        assert len(places) == 1 or len(call.input_ids) <= call_tokens


@pytest.mark.parametrize(
    ("rows", "most"), [(9_000, 12), (20_000, 256), (5_000, 512), (300, 8_192), (2_000, 8_192)]
)
def test_full_calls_are_full_but_the_last_and_each_has_rows_of_all_lengths(rows, most):
    lengths = np.random.default_rng(rows + most).integers(3, most + 1, size=rows)
    batch = TokenBatch(np.zeros(lengths.sum(), np.int32), np.cumsum([0, *lengths], dtype=np.int32))
    calls = [call for _, call in call_batches(batch, 131_072, mixed="full")]
    assert sum(map(len, calls)) == rows
    for call in calls[:-1]:
        assert len(call) == 4_096 or 131_072 - most < len(call.input_ids) <= 131_072
        assert abs(call.lengths.mean() / lengths.mean() - 1) < 0.05
    if most > 12:
        assert np.mean([len(call.input_ids) for call in calls[:-1]]) > 131_072 - most / 4
    assert len(calls) <= max(rows / 4_096, lengths.sum() / (131_072 - most)) + 1


@pytest.mark.parametrize("length", [200, 256, 5_000, 8_192])
def test_full_calls_of_equal_rows_take_as_many_as_fit(length):
    batch = TokenBatch(
        np.zeros(1_000 * length, np.int32), np.arange(1_001, dtype=np.int32) * length
    )
    calls = [len(call) for _, call in call_batches(batch, 131_072, mixed="full")]
    fitting = 131_072 // length
    # Fewer by one where some calls would come out larger by one.
    assert all(fitting - 1 <= call <= fitting for call in calls[:-1])


def test_calls_of_very_short_rows_are_cut_by_rows():
    batch = TokenBatch(np.arange(10_000, dtype=np.int32), np.arange(10_001, dtype=np.int32))
    calls = list(call_batches(batch, 131_072))
    assert [len(call) for _, call in calls] == [4096, 4096, 1808]
    assert np.concatenate([rows for rows, _ in calls]).tolist() == list(range(10_000))
    mixed = list(call_batches(batch, 131_072, mixed=True))
    assert [len(call) for _, call in mixed] == [3334, 3333, 3333]


@given(ID_LISTS, st.integers(1, 30))
def test_equal_texts_are_encoded_once_and_every_row_gets_its_own_vector(id_lists, call_tokens):
    block = token_block(id_lists)
    client = SumClient()
    embedded = encode_tokens(block, client, call_tokens)
    expected = np.array([client.vector(np.array(ids)) for ids in id_lists], dtype=np.float32)
    if id_lists:
        assert embedded.vectors.matrix.tolist() == expected.tolist()
    assert embedded.rows.num_rows == len(id_lists)
    sent = [
        tuple(call.input_ids[a:b])
        for call in client.calls
        for a, b in zip(call.offsets[:-1], call.offsets[1:], strict=True)
    ]
    assert sorted(sent) == sorted({tuple(ids) for ids in id_lists})
    assert embedded.tokens_encoded == sum(map(len, sent))


def test_a_slice_of_a_larger_batch_is_encoded_as_itself():
    """Arrow slices share their parents' buffers and keep their offsets."""
    id_lists = [[1, 2, 3], [4], [5, 6], [4], [7, 8, 9]]
    whole = token_block(id_lists)
    part = whole.with_rows(whole.rows.slice(1, 3))
    client = SumClient()
    expected = np.array([client.vector(np.array(ids)) for ids in id_lists[1:4]], np.float32)
    assert encode_tokens(part, client, 100).vectors.matrix.tolist() == expected.tolist()


def test_encoding_keeps_all_other_columns_and_the_blocks_accounts():
    reject = Reject("a.jsonl", 70, "empty_text", "leave it out")
    block = token_block(
        [[1, 2], [3]], seq=4, documents=3, documents_before=9, last=False, rejects=(reject,)
    )
    embedded = encode_tokens(block, SumClient(), 100)
    assert embedded.block_id == "00000-00004"
    assert (embedded.documents, embedded.documents_before, embedded.last) == (3, 9, False)
    assert embedded.rejects == (reject,)
    kept = [name for name in block.rows.schema.names if name != "input_ids"]
    assert embedded.rows.select(kept).equals(block.rows.select(kept))
    assert "input_ids" not in embedded.rows.schema.names
    assert embedded.rows.schema.field("embedding").type == pa.list_(
        pa.field("item", pa.float32(), nullable=False), 4
    )


def test_float16_is_stored_when_asked_for():
    embedded = encode_tokens(token_block([[1, 2], [3]]), SumClient(), 100, "float16")
    assert embedded.vectors.matrix.dtype == np.float16
    assert embedded.vectors.matrix.tolist() == [[3.0, 2.0, 5.0, 1.0], [3.0, 1.0, 3.0, 1.0]]


def test_a_vector_too_large_for_float16_is_rejected_not_stored_as_infinity():
    embedded = encode_tokens(token_block([[30_000] * 5, [3]]), SumClient(), 100, "float16")
    assert embedded.vectors.matrix.tolist() == [[3.0, 1.0, 3.0, 1.0]]
    assert [reject.reason for reject in embedded.rejects] == ["non_finite_vector"]


def test_a_block_without_rows_calls_no_encoder():
    client = SumClient()
    embedded = encode_tokens(token_block([], documents=2), client, 100)
    assert client.calls == []
    assert embedded.rows.num_rows == embedded.tokens_encoded == 0
    assert embedded.documents == 2


def test_a_document_with_one_bad_vector_is_rejected_with_all_of_its_chunks():
    id_lists = [[1], [2], [666], [3], [4], [666, 5], [6]]
    doc_ids = ["a", "b", "b", "b", "c", "d", "e"]
    reject = Reject("a.jsonl", 99, "empty_text", "leave it out")
    block = token_block(id_lists, doc_ids, documents=6, rejects=(reject,))
    embedded = encode_tokens(block, SumClient(poison=666), 100)
    assert embedded.rows.column("doc_id").to_pylist() == ["a", "c", "e"]
    assert np.isfinite(embedded.vectors.matrix).all()
    client = SumClient()
    assert embedded.vectors.matrix.tolist() == [client.vector(np.array([n])) for n in (1, 4, 6)]
    assert embedded.rejects[0] == reject
    spoiled = embedded.rejects[1:]
    assert [(one.doc_id, one.row_index) for one in spoiled] == [("b", 10), ("d", 50)]
    assert {one.reason for one in spoiled} == {"non_finite_vector"}
    assert all("\n" not in one.detail and one.source == "a.jsonl" for one in spoiled)
    left = set(embedded.rows.column("doc_id").to_pylist())
    assert len(left) + len(embedded.rejects) == embedded.documents
    assert embedded.tokens_encoded == 8, "what was spoiled was encoded as well"


def test_a_block_whose_every_vector_is_bad_becomes_rejects():
    embedded = encode_tokens(token_block([[666], [666, 1]]), SumClient(poison=666), 100)
    assert embedded.rows.num_rows == 0
    assert len(embedded.rejects) == 2
    assert embedded.rows.schema.field("embedding").type.list_size == 4


def test_equal_texts_that_spoil_reject_each_of_their_documents():
    embedded = encode_tokens(token_block([[666], [1], [666]]), SumClient(poison=666), 100)
    assert [one.doc_id for one in embedded.rejects] == ["d0", "d2"]


def test_read_ahead_keeps_order_and_reads_one_block_more_than_was_taken():
    read: list[int] = []

    def source() -> Iterator[int]:
        for number in range(6):
            read.append(number)
            yield number

    ahead = read_ahead(source())
    taken = [next(ahead)]
    for number in range(1, 6):
        _settle(read, min(number + 1, 6))
        assert len(read) <= number + 1
        taken.append(next(ahead))
    assert taken == list(range(6))
    assert next(ahead, None) is None


def _settle(read: list[int], wanted: int, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while len(read) < wanted and time.monotonic() < end:
        time.sleep(0.002)
    time.sleep(0.01)


def test_read_ahead_works_while_the_block_before_is_being_worked_on():
    reading = threading.Event()

    def source() -> Iterator[int]:
        yield 0
        reading.set()
        yield 1

    for _ in read_ahead(source()):
        assert reading.wait(10), "the next block was not read meanwhile"


def test_read_ahead_raises_an_error_in_its_place():
    def source() -> Iterator[int]:
        yield 0
        yield 1
        raise InputError("a.jsonl: gone")

    ahead = read_ahead(source())
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(InputError, match=r"a\.jsonl: gone"):
        next(ahead)


def test_read_ahead_can_be_left_early():
    threads = threading.active_count()
    ahead = read_ahead(iter(range(100)))
    assert next(ahead) == 0
    ahead.close()
    # Nobody waits for its thread, which ends all the same.
    wait_until(lambda: threading.active_count() == threads)


# --- a version, from files to parts ---


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    folder = write_corpus(tmp_path / "in", shards=2, rows=25)
    return CorpusConfig(
        inputs=(str(folder),), id_column="id", metadata_columns=("stars",), block_rows=10
    )


@pytest.fixture
def version(tmp_path: Path) -> Version:
    version = Version(str(tmp_path / "out"), "v1")
    create_or_check_plan(version, VersionPlan("x"))
    return version


OPTIONS = PartOptions(dimension=4, file_metadata={"embedkit.model": "sums"})


def run(corpus: CorpusConfig, version: Version, client: SumClient, model: str) -> int:
    """The plain flow over every split; returns the number of new commits."""
    job = SimpleNamespace(
        config=JobConfig(**dict(corpus), model=model, output=version.root, call_tokens=100),
        plan=plan_corpus(corpus),
        version=version,
        options=OPTIONS,
        model=SimpleNamespace(tokenizer=TokenizerSpec(model, 24), mixed_calls=False, vectors=None),
        make_chunker=None,
        reuse=None,
        calibration=None,
    )
    return sum(1 for _ in embed_splits(job.plan.splits, job, client))


def complete(corpus: CorpusConfig, version: Version) -> Dataset:
    splits = [split.split_id for split in plan_corpus(corpus).splits]
    description = {"dimension": 4, "metric": "dot", "normalized": False}
    seal(version, finalize(version, splits, description), lambda _: "# card\n")
    publish(version)
    return Dataset(Path(version.url))


def test_the_plain_flow_holds_the_vectors_of_one_block(corpus, version, tiny_model, monkeypatch):
    blocks: list[weakref.ref] = []

    def encode(*arguments):
        assert not [block for block in blocks if block() is not None]
        block = encode_tokens(*arguments)
        blocks.append(weakref.ref(block))
        return block

    monkeypatch.setattr("embedkit.flow.embed.encode_tokens", encode)
    assert run(corpus, version, SumClient(), tiny_model) == len(blocks) == 5


def test_the_plain_flow_accounts_for_every_record(corpus, version, tiny_model):
    client = SumClient()
    assert run(corpus, version, client, tiny_model) == 5
    dataset = complete(corpus, version)
    dataset.check_accounts(50)
    table = dataset.table
    assert table["id"].to_pylist() == [row["id"] for row in records(50)]
    assert table["stars"].to_pylist() == [row["stars"] for row in records(50)]
    tokenizer = load_tokenizer(TokenizerSpec(tiny_model, 24))
    ids, ends, counts = tokenizer.encode([row["text"] for row in records(50)])
    expected = [client.vector(ids[a:b]) for a, b in itertools.pairwise(ends)]
    assert table["embedding"].to_pylist() == expected
    assert table["n_tokens"].to_pylist() == counts.tolist()
    assert table["truncated"].to_pylist() == (counts > 24).tolist()
    assert dataset.manifest["tokens"] == int(np.minimum(counts, 24).sum())
    assert dataset.manifest["truncated"] == int((counts > 24).sum()) > 0


def test_a_second_pass_reads_and_encodes_nothing(corpus, version, tiny_model):
    run(corpus, version, SumClient(), tiny_model)
    client = SumClient()
    Path(corpus.inputs[0], "shard-0.jsonl").rename(Path(corpus.inputs[0], "away"))
    Path(corpus.inputs[0], "away").rename(Path(corpus.inputs[0], "shard-0.jsonl"))
    assert run(corpus, version, client, tiny_model) == 0
    assert client.calls == []


class DyingClient(SumClient):
    """Answers so many calls and then loses its encoder."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self._left = calls

    def encode_all(self, batches):
        for batch in batches:
            if not self._left:
                raise EncoderError("an encoder was lost; run the same command again")
            self._left -= 1
            yield from super().encode_all([batch])


@pytest.mark.parametrize("calls", [0, 1, 4, 9, 12])
def test_a_pass_after_a_loss_does_only_what_is_left(corpus, version, tiny_model, tmp_path, calls):
    with pytest.raises(EncoderError):
        run(corpus, version, DyingClient(calls), tiny_model)
    before = committed(version)
    client = SumClient()
    assert run(corpus, version, client, tiny_model) == 5 - len(before)
    rows = sum(record.rows for record in before.values())
    assert sum(len(call) for call in client.calls) == 50 - rows
    resumed = complete(corpus, version)
    whole = Version(str(tmp_path / "whole"), "v1")
    create_or_check_plan(whole, VersionPlan("x"))
    run(corpus, whole, SumClient(), tiny_model)
    assert resumed.part_hashes == complete(corpus, whole).part_hashes
    resumed.check_accounts(50)


def test_the_end_of_a_split_is_made_good_when_only_it_is_missing(corpus, version, tiny_model):
    run(corpus, version, SumClient(), tiny_model)
    splits = ended_splits(version)
    for split in splits:
        (Path(version.root) / version.split_key(split)).unlink()
    client = SumClient()
    assert run(corpus, version, client, tiny_model) == 0
    assert client.calls == []
    assert ended_splits(version) == splits
    complete(corpus, version).check_accounts(50)


def test_a_version_is_not_complete_while_a_split_is_open(corpus, version, tiny_model):
    with pytest.raises(EncoderError):
        run(corpus, version, DyingClient(3), tiny_model)
    with pytest.raises(ResumableError, match="splits have not ended"):
        complete(corpus, version)
    assert not version.is_complete()


def test_read_pending_without_a_version_reads_everything(corpus, version, tiny_model):
    run(corpus, version, SumClient(), tiny_model)
    plan = plan_corpus(corpus)
    for split in plan.splits:
        assert list(read_pending(split, plan, corpus, None, version)) == []
        blocks = list(read_pending(split, plan, corpus))
        assert [block.seq for block in blocks] == list(range(len(blocks)))
        assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]


def test_a_split_of_rejects_alone_commits_without_a_part(tmp_path, version, tiny_model):
    file = write_jsonl(tmp_path / "bad.jsonl", [{"id": "a", "text": " "}, {"id": "b"}])
    corpus = CorpusConfig(inputs=(str(file),), id_column="id")
    client = SumClient()
    assert run(corpus, version, client, tiny_model) == 1
    assert client.calls == []
    (record,) = committed(version).values()
    assert (record.part, record.rows, record.rejects, record.documents) == (None, 0, 2, 2)
    dataset = complete(corpus, version)
    assert dataset.parts == []
    assert sorted(reject["reason"] for reject in dataset.rejects) == [
        "empty_text",
        "missing_column",
    ]


def test_the_same_block_written_twice_stands_once(corpus, version):
    block = encode_tokens(token_block([[1, 2], [3]]), SumClient(), 100)
    first = write_embeddings(block, version, OPTIONS, 24)
    files = {path: path.stat().st_mtime_ns for path in Path(version.url).rglob("*.*")}
    assert write_embeddings(block, version, OPTIONS, 24) == first
    assert {path: path.stat().st_mtime_ns for path in Path(version.url).rglob("*.*")} == files


def test_the_end_record_counts_all_documents_of_the_split(version):
    rows = token_block([[1], [2]]).rows.select(DOCUMENT_SCHEMA.names)
    block = DocumentBlock("00004", 2, 3, True, (), rows, documents_before=20)
    end_split(version, SplitEnd.of(block))
    end = ended_splits(version)["00004"]
    assert (end.blocks, end.documents) == (3, 23)
