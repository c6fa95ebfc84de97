"""JSON of any depth and odd JSON cost one record at most, wherever in the record they stand."""

import json
from pathlib import Path

import pytest
from reading import read_corpus, write

DEPTHS = (3, 500, 980, 990, 1000, 1020, 1024, 1030, 5_000, 100_000)


def deep(depth: int, kind: str) -> str:
    begin, end = {"list": ("[", "]"), "object": ('{"a":', "}"), "both": ('[{"a":', "}]")}[kind]
    return begin * depth + "1" + end * depth


@pytest.mark.parametrize("kind", ["list", "object", "both"])
@pytest.mark.parametrize("column", ["id", "text", "n", "unused"])
def test_nested_values(tmp_path: Path, column: str, kind: str) -> None:
    good = {"id": "first", "text": "one", "n": 1}, {"id": "last", "text": "two", "n": 2}
    records = []
    for depth in DEPTHS:
        others = {"id": f"d{depth}", "text": "good", "n": 3}
        others.pop(column, None)
        records.append(f'{{"{column}": {deep(depth, kind)}, {json.dumps(others)[1:]}')
    path = write(tmp_path / "a.jsonl", [json.dumps(good[0]), *records, json.dumps(good[1])])
    settings = {"id_column": "id", "metadata_columns": ("n:int64",)}
    for template in (None, "{text}: {n}"):
        corpus = read_corpus(path, text_template=template, **settings)
        assert {"first", "last"} <= set(corpus.ids)
        assert len(corpus.ids) + len(corpus.rejects) == len(DEPTHS) + 2
        assert set(corpus.reasons) <= {"wrong_type", "invalid_json"}
        assert all(len(one.detail) < 300 for one in corpus.rejects)
        if column in ("id", "text"):
            assert set(corpus.ids) == {"first", "last"}


def test_nested_metadata_of_kind_string(tmp_path: Path) -> None:
    records = [f'{{"id": "{depth}", "text": "x", "n": {deep(depth, "list")}}}' for depth in DEPTHS]
    path = write(tmp_path / "a.jsonl", records)
    corpus = read_corpus(path, id_column="id", metadata_columns=("n:string",))
    assert len(corpus.ids) + len(corpus.rejects) == len(DEPTHS)
    assert "3" in corpus.ids


@pytest.mark.parametrize("column", ["id", "text", "n"])
@pytest.mark.parametrize(
    "value",
    [
        "1" * 5000,
        "-" + "9" * 5000,
        "1e400",
        "-0",
        "1." + "3" * 5000,
        '"\\ud800"',
        '"\\udc00\\ud800"',
    ],
)
def test_odd_values(tmp_path: Path, column: str, value: str) -> None:
    others = {"id": "b", "text": "good", "n": 3}
    del others[column]
    bad = f'{{"{column}": {value}, {json.dumps(others)[1:]}'
    good = [json.dumps({"id": one, "text": "good", "n": 1}) for one in "ac"]
    path = write(tmp_path / "a.jsonl", [good[0], bad, good[1]])
    corpus = read_corpus(path, id_column="id", metadata_columns=("n:float64",))
    assert {"a", "c"} <= set(corpus.ids)
    assert len(corpus.ids) + len(corpus.rejects) == 3


def test_of_a_name_that_stands_twice_the_last_counts_as_in_pythons_parser(tmp_path: Path) -> None:
    line = '{"text": "first", "id": "a", "text": "second"}'
    path = write(tmp_path / "a.jsonl", [line])
    assert read_corpus(path, id_column="id").texts == [json.loads(line)["text"]]
