"""Ids that repeat: the first in plan order keeps its id, all others are rejects."""

import json
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import read_corpus, write

from embedkit.corpus import duplicates


@settings(max_examples=60)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c", "1", 1, "d"]), max_size=6), min_size=1),
    st.integers(1, 100),
)
def test_the_first_of_equal_ids_stays(
    tmp_path_factory: pytest.TempPathFactory, shards: list[list[str | int]], split_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    names = [f"{n:03d}.jsonl" for n in range(len(shards))]
    for name, ids in zip(names, shards, strict=True):
        write(folder / name, [json.dumps({"id": one, "text": f"{one}"}) for one in ids])
    corpus = read_corpus(folder, id_column="id", split_bytes=split_bytes)
    flat = [str(one) for ids in shards for one in ids]
    assert corpus.ids == list(dict.fromkeys(flat))
    assert corpus.reasons == ["duplicate_id"] * (len(flat) - len(set(flat)))
    assert corpus.plan.duplicates == len(corpus.rejects)
    assert [one.doc_id for one in corpus.rejects] == [
        one for place, one in enumerate(flat) if one in flat[:place]
    ]


def test_across_formats_as_duckdb_counts(tmp_path: Path) -> None:
    ids = np.random.default_rng(5).integers(0, 4000, 3000)
    third = [ids[n::3].tolist() for n in range(3)]
    write(tmp_path / "a.jsonl", [json.dumps({"id": n, "text": "x"}) for n in third[0]])
    write(tmp_path / "b.csv.gz", ["id,text", *(f"{n},x" for n in third[1])])
    pq.write_table(
        pa.table({"id": third[2], "text": ["x"] * len(third[2])}), tmp_path / "c.parquet", 99
    )
    corpus = read_corpus(tmp_path, id_column="id", split_bytes=1000)
    seen = duckdb.from_arrow(pa.table({"id": ids}))
    [(distinct,)] = seen.aggregate("count(distinct id)").fetchall()
    assert len(corpus.ids) == distinct
    assert corpus.reasons == ["duplicate_id"] * (len(ids) - distinct)
    order = [str(one) for part in third for one in part]
    assert corpus.ids == list(dict.fromkeys(order))


def test_ids_with_one_hash_are_not_equal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ["a", "b", "c", "b", "d"]
    path = write(tmp_path / "a.jsonl", [json.dumps({"id": one, "text": one}) for one in ids])
    monkeypatch.setattr(
        duplicates, "_hashes", lambda names: np.full(len(list(names)), 7, dtype=np.uint64)
    )
    corpus = read_corpus(path, id_column="id", split_bytes=10)
    assert corpus.ids == ["a", "b", "c", "d"]
    assert [one.doc_id for one in corpus.rejects] == ["b"]


def test_a_reject_for_another_reason_has_its_id_all_the_same(tmp_path: Path) -> None:
    rows = ['{"id": "a", "text": ""}', '{"id": "a", "text": "x"}', '{"text": "y"}', '{"text": "z"}']
    path = write(tmp_path / "a.jsonl", rows)
    corpus = read_corpus(path, id_column="id")
    assert corpus.reasons == ["empty_text", "duplicate_id", "missing_id", "missing_id"]


def test_spilled_hashes_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_AT_ONCE", 7)
    ids = [n if n % 50 else 0 for n in range(500)]
    path = write(tmp_path / "a.jsonl", [json.dumps({"id": one, "text": "x"}) for one in ids])
    corpus = read_corpus(path, id_column="id", split_bytes=500)
    assert len(corpus.rejects) == 9
    assert len(corpus.ids) == 491
