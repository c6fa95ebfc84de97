"""Blocks end where the documents say, whatever batches these come in."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import read_corpus, write

from embedkit.config import CorpusConfig
from embedkit.corpus import blocks as blocks_module
from embedkit.corpus import compression, csv_records, parquet_records
from embedkit.corpus.blocks import make_blocks
from embedkit.corpus.chunks import Spans
from embedkit.corpus.columns import Columns
from embedkit.corpus.documents import Documents, Records, make_documents
from embedkit.records import DOCUMENT_SCHEMA, DocumentBlock

COLUMNS = Columns((("", "text"),), False, None)


class Words:
    """A chunk for every word."""

    def spans(self, texts: list[str]) -> list[Spans]:
        found = []
        for text in texts:
            spans, place = [], 0
            for word in text.split():
                place = text.index(word, place)
                spans.append((place, place + len(word)))
                place += len(word)
            found.append(spans)
        return found


# A text of no words is a reject.
texts = st.lists(
    st.one_of(st.just(""), st.integers(1, 6).map(lambda n: " ".join(["wörd"] * n))), max_size=40
)


def batches(texts: list[str], cuts: list[int]) -> Iterator[Documents]:
    ends = sorted({min(cut, len(texts)) for cut in cuts} | {0, len(texts)})
    for start, end in zip(ends, [*ends[1:], len(texts)], strict=True):
        records = Records("a.txt", list(range(start, end)), {"text": texts[start:end]})
        yield make_documents(records, COLUMNS, DOCUMENT_SCHEMA, 1000)


def blocks_of(
    texts: list[str], cuts: list[int], chunker: Words | None, **limits: int
) -> list[DocumentBlock]:
    config = CorpusConfig(inputs=("x",), **limits)
    return list(make_blocks("00000", batches(texts, cuts), DOCUMENT_SCHEMA, config, chunker))


@settings(max_examples=200)
@given(
    texts,
    st.lists(st.integers(0, 40), max_size=6),
    st.lists(st.integers(0, 40), max_size=6),
    st.integers(1, 12),
    st.integers(1, 120),
    st.booleans(),
)
def test_blocks(
    texts: list[str], cuts: list[int], others: list[int], rows: int, size: int, chunked: bool
) -> None:
    chunker = Words() if chunked else None
    limits = {"block_rows": rows, "block_bytes": size}
    found = blocks_of(texts, cuts, chunker, **limits)
    again = blocks_of(texts, others, chunker, **limits)
    assert found == again

    # The same, said as plainly as can be: fill a block until a document does not fit.
    wanted: list[list[int]] = [[]]
    weight = taken = 0
    for place, text in enumerate(texts):
        words = text.split()
        more = len(words) if chunked and words else 1
        grown = sum(len(w.encode()) for w in words) if chunked else len(text.encode())
        if wanted[-1] and (weight + more > rows or taken + grown > size):
            wanted.append([])
            weight = taken = 0
        wanted[-1].append(place)
        weight, taken = weight + more, taken + grown
    held = []
    for block in found:
        places = {*block.rows.column("row_index").to_pylist()}
        held.append(sorted(places | {one.row_index for one in block.rejects}))
        assert block.documents == len(held[-1])
    assert held == wanted
    assert [block.seq for block in found] == list(range(len(found)))
    assert [block.last for block in found] == [False] * (len(found) - 1) + [True]
    before = np.cumsum([0, *(block.documents for block in found)])
    assert [block.documents_before for block in found] == before[:-1].tolist()
    if chunked:
        assert [w for b in found for w in b.rows.column("text").to_pylist()] == [
            word for text in texts for word in text.split()
        ]


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "txt", "parquet"])
def test_buffers_of_readers_do_not_show(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"text {n} é" if n % 13 else " \u3000" for n in range(700)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "parquet":
        import pyarrow.parquet as pq

        pq.write_table(pa.table({"text": lines}), path, 100)
    else:
        make = {"jsonl": lambda text: json.dumps({"text": text}), "csv": str, "txt": str}[suffix]
        write(path, [*(["text"] if suffix == "csv" else []), *map(make, lines)])
    settings_ = {"block_rows": 33, "block_bytes": 300}
    whole = read_corpus(path, chunker=Words(), **settings_)
    assert len(whole.rejects) == 54
    monkeypatch.setattr(compression, "_PLAIN_PIECE", 50)
    monkeypatch.setattr(csv_records, "_BATCH_ROWS", 5)
    monkeypatch.setattr(parquet_records, "_MOST_BATCH_ROWS", 7)
    monkeypatch.setattr(parquet_records, "_MOST_ROWS_READ", 3)
    monkeypatch.setattr(blocks_module, "_CHUNK_AT_ONCE_DOCUMENTS", 4)
    monkeypatch.setattr(blocks_module, "_CHUNK_AT_ONCE_BYTES", 40)
    again = read_corpus(path, chunker=Words(), **settings_)
    assert len(whole.blocks) > 20
    assert again.blocks == whole.blocks


def test_large_documents_are_blocks_of_their_own() -> None:
    found = blocks_of(["a", "b" * 50, "c", "d " * 9, "e"], [], None, block_bytes=10)
    assert [block.rows.column("text").to_pylist() for block in found] == [
        ["a"], ["b" * 50], ["c"], ["d " * 9], ["e"],
    ]  # fmt: skip
    found = blocks_of(["a", "b " * 9, "c"], [], Words(), block_rows=4)
    assert [block.rows.num_rows for block in found] == [1, 9, 1]


@pytest.mark.parametrize("limits", [(3, 1 << 20), (1 << 20, 12)])
def test_chunks_of_a_large_document_are_spread_over_blocks(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]
) -> None:
    monkeypatch.setattr(blocks_module, "_LARGE_DOCUMENT_ROWS", limits[0])
    monkeypatch.setattr(blocks_module, "_LARGE_DOCUMENT_BYTES", limits[1])
    texts = ["a b", "", "wörd " * 11, " ", "c", "word " * 7, "d e"]
    found = blocks_of(texts, [], Words(), block_rows=3, block_bytes=12)
    again = blocks_of(texts, [1, 3, 4], Words(), block_rows=3, block_bytes=12)
    assert found == again
    words = [word for block in found for word in block.rows.column("text").to_pylist()]
    assert words == [word for text in texts for word in text.split()]
    for row in (row for block in found for row in block.rows.to_pylist()):
        assert row["id"] == f"{row['doc_id']}:{row['chunk_index']}"
        assert texts[row["row_index"]][row["char_start"] : row["char_end"]] == row["text"]
    places = [(r["row_index"], r["chunk_index"]) for b in found for r in b.rows.to_pylist()]
    assert places == sorted(set(places))
    assert sum(block.documents for block in found) == len(texts)
    for before, block in zip([None, *found], found, strict=False):
        documents = {*block.rows.column("doc_id").to_pylist()}
        assert len(documents) + len(block.rejects) == block.documents + block.continues
        size = sum(len(text.encode()) for text in block.rows.column("text").to_pylist())
        assert block.rows.num_rows <= 3 or limits[0] > 3
        assert size <= 12 or limits[1] > 12
        if block.continues:
            assert before is not None
            assert before.rows.column("doc_id")[-1] == block.rows.column("doc_id")[0]
    assert [block.documents_before for block in found] == [
        sum(block.documents for block in found[:place]) for place in range(len(found))
    ]
    assert [block.last for block in found] == [False] * (len(found) - 1) + [True]
    assert sum(block.continues for block in found) >= 4
    for block in found:
        assert DocumentBlock.from_ipc(block.to_ipc()) == block


def test_metadata_that_every_chunk_repeats_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    schema = DOCUMENT_SCHEMA.append(pa.field("note", pa.string()))
    columns = Columns((("", "text"),), False, None, (("note", pa.string()),))
    values = {"text": ["a b c d", "e f"], "note": ["n" * 400_000, None]}
    records = Records("a.txt", [0, 1], values)
    documents = [make_documents(records, columns, schema, 1 << 20)]
    config = CorpusConfig(inputs=("x",), block_bytes=1000)
    found = list(make_blocks("00000", documents, schema, config, Words()))
    assert [block.rows.num_rows for block in found] == [2, 2, 2]
    assert [block.continues for block in found] == [False, True, False]


def test_rejects_alone_fill_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", ["{"] * 25)
    corpus = read_corpus(path, block_rows=10)
    assert [len(block.rejects) for block in corpus.blocks] == [10, 10, 5]
    assert [block.documents for block in corpus.blocks] == [10, 10, 5]
