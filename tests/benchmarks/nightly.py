"""From one night to the next: what a run costs where little or nothing has changed."""

import argparse
import gzip
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import zstandard

from tests.benchmarks.corpus import read_texts
from tests.benchmarks.machine import describe_machine, run_once, wait_until_quiet

_CHARACTERS = 160
_SHARDS = 16
_CHANGED = 100
_FEWER = 10
"""How many times fewer rows the memory is compared with."""

Row = dict[str, str]


def rows_of(count: int, characters: int = _CHARACTERS) -> list[Row]:
    """Returns texts of at most so many characters, each with an id and no two the same."""
    texts = read_texts().texts
    return [
        {"id": f"{n:08d}", "text": f"{n} {texts[n % len(texts)][:characters]}"}
        for n in range(count)
    ]


def write(folder: Path, rows: list[Row], shards: int, name: str = "shard-{:03d}.jsonl") -> None:
    """Writes rows as so many files in the place of whatever is there; equal files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // shards)
    wanted = set()
    for number in range(shards):
        lines = (json.dumps(row) + "\n" for row in rows[number * size : (number + 1) * size])
        data = "".join(lines).encode()
        path = folder / name.format(number)
        wanted.add(path)
        if path.suffix == ".gz":
            data = gzip.compress(data, mtime=0)
        if path.suffix == ".zst":
            data = zstandard.compress(data)
        if not path.exists() or path.read_bytes() != data:
            path.write_bytes(data)
    for path in set(folder.iterdir()) - wanted:
        path.unlink()


def changed(rows: list[Row], every: int = _CHANGED) -> list[Row]:
    """Returns the rows with one in so many changed, all over the corpus."""
    return [
        {**row, "text": f"changed {row['text']}"} if n % every == every // 2 else row
        for n, row in enumerate(rows)
    ]


def run(
    corpus: Path, output: Path, version: str, scope: str = "source", encoder: str = "model",
    split_bytes: int = 32 << 20,
) -> Any:  # fmt: skip
    """Runs one night in a process of its own, see ``nightly_once``; its start counts."""
    return run_once(
        "tests.benchmarks.nightly_once", corpus, output, version, scope, encoder, split_bytes
    )


def show(what: str, found: Any, full: Any) -> None:
    """Prints a row of the table."""
    print(
        f"| {what} | {found['read']} of {found['splits']} | {found['rows_encoded']:,} | "
        f"{found['tokens_encoded'] / full['tokens_encoded']:.2%} | {found['wall']:.1f} | "
        f"{found['wall'] / full['wall']:.1%} | {found['cpu']:.1f} | "
        f"{found['cpu'] / full['cpu']:.1%} | {found['foreign']:.0%} |",
        flush=True,
    )


def with_the_model(folder: Path, count: int, characters: int) -> None:
    """Measures nights with a real encoder."""
    rows = rows_of(count, characters)
    print(f"\n{count:,} rows of at most {characters} characters, {_SHARDS} shards, MiniLM, plain:")
    print(
        "| night | splits read | rows encoded | of its tokens | s | of its time | CPU s | of its "
        "| used by others |\n|---|---|---|---|---|---|---|---|---|"
    )
    corpus, output = folder / "corpus", folder / "output"
    split_bytes = 1 << 20

    def night(version: str, rows: list[Row], what: str, first: Any = None, **more: Any) -> Any:
        write(corpus, rows, more.pop("shards", _SHARDS), more.pop("name", "shard-{:03d}.jsonl"))
        found = run(corpus, output, version, split_bytes=split_bytes, **more)
        show(what, found, first or found)
        return found

    full = night("v01", rows, "first")
    night("v02", rows, "nothing changed", full)
    night("v03", changed(rows), f"1 in {_CHANGED} changed, in all shards", full)
    night("v04", rows, "changed back", full)
    first = [{"id": f"new-{n}", "text": f"new {n}"} for n in range(10)]
    (corpus / "a-new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in first))
    found = run(corpus, output, "v05", split_bytes=split_bytes)
    show("a file of 10 rows inserted before all others", found, full)
    scope = {"scope": "global"}
    night("v06", rows, "all files renamed", full, name="part-{:03d}.jsonl", **scope)
    night("v07", rows, "4 shards", full, shards=4, **scope)
    night("v08", rows, "7 shards", full, shards=7, **scope)
    night("v09", rows, "gzip", full, name="shard-{:03d}.jsonl.gz", **scope)
    night("v10", rows, "zstd", full, name="shard-{:03d}.jsonl.zst", **scope)


def without_an_encoder(folder: Path, count: int) -> None:
    """Measures rates and memory around an encoder that costs nothing."""
    print(f"\nAn encoder that costs nothing, {count // _FEWER:,} and {count:,} rows:")
    print("From the plan to the last commit, by seconds of all cores:")
    print("| night | rows | splits read | rows/s of a core | of a full run's | peak MiB |")
    print("|---|---|---|---|---|---|")
    for rows in (count // _FEWER, count):
        _without_an_encoder(folder / f"free-{rows}", rows_of(rows))


def _without_an_encoder(folder: Path, rows: list[Row]) -> None:
    corpus, output, shards = folder / "corpus", folder / "output", max(100, len(rows) // 5000)
    rates: dict[str, float] = {}
    write(corpus, rows, shards)
    # A file each, so that a hundredth of them can be changed; a changed one is a little larger.
    split_bytes = max(file.stat().st_size for file in corpus.iterdir()) * 3 // 2

    def night(version: str, what: str, rows: list[Row]) -> None:
        write(corpus, rows, shards)
        found = run(corpus, output, version, encoder="free", split_bytes=split_bytes)
        steps = found["steps"]
        rates[version] = found["rows"] / sum(
            steps[name] for name in ("plan", "ids", "copy", "embed")
        )
        print(
            f"| {what} | {found['rows']:,} | {found['read']} of {found['splits']} | "
            f"{rates[version]:,.0f} | {rates[version] / rates['v1']:.1f}x | "
            f"{found['peak_mib']:,.0f} |",
            flush=True,
        )

    night("v1", "first", rows)
    size = -(-len(rows) // shards)
    some = [
        row if n // size % _CHANGED else {**row, "text": f"changed {row['text']}"}
        for n, row in enumerate(rows)
    ]
    night("v2", f"1 in {_CHANGED} files changed", some)
    night("v3", "nothing changed", some)
    night("v4", f"1 in {_CHANGED} rows changed, in all files", changed(some))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--nightly-rows", type=int, default=100_000, help="rows with the model")
    parser.add_argument(
        "--nightly-characters", type=int, default=_CHARACTERS, help="of a text; fewer cost less"
    )
    parser.add_argument(
        "--nightly-free-rows", type=int, default=1_000_000, help="rows with no encoder; 0: none"
    )


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    measures: list[tuple[Callable[[Path, int], None], int]] = [
        (partial(with_the_model, characters=options.nightly_characters), options.nightly_rows),
        (without_an_encoder, options.nightly_free_rows),
    ]
    for measure, count in measures:
        if count:
            wait_until_quiet(options.wait)
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder), count)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    add_options(arguments)
    arguments.add_argument("--wait", type=float, default=60.0)
    print(describe_machine())
    main(arguments.parse_args())
