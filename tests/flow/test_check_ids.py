"""Repeated ids found split by split, and kept beside the plan for whoever comes next."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import corpus_config, read_plan, write

from embedkit.config import CorpusConfig
from embedkit.corpus import duplicates
from embedkit.corpus.duplicates import Suspect, check_ids
from embedkit.corpus.plan import plan_inputs
from embedkit.corpus.splits import Plan
from embedkit.dataset import id_files
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, InputError, IntegrityError
from embedkit.flow.check_ids import (
    IdLook,
    check_ids_by_workers,
    kept_hashes,
)
from embedkit.flow.map_splits import map_in_threads


class Workers:
    """Looks at splits in this process, noting which; may be killed before one of its looks."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.hashed: list[str] = []
        self.read_again: list[str] = []
        self._left = killed_at

    def __call__(
        self, look_at: Callable[[IdLook], list[Suspect]], looks: Sequence[IdLook]
    ) -> Iterator[list[Suspect]]:
        for look in looks:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            (self.hashed if look.hashes is None else self.read_again).append(look.split.split_id)
            yield look_at(look)


@pytest.fixture
def version(tmp_path: Path) -> Version:
    return Version(str(tmp_path / "out"), "v1")


@pytest.fixture
def corpus(tmp_path: Path) -> CorpusConfig:
    """Six splits of ten records; the third and the fifth have ids of the first."""
    for shard in range(6):
        ids = [f"{shard}-{n}" for n in range(10)]
        if shard in (2, 4):
            ids[3] = "0-7"
        write(
            tmp_path / "in" / f"{shard}.jsonl",
            [json.dumps({"id": one, "text": f"text of {one}"}) for one in ids],
        )
    return corpus_config(tmp_path / "in", id_column="id", split_bytes=400)


@pytest.fixture
def plan(corpus: CorpusConfig) -> Plan:
    made = plan_inputs(corpus)
    assert len(made.splits) == 6
    assert not made.ids_checked
    return made


def id_paths(version: Version) -> list[str]:
    return list(version.store.list(version.key("_meta/ids/")))


def test_workers_find_what_one_process_finds(
    corpus: CorpusConfig, plan: Plan, version: Version
) -> None:
    workers = Workers()
    found = check_ids_by_workers(plan, corpus, version, workers)
    assert found == check_ids(plan, corpus)
    assert found.ids_checked
    assert found.duplicates == 2
    assert workers.hashed == [f"0000{n}" for n in range(6)]
    # Only what holds a repeated hash is read for the ids themselves.
    assert workers.read_again == ["00000", "00002", "00004"]
    assert read_plan(found, corpus).reasons == ["duplicate_id"] * 2


def test_a_plan_goes_through_its_file_with_what_is_known_of_its_ids(
    corpus: CorpusConfig, plan: Plan
) -> None:
    assert Plan.from_json(plan.to_json()) == plan
    checked = check_ids(plan, corpus)
    assert Plan.from_json(checked.to_json()) == checked
    # As an earlier release wrote it, which knew the ids of every plan.
    earlier = {**json.loads(checked.to_json())}
    del earlier["ids_checked"]
    assert Plan.from_json(json.dumps(earlier)) == checked
    with pytest.raises(ConfigError, match="check_ids finds them"):
        read_plan(plan, corpus)


def test_what_is_known_is_not_looked_for_again(
    corpus: CorpusConfig, plan: Plan, version: Version
) -> None:
    found = check_ids_by_workers(plan, corpus, version, Workers())
    again = Workers()
    assert check_ids_by_workers(plan, corpus, version, again) == found
    assert (again.hashed, again.read_again) == ([], [])


@pytest.mark.parametrize("killed_at", range(9))
def test_killed_anywhere_only_the_rest_is_looked_at(
    corpus: CorpusConfig, plan: Plan, version: Version, killed_at: int
) -> None:
    first = Workers(killed_at)
    with pytest.raises(KeyboardInterrupt):
        check_ids_by_workers(plan, corpus, version, first)
    second = Workers()
    assert check_ids_by_workers(plan, corpus, version, second) == check_ids(plan, corpus)
    assert sorted(first.hashed + second.hashed) == [f"0000{n}" for n in range(6)]


