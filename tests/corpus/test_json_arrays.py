"""A ``.json`` file of one array, or of lines, gives the records that Python's parser reads."""

import json
import tracemalloc
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import corpus_config, read_corpus, write

from embedkit.corpus import compression, encodings
from embedkit.corpus.plan import plan_corpus
from embedkit.errors import InputError

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
values = st.recursive(
    st.none() | st.booleans() | texts | st.integers(-99, 99),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150)
@given(
    st.lists(st.fixed_dictionaries({"text": texts, "x": values}), max_size=8),
    st.sampled_from([None, 0, 2]),
    st.booleans(),
    st.integers(1, 40),
)
def test_arrays_as_pythons_parser_reads_them(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[dict[str, Any]],
    indent: int | None,
    ascii_only: bool,
    piece: int,
) -> None:
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps(records, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_PLAIN_PIECE", piece)
        patch.setattr(encodings, "HEAD", 1)
        corpus = read_corpus(path)
    good = [one["text"] for one in records if one["text"].strip() and "\0" not in one["text"]]
    assert corpus.texts == good
    assert len(corpus.rejects) == len(records) - len(good)
    assert {row["row_index"] for row in corpus.rows} | {
        one.row_index for one in corpus.rejects
    } == set(range(len(records)))


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("suffix", [".json", ".json.gz", ".json.zst"])
def test_arrays_as_duckdb_reads_them(tmp_path: Path, suffix: str, indent: int | None) -> None:
    records = [{"id": f"r{n}", "text": f'Nr. {n} "é" [1, 2]', "n": n} for n in range(5000)]
    path = write(tmp_path / f"a{suffix}", json.dumps(records, indent=indent))
    corpus = read_corpus(path, id_column="id", metadata_columns=("n",), split_bytes=1000)
    found = duckdb.sql(f"select id, text, n from read_json('{path}', format='array')").fetchall()
    assert [(row["id"], row["text"], row["n"]) for row in corpus.rows] == found
    assert corpus.table["n"].type == "int64"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_in_a_json_file(tmp_path: Path, end: str) -> None:
    lines = ['{"text": "a"}', "", '{"text": 7}', '{"text": "b"}']
    path = write(tmp_path / "a.json", end.join(lines))
    corpus = read_corpus(path)
    assert corpus.texts == ["a", "b"]
    assert corpus.table["row_index"].to_pylist() == [0, 2]
    assert [(one.row_index, one.reason) for one in corpus.rejects] == [(1, "wrong_type")]


BAD = {
    "a string": ('"text"', ["invalid_json"]),
    "null": ("null", ["invalid_json"]),
    "open string": ('{"text": "open}', ["invalid_json"]),
    "open string over lines": ('{"text": "open,\n "more": 1}', ["invalid_json"]),
    "missing colon": ('{"text" 1}', ["invalid_json"]),
    "missing comma": ('{"text": "x"} {"text": "y"}', ["invalid_json"]),
    "long": (json.dumps({"text": "x" * 500}), ["too_long"]),
    "deep": ("[" * 2000 + "]" * 2000, ["too_long"]),
    "not utf-8": ('{"text": "\udce9"}', ["invalid_utf8"]),
}


@pytest.mark.parametrize("piece", [3, 1 << 18])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_element_costs_itself_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str, piece: int
) -> None:
    monkeypatch.setattr(compression, "_PLAIN_PIECE", piece)
    bad, reasons = BAD[case]
    good = ['{"text": "one"}', '{"text": "two"}', '{"text": "three"}']
    content = "[" + ",\n".join([good[0], bad, *good[1:]]) + "]\n"
    path = write(tmp_path / "a.json", content.encode("utf-8", "surrogateescape"))
    corpus = read_corpus(path, max_record_bytes=300)
    assert corpus.texts == ["one", "two", "three"]
    assert corpus.reasons == reasons
    assert corpus.rejects[0].row_index == 1


@pytest.mark.parametrize(
    "content", ['[{"text": "a"}, {"text"', '[{"text": "a"},', '[{"text": "a"}] {"text": "b"}']
)
def test_an_array_without_its_end_is_damaged(tmp_path: Path, content: str) -> None:
    corpus = read_corpus(write(tmp_path / "a.json", content))
    assert (corpus.texts, corpus.reasons) == (["a"], ["damaged_file"])


@pytest.mark.parametrize("content", ["", "[]", " [ ] \n", "\n"])
def test_no_element(tmp_path: Path, content: str) -> None:
    corpus = read_corpus(write(tmp_path / "a.json", content))
    assert (corpus.texts, corpus.rejects) == ([], [])


def test_one_object_over_lines_is_no_corpus(tmp_path: Path) -> None:
    path = write(tmp_path / "config.json", json.dumps({"data": [1], "b": {}}, indent=2))
    for asked in (path, tmp_path):
        with pytest.raises(InputError, match="one array of objects"):
            plan_corpus(corpus_config(asked))
    write(tmp_path / "a.jsonl", ['{"text": "a"}'])
    corpus = read_corpus(tmp_path)
    assert corpus.texts == ["a"]
    assert corpus.plan.skipped == (str(path),)


def test_memory_does_not_grow_with_the_array(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with path.open("w") as file:
        file.write("[" + json.dumps({"text": "y" * 30_000_000}))
        for n in range(20_000):
            file.write("," + json.dumps({"text": f"{n} " + "x" * 1000}))
        file.write("]")
    config = corpus_config(path, max_record_bytes=1 << 20)
    plan = plan_corpus(config)
    from embedkit.corpus.formats import read_split

    tracemalloc.start()
    rows = sum(block.rows.num_rows for block in read_split(plan.splits[0], plan, config))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 20_000
    assert peak < 16 << 20
