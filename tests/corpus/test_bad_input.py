"""Bad input costs the promised reject or ends in the promised line, and nothing else is lost."""

import bz2
import errno
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from processes import MEGABYTES
from reading import COMPRESS, corpus_config, read_corpus, read_plan, write

from embedkit.corpus import raw_file
from embedkit.corpus.names import COMPRESSIONS
from embedkit.corpus.plan import plan_corpus
from embedkit.errors import ConfigError, EmbedkitError, InputError, ResumableError

GOOD = [json.dumps({"id": f"g{n}", "text": f"good {n}"}) for n in range(4)]
TEXTS = [f"good {n}" for n in range(4)]


def with_bad(bad: bytes | str) -> bytes:
    """JSONL with one bad line in the middle."""
    data = bad if isinstance(bad, bytes) else bad.encode()
    good = [line.encode() for line in GOOD]
    return b"\n".join([*good[:2], data, *good[2:]]) + b"\n"


BAD_LINES = {
    "broken": ('{"id": "b", "text": "cut', "invalid_json"),
    "two objects": ('{"text": "a"} {"text": "b"}', "invalid_json"),
    "no object": ('["text"]', "invalid_json"),
    "null": ("null", "invalid_json"),
    "surrogate in an id": ('{"id": "\\ud800", "text": "x"}', "invalid_json"),
    "lone surrogate": ('{"id": "b", "text": "\\ud800"}', "invalid_json"),
    "deep": ("[" * 1200 + "]" * 1200, "invalid_json"),
    "a number": ('{"id": "b", "text": 7}', "wrong_type"),
    "a list": ('{"id": "b", "text": ["x"]}', "wrong_type"),
    "missing column": ('{"id": "b", "body": "x"}', "missing_column"),
    "null text": ('{"id": "b", "text": null}', "missing_column"),
    "empty": ('{"id": "b", "text": ""}', "empty_text"),
    "blank": ('{"id": "b", "text": " \\n\\t\\u3000"}', "empty_text"),
    "nul": ('{"id": "b", "text": "a\\u0000b"}', "nul_byte"),
    "raw nul": ('{"id": "b", "text": "a\0b"}', "invalid_json"),
    "not utf-8": (b'{"id": "b", "text": "caf\xe9"}', "invalid_utf8"),
    "overlong utf-8": (b'{"id": "b", "text": "\xc0\xaf"}', "invalid_utf8"),
    "utf-16": ('{"text": "x"}'.encode("utf-16"), "invalid_utf8"),
    "missing id": ('{"text": "x"}', "missing_id"),
    "empty id": ('{"id": "", "text": "x"}', "missing_id"),
    "broken id": ('{"id": 1.5, "text": "x"}', "wrong_type"),
    "true id": ('{"id": true, "text": "x"}', "wrong_type"),
    "nul id": ('{"id": "a\\u0000", "text": "x"}', "nul_byte"),
    "duplicate id": ('{"id": "g0", "text": "x"}', "duplicate_id"),
    "long": ('{"id": "b", "text": "' + "x" * 5000 + '"}', "too_long"),
}


@pytest.mark.parametrize("compression", ["", ".gz"])
@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_json_line_costs_itself_alone(tmp_path: Path, case: str, compression: str) -> None:
    bad, reason = BAD_LINES[case]
    data = with_bad(bad)
    path = write(tmp_path / f"data.jsonl{compression}", data)
    corpus = read_corpus(path, id_column="id", max_record_bytes=3000, split_bytes=50)
    assert corpus.texts == TEXTS
    assert corpus.reasons == [reason]
    [reject] = corpus.rejects
    assert reject.row_index == sum(len(line) + 1 for line in GOOD[:2])
    assert reject.source == path.name
    assert len(reject.detail) < 300
    assert len(reject.excerpt) <= 200
    assert reject.excerpt.isprintable()
    assert reject.excerpt != ""


