"""Lines in are records, rejects and counted blanks out, for bytes of any kind, in every reader."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import EXAMPLES, rounds
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from reading import counted, read_corpus

from embedkit.corpus import compression
from embedkit.errors import InputError

PIECES = [
    b'"', b'""', b"'", b"\\", b'\\"', b",", b";", b"\t", b"\n", b"\n", b"\r\n", b"\r", b"\n\n",
    b"{", b"}", b"[", b"]", b":", b'{"text": "a"}', b'{"text": "b"},', b'{"text":\n"c"}', b"null",
    b"1e999", b'"\\ud800"', b"a", b"word ", b"x" * 40, b"\0", b"\xff", b"\xfe", b"\xff\xfe",
    b"\xef\xbb\xbf", "é".encode(), "漢".encode(), b"\xc2\x85", b"\xe2\x80\xa8", b"\x0b", b"\x1c",
    b" ",
]  # fmt: skip
contents = st.one_of(
    st.lists(st.sampled_from(PIECES), max_size=40).map(b"".join),
    st.binary(max_size=120),
)
BEGINNINGS = {
    "txt": b"", "paragraph.txt": b"", "file.txt": b"", "jsonl": b"", "array.json": b"[",
    "lines.json": b'{"text": "z"}\n', "csv": b"id,text\n", "quoted.tsv": b"id\ttext\n",
    "tsv": b"id\ttext\n",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    "paragraph.txt": {"text_unit": "paragraph"}, "file.txt": {"text_unit": "file"},
    "quoted.tsv": {"quote": '"', "escape": "\\"},
}  # fmt: skip


REFUSED = (
    "which is not read",
    "data by its first bytes",
    "is a pointer of Git LFS",
    "is a Parquet file by its content",
    "has the text column 'text'",
)


def physical_lines(data: bytes) -> int:
    """Lines of a file as they are counted here, marks of other encodings aside."""
    for mark, encoding in (
        (b"\xff\xfe\0\0", "utf-32"),
        (b"\xff\xfe", "utf-16"),
        (b"\xfe\xff", "utf-16"),
    ):
        if data.startswith(mark):
            data = data.decode(encoding, "replace").encode()
            break
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    data = data.removeprefix(b"\xef\xbb\xbf") if data != b"\xef\xbb\xbf" else b"?"
    return len(re.findall(rb"[^\n]*\n|[^\n]+$", data))


def check(folder: Path, name: str, data: bytes, split_bytes: int, piece: int, most: int) -> None:
    path = folder / f"fuzz.{name}"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_PLAIN_PIECE", piece)
        try:
            corpus = read_corpus(
                path, split_bytes=split_bytes, max_record_bytes=most, max_record_lines=5,
                **SETTINGS.get(name, {}),
            )  # fmt: skip
        except InputError as error:
            # What is refused by name loses nothing.
            assert any(words in str(error) for words in REFUSED), error
            return
    documents = sum(block.documents for block in corpus.blocks)
    rejects = [one for one in corpus.rejects if one.reason != "damaged_file"]
    records = documents - (len(corpus.rejects) - len(rejects))
    counts = counted(corpus)
    if any(file.compression != "none" for split in corpus.plan.splits for file in split.ranges):
        # By its first bytes it is the beginning of a compressed file.
        assert len(rejects) < len(corpus.rejects)
        assert counts.lines == counts.accounted
        return
    if name in ("file.txt", "array.json"):
        only_a_mark = data in (b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0")
        assert name == "array.json" or records == (bool(data) and not only_a_mark)
        return
    assert counts.records == records
    assert counts.lines == counts.accounted == physical_lines(data)
    places = [one.line or one.line_in_range or 0 for one in rejects]
    assert all(1 <= place <= counts.lines for place in places)


def fuzzed(examples: int) -> Callable[..., None]:
    @settings(max_examples=examples, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(contents, st.integers(5, 200), st.integers(1, 80), st.sampled_from([12, 60, 1000]))
    def run(
        tmp_path: Path, name: str, content: bytes, split_bytes: int, piece: int, most: int
    ) -> None:
        check(tmp_path, name, BEGINNINGS[name] + content, split_bytes, piece, most)

    return run


@pytest.mark.parametrize("name", BEGINNINGS)
@pytest.mark.few(4)
def test_lines_in_are_records_out(tmp_path: Path, name: str) -> None:
    fuzzed(200)(tmp_path=tmp_path, name=name)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", BEGINNINGS)
def test_lines_in_are_records_out_for_long(tmp_path: Path, name: str) -> None:
    for number in rounds(name):
        seed(number)(fuzzed(EXAMPLES))(tmp_path=tmp_path, name=name)
