"""Parts that many blocks read a few rows of: decoded a few times, and then copied."""

import os
from collections import namedtuple
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.dataset import part_copies
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.part_copies import PartCopies
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError

COLUMNS = ("id", "text_hash", "embedding")
ROWS = np.array([4, 0, 2, 2])


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    temporary = tmp_path_factory.mktemp("tmp")
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    return temporary / f"embedkit-reuse-{os.getuid()}"


def test_the_fourth_time_a_part_is_copied(complete: Version, folder: Path) -> None:
    copies = PartCopies(complete)
    parts = read_manifest(complete).parts
    for part in parts:
        rows = ROWS % part.rows
        whole = pq.read_table(Path(complete.url) / part.path)
        for _ in range(3):
            assert copies.rows_of(part, COLUMNS, rows) is None
        for _ in range(2):
            found = copies.rows_of(part, COLUMNS, rows)
            assert found.equals(whole.select(found.column_names).take(rows), check_metadata=True)
            assert set(found.column_names) == set(COLUMNS)
            assert found.schema.metadata[b"embedkit.format"] == b"1"
    assert len(os.listdir(folder)) == len(parts) > 1


def test_copies_are_shared_and_go_with_those_who_made_them(complete: Version, folder: Path) -> None:
    part, *_ = read_manifest(complete).parts
    first, second = PartCopies(complete), PartCopies(complete)
    for copies in (first, second):
        for _ in range(4):
            found = copies.rows_of(part, COLUMNS, ROWS)
    (made,) = os.listdir(folder)
    del first
    assert os.listdir(folder) == []
    assert second.rows_of(part, COLUMNS, ROWS).equals(found)
    del copies, second
    assert found.num_rows == 4
    third = PartCopies(complete)
    for _ in range(4):
        third.rows_of(part, COLUMNS, ROWS)
    assert os.listdir(folder) == [made]


def test_a_damaged_part_is_not_copied(complete: Version, folder: Path) -> None:
    part, *_ = read_manifest(complete).parts
    path = Path(complete.url) / part.path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 1
    path.write_bytes(data)
    copies = PartCopies(complete)
    for _ in range(3):
        assert copies.rows_of(part, COLUMNS, ROWS) is None
    with pytest.raises(IntegrityError, match=f"{part.path}: its SHA-256 is not"):
        copies.rows_of(part, COLUMNS, ROWS)
    assert os.listdir(folder) == []


def test_without_room_it_is_read_again(
    complete: Version, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(part_copies._SPARED_BYTES))
    part, *_ = read_manifest(complete).parts
    copies = PartCopies(complete)
    assert [copies.rows_of(part, COLUMNS, ROWS) for _ in range(6)] == [None] * 6
    assert os.listdir(folder) == []


def test_on_a_full_disk_it_is_read_again(
    complete: Version,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    part, *_ = read_manifest(complete).parts
    copies = PartCopies(complete)
    monkeypatch.setattr(os, "fsync", full)
    assert [copies.rows_of(part, COLUMNS, ROWS) for _ in range(4)] == [None] * 4
    assert "No space left on device" in caplog.text
    assert os.listdir(folder) == []


def test_rows_without_a_column_are_copied_without_it(complete: Version) -> None:
    part, *_ = read_manifest(complete).parts
    copies = PartCopies(complete)
    found = [copies.rows_of(part, ("id", "embeddings"), ROWS) for _ in range(4)]
    assert isinstance(found[3], pa.Table)
    assert found[3].column_names == ["id"]