def test_a_split_that_changed_is_looked_at_again(
    corpus: CorpusConfig, plan: Plan, version: Version, tmp_path: Path
) -> None:
    check_ids_by_workers(plan, corpus, version, Workers())
    path = tmp_path / "in" / "5.jsonl"
    path.write_text(path.read_text().replace("5-1", "0-1"))
    os.utime(path, ns=(1, 1))
    changed = plan_inputs(corpus)
    workers = Workers()
    found = check_ids_by_workers(changed, corpus, version, workers)
    assert workers.hashed == ["00005"]
    assert found.duplicates == 3
    assert found == check_ids(changed, corpus)


def test_what_did_not_change_since_the_published_version_is_not_looked_at(
    corpus: CorpusConfig, plan: Plan, version: Version, tmp_path: Path
) -> None:
    check_ids_by_workers(plan, corpus, version, Workers())
    version.store.create("LATEST", b"v1\n")
    # A new file before all others, so that every split has another number, and one that changed.
    new = [json.dumps({"id": f"new-{n}", "text": "x"}) for n in range(10)]
    write(tmp_path / "in" / "0-new.jsonl", [*new, json.dumps({"id": "5-2", "text": "x"})])
    path = tmp_path / "in" / "1.jsonl"
    path.write_text(path.read_text().replace("1-3", "1-x"))
    os.utime(path, ns=(1, 1))
    now = plan_inputs(corpus)
    assert len(now.splits) == 7
    second, workers = version.sibling("v2"), Workers()
    found = check_ids_by_workers(now, corpus, second, workers)
    read = {split.split_id: split.ranges[0].source for split in now.splits}
    assert [read[split] for split in workers.hashed] == ["0-new.jsonl", "1.jsonl"]
    assert found == check_ids(now, corpus)
    assert found.duplicates == 3


def test_what_the_published_version_has_torn_is_looked_at(
    corpus: CorpusConfig, plan: Plan, version: Version
) -> None:
    check_ids_by_workers(plan, corpus, version, Workers())
    version.store.create("LATEST", b"v1")
    torn = Path(version.root) / id_paths(version)[2]
    os.truncate(torn, torn.stat().st_size - 1)
    second, workers = version.sibling("v2"), Workers()
    found = check_ids_by_workers(plan, corpus, second, workers)
    assert workers.hashed == ["00002"]
    assert found == check_ids(plan, corpus)
    assert len(id_paths(second)) == 6


@pytest.mark.parametrize("latest", [b"v0", b"../v1", b"\xff", b"v1"])
def test_a_latest_that_helps_nothing_harms_nothing(
    corpus: CorpusConfig, plan: Plan, version: Version, latest: bytes
) -> None:
    version.store.create("LATEST", latest)
    workers = Workers()
    assert check_ids_by_workers(plan, corpus, version, workers) == check_ids(plan, corpus)
    assert len(workers.hashed) == 6


def test_other_settings_that_shape_ids_are_another_look(
    corpus: CorpusConfig, plan: Plan, version: Version
) -> None:
    check_ids_by_workers(plan, corpus, version, Workers())
    texts = corpus.model_copy(update={"id_column": "text"})
    workers = Workers()
    found = check_ids_by_workers(plan, texts, version, workers)
    assert len(workers.hashed) == 6
    assert found.duplicates == 2


