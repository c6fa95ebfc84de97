"""The line that a report names is the line in the file, however many ranges it was read in."""

import json
from dataclasses import astuple, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import read_corpus
from running import Dataset, SumClient, tiny_job

from embedkit.dataset.committed import SplitEnd
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.version import find_version
from embedkit.engines.run import run_job
from embedkit.errors import IntegrityError
from embedkit.flow.encode import encode_tokens
from embedkit.flow.line_numbers import LineNumbers, place_of
from embedkit.flow.read import without_documents
from embedkit.hashes.digests import text_hash
from embedkit.records import DocumentBlock, LineCounts
from embedkit.search.query import search_text
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.token_chunking import TokenChunker
from embedkit.tokens.tokenization import load_tokenizer, tokenize_text


@pytest.mark.parametrize("split_bytes", [40, 333, 10_000])
@pytest.mark.parametrize("suffix", ["jsonl", "txt"])
def test_lines_of_rejects_of_many_ranges(tmp_path: Path, suffix: str, split_bytes: int) -> None:
    good = '{"text": "good"}'
    lines = [good if n % 7 else "" if n % 3 else '{"text": "nul \0"}' for n in range(1, 301)]
    path = tmp_path / f"a.{suffix}"
    path.write_text("\n".join(lines))
    corpus = read_corpus(path, split_bytes=split_bytes)
    ends = {
        block.split_id: SplitEnd(block.split_id, 1, 1, tuple(map(astuple, block.lines)))
        for block in corpus.blocks
        if block.last
    }
    numbers = LineNumbers.of(corpus.plan.splits, ends)
    wanted = [number for number, line in enumerate(lines, 1) if "\0" in line]
    assert [numbers.true_line(one).line for one in corpus.rejects] == wanted
    assert numbers.counts is not None
    assert (numbers.counts.lines, numbers.counts.blank) == (300, lines.count(""))


@pytest.mark.parametrize(
    ("source", "row_index", "line", "said"),
    [
        ("a.jsonl", 861, None, "byte 861"),
        ("a.txt.gz", 0, None, "byte 0"),
        ("a.csv", 6, None, "record 7"),
        ("a.json", 6, None, "record 7"),
        ("a.parquet", 6, 7, "record 7"),
        ("a.jsonl", 861, 12, "line 12"),
        ("a.jsonl", 0, 1, "line 1"),
        ("a.csv", 6, 12, "line 12"),
        ("a.json", 6, 9, "line 9"),
    ],
)
def test_a_place_says_what_it_counts(
    source: str, row_index: int, line: int | None, said: str
) -> None:
    assert place_of(source, row_index, line, "auto") == said


def test_a_place_in_inputs_of_a_named_format_or_of_none() -> None:
    assert place_of("part-0", 861, None, "jsonl") == "byte 861"
    assert place_of("part-0.txt", 6, None, "csv") == "record 7"
    assert place_of("rows", 6, None, "") == "row_index 6"


