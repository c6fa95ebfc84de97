"""Texts whose files were renamed, moved, compressed or cut otherwise: their vectors stay."""

import csv
import io
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from releases import FIXTURES, copy_of_root, releases, version_of
from releases import job as job_of_release
from running import Dataset, records, tiny_job

from embedkit.dataset import hash_runs
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines import local
from embedkit.engines.run import run_job
from embedkit.reports.account import RunAccount

Rows = list[dict[str, Any]]
ROWS = records(80)


def write(path: Path, rows: Rows, compression: str | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    with pa.output_stream(str(path), compression=compression) as file:
        file.write(lines)


def shards(rows: Rows, count: int) -> Iterator[tuple[int, Rows]]:
    for number in range(count):
        yield number, rows[number * len(rows) // count : (number + 1) * len(rows) // count]


def four(folder: Path) -> None:
    for number, rows in shards(ROWS, 4):
        write(folder / f"shard-{number}.jsonl.gz", rows, "gzip")


def renamed(folder: Path) -> None:
    for number, rows in shards(ROWS, 4):
        write(folder / f"2026-02-{number}.jsonl.gz", rows, "gzip")


def moved_into_folders(folder: Path) -> None:
    for number, rows in shards(ROWS, 4):
        write(folder / "archive" / f"{3 - number}" / "shard.jsonl.gz", rows, "gzip")


def compressed_otherwise(folder: Path) -> None:
    for number, rows in shards(ROWS, 4):
        write(folder / f"shard-{number}.jsonl.zst", rows, "zstd")


def not_compressed(folder: Path) -> None:
    for number, rows in shards(ROWS, 4):
        write(folder / f"shard-{number}.jsonl", rows)


def seven(folder: Path) -> None:
    for number, rows in shards(ROWS, 7):
        write(folder / f"shard-{number}.jsonl.gz", rows, "gzip")


def three_in_another_order(folder: Path) -> None:
    for number, rows in shards(ROWS[::-1], 3):
        write(folder / f"part-{number}.jsonl.gz", rows, "gzip")


def another_format(folder: Path) -> None:
    folder.mkdir()
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS[:40])
    (folder / "first.csv").write_text(text.getvalue())
    pq.write_table(pa.Table.from_pylist(ROWS[40:]), folder / "second.parquet", row_group_size=9)


def job(model: str, folder: Path, **changes: Any) -> Any:
    settings: dict[str, Any] = {"id_column": "id", "max_tokens": 24}
    return tiny_job(model, folder / "in", folder / "out", **(settings | changes))


@pytest.fixture(scope="module")
def first(tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a version of four compressed shards."""
    folder = tmp_path_factory.mktemp("first")
    four(folder / "in")
    assert run_job(job(tiny_model, folder, version="v1")).tokens_encoded > 500
    return folder


@pytest.fixture
def folder(first: Path, tmp_path: Path) -> Path:
    """The same without its inputs."""
    shutil.copytree(first / "out", tmp_path / "out")
    return tmp_path


def vectors(folder: Path) -> dict[str, bytes]:
    table = Dataset(folder).table
    texts, found = table["text_hash"].to_pylist(), table["embedding"].to_pylist()
    return {
        text: pa.array(vector, pa.float32()).buffers()[1].to_pybytes()
        for text, vector in zip(texts, found, strict=True)
    }


def run_again(model: str, folder: Path, **changes: Any) -> RunAccount:
    account = run_job(job(model, folder, version="v2", reuse_scope="global", **changes))
    version = Version(str(folder / "out"), "v2")
    # Nothing of what helped to find rows stays, and the version stands by itself.
    assert list(version.store.list("v2/_meta/reuse/")) == []
    assert validate(version).problems == ()
    return account


LAYOUTS = [
    renamed,
    seven,
    *(
        pytest.param(one, marks=pytest.mark.soak)
        for one in (
            moved_into_folders,
            compressed_otherwise,
            not_compressed,
            three_in_another_order,
            another_format,
        )
    ),
]


@pytest.mark.parametrize("lay_out", LAYOUTS)
def test_no_unchanged_row_is_encoded(
    tiny_model: str, folder: Path, lay_out: Callable[[Path], None]
) -> None:
    lay_out(folder / "in")
    account = run_again(tiny_model, folder)
    assert (account.rows_reused, account.tokens_encoded) == (80, 0)
    assert (account.rows_added, account.rows_changed, account.rows_removed) == (0, 0, 0)
    assert vectors(folder / "out" / "v2") == vectors(folder / "out" / "v1")


@pytest.mark.soak
def test_ids_that_come_of_the_place_do_not_matter(tiny_model: str, folder: Path) -> None:
    seven(folder / "in")
    account = run_again(tiny_model, folder, id_column=None)
    assert (account.rows, account.tokens_encoded) == (80, 0)
    assert (account.rows_added, account.rows_changed, account.rows_removed) == (80, 0, 80)
    assert vectors(folder / "out" / "v2") == vectors(folder / "out" / "v1")


def test_of_a_file_before_all_others_and_a_changed_row_just_these_are_encoded(
    tiny_model: str, folder: Path
) -> None:
    renamed(folder / "in")
    write(folder / "in" / "0-new.jsonl.gz", records(5, 1000), "gzip")
    changed = [*ROWS[60:79], {**ROWS[79], "text": "another text than before"}]
    write(folder / "in" / "2026-02-3.jsonl.gz", changed, "gzip")
    account = run_again(tiny_model, folder)
    before, now = vectors(folder / "out" / "v1"), vectors(folder / "out" / "v2")
    assert len(now.keys() - before.keys()) == 6
    assert {text: now[text] for text in now.keys() & before.keys()} == {
        text: vector for text, vector in before.items() if text in now
    }
    table = Dataset(folder / "out" / "v2").table
    tokens = dict(zip(table["id"].to_pylist(), table["n_tokens"].to_pylist(), strict=True))
    new = [f"doc-0100{n}" for n in range(5)] + ["doc-00079"]
    assert account.tokens_encoded == sum(min(24, tokens[one]) for one in new)
    assert (account.rows_reused, account.rows_encoded) == (79, 6)
    assert (account.rows_added, account.rows_changed, account.rows_removed) == (5, 1, 0)


@pytest.mark.soak
def test_within_sources_it_is_said_that_elsewhere_texts_may_be(
    tiny_model: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    renamed(folder / "in")
    with caplog.at_level(logging.INFO, "embedkit"):
        account = run_job(job(tiny_model, folder, version="v2"))
    assert account.tokens_encoded == account.tokens
    (said,) = [line for line in caplog.messages if "--reuse-scope global" in line]
    assert "4 input files went and 4 input files came" in said


@pytest.mark.soak
@pytest.mark.usefixtures("ray_session")
def test_on_the_local_engine(
    tiny_model: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As of files that are worth a task of their own.
    monkeypatch.setattr(local, "_READ_HERE", -1)
    monkeypatch.setattr(hash_runs, "_MOST_ROWS", 20)
    seven(folder / "in")
    account = run_again(tiny_model, folder, engine="local", workers=2)
    assert (account.rows_reused, account.tokens_encoded) == (80, 0)
    assert vectors(folder / "out" / "v2") == vectors(folder / "out" / "v1")


KINDS: list[dict[str, Any]] = [
    {"granularity": "word"},
    {"granularity": "token", "store_tokens": True},
    {"chunk": "sentences", "chunk_tokens": 8},
    {"chunk": "tokens", "chunk_tokens": 8, "chunk_overlap": 2, "late_chunking": True},
    {"vector_dtype": "float16", "store_text": True},
    {"text_template": "{title}: {text}", "metadata_columns": ("stars",)},
]


@pytest.mark.soak
@pytest.mark.parametrize("settings", KINDS)
def test_of_all_kinds_of_rows(tiny_model: str, tmp_path: Path, settings: dict[str, Any]) -> None:
    four(tmp_path / "in")
    assert run_job(job(tiny_model, tmp_path, version="v1", **settings)).tokens_encoded > 0
    shutil.rmtree(tmp_path / "in")
    seven(tmp_path / "in")
    account = run_again(tiny_model, tmp_path, **settings)
    assert (account.rows_reused, account.tokens_encoded) == (account.rows, 0)
    before, now = (Dataset(tmp_path / "out" / name).table for name in ("v1", "v2"))
    moved = ["source", "row_index", "line_in_range"]
    assert now.drop_columns(moved).equals(before.drop_columns(moved))


@pytest.mark.soak
def test_in_an_object_store(tiny_model: str, tmp_path: Path, bucket: str) -> None:
    def run(name: str) -> RunAccount:
        local = job(tiny_model, tmp_path, version=name, reuse_scope="global")
        return run_job(local.model_copy(update={"output": f"s3://{bucket}/out"}))

    four(tmp_path / "in")
    run("v1")
    shutil.rmtree(tmp_path / "in")
    seven(tmp_path / "in")
    account = run("v2")
    assert (account.rows_reused, account.tokens_encoded) == (80, 0)
    version = Version(f"s3://{bucket}/out", "v2")
    assert validate(version).problems == ()
    assert list(version.store.list("v2/_meta/reuse/")) == []


@pytest.mark.soak
@pytest.mark.parametrize("release", releases())
def test_of_a_version_that_an_earlier_release_wrote(release: str, tmp_path: Path) -> None:
    root = copy_of_root(release, tmp_path / "root")
    (tmp_path / "in").mkdir()
    for path in sorted((FIXTURES / "inputs").glob("articles-*")):
        shutil.copy(path, tmp_path / "in" / f"moved-{path.name}")
    name = next(
        one
        for one, settings in json.loads((FIXTURES / release / "jobs.json").read_text()).items()
        if "articles" in settings["inputs"][0]
    )
    before = version_of(release, name)
    changes = {"inputs": (str(tmp_path / "in"),), "version": "v2", "reuse": before}
    account = run_job(job_of_release(release, name, root, reuse_scope="global", **changes))
    assert (account.rows_reused, account.tokens_encoded) == (account.rows, 0)
    assert account.rows > 0
    assert vectors(root / "v2") == vectors(root / before)