def test_the_first_of_several_wrongs_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "data.jsonl", ['{"id": null, "text": 7, "n": "x"}', GOOD[0]])
    corpus = read_corpus(path, id_column="id", metadata_columns=("n:int64",))
    assert corpus.reasons == ["missing_id"]
    assert corpus.texts == TEXTS[:1]


@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_bad_plain_text(tmp_path: Path, unit: str) -> None:
    bad = [b"caf\xe9", b"nul \0 byte", "\u3000\u2003".encode(), b"x" * 200]
    pieces = [b"first", *bad, b"last"]
    path = tmp_path / "data.txt"
    path.write_bytes(b"\n\n".join(pieces))
    corpus = read_corpus(path, text_unit=unit, max_record_bytes=100, split_bytes=10)
    assert corpus.texts == ["first", "last"]
    assert sorted(corpus.reasons) == ["empty_text", "invalid_utf8", "nul_byte", "too_long"]
    for reject in corpus.rejects:
        assert path.read_bytes()[reject.row_index - 2 : reject.row_index] == b"\n\n"


def test_bad_whole_files(tmp_path: Path) -> None:
    write(tmp_path / "a.txt", b"caf\xe9\n")
    write(tmp_path / "b.txt", b" \n\n")
    write(tmp_path / "c.txt", b"x" * 101)
    write(tmp_path / "d.txt", b"y" * 100)
    write(tmp_path / "e.txt", b"")
    write(tmp_path / "f.txt", b"\xef\xbb\xbf" + b"z" * 100)
    corpus = read_corpus(tmp_path, text_unit="file", max_record_bytes=100)
    assert corpus.texts == ["y" * 100, "z" * 100]
    assert [(one.source, one.reason) for one in corpus.rejects] == [
        ("a.txt", "invalid_utf8"),
        ("b.txt", "empty_text"),
        ("c.txt", "too_long"),
    ]


def test_bad_csv_records(tmp_path: Path) -> None:
    rows = [
        b"id,text,n",
        b"1,good one,1",
        b"2,,2",
        b"3",
        b"4,a,b,c",
        b"5,caf\xe9,5",
        b"6,nul \0 byte,6",
        b"1,twice,7",
        b",no id,8",
        b"9,wrong,x1",
        b'10,"good\nten",10',
        b"",
        b"11,good eleven,",
        b'12,"never closed,12',
    ]
    path = tmp_path / "data.csv"
    path.write_bytes(b"\n".join(rows))
    corpus = read_corpus(path, id_column="id", metadata_columns=("n:int64",), block_rows=3)
    assert corpus.texts == ["good one", "wrong", "good\nten", "good eleven"]
    assert corpus.table["n"].to_pylist() == [1, None, 10, None]
    assert [(one.row_index, one.reason) for one in corpus.rejects] == [
        (1, "empty_text"),
        (2, "missing_column"),
        (3, "invalid_csv"),
        (4, "invalid_utf8"),
        (5, "nul_byte"),
        (6, "duplicate_id"),
        (7, "missing_id"),
        (11, "invalid_csv"),
    ]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_a_line_of_fifty_megabytes(tmp_path: Path, suffix: str) -> None:
    short = '{"text": "%s"}' if suffix == "jsonl" else "%s"
    path = tmp_path / f"data.{suffix}"
    with path.open("w") as file:
        if suffix == "csv":
            file.write("text\n")
        file.write(short % "first" + "\n" + short % ("x" * 50_000_000) + "\n" + short % "last")
    corpus = read_corpus(path)
    assert corpus.texts == ["first", "last"]
    assert corpus.reasons == ["too_long"]


