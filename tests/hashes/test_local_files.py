"""Hashes on a local disk that is full: none is lost without a word."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embedkit.corpus.duplicates import IdHashes
from embedkit.errors.foreign import as_ours
from embedkit.hashes.repeats import HashFile
from embedkit.hashes.uniqueness import repeated


def in_one_file(hashes: np.ndarray, folder: Path) -> None:
    os.symlink("/dev/full", folder / "0")
    HashFile.write(folder / "0", hashes, 0, 1)


def by_leading_byte(hashes: np.ndarray, folder: Path) -> None:
    for bucket in range(256):
        os.symlink("/dev/full", folder / f"{bucket:03d}")
    repeated([hashes], in_memory=1)


def of_ids(hashes: np.ndarray, folder: Path) -> None:
    with IdHashes() as merged:
        merged.add("00000", hashes)


@pytest.mark.parametrize("count", [3, 3000])
@pytest.mark.parametrize("write", [in_one_file, by_leading_byte, of_ids])
def test_a_full_disk_is_named_with_the_remedy(
    write: Callable[[np.ndarray, Path], None],
    count: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Folder:
        def __init__(self, prefix: str) -> None: ...

        def __enter__(self) -> str:
            return str(tmp_path)

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "TemporaryDirectory", Folder)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda prefix: open("/dev/full", "w+b"))
    with pytest.raises(OSError, match="No space left") as caught:
        write(np.arange(count, dtype=np.uint64), tmp_path)
    said = str(as_ours(caught.value))
    assert said.startswith(f"{tmp_path}: No space left on device; make room, then run the same")
