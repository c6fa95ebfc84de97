"""Splits that are claimed one by one, some of them after a worker was lost at them."""

import pytest
from running import records, write_corpus, write_jsonl

from embedkit.config import CorpusConfig
from embedkit.corpus.plan import plan_corpus
from embedkit.flow.read import Claim, read_claimed, read_pending, without_documents


class Source:
    """Hands out claims in order, and notes what it is told in between."""

    def __init__(self, claims: list[Claim], stop_at: str | None = None) -> None:
        self._claims = list(claims)
        self._stop_at = stop_at
        self.heard: list[str | None] = []

    def claim(self) -> Claim | None:
        self.heard.append("claim")
        return self._claims.pop(0) if self._claims else None

    def begin(self, block_id: str | None) -> bool:
        self.heard.append(block_id)
        return block_id is None or block_id != self._stop_at


@pytest.fixture
def corpus(tmp_path) -> CorpusConfig:
    folder = write_corpus(tmp_path / "in", shards=2, rows=25)
    return CorpusConfig(inputs=(str(folder),), id_column="id", block_rows=10, split_bytes=2500)


def ids(blocks) -> list[str]:
    return [row_id for block in blocks for row_id in block.rows.column("id").to_pylist()]


def test_all_claims_are_read_and_every_block_is_named_while_in_hand(corpus):
    plan = plan_corpus(corpus)
    source = Source([Claim(split) for split in plan.splits])
    seen = []
    for block in read_claimed(source, plan, corpus):
        assert source.heard[-1] == block.block_id
        seen.append(block)
    assert ids(seen) == [row["id"] for row in records(50)]
    blocks = [block.block_id for block in seen]
    assert [heard for heard in source.heard if heard not in ("claim", None)] == blocks
    assert source.heard.count(None) == len(blocks)
    assert source.heard.count("claim") == len(plan.splits) + 1


def test_a_careful_claim_reads_nothing_ahead(corpus, monkeypatch):
    plan = plan_corpus(corpus)
    read = []

    def noting(*args):
        for block in read_pending(*args):
            read.append(block.block_id)
            yield block

    monkeypatch.setattr("embedkit.flow.read.read_pending", noting)
    for number, _ in enumerate(read_claimed(Source([Claim(plan.splits[0], True)]), plan, corpus)):
        assert len(read) == number + 1


def test_a_quarantined_block_becomes_rejects_and_its_neighbours_stay(corpus):
    plan = plan_corpus(corpus)
    (split,) = plan.splits[:1]
    whole = list(read_pending(split, plan, corpus))
    quarantined = whole[1].block_id
    source = Source([Claim(split, True, (quarantined,))])
    blocks = list(read_claimed(source, plan, corpus))
    assert [block.block_id for block in blocks] == [block.block_id for block in whole]
    assert [block.documents for block in blocks] == [block.documents for block in whole]
    assert [block.last for block in blocks] == [block.last for block in whole]
    lost, before = blocks[1], whole[1]
    assert lost.rows.num_rows == 0
    assert lost.rows.schema == before.rows.schema
    assert [one.doc_id for one in lost.rejects] == before.rows.column("doc_id").to_pylist()
    assert {one.reason for one in lost.rejects} == {"worker_lost"}
    assert all(quarantined in one.detail and "\n" not in one.detail for one in lost.rejects)
    assert ids(blocks) == ids([whole[0], *whole[2:]])


def test_a_document_of_many_chunks_is_one_reject_beside_those_that_were(tmp_path):
    rows = [{"id": "a", "text": "one two"}, {"id": "b", "text": " "}, {"id": "c", "text": "three"}]
    file = write_jsonl(tmp_path / "x.jsonl", rows)
    corpus = CorpusConfig(inputs=(str(file),), id_column="id")
    plan = plan_corpus(corpus)
    (block,) = read_pending(plan.splits[0], plan, corpus)
    chunked = block.with_rows(block.rows.take([0, 0, 1]))
    lost = without_documents(chunked)
    assert [(one.doc_id, one.reason) for one in lost.rejects] == [
        ("b", "empty_text"),
        ("a", "worker_lost"),
        ("c", "worker_lost"),
    ]
    assert lost.documents == len(lost.rejects) == 3


@pytest.mark.parametrize("careful", [False, True])
def test_a_worker_that_is_to_leave_begins_no_other_block(corpus, careful):
    plan = plan_corpus(corpus)
    (split,) = plan.splits[:1]
    whole = [block.block_id for block in read_pending(split, plan, corpus)]
    source = Source([Claim(split, careful)], stop_at=whole[1])
    assert [block.block_id for block in read_claimed(source, plan, corpus)] == whole[:1]
    assert source.heard[-2:] == [whole[1], "claim"]
