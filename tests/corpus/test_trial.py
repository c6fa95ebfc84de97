"""The first documents of a corpus, against the same records counted by hand."""

import csv
import gzip
import itertools
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.config import CorpusConfig
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import Plan, plan_corpus

FILES, ROWS = 3, 40
TEXTS = [
    ["" if n % 7 == 3 else f"text {n} of file {file}" for n in range(ROWS)] for file in range(FILES)
]


def write(folder, kind):
    for number, texts in enumerate(TEXTS):
        path = folder / f"{number}.{kind}"
        rows = [{"id": f"{number}-{n}", "text": text} for n, text in enumerate(texts)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        if kind == "jsonl":
            path.write_text(lines)
        elif kind == "jsonl.gz":
            path.write_bytes(gzip.compress(lines.encode()))
        elif kind == "csv":
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, ["id", "text"])
                writer.writeheader()
                writer.writerows(rows)
        else:
            pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=9)


def read(plan: Plan, config: CorpusConfig) -> tuple[list[str], int]:
    """The texts of a plan's documents, and how many records became rejects."""
    blocks = [block for split in plan.splits for block in read_split(split, plan, config)]
    texts = [text for block in blocks for text in block.rows.column("text").to_pylist()]
    rejects = sum(len(block.rejects) for block in blocks)
    assert sum(block.documents for block in blocks) == len(texts) + rejects
    return texts, rejects


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "parquet"])
@pytest.mark.parametrize("id_column", [None, "id"])
def test_a_trial_reads_the_first_records(tmp_path, kind, id_column):
    write(tmp_path, kind)
    everything = list(itertools.chain(*TEXTS))
    for limit in (1, 3, 4, ROWS, ROWS + 5, 2 * ROWS + 11, FILES * ROWS, 1000):
        config = CorpusConfig(
            inputs=(str(tmp_path),),
            id_column=id_column,
            split_bytes=300,
            block_rows=16,
            limit=limit,
        )
        plan = Plan.from_json(plan_corpus(config).to_json())
        wanted = everything[:limit]
        assert read(plan, config) == (list(filter(None, wanted)), wanted.count(""))
        assert plan.files == min(FILES, -(-limit // ROWS))


def test_plain_text_counts_documents_and_no_blank_lines(tmp_path):
    (tmp_path / "a.txt").write_text("one\n\n\n  \ntwo\n\nthree\nfour\n")
    config = CorpusConfig(inputs=(str(tmp_path),), limit=3)
    assert read(plan_corpus(config), config) == (["one", "two", "three"], 0)
    whole = CorpusConfig(inputs=(str(tmp_path),), limit=1, text_unit="file")
    assert read(plan_corpus(whole), whole)[1] == 0


def test_of_a_repeated_id_only_those_inside_the_trial_count(tmp_path):
    ids = ["a", "b", "a", "c", "a", "b"]
    lines = [json.dumps({"id": one, "text": f"t{n}"}) for n, one in enumerate(ids)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    config = CorpusConfig(inputs=(str(tmp_path),), id_column="id", limit=4)
    assert read(plan_corpus(config), config) == (["t0", "t1", "t3"], 1)


def test_a_trial_reads_no_further_than_it_must(tmp_path, monkeypatch):
    write(tmp_path, "jsonl")
    (tmp_path / "1.jsonl").write_bytes(b"\xff not read")
    config = CorpusConfig(inputs=(str(tmp_path),), split_bytes=1 << 20, limit=ROWS)
    texts, rejects = read(plan_corpus(config), config)
    assert len(texts) + rejects == ROWS
    assert rejects == TEXTS[0].count("")


def test_what_became_null_is_counted_of_the_documents_of_the_trial_alone(tmp_path):
    rows = [{"text": f"text {n}", "n": "none" if n in (1, 5, 8) else n} for n in range(20)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = CorpusConfig(inputs=(str(path),), metadata_columns=("n:int64",), limit=6)
    plan = plan_corpus(config)
    blocks = [block for split in plan.splits for block in read_split(split, plan, config)]
    assert sum(block.rows.num_rows for block in blocks) == 6
    assert [(one.column, one.count) for block in blocks for one in block.nulled] == [("n", 2)]
