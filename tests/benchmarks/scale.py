"""What grows with a corpus, and what must not: rates, memory, planning of files, exact search."""

import argparse
import json
import statistics
import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from tests.benchmarks.corpus import read_texts
from tests.benchmarks.machine import describe_machine, run_once, wait_until_quiet
from tests.benchmarks.nightly import run

_CHARACTERS = 60
_FILE_ROWS = 10_000
_FOLDER_FILES = 1_000
_SPLIT_BYTES = 4 << 20
_ROUNDS = 3
_K = 10
_QUERIES = 1_000


def write_corpus(folder: Path, count: int) -> Path:
    """Writes short records, each with an id and no two the same, in files of 10,000."""
    folder.mkdir(parents=True)
    texts = [text[:_CHARACTERS] for text in read_texts().texts]
    rows = (
        json.dumps({"id": f"{n:09d}", "text": f"{n} {texts[n % len(texts)]}"}) + "\n"
        for n in range(count)
    )
    for number in range(-(-count // _FILE_ROWS)):
        (folder / f"shard-{number:05d}.jsonl").write_text("".join(islice(rows, _FILE_ROWS)))
    return folder


def write_files(folder: Path, count: int) -> Path:
    """Writes so many files of one record, 1,000 to a folder."""
    for number in range(count):
        if number % _FOLDER_FILES == 0:
            inside = folder / f"{number // _FOLDER_FILES:06d}"
            inside.mkdir(parents=True)
        (inside / f"{number:09d}.jsonl").write_text(f'{{"text": "file number {number}"}}\n')
    return folder


def measure_runs(folder: Path, sizes: list[int]) -> Path | None:
    """Measures runs around an encoder that costs nothing, and returns the last version's root."""
    print("\nShort records around an encoder that costs nothing, `--engine plain`:")
    print(
        "| records | documents/s | of the first | of a core, up to the last commit | of the "
        "first | peak MiB up to it | of the whole run | used by others |"
        "\n|---|---|---|---|---|---|---|---|"
    )
    first: Any = None
    root = None
    for count in sizes:
        corpus, root = write_corpus(folder / f"corpus-{count}", count), folder / f"output-{count}"
        found = run(corpus, root, "v1", encoder="free", split_bytes=_SPLIT_BYTES)
        steps = found["steps"]
        core = count / sum(steps[name] for name in ("plan", "ids", "copy", "embed"))
        whole = count / (found["seconds"] - found["model_seconds"])
        first = first or (whole, core)
        print(
            f"| {count:,} | {whole:,.0f} | {whole / first[0]:.2f}x | {core:,.0f} | "
            f"{core / first[1]:.2f}x | {found['peak_mib']:,.0f} | {found['peak_whole_mib']:,.0f} | "
            f"{found['foreign']:.0%} |",
            flush=True,
        )
    return root


def measure_planning(folder: Path, count: int) -> None:
    """Measures how long it takes to plan a job of many small files."""
    corpus = write_files(folder / "files", count)
    print(f"\nPlanning {count:,} files of one record (wanted of 1,000,000: < 90 s, < 1,536 MiB):")
    print(
        "| given as | s | CPU s | splits | peak MiB | used by others |\n|---|---|---|---|---|---|"
    )
    for number, inputs in enumerate((str(corpus), f"{corpus}/**/*.jsonl")):
        found = run_once("tests.benchmarks.scale_once", "plan", inputs, folder / f"plan-{number}")
        print(
            f"| {('their folder', 'a pattern')[number]} | {found['seconds']:.1f} | "
            f"{found['cpu']:.1f} | {found['splits']:,} | {found['peak_mib']:,.0f} | "
            f"{found['foreign']:.0%} |",
            flush=True,
        )


def measure_search(root: Path) -> None:
    """Measures exact search through a version against reading its vectors, in turns."""
    found: dict[str, list[Any]] = {"read": [], "1": [], str(_QUERIES): []}
    for _ in range(_ROUNDS):
        for what, rounds in found.items():
            rounds.append(run_once("tests.benchmarks.scale_once", "search", root, what, _K))
    seconds = {
        what: statistics.median(one["seconds"] for one in rounds) for what, rounds in found.items()
    }
    print(f"\nExact search, best {_K} of {found['read'][0]['rows']:,} rows, {_ROUNDS} rounds:")
    print("| | s: median | of reading | CPU s | peak MiB |\n|---|---|---|---|---|")
    for what, rounds in found.items():
        name = "reading ids and vectors alone" if what == "read" else f"queries: {what}"
        cpu = statistics.median(one["cpu"] for one in rounds)
        peak = max(one["peak_mib"] for one in rounds)
        share = seconds[what] / seconds["read"]
        print(f"| {name} | {seconds[what]:.2f} | {share:.2f}x | {cpu:.2f} | {peak:,.0f} |")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument(
        "--scale-rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000],
        help="sizes of corpora; the last one's version is searched",
    )  # fmt: skip
    parser.add_argument("--scale-files", type=int, default=1_000_000, help="files; 0: none")


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wait_until_quiet(options.wait)
        root = measure_runs(folder, options.scale_rows)
        if root is not None:
            measure_search(root)
        if options.scale_files:
            measure_planning(folder, options.scale_files)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    arguments.add_argument("--wait", type=float, default=60.0)
    print(describe_machine())
    main(arguments.parse_args())