def test_lines_of_every_range_are_accounted_for(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n\n{"text": 1}\nbad\n')
    (tmp_path / "b.csv").write_text('id,text\n1,"two\nlines"\n\n2,b,c\n')
    (tmp_path / "c.json").write_text('[{"text": "a"},\n {"text": "b"}]')
    (tmp_path / "d.txt").write_text("one\n \ntwo\n")
    corpus = read_corpus(tmp_path, split_bytes=12)
    total = [counts for block in corpus.blocks for counts in block.lines if counts.lines]
    assert sum(counts.lines for counts in total) == 12
    assert sum(counts.records for counts in total) == 3 + 2 + 2
    assert all(counts.lines == counts.accounted for counts in total)


@pytest.mark.parametrize(
    "lines", ['[[1, 2]]', '[3]', '[{"lines": 3}]', '[["1", 0, 0, 0, 1]]', '[[-1, 0, 0, 0, 1]]',
              '[[true, 0, 0, 0, 1]]', '[[1, 0, 0, 0, 1, 0]]', '[null]', '[[1.0, 0, 0, 0, 1]]'],
)  # fmt: skip
def test_malformed_lines_of_a_split_are_named(lines: str) -> None:
    record = f'{{"split_id": "0", "blocks": 1, "documents": 1, "lines": {lines}}}'
    with pytest.raises(IntegrityError, match=r"a\.json: wrong or missing fields lines; remove it"):
        SplitEnd.from_json(record.encode(), "a.json")
    good = record.replace(lines, "[[3, 1, 0, 0, 2]]")
    assert SplitEnd.from_json(good.encode(), "a.json").line_counts[0].records == 2


def test_a_run_tells_its_lines_and_places_in_words(tiny_model: str, tmp_path: Path) -> None:
    copies = '{"text": "said twice"}\n' * 2
    lines = [f'{{"text": "text {n}"}}\n' for n in range(40)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("".join(lines) + "\n" + copies + "bad\n")
    (tmp_path / "in" / "b.csv").write_text('id,text\n1,"two\nlines"\n2,b,c\n')
    job = tiny_job(tiny_model, tmp_path / "in", tmp_path / "out", split_bytes=100)
    run_job(job.model_copy(update={"max_reject_share": 0.5}))
    folder = Dataset.only(tmp_path / "out").folder
    wanted = {"lines": 48, "blank": 1, "headers": 1, "continued": 1, "records": 45}
    manifest = read_manifest(find_version(str(folder)))
    assert (manifest.lines, manifest.input_format) == (wanted, "auto")
    report = json.loads((folder / "report" / "report.json").read_text())
    assert report["counts"]["lines"] == wanted
    assert report["counts"]["checks"][-1] == {
        "name": "lines in = records + blanks + headers + continued",
        "expected": 48,
        "found": 48,
        "ok": True,
    }
    html = (folder / "report" / "report.html").read_text()
    assert "48 lines in: 45 records, 1 more within records, 1 header, 1 blank." in html
    assert "a.jsonl</bdi>, line 44</p>" in html
    assert "b.csv</bdi>, line 4</p>" in html
    # The first of the two copies.
    assert "a.jsonl</bdi>, line 42</p>" in html
    assert " byte " not in html
    assert "row_index" not in html
    (said,) = [one for one in Dataset.only(tmp_path / "out").rejects if "jsonl" in one["source"]]
    assert said["line"] is None
    assert 1 <= said["line_in_range"] < 10

    hits = search_text(str(folder), "text 7", 50)
    assert len(hits) == 43
    all_lines = {path.name: path.read_text().split("\n") for path in (tmp_path / "in").iterdir()}
    by_text = {text_hash(f"text {n}"): f"text {n}" for n in range(40)}
    by_text |= {text_hash(text): text for text in ("said twice", "two\nlines")}
    rows = Dataset.only(tmp_path / "out").table.to_pylist()
    texts = {row["id"]: by_text[row["text_hash"]] for row in rows}
    for hit in hits:
        assert hit.place == f"line {hit.line}"
        assert texts[hit.id].split("\n")[0] in all_lines[hit.source][hit.line - 1]


@pytest.mark.parametrize("suffix", ["parquet", "json"])
def test_a_search_numbers_the_records_of_files_without_lines(
    tiny_model: str, tmp_path: Path, suffix: str
) -> None:
    texts = [f"text {n}" for n in range(60)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps([{"text": text} for text in texts]))
    else:
        pq.write_table(pa.table({"text": texts}), path, row_group_size=7)
    run_job(tiny_job(tiny_model, path, tmp_path / "out", split_bytes=100))
    folder = Dataset.only(tmp_path / "out").folder
    hits = search_text(str(folder), "text 7", 60)
    assert sorted(hit.row_index for hit in hits) == [*range(60)]
    rows = Dataset.only(tmp_path / "out").table.select(["id", "text_hash"]).to_pylist()
    hashes = {row["id"]: row["text_hash"] for row in rows}
    for hit in hits:
        assert hashes[hit.id] == text_hash(texts[hit.row_index])
        assert hit.place == f"record {hit.row_index + 1}"


def test_rows_that_are_left_of_a_block_keep_their_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\n\ntwo\nthree\n")
    (tmp_path / "b.txt").write_text("\nfour\n")
    (block,) = (one for one in read_corpus(tmp_path).blocks if one.rows.num_rows)
    assert block.lines_in_range().to_pylist() == [1, 3, 4, 2]
    for kept in ([0, 3], [1, 2], []):
        left = block.with_rows(block.rows.take(pa.array(kept, pa.int64())))
        assert left.lines_in_range().to_pylist() == [[1, 3, 4, 2][place] for place in kept]
    without = replace(block, places=None)
    assert without.lines_in_range().null_count == 4


def test_lines_are_not_told_where_a_release_before_did_not_count_them() -> None:
    assert LineNumbers(None, {}).line_of("a.jsonl", 861, 12) is None
    numbers = LineNumbers(LineCounts(), {"a.jsonl": [[0, 0], [100, 7]]})
    assert numbers.line_of("a.jsonl", 99, 6) == 6
    assert numbers.line_of("a.jsonl", 100, 1) == 8
    assert numbers.line_of("b.jsonl", 100, 5) == 5
    assert numbers.line_of("b.parquet", 100, None) is None


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("split_bytes", [30, 10_000])
def test_rejects_of_later_stages_have_lines(
    tmp_path: Path, tiny_model: str, split_bytes: int, chunked: bool
) -> None:
    unseen = "\u200b\u200b"
    lines = ["one", "", unseen, "two", "", "\u200b", "three and four"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    (tmp_path / "b.csv").write_text(f'text,n\n"two\nlines",1\n{unseen},2\n')
    (tmp_path / "c.jsonl").write_text(f'\n{{"text": "a"}}\n{{"text": "{unseen}"}}\n')
    (tmp_path / "d.json").write_text(f'[{{"text": "a"}},\n\n{{"text": "{unseen}"}}]')
    pq.write_table(pa.table({"text": ["a", "b", unseen]}), tmp_path / "e.parquet")
    tokenizer = load_tokenizer(TokenizerSpec(tiny_model, 16))
    chunker = TokenChunker(tokenizer.tokenizer, 4, 0) if chunked else None
    corpus = read_corpus(*sorted(tmp_path.iterdir()), split_bytes=split_bytes, chunker=chunker)
    ends = {
        block.split_id: SplitEnd(block.split_id, 1, 1, tuple(map(astuple, block.lines)))
        for block in corpus.blocks
        if block.last
    }
    numbers = LineNumbers.of(corpus.plan.splits, ends)
    blocks = [DocumentBlock.from_ipc(block.to_ipc()) for block in corpus.blocks]
    wanted = [("a", 3), ("a", 6), ("b", 4), ("c", 3), ("d", 2), ("e", 3)]
    tokens = [tokenize_text(block, tokenizer) for block in blocks]
    found = [numbers.true_line(one) for block in tokens for one in block.rejects]
    assert {one.reason for one in found} == {"no_tokens"}
    assert [(one.source[0], one.line) for one in found] == wanted
    # Those of a block that killed its worker, and of vectors that are not finite.
    lost = [numbers.true_line(one) for block in blocks for one in without_documents(block).rejects]
    assert set(wanted) < {(one.source[0], one.line) for one in lost}
    assert all(one.line for one in lost)
    spoiled = [
        numbers.true_line(one)
        for block in tokens
        if block.rows.num_rows
        for one in encode_tokens(
            block, SumClient(poison=int(block.rows["input_ids"][0][1].as_py())), 99
        ).rejects
    ]
    assert {one.reason for one in spoiled} == {"no_tokens", "non_finite_vector"}
    assert all(one.line for one in spoiled)