def cut(data: bytes, suffix: str) -> bytes:
    """Most of a compressed file; of a bz2 file so much that some of its blocks are whole."""
    return data[: len(data) * 9 // 10] if suffix == ".bz2" else data[: len(data) // 2]


UNPACK: dict[str, Callable[[], Any]] = {
    ".gz": lambda: zlib.decompressobj(31),
    ".zst": lambda: zstandard.ZstdDecompressor().decompressobj(),
    ".bz2": bz2.BZ2Decompressor,
    ".xz": lzma.LZMADecompressor,
}


@pytest.mark.parametrize("form", ["jsonl", "csv", "txt"])
@pytest.mark.parametrize("suffix", UNPACK)
@pytest.mark.few(5)
def test_a_truncated_file_keeps_all_whole_records_before_the_damage(
    tmp_path: Path, suffix: str, form: str
) -> None:
    # Hex digits of squares compress to about half, so that every compressor makes some blocks.
    texts = [f"{n * n * 0x9E3779B97F4A7C15:x}" for n in range(60_000)]
    make = {"jsonl": '{{"text": "{}"}}', "csv": "{}", "txt": "{}"}[form].format
    head = ["text"] if form == "csv" else []
    data = "".join(f"{line}\n" for line in [*head, *map(make, texts)]).encode()
    whole = COMPRESS[suffix](data)
    path = tmp_path / f"data.{form}{suffix}"
    path.write_bytes(cut(whole, suffix))
    unpacked = UNPACK[suffix]().decompress(path.read_bytes())
    kept = unpacked.count(b"\n") - len(head)
    assert 100 < kept < len(texts)
    corpus = read_corpus(path, block_rows=1000)
    assert corpus.texts == texts[:kept]
    assert corpus.reasons == ["damaged_file"]
    assert path.suffix.strip(".")[:2] in corpus.rejects[0].detail
    assert corpus.rejects[0].row_index == (kept if form == "csv" else len(unpacked))


@pytest.mark.parametrize("suffix", UNPACK)
def test_damage_does_not_depend_on_how_reads_fall(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (COMPRESS[suffix](b"line %d\n" % n * 3000) for n in (1, 2))
    path = tmp_path / f"data.txt{suffix}"
    path.write_bytes(first + second[: len(second) - 9])
    whole = read_corpus(path)
    monkeypatch.setattr("embedkit.corpus.members._PIECE", 100)
    assert read_corpus(path).texts == whole.texts
    assert len(whole.texts) >= 3000
    assert whole.reasons == ["damaged_file"]


def test_a_truncated_paragraph_and_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "data.txt.gz"
    path.write_bytes(gzip.compress(b"one\n\ntwo\nlines")[:-3])
    corpus = read_corpus(path, text_unit="paragraph")
    assert (corpus.texts, corpus.reasons) == (["one"], ["damaged_file"])
    corpus = read_corpus(path, text_unit="file")
    assert (corpus.texts, corpus.reasons) == ([], ["damaged_file"])


def test_damage_behind_a_long_line_is_told_once(tmp_path: Path) -> None:
    path = tmp_path / "data.txt.gz"
    path.write_bytes(gzip.compress(b"one\n" + b"x" * 500_000)[:-3])
    corpus = read_corpus(path, max_record_bytes=1000)
    assert corpus.texts == ["one"]
    assert corpus.reasons == ["too_long", "damaged_file"]


def test_garbage_behind_a_compressed_file(tmp_path: Path) -> None:
    for suffix in (".gz", ".zst"):
        path = tmp_path / f"data.txt{suffix}"
        path.write_bytes(COMPRESS[suffix](b"one\ntwo\n") + b"garbage")
        corpus = read_corpus(path)
        assert (corpus.texts, corpus.reasons) == (["one", "two"], ["damaged_file"])


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".xz"])
@pytest.mark.parametrize("unit", ["line", "paragraph", "file"])
def test_garbage_behind_the_end_costs_no_record(tmp_path: Path, suffix: str, unit: str) -> None:
    # The last record has no line end, and is complete all the same.
    path = tmp_path / f"data.txt{suffix}"
    for pieces in (["one\n\ntwo"], ["one\n", "\ntwo"]):
        whole = b"".join(COMPRESS[suffix](piece.encode()) for piece in pieces)
        for garbage in (b"garbage", b"\r\n", b"<html>" * 99):
            path.write_bytes(whole + garbage)
            corpus = read_corpus(path, text_unit=unit)
            assert corpus.texts == (["one\n\ntwo"] if unit == "file" else ["one", "two"])
            assert corpus.reasons == ["damaged_file"]
            assert "nothing before it is missing" in corpus.rejects[0].detail
    if suffix != ".zst":
        path.write_bytes(whole + bytes(512))
        assert read_corpus(path, text_unit=unit).rejects == []
    more = COMPRESS[suffix](b"\nthree and more")
    path.write_bytes(whole + more[:-6])
    corpus = read_corpus(path, text_unit=unit)
    assert corpus.reasons == ["damaged_file"]
    assert "loss of unknown size" in corpus.rejects[0].detail
    assert "nothing before" not in corpus.rejects[0].detail


