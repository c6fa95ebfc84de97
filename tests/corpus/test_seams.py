"""Every record is read once, wherever the seams of splits and of buffers fall."""

import io
import itertools
import json
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reading import Corpus, read_corpus

from embedkit.corpus import compression
from embedkit.dataset.committed import SplitEnd
from embedkit.flow.line_numbers import LineNumbers
from embedkit.records import Reject

BOM = b"\xef\xbb\xbf"
ENDS = [b"\n", b"\r\n"]
PIECES = [
    b"a", b"bc", b"def ghi", "é".encode(), "漢字".encode(), "😀".encode(), b" ", b"\t", b"\r",
    b"x" * 40, b'"', b"\xc2\xa0",
]  # fmt: skip

lines = st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join)
ended = st.tuples(lines, st.sampled_from(ENDS)).map(b"".join)
# Blank lines are as frequent as others, for paragraphs.
files = st.builds(
    lambda mark, body, last: mark + b"".join(body) + last,
    st.sampled_from([b"", b"", BOM]),
    st.lists(st.one_of(ended, st.sampled_from([b"\n", b"\r\n", b"  \n"])), max_size=25),
    lines,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("seams")


def read_through(path: Path, data: bytes, piece: int, **options: object) -> Corpus:
    """Reads a file through a buffer of a few bytes."""
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_PLAIN_PIECE", piece)
        return read_corpus(path, block_rows=7, **options)


def numbered_lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Lines as Python's own reader cuts them, with their places, ends and mark taken off."""
    place = 0
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    for line in io.BytesIO(data):
        content = line.removesuffix(b"\n")
        content = content.removesuffix(b"\r")
        yield place, content.removeprefix(BOM) if place == 0 else content
        place += len(line)


def paragraphs(data: bytes) -> Iterator[tuple[int, bytes]]:
    grouped = itertools.groupby(numbered_lines(data), key=lambda line: bool(line[1].strip()))
    for filled, group in grouped:
        if filled:
            places, held = zip(*group, strict=True)
            yield places[0], b"\n".join(held)


def expected(records: Iterator[tuple[int, bytes]], most: int) -> dict[int, str]:
    """A text, or the reason of a reject after a NUL, by place."""
    found = {}
    for place, line in records:
        if len(line) > most:
            found[place] = "\0too_long"
        elif line.strip():
            found[place] = line.decode() if line.decode().strip() else "\0empty_text"
    return found


def outcome(corpus: Corpus) -> dict[int, str]:
    texts = {row["row_index"]: row["text"] for row in corpus.rows}
    return texts | {one.row_index: f"\0{one.reason}" for one in corpus.rejects}


@settings(max_examples=100)
@given(files, st.integers(1, 80), st.integers(1, 50), st.sampled_from([10, 30, 1000]))
def test_lines_are_read_once(
    folder: Path, data: bytes, split_bytes: int, piece: int, most: int
) -> None:
    corpus = read_through(
        folder / "lines.txt", data, piece, split_bytes=split_bytes, max_record_bytes=most
    )
    assert outcome(corpus) == expected(numbered_lines(data), most)


@settings(max_examples=100)
@given(files, st.integers(1, 80), st.integers(1, 50), st.sampled_from([12, 45, 1000]))
def test_paragraphs_are_read_once(
    folder: Path, data: bytes, split_bytes: int, piece: int, most: int
) -> None:
    corpus = read_through(
        folder / "paragraphs.txt",
        data,
        piece,
        text_unit="paragraph",
        split_bytes=split_bytes,
        max_record_bytes=most,
    )
    # A line that is too long by itself is no blank line, whatever it holds.
    if not any(len(line) > most and not line.strip() for _, line in numbered_lines(data)):
        assert outcome(corpus) == expected(paragraphs(data), most)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(texts, st.booleans(), st.sampled_from(["\n", "\r\n", "\n\n"])), max_size=15),
    st.booleans(),
    st.integers(1, 120),
    st.integers(1, 60),
)
def test_objects_are_read_once(
    folder: Path,
    records: list[tuple[str, bool, str]],
    final_end: bool,
    split_bytes: int,
    piece: int,
) -> None:
    content = "".join(
        json.dumps({"text": text}, ensure_ascii=ascii_only) + end
        for text, ascii_only, end in records
    )
    data = content.encode() if final_end else content.rstrip().encode()
    corpus = read_through(folder / "objects.jsonl", data, piece, split_bytes=split_bytes)
    found = {
        place: json.loads(line)["text"] for place, line in numbered_lines(data) if line.strip()
    }
    assert outcome(corpus) == {
        place: text if text.strip() else "\0empty_text" for place, text in found.items()
    }


def true_rejects(corpus: Corpus) -> list[Reject]:
    """The rejects with their lines in the file; those of a range say plainly that they are."""
    splits, ends = corpus.plan.splits, {}
    for block in corpus.blocks:
        if block.last:
            counts = tuple(map(astuple, block.lines))
            ends[block.split_id] = SplitEnd(block.split_id, 1, 1, counts)
    begins = {split.split_id: split.ranges[0].start for split in splits}
    for block in corpus.blocks:
        for one in block.rejects:
            in_range = bool(begins[block.split_id])
            assert (one.line is None, one.line_in_range is None) == (in_range, not in_range)
    return list(map(LineNumbers.of(splits, ends).true_line, corpus.rejects))


@given(files, st.integers(1, 80), st.integers(1, 80))
@settings(max_examples=60)
def test_ids_do_not_depend_on_seams(folder: Path, data: bytes, one: int, other: int) -> None:
    path = folder / "same.txt"
    first = read_through(path, data, 64, split_bytes=one)
    second = read_through(path, data, 3, split_bytes=other)
    assert first.table.equals(second.table)
    assert true_rejects(first) == true_rejects(second)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_every_seam_of_a_small_file(tmp_path: Path, unit: str, end: str) -> None:
    blank = end * 2 if unit == "paragraph" else end
    wanted = ["first", "zweite é", "三番目 😀", "x" * 30, "last"]
    path = tmp_path / "small.txt"
    path.write_bytes(blank.join(wanted).encode())
    for split_bytes in range(1, path.stat().st_size + 2):
        corpus = read_corpus(path, text_unit=unit, split_bytes=split_bytes)
        assert corpus.texts == wanted
        assert len(corpus.plan.splits) >= path.stat().st_size // split_bytes


def test_reading_stops_behind_a_range_without_a_blank_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "one.txt"
    path.write_text("word\n" * 20_000)
    monkeypatch.setattr(compression, "_PLAIN_PIECE", 100)
    read = 0
    original = compression._Plain.read

    def counted(stream: compression._Plain) -> bytes:
        nonlocal read
        data = original(stream)
        read += len(data)
        return data

    monkeypatch.setattr(compression._Plain, "read", counted)
    corpus = read_corpus(path, text_unit="paragraph", split_bytes=1000)
    assert len(corpus.texts) == 1
    assert read < 3 * path.stat().st_size


def test_duckdb_reads_the_same_lines(tmp_path: Path) -> None:
    import duckdb

    path = tmp_path / "records.jsonl"
    path.write_text(
        "".join(json.dumps({"text": f"text {n} ü", "n": n}) + "\r\n" for n in range(3000))
    )
    corpus = read_corpus(path, split_bytes=999, metadata_columns=("n",))
    found = duckdb.sql(f"select text, n from read_json('{path}', format='newline_delimited')")
    assert sorted(found.fetchall()) == sorted((row["text"], row["n"]) for row in corpus.rows)
