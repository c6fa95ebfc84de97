"""Rows of an earlier version found by hashes, in sorted runs that several processes share."""

import itertools
import logging
import os
import pickle
import stat
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.dataset import hash_runs
from embedkit.dataset.hash_runs import (
    HashRun,
    RunOfParts,
    cut_into_runs,
    missing_runs,
    remove_runs,
)
from embedkit.dataset.manifest import Part
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow import hash_index
from embedkit.flow.hash_index import GlobalIndex, MissingRun, write_index
from embedkit.flow.map_splits import map_in_threads
from embedkit.flow.row_index import Places
from embedkit.formats.canonical import sha256
from embedkit.hashes.digests import text_hash

_Rows = Sequence[tuple[str, str]]
"""Ids and texts."""

_numbers = itertools.count()


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Local, whose runs are mapped where they are, and one whose runs have to be copied."""
    local = request.param == "local"
    return str(tmp_path / "root") if local else f"memory://hash-index-{next(_numbers)}"


@pytest.fixture(autouse=True)
def _copies(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path_factory.mktemp("tmp")))


@pytest.fixture(autouse=True)
def _small_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_runs, "_MOST_PARTS", 3)
    monkeypatch.setattr(hash_runs, "_MOST_ROWS", 8)


def batch(rows: _Rows) -> pa.RecordBatch:
    ids, texts = [one for one, _ in rows], [text_hash(text) for _, text in rows]
    return pa.record_batch({"id": pa.array(ids, pa.string()), "text_hash": pa.array(texts, "str")})


def index_of(root: str, parts: Sequence[_Rows]) -> GlobalIndex:
    """An index over parts of so many rows."""
    earlier = Version(root, "v1")
    earlier.store.create(earlier.plan_key, b"{}")
    made = []
    for number, rows in enumerate(parts):
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_batches([batch(rows)]), sink)
        data = sink.getvalue().to_pybytes()
        key = f"data/part-00000-{number:05d}.parquet"
        earlier.store.replace(earlier.key(key), data)
        made.append(Part(key, len(data), sha256(data), len(rows)))
    return GlobalIndex(earlier, tuple(made), Version(root, "v2"))


def runs_of(index: GlobalIndex) -> list[str]:
    return list(index.version.store.list("v2/_meta/reuse/"))


def as_lists(places: Places) -> list[tuple[int, int, bool]]:
    return list(
        zip(places.parts.tolist(), places.rows.tolist(), places.known.tolist(), strict=True)
    )


def expected(parts: Sequence[_Rows], rows: _Rows) -> list[tuple[int, int, bool]]:
    """What dictionaries find."""
    by_text: dict[str, tuple[int, int]] = {}
    by_both: dict[tuple[str, str], tuple[int, int]] = {}
    ids = set()
    for part, held in enumerate(parts):
        for row, (one, text) in enumerate(held):
            by_text.setdefault(text, (part, row))
            by_both.setdefault((one, text), (part, row))
            ids.add(one)
    return [
        (*by_both.get((one, text), by_text.get(text, (-1, 0))), one in ids) for one, text in rows
    ]


_some = st.text("abc", max_size=2)
_rows = st.lists(st.tuples(_some, _some), min_size=1, max_size=12)


@settings(max_examples=25, deadline=None)
@given(parts=st.lists(_rows, max_size=8), rows=_rows)
def test_finds_what_dictionaries_find(parts: list[_Rows], rows: _Rows) -> None:
    index = index_of(f"memory://hash-index-{next(_numbers)}", parts)
    assert as_lists(index.find(batch(rows))) == expected(parts, rows)
    assert as_lists(index.find(batch(rows[:0]))) == []


@pytest.mark.parametrize("ids_are_texts", [False, True])
def test_many_rows_over_several_runs(
    root: str, monkeypatch: pytest.MonkeyPatch, ids_are_texts: bool
) -> None:
    monkeypatch.setattr(hash_runs, "_MOST_ROWS", 2500)
    random = np.random.default_rng(3)
    texts = [f"text {number}" for number in random.integers(0, 6000, 9000)]
    every = [(text if ids_are_texts else f"id {n}", text) for n, text in enumerate(texts)]
    parts = [every[start : start + 700] for start in range(0, len(every), 700)]
    index = index_of(root, parts)
    rows = [*every[::7], *((f"new {text}", text) for text in texts[:500]), ("id 5", "none has it")]
    assert as_lists(index.find(batch(rows))) == expected(parts, rows)
    assert len(runs_of(index)) == 5


def test_runs_are_of_so_many_parts_or_rows(root: str) -> None:
    counts = [1, 1, 1, 1, 9, 20, 2, 6, 3, 0]
    rows = iter((f"{n}", f"{n}") for n in range(100))
    index = index_of(root, [list(itertools.islice(rows, count)) for count in counts])
    runs = list(cut_into_runs(index.earlier, index.parts))
    assert [(run.first, len(run.parts), run.rows) for run in runs] == [
        (0, 3, 3),
        (3, 1, 1),
        (4, 1, 9),
        (5, 1, 20),
        (6, 2, 8),
        (8, 2, 3),
    ]
    assert len({run.name for run in runs}) == 6
    assert as_lists(index.find(batch([(f"{n}", f"{n}") for n in (31, 43, 44)]))) == [
        (5, 18, True),
        (8, 2, True),
        (-1, 0, False),
    ]
    assert list(cut_into_runs(index.earlier, ())) == []


PARTS: list[_Rows] = [
    [(f"{part}-{row}", f"text {part} {row}") for row in range(4)] for part in range(9)
]
ASKED = [("7-2", "text 7 2"), ("new", "text 0 3"), ("3-1", "changed")]
FOUND = [(7, 2, True), (0, 3, False), (-1, 0, True)]


def test_an_index_goes_to_other_processes_and_holds_nothing_on_its_way(root: str) -> None:
    index = index_of(root, PARTS)
    before = pickle.dumps(index)
    assert as_lists(index.find(batch(ASKED))) == FOUND
    assert pickle.dumps(index) == before
    if not root.startswith("memory"):
        assert as_lists(pickle.loads(before).find(batch(ASKED))) == FOUND


def damages(data: bytes) -> dict[str, bytes]:
    return {
        "empty": b"",
        "cut": data[: len(data) // 3],
        "one byte short": data[:-1],
        "one row short": data[40:],
        "one bit": data[:50] + bytes([data[50] ^ 1]) + data[51:],
        "other checksum": data[:-1] + bytes([data[-1] ^ 128]),
        "garbage": b"\xff" * 1000,
    }


@pytest.mark.parametrize("damage", list(damages(b"0" * 99)))
def test_what_is_torn_is_made_anew(
    root: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    index = index_of(root, PARTS)
    write_index(index, map_in_threads)
    key, store = runs_of(index)[1], index.version.store
    whole = store.read(key)
    store.replace(key, damages(whole)[damage])
    with caplog.at_level(logging.WARNING):
        assert as_lists(index.find(batch(ASKED))) == FOUND
    assert caplog.messages == [f"{index.version.url_of(key)}: torn; made anew"]
    assert store.read(key) == whole


def test_a_store_that_keeps_nothing_ends_it(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_runs, "_checksum", lambda arrays: os.urandom(16))
    with pytest.raises(IntegrityError, match="does not keep what is written there"):
        index_of(root, PARTS).find(batch(ASKED))


class Workers:
    """Writes runs in this process, noting which; may be killed before one of them."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.written: list[int] = []
        self._left = killed_at

    def __call__(
        self, write: Callable[[MissingRun], None], runs: Sequence[MissingRun]
    ) -> Iterator[None]:
        for missing in runs:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left = None if self._left is None else self._left - 1
            self.written.append(missing.run.first)
            yield pickle.loads(pickle.dumps(write))(missing)