def test_garbage_behind_compressed_csv(tmp_path: Path) -> None:
    path = tmp_path / "data.csv.gz"
    path.write_bytes(gzip.compress(b"text,n\none,1\ntwo,2") + b"x")
    corpus = read_corpus(path)
    assert (corpus.texts, corpus.reasons) == (["one", "two"], ["damaged_file"])


@pytest.mark.parametrize("window", [28, 31])
def test_zstd_with_a_long_window_is_read(tmp_path: Path, window: int) -> None:
    options = zstandard.ZstdCompressionParameters.from_level(3, window_log=window, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=options).compressobj()
    data = packer.compress(b"one\ntwo\n") + packer.flush()
    for name in ("a.txt.zst", "b.txt.zstd"):
        (tmp_path / name).write_bytes(data)
    corpus = read_corpus(tmp_path)
    assert (corpus.texts, corpus.rejects) == (["one", "two"] * 2, [])


def test_an_xz_dictionary_that_takes_too_much_memory_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.xz"
    for size, good in ((64 << 20, True), (1 << 30, False)):
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 1 << 16}]
        data = bytearray(lzma.compress(b"one\ntwo\n", filters=filters))
        # The block's header names its filter, and the exponent of its dictionary's size.
        assert data[14:16] == b"\x21\x01"
        data[16] = 2 * (size.bit_length() - 1 - 12)
        data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
        path.write_bytes(data)
        if good:
            assert read_corpus(path).texts == ["one", "two"]
            continue
        with pytest.raises(InputError) as error:
            read_corpus(path)
        one_line(error, path, "512 MiB", "xz -dk")


def test_a_plain_file_by_the_name_of_a_compressed_one_is_read(tmp_path: Path) -> None:
    for suffix in (".gz", ".zst", ".bz2", ".xz"):
        path = tmp_path / f"data.jsonl{suffix}"
        path.write_bytes(b'{"text": "plain"}\n')
        assert read_corpus(path).texts == ["plain"]
        path.write_bytes(b"\x00\x01\xff no text either")
        corpus = read_corpus(path)
        assert (corpus.texts, corpus.reasons) == ([], ["damaged_file"])


@pytest.mark.parametrize("suffix", UNPACK)
@pytest.mark.parametrize("name", ["a.txt", "b.jsonl", "c.csv", "d.jsonl.gz", "e.jsonl.zst"])
def test_a_compressed_file_by_another_name_is_named(tmp_path: Path, name: str, suffix: str) -> None:
    head = "text\n" if name == "c.csv" else ""
    lines = [json.dumps({"text": f"{n}"}) if "json" in name else f"{n}" for n in range(500)]
    path = tmp_path / name
    path.write_bytes(COMPRESS[suffix]((head + "\n".join(lines)).encode()))
    kind = COMPRESSIONS[suffix]
    if not name.endswith(suffix):
        with pytest.raises(InputError) as error:
            read_corpus(path, split_bytes=100)
        one_line(error, path, f"holds {kind} data", suffix, f"--compression {kind}")
    corpus = read_corpus(path, split_bytes=100, compression=kind)
    assert corpus.texts == [f"{n}" for n in range(500)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x04\x22\x4d\x18" + bytes(20), "lz4"),
        (b"\xff\x06\x00\x00sNaPpY" + bytes(20), "snappy"),
        (b"PK\x03\x04" + bytes(20), "zip"),
        (b"name".ljust(257, b"\0") + b"ustar\x0000" + bytes(300), "tar"),
        (b"PAR1" + bytes(20), "--format parquet"),
        (b"%PDF-1.7\n", "PDF"),
        (b"ORC\x1a\x03\x00\x00\xff", "an ORC file"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "a PNG image"),
        (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image"),
        (b"\x7fELF\x02\x01\x01", "a program"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an Office document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n", "git lfs pull"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path))
    one_line(error, path, said)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x50\x2a\x4d\x18\x04\0\0\0abcd" + zstandard.compress(b"one\n"), "zstd"),
        (lzma.compress(b"one\n", format=lzma.FORMAT_ALONE), "xz"),
    ],
)
def test_rare_forms_of_compressed_data_are_named(tmp_path: Path, data: bytes, kind: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path))
    one_line(error, path, f"holds {kind} data by its first bytes", f"--compression {kind}")