@pytest.mark.parametrize("share", [0, 1, 2])
@pytest.mark.parametrize("what", ["hashes", "duplicates"])
def test_what_is_torn_is_made_anew(
    corpus: CorpusConfig, plan: Plan, version: Version, what: str, share: int
) -> None:
    found = check_ids_by_workers(plan, corpus, version, Workers())
    known = Path(version.root) / version.duplicates_key
    torn = known if what == "duplicates" else Path(version.root) / id_paths(version)[2]
    whole = torn.read_bytes(), known.read_bytes()
    os.truncate(torn, torn.stat().st_size * share // 3)
    if what == "hashes":
        known.unlink()
    workers = Workers()
    assert check_ids_by_workers(plan, corpus, version, workers) == found
    assert workers.hashed == (["00002"] if what == "hashes" else [])
    assert (torn.read_bytes(), known.read_bytes()) == whole


def test_what_is_nested_too_deeply_is_no_knowledge_of_ids(
    corpus: CorpusConfig, plan: Plan, version: Version
) -> None:
    found = check_ids_by_workers(plan, corpus, version, Workers())
    (Path(version.root) / version.duplicates_key).write_bytes(b"[" * 100_000)
    assert check_ids_by_workers(plan, corpus, version, Workers()) == found


def test_a_store_that_keeps_nothing_ends_it(
    corpus: CorpusConfig, plan: Plan, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_files, "_checksum", lambda data: os.urandom(16))
    with pytest.raises(IntegrityError, match="_meta/ids: does not keep what is written there"):
        check_ids_by_workers(plan, corpus, version, Workers())


def test_many_ids_of_a_split_stand_in_files_of_bounded_size(
    tmp_path: Path, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(id_files, "_MOST_HASHES", 7)
    ids = [n if n % 10 else 0 for n in range(100)]
    path = write(tmp_path / "a.jsonl.gz", [json.dumps({"id": n, "text": "x"}) for n in ids])
    corpus = corpus_config(path, id_column="id")
    plan = plan_inputs(corpus)
    assert check_ids_by_workers(plan, corpus, version, Workers()) == check_ids(plan, corpus)
    paths = [Path(version.root) / path for path in id_paths(version)]
    assert [path.stat().st_size for path in paths] == [7 * 8 + 16] * 14 + [2 * 8 + 16]
    hashes = np.concatenate(list(kept_hashes(plan.splits[0], corpus, version)))
    assert len(hashes) == 100
    assert len(np.unique(hashes)) == 91
    # Without its end, or one in the middle, a split counts as not looked at.
    for gone in (paths[-1], paths[3]):
        data = gone.read_bytes()
        (Path(version.root) / version.duplicates_key).unlink()
        gone.unlink()
        workers = Workers()
        check_ids_by_workers(plan, corpus, version, workers)
        assert workers.hashed == ["00000"]
        assert gone.read_bytes() == data


def test_hashes_that_meet_by_chance_reject_nothing(
    corpus: CorpusConfig, plan: Plan, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = check_ids(plan, corpus)
    monkeypatch.setattr(
        duplicates, "_hashes", lambda ids: np.array([len(one) % 2 for one in ids], np.uint64)
    )
    workers = Workers()
    assert check_ids_by_workers(plan, corpus, version, workers) == true
    assert len(workers.read_again) == 6


def test_a_column_that_holds_no_id_is_refused(
    corpus: CorpusConfig, plan: Plan, version: Version, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "_MOST_DUPLICATES", 1)
    with pytest.raises(InputError, match="id column 'id' is not an id: 2 of 60 records repeat"):
        check_ids_by_workers(plan, corpus, version, Workers())


def test_in_threads_and_across_formats_as_duckdb_counts(tmp_path: Path, version: Version) -> None:
    ids = np.random.default_rng(3).integers(0, 3000, 2400)
    third = [ids[n::3].tolist() for n in range(3)]
    write(tmp_path / "in/a.jsonl", [json.dumps({"id": n, "text": "x"}) for n in third[0]])
    write(tmp_path / "in/b.csv.gz", ["id,text", *(f"{n},x" for n in third[1])])
    pq.write_table(pa.table({"id": third[2], "text": ["x"] * 800}), tmp_path / "in/c.parquet", 99)
    corpus = corpus_config(tmp_path / "in", id_column="id", split_bytes=1000)
    plan = check_ids_by_workers(plan_inputs(corpus), corpus, version, map_in_threads)
    read = read_plan(plan, corpus)
    seen = duckdb.from_arrow(pa.table({"id": ids}))
    [(distinct,)] = seen.aggregate("count(distinct id)").fetchall()
    assert len(read.ids) == distinct
    order = [str(one) for part in third for one in part]
    assert read.ids == list(dict.fromkeys(order))
    assert read.reasons == ["duplicate_id"] * (len(ids) - distinct)
