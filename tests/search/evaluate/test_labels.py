"""Files of labels: what is read of them, and the one line for each fault."""

import json
from pathlib import Path

import pytest

from embedkit.errors import InputError
from embedkit.search.evaluate.benchmark import read_benchmark, read_documents
from embedkit.search.evaluate.pairs import read_pairs

ROWS = [("a cat", "a dog", 2.5), ("rain, heavy", "sun", 0), ("one", "uno", 5)]


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def jsonl(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


HEADER = "sentence1\tsentence2\tscore\n"
TSV = "".join(f"{one}\t{other}\t{score}\n" for one, other, score in ROWS)
CSV = "".join(f'"{one}",{other},{score}\n' for one, other, score in ROWS)


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.tsv", HEADER + TSV, ()),
        ("a.tsv", "\ufeff" + HEADER + TSV, ()),
        ("a.csv", CSV, ()),
        ("a.csv", "text1,text2,label\n" + CSV, ()),
        ("a.csv", "left,right,points\n" + CSV, ("left", "right", "points")),
        (
            "a.jsonl",
            jsonl(*({"s": score, "sentence2": b, "sentence1": a} for a, b, score in ROWS)),
            ("sentence1", "sentence2", "s"),
        ),
    ],
)
def test_pairs_in_every_form(tmp_path, name, text, columns):
    pairs = read_pairs(write(tmp_path / name, text), columns)
    firsts, seconds, scores = zip(*ROWS, strict=True)
    assert pairs.texts == firsts + seconds
    assert pairs.scores.tolist() == list(scores)
    assert pairs.places[0].startswith(f"{tmp_path / name}, line ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER + "a\tb\tnan\n", r"line 2: score 'nan' is no finite number"),
        (HEADER + "a\tb\tx\n", r"line 2: score 'x' is no finite number"),
        (HEADER + "a\t\t1\n", r"line 2: a pair without its two texts"),
        (HEADER + "a\tb\n", r"line 2: 2 fields, expected 3"),
        (HEADER + "a\tb\t1\nc\td\t2\n", r"2 pairs, expected at least 3"),
        ("", r"0 pairs, expected at least 3"),
        (HEADER + "a\tb\t1\nc\td\t1\ne\tf\t1.0\n", r"every score is 1"),
        ("a\tb\tc\td\n" + TSV, r"line 1: no column sentence1 .* --sts-columns"),
    ],
)
def test_a_fault_of_pairs_is_one_line(tmp_path, text, said):
    with pytest.raises(InputError, match=said) as raised:
        read_pairs(write(tmp_path / "a.tsv", text))
    assert str(tmp_path / "a.tsv") in str(raised.value)


def test_faults_of_files(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: cannot be read"):
        read_pairs(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"are read from \.csv, \.tsv and \.jsonl"):
        read_pairs(write(tmp_path / "a.txt", CSV))
    with pytest.raises(InputError, match=r"a\.csv, line 2: .*; mend it"):
        read_pairs(write(tmp_path / "a.csv", 'a,b,1\n"c,d,2\n'))
    (tmp_path / "b.csv").write_bytes(b"a,b\xff,1\n")
    with pytest.raises(InputError, match=r"b\.csv: no UTF-8"):
        read_pairs(tmp_path / "b.csv")
    with pytest.raises(InputError, match=r"line 1: no column score"):
        read_pairs(write(tmp_path / "a.jsonl", jsonl({"sentence1": "a", "sentence2": "b"})))


QUERIES = jsonl({"_id": "q1", "text": "one"}, {"id": "q2", "text": "two"}, {"_id": 3, "text": "3"})
QRELS = "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td1\t-1\n"


def folder(path: Path, queries: str = QUERIES, qrels: str = QRELS, name: str = "qrels.tsv") -> Path:
    write(path / "queries.jsonl", queries)
    write(path / name, qrels)
    return path


def test_the_layout_of_beir(tmp_path):
    found = read_benchmark(folder(tmp_path))
    assert found.queries == {"q1": "one"}
    assert found.gains == {"q1": {"d1": 1, "d2": 0}}
    assert (found.unanswered, found.corpus) == (1, None)
    documents = jsonl({"_id": "d1", "title": "T", "text": "x"}, {"id": "d2", "text": "y"})
    path = write(tmp_path / "corpus.jsonl", documents)
    assert read_benchmark(tmp_path).corpus == path
    read = [(one.id, one.title, one.text) for one in read_documents(path)]
    assert read == [("d1", "T", "x"), ("d2", "", "y")]


def test_the_split_of_the_judgments(tmp_path):
    folder(tmp_path, name="qrels/dev.tsv")
    assert read_benchmark(tmp_path).judgments.name == "dev.tsv"
    folder(tmp_path, name="qrels/train.tsv")
    with pytest.raises(
        InputError,
        match=r"neither qrels\.tsv nor qrels/test\.tsv; choose one of "
        r"dev, train by --split",
    ):
        read_benchmark(tmp_path)  # fmt: skip
    assert read_benchmark(tmp_path, "train").judgments.name == "train.tsv"
    folder(tmp_path, name="qrels/test.tsv")
    assert read_benchmark(tmp_path).judgments.name == "test.tsv"


@pytest.mark.parametrize(
    ("queries", "qrels", "said"),
    [
        (QUERIES, "q9\td1\t1\n", r"qrels\.tsv, line 1: judges query 'q9', which is not in "),
        (QUERIES, "q1\td1\t1\nq1\td1\t2\n", r"line 2: judges document 'd1' .* a second time"),
        (QUERIES, "q1\td1\tnan\n", r"line 1: score 'nan' is no whole number"),
        (QUERIES, "q1 d1 1\n", r"line 1: 1 fields, expected query-id, corpus-id and score"),
        (QUERIES, "q1\td1\t0\n", r"no query has a relevant document"),
        (QUERIES, "", r"no query has a relevant document"),
        (jsonl({"_id": "q1", "text": " "}), QRELS, r"queries\.jsonl, line 1: query 'q1' has no t"),
        (jsonl({"_id": "q1"}), QRELS, r"queries\.jsonl, line 1: query 'q1' has no text"),
        (QUERIES + jsonl({"_id": "q1", "text": "x"}), QRELS, r"line 4: id 'q1' a second time"),
        (jsonl({"text": "x"}), QRELS, r"line 1: no _id"),
        (jsonl({"_id": "q", "text": 7}), QRELS, r"line 1: text is a int, expected a text"),
        ("{\n", QRELS, r"queries\.jsonl, line 1: no JSON"),
        ("[1]\n", QRELS, r"queries\.jsonl, line 1: no object"),
    ],
)
def test_a_fault_of_judged_queries_is_one_line(tmp_path, queries, qrels, said):
    with pytest.raises(InputError, match=said):
        read_benchmark(folder(tmp_path, queries, qrels))


def test_faults_of_folders(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        read_benchmark(tmp_path / "none")
    with pytest.raises(InputError, match=r"neither qrels\.tsv nor qrels/test\.tsv; give judgments"):
        read_benchmark(tmp_path)
    path = write(tmp_path / "corpus.jsonl", jsonl({"_id": "d", "text": "x"}, {"_id": "d"}))
    with pytest.raises(InputError, match=r"corpus\.jsonl, line 2: id 'd' a second time"):
        list(read_documents(path))