def test_a_pointer_in_the_place_of_a_parquet_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\n")
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path))
    one_line(error, path, "git lfs pull")


@pytest.mark.parametrize("delimiter", [",", ";"])
def test_a_note_to_excel_above_the_header_is_named(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"sep={delimiter}\nid{delimiter}text\n1{delimiter}one\n")
    with pytest.raises(InputError) as error:
        read_corpus(path, delimiter=delimiter)
    one_line(error, path, "Excel", "take that line out")


def test_the_compression_that_was_asked_for_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(gzip.compress(b"text"))
    for asked in ("none", "zstd"):
        with pytest.raises(InputError) as error:
            plan_corpus(corpus_config(path, compression=asked))
        one_line(error, path, "gzip data", "--compression gzip")
    assert read_corpus(path, compression="gzip").texts == ["text"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.tsv", "a.jsonl.gz", "a.csv.zst"])
def test_an_empty_file_is_no_record(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"")
    settings = {} if name == "a.txt" else {"id_column": "id", "metadata_columns": ("n",)}
    corpus = read_corpus(path, **settings)
    assert (corpus.texts, corpus.rejects) == ([], [])
    assert [block.last for block in corpus.blocks] == [True]


def one_line(error: pytest.ExceptionInfo[EmbedkitError], *parts: object) -> str:
    said = str(error.value)
    assert "\n" not in said
    for part in parts:
        assert str(part) in said
    return said


@pytest.mark.parametrize("pattern", ["gone.jsonl", "*.jsonl", "gone/**/*.jsonl", "gone/x.txt"])
def test_a_missing_file_stops_the_plan(tmp_path: Path, pattern: str) -> None:
    path = tmp_path / pattern
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path))
    one_line(error, path)


def test_a_missing_column_of_csv_and_parquet_stops_the_plan(tmp_path: Path) -> None:
    csv_file = write(tmp_path / "a.csv", ["body,title", "x,y"])
    parquet = tmp_path / "b.parquet"
    pq.write_table(pa.table({"body": ["x"]}), parquet)
    for path in (csv_file, parquet):
        with pytest.raises(InputError) as error:
            plan_corpus(corpus_config(path))
        one_line(error, path, "no column 'text'", "body")
    write(csv_file, ["text,text", "x,y"])
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(csv_file))
    one_line(error, csv_file, "more than one column 'text'")


def test_a_csv_header_that_cannot_be_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", b'"' + b"x" * 100 + b'"\n1\n')
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path, max_record_bytes=50))
    one_line(error, path, "header")


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all", b"PAR1" * 10])
def test_a_file_that_is_no_parquet_stops_the_plan(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path))
    one_line(error, path, "Parquet")


