"""Splits whose inputs are what they were: copied, and nothing of them read or encoded."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from nights import Night, begin, nightly_job, run
from running import SumClient, records, write_jsonl

from embedkit.config import JobConfig
from embedkit.dataset.committed import committed, ended_splits
from embedkit.dataset.validate import validate
from embedkit.engines.copying import copy_unchanged
from embedkit.engines.display import Nothing
from embedkit.errors import StoreError
from embedkit.flow import copy_split
from embedkit.flow.embed import embed_splits
from embedkit.flow.map_splits import map_in_threads
from embedkit.formats.reused import Reused

SHARDS, ROWS = 5, 20


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    for shard in range(SHARDS):
        write_jsonl(folder / f"shard-{shard}.jsonl", records(ROWS, shard * ROWS))
    return folder


@pytest.fixture
def make(tiny_model: str, corpus: Path, tmp_path: Path) -> Callable[..., JobConfig]:
    def job(version: str, output: str = "out", **changes: Any) -> JobConfig:
        if "://" not in output:
            output = str(tmp_path / output)
        return nightly_job(tiny_model, corpus, output, version=version, **changes)

    return job


def check_like_a_full_run(night: Night, config: JobConfig, folder: str) -> None:
    """Every file is what a run writes that takes nothing over, but for who made the vectors."""
    changes = {"output": str(Path(config.output).with_name(folder)), "reuse": "off"}
    full = run(config.model_copy(update=changes))
    assert night.dataset.table.equals(full.dataset.table)
    parts = [[pq.read_table(one) for one in each.dataset.parts] for each in (night, full)]
    assert all(one.equals(other) for one, other in zip(*parts, strict=True))
    assert validate(night.job.version).problems == ()
    for kind in ("_meta/stats", "_meta/splits", "rejects"):
        found = {
            one.name: one.read_bytes() for one in sorted((night.dataset.folder / kind).glob("*"))
        }
        assert found == {
            one.name: one.read_bytes() for one in sorted((full.dataset.folder / kind).glob("*"))
        }
    reports = [
        json.loads((one.dataset.folder / "report/report.json").read_text()) for one in (night, full)
    ]
    for report in reports:
        # What they say of the version before, which one of them lacks.
        for name in ("run", "drift", "map"):
            del report[name]
        report.pop("reuse", None)
        report["sections"] = [one for one in report["sections"] if one != "reuse"]
    assert reports[0] == reports[1]
    # Parts name in their footers whose vectors they took over.
    of_part = {"size": 0, "sha256": ""}
    records = [
        {name: replace(record, **of_part) for name, record in one.records.items()}
        for one in (night, full)
    ]
    assert records[0] == records[1]


def test_where_nothing_changed_nothing_is_read_or_encoded(make, corpus, tmp_path):
    first = run(make("v1"))
    assert first.encoded == SHARDS * ROWS
    shutil.move(corpus, tmp_path / "elsewhere")
    (tmp_path / "elsewhere").rename(corpus)
    again = run(make("v2"))
    assert (again.read, again.encoded) == ((), 0)
    for name in again.dataset.part_hashes:
        places = [one.dataset.folder / "data" / name for one in (first, again)]
        assert os.path.samefile(*places)
    check_like_a_full_run(again, make("v2"), "full")
    was = first.records
    for block, record in again.records.items():
        assert (record.origin.version, record.origin.part) == ("v1", was[block].part)
        sources = {source: (rows, 0, 0) for source, rows in was[block].sources.items()}
        rows, tokens = was[block].rows, was[block].tokens
        numerics = (again.job.description["numerics"],)
        assert record.reused == Reused("v1", rows, tokens, sources=sources, numerics=numerics)
        assert record.tokens_encoded == 0
    account = again.account
    assert (account.rows, account.rows_resumed, account.tokens_encoded) == (SHARDS * ROWS, 0, 0)
    assert account.tokens == first.account.tokens


def test_in_a_third_version_the_origin_is_still_the_first(make, corpus):
    run(make("v1"))
    write_jsonl(corpus / "shard-1.jsonl", records(ROWS + 1, ROWS * SHARDS))
    run(make("v2"))
    third = run(make("v3"))
    assert third.encoded == 0
    origins = {record.block_id[:5]: record.origin.version for record in third.records.values()}
    assert origins == {f"{n:05d}": "v2" if n == 1 else "v1" for n in range(SHARDS)}
    assert {record.reused.version for record in third.records.values()} == {"v2"}


@pytest.mark.parametrize("scheme", ["", "memory://"])
def test_a_file_before_all_others_and_a_changed_one(make, corpus, tmp_path, scheme):
    output = f"{scheme}{tmp_path.name}" if scheme else "out"
    (corpus / "shard-3.jsonl").write_text(
        (corpus / "shard-3.jsonl").read_text() + '{"id": "x", "text": ""}\nbroken\n'
    )
    run(make("v1", output))
    write_jsonl(corpus / "a-new.jsonl", records(ROWS, 9000))
    write_jsonl(corpus / "shard-2.jsonl", [*records(ROWS - 1, 2 * ROWS), *records(1, 8000)])
    night = run(make("v2", output))
    # Every other file has another number now, and so have its blocks.
    assert night.read == ("00000", "00003")
    # Equal texts are looked for among rows, which is not done here.
    assert ROWS < night.encoded <= 2 * ROWS
    copied = [one for one in night.records.values() if one.origin is not None]
    assert len({one.block_id[:5] for one in copied}) == 4
    assert all(one.block_id not in one.origin.part for one in copied)
    assert validate(night.job.version).problems == ()
    if not scheme:
        check_like_a_full_run(night, make("v2"), "full")


def test_a_record_that_repeats_an_id_now_and_did_not_before(make, corpus):
    write_jsonl(corpus / "shard-4.jsonl", [*records(ROWS, 4 * ROWS), *records(2, 4 * ROWS)])
    run(make("v1"))
    # Comes first, so that the second file's record is the one that repeats the id.
    write_jsonl(corpus / "a-new.jsonl", [*records(ROWS, 9000), *records(1, ROWS)])
    night = run(make("v2"))
    assert night.read == ("00000", "00002")
    # The one with repeated ids of its own is what it was.
    assert night.records["00005-00001"].origin is not None
    assert night.account.reject_reasons == {"duplicate_id": 3}
    check_like_a_full_run(night, make("v2"), "full")


@pytest.mark.parametrize("poisoned", [True, pytest.param(False, marks=pytest.mark.soak)])
def test_a_reject_of_circumstances_is_tried_again(make, corpus, poisoned):
    write_jsonl(corpus / "shard-1.jsonl", [*records(ROWS, ROWS), {"id": "y", "text": "rain" * 90}])
    (corpus / "shard-2.jsonl").write_text("broken\n" + (corpus / "shard-2.jsonl").read_text())
    _, splits = begin(make("v1"))
    poison = 0
    if poisoned:
        sent = SumClient()
        list(embed_splits(splits[1:2], begin(make("v0", "other"))[0], sent))
        poison = int(sent.calls[0].input_ids[1])
    first = run(make("v1"), lambda: SumClient(poison or None))
    assert bool(first.account.reject_reasons.get("non_finite_vector")) == poisoned
    lost = {
        path.stem[:5]
        for path in first.dataset.folder.glob("rejects/*")
        if "non_finite_vector" in path.read_text()
    }
    night = run(make("v2"))
    assert set(night.read) == lost
    assert night.account.reject_reasons == {"invalid_json": 1}
    check_like_a_full_run(night, make("v2"), "full")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda v1: (v1 / "data/part-00001-00000.parquet").unlink(), r"of version v1 is gone"),
        (lambda v1: (v1 / "_meta/stats/00001-00001.json").unlink(), r"of version v1 is gone"),
        (lambda v1: (v1 / "_meta/commits/00001-00001.json").unlink(), r"of version v1 is gone"),
        (lambda v1: (v1 / "_meta/commits/00001-00001.json").write_text("{"), r"00001-00001.json"),
        (lambda v1: (v1 / "_meta/stats/00001-00000.json").write_text("{}"), r"its SHA-256 is not"),
        (
            lambda v1: os.truncate(v1 / "data/part-00001-00001.parquet", 900),
            r"900 bytes, but its commit record says \d+",
        ),
        (
            lambda v1: overwrite(v1 / "data/part-00001-00001.parquet"),
            r"part-00001-00001.parquet: not a readable part",
        ),
        (
            lambda v1: say(v1 / "data/part-00001-00001.parquet", b'{"embedkit":', b'x"embedkit":'),
            r"part-00001-00001.parquet: its footer is damaged \(Expecting value",
        ),
        (
            lambda v1: say(v1 / "data/part-00001-00001.parquet", b'{"embedkit":', b'["embedkit",'),
            r"part-00001-00001.parquet: its footer is damaged \(Expecting ',' delim",
        ),
    ],
)
def test_what_is_gone_or_damaged_is_not_copied(make, caplog, change, fault):
    first = run(make("v1"))
    change(first.dataset.folder)
    job, splits = begin(make("v2"))
    with caplog.at_level(logging.WARNING, "embedkit"):
        records, left = copy_unchanged(job, splits, map_in_threads, Nothing())
    assert [one.split_id for one in left] == ["00001"]
    assert not any(block.startswith("00001") for block in records)
    assert not [*Path(job.version.url).glob("data/part-00001-*")]
    (said,) = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert said.startswith("1 of 5 unchanged splits could not be copied and are read; split 00001:")
    assert re.search(fault, said)


def say(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert data.count(old) == 1, "in the footer's metadata, and not in the schema's"
    path.write_bytes(data.replace(old, new))


def overwrite(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def test_what_was_not_copied_is_read(make):
    first = run(make("v1"))
    (first.dataset.folder / "_meta/stats/00001-00001.json").unlink()
    night = run(make("v2"))
    assert night.read == ("00001",)
    # Its rows are looked up one by one.
    assert night.encoded == 0
    check_like_a_full_run(night, make("v2"), "full")


def test_a_part_that_goes_while_it_is_copied(make, monkeypatch):
    run(make("v1"))
    real = copy_split.copy

    def gone(store, source, key):
        if "00002-00001" in source:
            raise FileNotFoundError(source)
        return real(store, source, key)

    monkeypatch.setattr(copy_split, "copy", gone)
    night = run(make("v2"))
    assert night.read == ("00002",)
    assert night.records["00002-00000"].origin is not None
    assert night.records["00002-00001"].origin is None
    monkeypatch.undo()
    check_like_a_full_run(night, make("v2"), "full")


def test_one_killed_between_any_two_writes_goes_on(make, monkeypatch):
    run(make("v1"))
    job, splits = begin(make("v2"))
    blocks = len(committed(job.reuse.version))
    store = type(job.version.store)
    writes, left = {name: getattr(store, name) for name in ("create", "copy")}, 0

    def limited(name):
        def write(self, *arguments):
            nonlocal left
            if not left:
                raise StoreError("killed")
            made = writes[name](self, *arguments)
            left -= made
            return made

        return write

    for name in writes:
        monkeypatch.setattr(store, name, limited(name))
    kills = 0
    for split in splits:
        while not job.version.split_is_done(split.split_id):
            left = 1
            try:
                copy_split.copy_split(split, job)
            except StoreError:
                kills += 1
            assert kills < 200
    monkeypatch.undo()
    # After each part, statistics and record; after the end of a split nothing is left to do.
    assert kills == 3 * blocks
    night = run(make("v2"))
    assert (night.read, night.encoded) == ((), 0)
    check_like_a_full_run(night, make("v2"), "full")


class Otherwise(SumClient):
    """Other last digits, as other hardware has."""

    def vector(self, ids):
        return [one * (1 + 1e-6) for one in super().vector(ids)]


@pytest.mark.soak
@pytest.mark.parametrize("first", ["encodes", "copies"])
def test_an_attempt_that_encodes_meets_one_that_copies(make, first):
    """One has written parts, and was killed before it committed them; the other goes on."""
    run(make("v1"))
    reuse = {"encodes": "off", "copies": "v1"}
    job, splits = begin(make("v2", reuse=reuse.pop(first)))
    if first == "encodes":
        list(embed_splits(splits[:2], job, Otherwise()))
    else:
        copy_unchanged(job, splits[:2], map_in_threads, Nothing())
    for kind in ("commits", "splits"):
        shutil.rmtree(Path(job.version.url) / "_meta" / kind)
    standing = {one: one.read_bytes() for one in Path(job.version.url).glob("data/*")}
    (other,) = reuse.values()
    night = run(make("v2", reuse=other), Otherwise)
    assert night.encoded == (0 if first == "encodes" else SHARDS * ROWS)
    for block, record in night.records.items():
        # What stands of the other attempt was encoded for it.
        taken = first == "encodes" and not block.startswith(("00000", "00001"))
        assert (record.reused is not None, record.origin is not None) == (taken, taken), block
    assert validate(night.job.version).problems == ()
    assert len(standing) == 4
    assert all(path.read_bytes() == data for path, data in standing.items())
    origins = {name: record.origin for name, record in night.records.items()}
    copied = {name[:5] for name, origin in origins.items() if origin is not None}
    assert copied == ({"00002", "00003", "00004"} if first == "encodes" else set())


@pytest.mark.parametrize(
    "changes",
    [
        {"verify_inputs": True},
        pytest.param({"reuse": "off"}, marks=pytest.mark.soak),
        pytest.param({"store_text": True}, marks=pytest.mark.soak),
        pytest.param({"block_rows": 7}, marks=pytest.mark.soak),
        pytest.param({"metadata_columns": ("stars",)}, marks=pytest.mark.soak),
        pytest.param({"max_tokens": 20}, marks=pytest.mark.soak),
    ],
)
def test_what_is_asked_for_otherwise_is_read(make, changes):
    run(make("v1"))
    night = run(make("v2", **changes))
    assert len(night.read) == len(night.job.plan.splits)
    assert {record.origin for record in night.records.values()} == {None}


@pytest.mark.soak
def test_a_file_of_another_time_is_read_and_its_neighbours_are_not(make, corpus):
    run(make("v1"))
    os.utime(corpus / "shard-3.jsonl", ns=(1, 1))
    assert run(make("v2")).read == ("00003",)


def test_parts_of_another_release_are_read(make, monkeypatch):
    run(make("v1"))
    monkeypatch.setattr(copy_split, "__version__", "99.0")
    assert len(run(make("v2")).read) == SHARDS


@pytest.mark.soak
def test_numerics_that_are_asked_for(make, monkeypatch):
    run(make("v1"))
    assert run(make("v2", reuse_numerics="same")).read == ()
    other = make("v3", reuse_numerics="same", encoder_threads=None, batch_tokens=777)
    night = run(other)
    assert len(night.read) == SHARDS
    assert run(other.model_copy(update={"version": "v4", "reuse_numerics": "any"})).read == ()


def test_an_unfinished_version_is_copied_as_far_as_it_is(make):
    job, splits = begin(make("v1"))
    list(embed_splits(splits[:2], job, SumClient()))
    night = run(make("v2", reuse="v1"))
    assert night.read == ("00002", "00003", "00004")
    assert ended_splits(night.job.version).keys() == {f"{n:05d}" for n in range(SHARDS)}
    check_like_a_full_run(night, make("v2"), "full")
