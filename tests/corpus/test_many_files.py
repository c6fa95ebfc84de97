"""How very many files are looked at: each once and in order, by threads only where that waits."""

import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from embedkit.corpus import many_files
from embedkit.corpus.many_files import FILES_AT_ONCE, look_at
from embedkit.corpus.opening import announce, first_bytes
from embedkit.corpus.splits import FileRange

ALONE = FILES_AT_ONCE * 64
COUNTS = [0, 1, 2, 256, 257, 258, 3 * 257 + 5]


def file_of(path: Path | int) -> FileRange:
    size = path.stat().st_size if isinstance(path, Path) else 0
    return FileRange(str(path), str(path), size, "", "text", "none", 0, size)


class Disk:
    """Files whose looks take as long as is said, by a clock that only they move."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: list[float]) -> None:
        self.seconds, self.now = seconds, 0.0
        self.done: list[tuple[str, str]] = []
        self.threads: set[str] = set()
        monkeypatch.setattr(many_files.time, "perf_counter", lambda: self.now)

    def look(self, file: FileRange) -> str:
        number = int(file.url)
        self.threads.add(threading.current_thread().name)
        self.done.append(("look", file.url))
        self.now += self.seconds[min(number, len(self.seconds) - 1)]
        return file.url

    def announce(self, file: FileRange) -> None:
        self.done.append(("announce", file.url))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("announced", [True, False])
def test_files_that_the_system_holds_are_looked_at_by_one_thread(monkeypatch, count, announced):
    disk = Disk(monkeypatch, [2e-5])
    files = [file_of(number) for number in range(count)]
    found = list(look_at(disk.look, files, disk.announce if announced else None))
    assert found == [file.url for file in files]
    assert disk.done == [("look", file.url) for file in files]
    assert disk.threads <= {threading.current_thread().name}


@pytest.mark.parametrize("count", COUNTS)
def test_files_of_a_disk_are_announced_before_they_are_looked_at(monkeypatch, count):
    disk = Disk(monkeypatch, [1.5e-4])
    files = [file_of(number) for number in range(count)]
    assert list(look_at(disk.look, files, disk.announce)) == [file.url for file in files]
    assert disk.threads <= {threading.current_thread().name}
    announced = [url for what, url in disk.done if what == "announce"]
    assert announced == [file.url for place, file in enumerate(files) if place % 257]
    for url in announced:
        assert disk.done.index(("announce", url)) < disk.done.index(("look", url))


def test_what_takes_long_without_anything_to_announce_is_for_threads(monkeypatch):
    disk = Disk(monkeypatch, [1.5e-4])
    assert list(look_at(disk.look, [file_of(number) for number in range(300)])) == [
        str(number) for number in range(300)
    ]
    assert any(name.startswith("plan") for name in disk.threads)


@pytest.mark.parametrize("count", [1, 2, 33, ALONE, ALONE + 1, ALONE + 2, 2 * ALONE + 40])
def test_files_of_a_store_are_looked_at_by_threads_in_their_order(monkeypatch, count):
    disk = Disk(monkeypatch, [0.05])
    files = [file_of(number) for number in range(count)]
    found = list(look_at(disk.look, files, disk.announce))
    assert found == [file.url for file in files]
    assert Counter(disk.done) == Counter(("look", file.url) for file in files)
    # A thread may be busy with its first part until the others are through with the rest.
    assert any(name.startswith("plan") for name in disk.threads) == (count > 1)


def test_many_files_of_a_store_are_looked_at_at_once():
    at_once, most = 0, 0
    lock = threading.Lock()

    def look(file: FileRange) -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        time.sleep(0.05)
        with lock:
            at_once -= 1

    list(look_at(look, [file_of(number) for number in range(1 + 2 * FILES_AT_ONCE)]))
    assert most == FILES_AT_ONCE


def test_a_store_beside_a_disk_is_noticed(monkeypatch):
    """The first of every 257 files tells how the next ones are."""
    disk = Disk(monkeypatch, [2e-5] * 257 + [0.05])
    files = [file_of(number) for number in range(600)]
    list(look_at(disk.look, files, disk.announce))
    here = threading.current_thread().name
    assert disk.done[:258] == [("look", str(number)) for number in range(258)]
    assert disk.threads > {here}


@pytest.mark.parametrize("seconds", [2e-5, 1.5e-4, 0.05])
@pytest.mark.parametrize("bad", [0, 1, 70, 299])
def test_what_a_look_raises_ends_it(monkeypatch, seconds, bad):
    disk = Disk(monkeypatch, [seconds])

    def look(file: FileRange) -> str:
        if file.url == str(bad):
            raise ValueError(file.url)
        return disk.look(file)

    found: list[str] = []
    with pytest.raises(ValueError, match=f"^{bad}$"):
        found.extend(look_at(look, [file_of(number) for number in range(300)], disk.announce))
    # Those before it came first, but for those of its thread's part.
    assert found == [str(number) for number in range(len(found))]
    assert len(found) <= bad


@pytest.mark.parametrize(
    "kind", ["file", "empty", "gone", "folder", "pipe", "no rights", "long name", "url"]
)
def test_announcing_changes_nothing_and_waits_for_nothing(tmp_path, kind):
    path = tmp_path / ("x" * 300 if kind == "long name" else "a file")
    if kind in ("file", "no rights"):
        path.write_bytes(b"some text\n" * 100)
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    if kind == "no rights":
        path.chmod(0)
    before = os.listdir("/proc/self/fd")
    if kind == "url":
        announce(FileRange("a", "s3://no-such-bucket/a", 5, "", "text", "none", 0, 5))
    else:
        announce(FileRange("a file", str(path), 5, "", "text", "none", 0, 5))
    assert os.listdir("/proc/self/fd") == before
    if kind == "file":
        status = path.stat()
        etag = f"{status.st_size}-{status.st_mtime_ns}"
        whole = FileRange("a file", str(path), status.st_size, etag, "text", "none", 0, 1000)
        assert first_bytes(whole) == (b"some text\n" * 100)[:512]