def test_a_file_that_changed_since_the_plan(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl.gz", "c.txt"):
        path = write(tmp_path / name, GOOD)
        config = corpus_config(path)
        plan = plan_corpus(config)
        read_plan(plan, config)
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
        with pytest.raises(InputError) as error:
            read_plan(plan, config)
        one_line(error, path, "changed since the plan")
        path.unlink()
        with pytest.raises(InputError) as error:
            read_plan(plan, config)
        one_line(error, path, "no such file")


def test_a_column_that_is_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedkit.corpus.duplicates._MOST_DUPLICATES", 3)
    rows = [json.dumps({"id": "same", "text": f"t{n}"}) for n in range(5)]
    path = write(tmp_path / "a.jsonl", rows)
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(path, id_column="id"))
    one_line(error, "'id' is not an id", "4 of 5")
    write(path, rows[:4])
    assert read_corpus(path, id_column="id").reasons == ["duplicate_id"] * 3


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_a_record_of_many_short_lines_takes_no_hundred_bytes_for_each(
    tmp_path: Path, name: str
) -> None:
    count = 200_000
    text = "\n".join(["word"] * count)
    (tmp_path / name).write_text(text if name == "a.txt" else f'text,n\n"{text}",1\n')
    settings = {"text_unit": "paragraph", "max_record_lines": 10 * count}
    # What is imported and kept comes first.
    read_corpus(tmp_path / name, **settings)
    tracemalloc.start()
    try:
        corpus = read_corpus(tmp_path / name, **settings)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert corpus.texts == [text]
    assert peak < 100 * count


BOMB = f"""
{MEGABYTES}
import sys
from embedkit.config import CorpusConfig
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import plan_corpus
from embedkit.errors import InputError

config = CorpusConfig(inputs=(sys.argv[1],), max_decompressed_bytes=200 << 20)
plan = plan_corpus(config)
before = megabytes("VmRSS")
try:
    for split in plan.splits:
        for block in read_split(split, plan, config):
            pass
except InputError as error:
    print(error)
print(megabytes("VmHWM") - before)
"""


@pytest.mark.parametrize("suffix", ["gz", "zst", "bz2", "xz"])
@pytest.mark.few(2)
def test_a_bomb_ends_as_an_error_without_filling_memory(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bomb.txt.{suffix}"
    piece = COMPRESS[f".{suffix}"](bytes(64 << 20))
    path.write_bytes(piece * 8)
    assert path.stat().st_size < 1 << 20
    done = subprocess.run(
        [sys.executable, "-c", BOMB, str(path)], capture_output=True, text=True, check=True
    )
    said, grown = done.stdout.splitlines()
    assert f"{path}: unpacks to more than {200 << 20} bytes" in said
    assert "--max-decompressed-bytes" in said
    # One record of 16 MiB may be held, and joined, before it is found to be too long.
    assert int(grown) < 64


def test_the_ceiling_counts_what_is_unpacked(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt.gz", b"x" * 99 + b"\n")
    assert len(read_corpus(path, max_decompressed_bytes=100).texts) == 1
    with pytest.raises(InputError, match="unpacks to more than 99 bytes"):
        read_corpus(path, max_decompressed_bytes=99)


class Failing:
    """A file whose reads fail behind its first bytes, as on a disk or network that is failing."""

    def __init__(self, opened: Any, good: int) -> None:
        self._opened = opened
        self._good = good

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)

    def read(self, size: int) -> bytes:
        place = self._opened.tell()
        if place + size > self._good and size > 8:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._opened.read(size)


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.jsonl.xz", "a.csv.bz2",
                                  "a.parquet"])  # fmt: skip