@pytest.mark.parametrize("killed_at", range(4))
def test_killed_anywhere_only_what_is_missing_is_written(tmp_path: Path, killed_at: int) -> None:
    index = index_of(str(tmp_path), PARTS)
    first, second, third = Workers(killed_at), Workers(), Workers()
    with pytest.raises(KeyboardInterrupt):
        write_index(index, first)
    write_index(index, second)
    write_index(index, third)
    assert sorted(first.written + second.written) == [0, 2, 4, 6, 8]
    assert third.written == []
    assert missing_runs(index.version, cut_into_runs(index.earlier, index.parts)) == []
    assert as_lists(index.find(batch(ASKED))) == FOUND


def test_workers_are_told_what_they_have_to_read(root: str) -> None:
    index = index_of(root, PARTS)
    run = next(cut_into_runs(index.earlier, index.parts))
    split = MissingRun(3, run).split
    assert split.split_id == "00003"
    assert [piece.url for piece in split.ranges] == [
        f"{index.earlier.url}/data/part-00000-0000{n}.parquet" for n in range(2)
    ]
    # Not whole parts, whose vectors are nearly all of them.
    assert [piece.stored for piece in split.ranges] == [256, 256]


def test_many_at_once_find_the_same(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of(root, PARTS)
    found: list[list[tuple[int, int, bool]]] = []

    read_run, read = hash_index._read_run, []

    def noted(run: RunOfParts) -> HashRun:
        read.append(run.first)
        return read_run(run)

    monkeypatch.setattr(hash_index, "_read_run", noted)

    def find() -> None:
        mine = GlobalIndex(index.earlier, index.parts, index.version)
        found.append(as_lists(mine.find(batch(ASKED))))

    threads = [threading.Thread(target=find) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [FOUND] * 6
    # By one of them.
    assert sorted(read) == [0, 2, 4, 6, 8]
    assert len(runs_of(index)) == 5


def test_a_part_that_is_damaged_is_named(root: str) -> None:
    index = index_of(root, PARTS)
    index.earlier.store.replace("v1/data/part-00000-00003.parquet", b"PAR1garbage")
    with pytest.raises(IntegrityError, match=r"v1/data/part-00000-00003\.parquet: not a readable"):
        index.find(batch(ASKED))
    index.earlier.store.remove("v1/data/part-00000-00003.parquet")
    with pytest.raises(IntegrityError, match=r"v1/data/part-00000-00003\.parquet: in the manifest"):
        index.find(batch(ASKED))


@pytest.mark.parametrize("hashes", [["no hash"], [text_hash("x") * 2]])
def test_a_part_whose_hashes_are_none_is_named(tmp_path: Path, hashes: list[str]) -> None:
    index = index_of(str(tmp_path), [[("a", "x")]])
    table = pa.table({"id": ["a"], "text_hash": hashes})
    pq.write_table(table, tmp_path / "v1" / index.parts[0].path)
    with pytest.raises(
        IntegrityError, match=r"part-00000-00000\.parquet: its text_hash is no hash"
    ):
        index.find(batch(ASKED))


def test_the_runs_of_another_version_are_others(tmp_path: Path) -> None:
    index = index_of(str(tmp_path), PARTS)
    index.find(batch(ASKED))
    fewer = GlobalIndex(index.earlier, index.parts[:5], index.version)
    assert as_lists(fewer.find(batch(ASKED))) == [(-1, 0, False), *FOUND[1:]]
    assert len(runs_of(index)) == 6


def test_removed_while_it_is_read_it_is_read_on(root: str) -> None:
    index = index_of(root, PARTS)
    assert as_lists(index.find(batch(ASKED))) == FOUND
    remove_runs(index.version)
    assert runs_of(index) == []
    assert as_lists(index.find(batch(ASKED))) == FOUND


def test_a_late_attempt_leaves_nothing_in_a_complete_version(root: str) -> None:
    index = index_of(root, PARTS)
    for name in ("_SUCCESS", "_meta/manifest.json"):
        index.version.store.create(index.version.key(name), b"{}")
    assert as_lists(index.find(batch(ASKED))) == [(-1, 0, False)] * 3
    assert runs_of(index) == []


def copies(folder: str) -> list[str]:
    return sorted(os.listdir(Path(folder) / f"embedkit-reuse-{os.getuid()}"))


def test_copies_are_shared_and_go_with_those_who_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    index = index_of(f"memory://hash-index-{next(_numbers)}", PARTS)
    assert as_lists(index.find(batch(ASKED))) == FOUND
    assert len(copies(str(tmp_path))) == 5
    folder = tmp_path / f"embedkit-reuse-{os.getuid()}"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    made = {path.name: path.stat().st_ino for path in folder.iterdir()}
    # Another process, as far as it knows.
    monkeypatch.setattr(hash_index, "_opened", {})
    # Torn by a power cut, one is copied once more; one of a killed process goes after a day.
    os.truncate(folder / min(made), 5)
    old = folder / "tmp-of-a-killed-process"
    old.write_bytes(b"x")
    os.utime(old, (1, 1))
    second = GlobalIndex(index.earlier, index.parts, index.version)
    assert as_lists(second.find(batch(ASKED))) == FOUND
    now = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert now.keys() == made.keys()
    assert [name for name in made if now[name] != made[name]] == [min(made)]
    hash_index._opened.clear()
    del index, second
    assert copies(str(tmp_path)) == []


def test_a_folder_of_somebody_else_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / f"embedkit-reuse-{os.getuid()}").symlink_to(tmp_path / "theirs")
    index = index_of(f"memory://hash-index-{next(_numbers)}", PARTS)
    with pytest.raises(PermissionError, match="embedkit-reuse"):
        index.find(batch(ASKED))
    assert os.listdir(tmp_path / "theirs") == []


def peak_of(root: str, parts: int, rows_of_part: int) -> int:
    """The most memory that it takes to write an index, and to look for a block's rows in it."""
    texts = (f"{number}" for number in itertools.count())
    every: list[_Rows] = [
        [(text, text) for text in itertools.islice(texts, rows_of_part)] for _ in range(parts)
    ]
    index = index_of(root, every)
    asked = batch([(f"{number}", f"{number}") for number in range(0, 3 * parts * rows_of_part, 97)])
    asked = asked.slice(0, 1000)
    del every
    tracemalloc.start()
    try:
        found = index.find(asked)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.known.tolist() == (found.parts >= 0).tolist()
    assert len(runs_of(index)) == -(-parts * rows_of_part // hash_runs._MOST_ROWS)
    return peak


def test_memory_is_that_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hash_runs, "_MOST_PARTS", 4)
    monkeypatch.setattr(hash_runs, "_MOST_ROWS", 5000)
    few, many = (peak_of(str(tmp_path / f"{n}"), n, 1250) for n in (4, 40))
    # Ten times the rows.
    assert many < 1.4 * few


@pytest.mark.soak
def test_memory_of_millions_of_rows_is_that_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hash_runs, "_MOST_PARTS", 256)
    monkeypatch.setattr(hash_runs, "_MOST_ROWS", 1 << 20)
    few, many = (peak_of(str(tmp_path / f"{n}"), n, 1 << 14) for n in (64, 256))
    print(f"{few / 1e6:.0f} MB for 1 million rows, {many / 1e6:.0f} MB for 4 million")
    assert many < 1.1 * few < 200e6
