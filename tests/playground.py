"""The folder in which the manual's snippets run: what its pages name is there."""

import gzip
import json
import shutil
from pathlib import Path

from calling import call
from example_files import lay_out
from running import records, write_jsonl
from tiny_cross import save_cross_encoder

ROWS = 40
MODEL = "models/all-MiniLM-L6-v2"
WORDS = "king queen man woman breakfast lunch dinner cereal bat bank river money".split()


def make_playground(folder: Path) -> None:
    """Lays the folder out, which is to be the working directory already.

    `corpus` has the documents, `embeddings` two versions of them, `v1` and `v2`, of which the
    second has lost the first documents and has other texts for the next. Models are tiny, and what
    they find means nothing.
    """
    lay_out(folder)
    shutil.rmtree(folder / "embeddings")
    save_cross_encoder(folder / "models" / "cross-encoder")
    _write_corpus(folder)
    _write_labels(folder)
    _write_word_vectors(folder)
    _embed("v1")
    rows = _documents()
    for row in rows[2:5]:
        row["text"] += " changed"
    _write_shards(folder, rows[2:])
    _embed("v2")


def _documents() -> list[dict[str, object]]:
    return records(ROWS)


def _write_corpus(folder: Path) -> None:
    (folder / "corpus").mkdir()
    _write_shards(folder, _documents())


def _write_shards(folder: Path, rows: list[dict[str, object]]) -> None:
    for number in (0, 1):
        lines = (json.dumps(row) + "\n" for row in rows[number::2])
        with gzip.open(folder / "corpus" / f"docs-{number}.jsonl.gz", "wt") as file:
            file.writelines(lines)


def _write_labels(folder: Path) -> None:
    rows = _documents()
    texts = [str(row["text"]) for row in rows]
    judged = folder / "judged"
    write_jsonl(
        judged / "corpus.jsonl",
        [{"_id": row["id"], "title": "", "text": row["text"]} for row in rows],
    )
    write_jsonl(judged / "queries.jsonl", [{"_id": "q1", "text": texts[7]}])
    (judged / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\nq1\tdoc-00007\t1\n")
    scored = [f'"{texts[n]}","{texts[n + 1]}",{n % 5}\n' for n in range(8)]
    (folder / "pairs.csv").write_text("sentence1,sentence2,score\n" + "".join(scored))
    pairs = [{"query": texts[n], "text": texts[n + 1]} for n in range(4)]
    write_jsonl(folder / "pairs.jsonl", pairs)
    asked = [{"query": texts[0], "answers": texts[1:4]}, {"query": texts[1], "answers": texts[4:6]}]
    write_jsonl(folder / "candidates.jsonl", asked)


def _write_word_vectors(folder: Path) -> None:
    lines = [
        f"{word} {' '.join(f'{(7 * number + 3 * place) % 11 - 5:.1f}' for place in range(6))}\n"
        for number, word in enumerate(WORDS)
    ]
    with gzip.open(folder / "glove.6B.300d.txt.gz", "wt") as file:
        file.writelines(lines)


def _embed(version: str) -> None:
    answer = call(
        "run", "corpus/*.jsonl.gz", "--id-column", "id", "--metadata-columns", "title",
        "--metadata-columns", "stars", "--store-text", "--model", MODEL, "--output", "embeddings",
        "--version", version, "--engine", "plain", "--progress", "none",
    )  # fmt: skip
    assert answer.code == 0, answer.error