def test_a_read_that_fails_is_no_damage(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    texts = [f"{n * n * 0x9E3779B97F4A7C15:x}" for n in range(60_000)]
    if name == "a.parquet":
        pq.write_table(pa.table({"text": texts}), path, 1000)
    elif name.startswith("a.csv"):
        write(path, ["text", *texts])
    else:
        write(path, [json.dumps({"text": text}) for text in texts])
    config = corpus_config(path)
    plan = plan_corpus(config)
    original = raw_file.RawFile.__init__

    def failing(file: raw_file.RawFile, opened: Any, url: str) -> None:
        original(file, Failing(opened, path.stat().st_size // 2), url)

    if name == "a.parquet":
        # Its footer is at its end, and must be read to get to the pages.
        calls = iter(range(10))

        def read(file: Failing, size: int) -> bytes:
            if next(calls, 10) >= 4:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return file._opened.read(size)

        monkeypatch.setattr(Failing, "read", read)
    monkeypatch.setattr(raw_file.RawFile, "__init__", failing)
    with pytest.raises(ResumableError) as error:
        read_plan(plan, config)
    one_line(error, path, "Input/output error", "run the same command again")


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("x\n")
    with pytest.raises(InputError) as error:
        plan_corpus(corpus_config(tmp_path))
    one_line(error, "not UTF-8").encode()


def test_plain_text_has_no_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", ["x"])
    for setting in ({"id_column": "id"}, {"text_template": "{a}"}, {"metadata_columns": ("n",)}):
        with pytest.raises(ConfigError) as error:
            plan_corpus(corpus_config(path, **setting))
        one_line(error, path, *setting)


@pytest.mark.parametrize("unit", ["line", "paragraph", "file"])
def test_garbage_behind_the_end_stands_at_a_line_and_not_at_a_byte(
    tmp_path: Path, unit: str
) -> None:
    path = tmp_path / "data.txt.gz"
    path.write_bytes(gzip.compress(b"a line of many bytes\n\n" * 40) + b"garbage")
    [reject] = read_corpus(path, text_unit=unit).rejects
    assert reject.row_index == 880
    assert reject.line == (1 if unit == "file" else 81)


def test_garbage_behind_a_compressed_array_costs_nothing(tmp_path: Path) -> None:
    path = tmp_path / "data.json.gz"
    path.write_bytes(gzip.compress(b'[{"text": "one"}]') + b"garbage")
    corpus = read_corpus(path)
    assert (corpus.texts, corpus.reasons) == (["one"], ["damaged_file"])
    assert "nothing before it is missing" in corpus.rejects[0].detail


def test_a_zstd_dictionary_of_its_own_is_no_damage(tmp_path: Path) -> None:
    texts = [b"a text of %d words\n" % n for n in range(4000)]
    trained = zstandard.train_dictionary(4096, texts)
    path = tmp_path / "data.txt.zst"
    path.write_bytes(zstandard.ZstdCompressor(dict_data=trained).compress(b"".join(texts)))
    with pytest.raises(InputError) as error:
        read_corpus(path)
    one_line(error, path, "zstd -d -D DICTIONARY")


@pytest.mark.parametrize("name", ["data.jsonl.gz", "data.txt.xz", "data.csv.zst"])
def test_what_is_compressed_twice_or_packed_inside_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pack = COMPRESS[path.suffix]
    text = b'text\n{"text": "one"}\n'
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("data.jsonl")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text))
    for inside, said in (
        (gzip.compress(text), "compressed twice"),
        (lzma.compress(text), "compressed twice"),
        (archive.getvalue(), "a tar archive"),
    ):
        path.write_bytes(pack(inside))
        with pytest.raises(InputError) as error:
            read_corpus(path)
        one_line(error, path, said)


def test_the_older_form_of_xz_is_xz(tmp_path: Path) -> None:
    data = lzma.compress(b"one\ntwo\n", format=lzma.FORMAT_ALONE)
    for name, compression in (("a.txt", "xz"), ("b.txt.xz", "auto"), ("c.txt.lzma", "auto")):
        path = tmp_path / name
        path.write_bytes(data)
        corpus = read_corpus(path, compression=compression)
        assert (corpus.texts, corpus.rejects) == (["one", "two"], [])
    path = tmp_path / "d.txt.gz"
    path.write_bytes(data)
    with pytest.raises(InputError) as error:
        read_corpus(path)
    one_line(error, path, "holds xz data", "--compression xz")


@pytest.mark.parametrize("start", [b"]\0\0", b"]\0\0\x01\0 no header", b"]" + b"\0" * 20])
def test_text_that_begins_as_the_older_form_of_xz_does_is_text(
    tmp_path: Path, start: bytes
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(start + b"\nthe second line\n")
    corpus = read_corpus(path)
    assert corpus.texts == ["the second line"]
    assert corpus.reasons == ["nul_byte"]
