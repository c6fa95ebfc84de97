"""What is kept between processes: found again, never trusted when it may be wrong."""

import os
import threading
import time
from pathlib import Path

import pytest

from embedkit.caches import CACHE_VARIABLE, Cache, files_of, machine_cache

MADE_OF = {"weights": "abc", "length": 3}


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


def entry_of(cache: Cache) -> Path:
    (found,) = cache.directory.glob("*/*")
    return found


def test_an_entry_is_found_by_all_that_it_was_made_of(cache):
    cache.write("things", MADE_OF, b"first ", memoryview(b"second"))
    assert bytes(cache.read("things", MADE_OF)) == b"first second"
    assert bytes(cache.read("things", dict(reversed(MADE_OF.items())))) == b"first second"
    for other in (MADE_OF | {"length": 4}, {"weights": "abc"}, MADE_OF | {"more": None}):
        assert cache.read("things", other) is None
    assert cache.read("others", MADE_OF) is None
    cache.write("things", MADE_OF, b"")
    assert bytes(cache.read("things", MADE_OF)) == b""


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"x",
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: b"x" + content[1:],
        lambda content: content.replace(b"cache 1", b"cache 2"),
    ],
    ids=["empty", "shorter", "half", "longer", "a bit", "another kind", "another format"],
)
def test_a_damaged_entry_is_none_and_is_made_anew(cache, damage):
    cache.write("things", MADE_OF, b"what it is")
    entry = entry_of(cache)
    entry.write_bytes(damage(entry.read_bytes()))
    assert cache.read("things", MADE_OF) is None
    cache.write("things", MADE_OF, b"what it is")
    assert bytes(cache.read("things", MADE_OF)) == b"what it is"


def test_one_that_is_no_file_or_cannot_be_read_is_none(cache):
    cache.write("things", MADE_OF, b"what it is")
    entry = entry_of(cache)
    entry.unlink()
    entry.mkdir()
    assert cache.read("things", MADE_OF) is None
    # Nor does it stand in the way of those who would replace it.
    cache.write("things", MADE_OF, b"what it is")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_one_of_somebody_else_is_none(cache):
    cache.write("things", MADE_OF, b"what it is")
    os.chown(entry_of(cache), 12345, 12345)
    assert cache.read("things", MADE_OF) is None


def test_without_a_directory_that_can_be_written_there_is_nothing(tmp_path):
    (tmp_path / "file").write_text("no directory")
    for cache in (Cache(tmp_path / "file" / "cache"), Cache(tmp_path / "file"), Cache(None)):
        cache.write("things", MADE_OF, b"what it is")
        assert cache.read("things", MADE_OF) is None


def test_what_was_longest_of_no_use_makes_room(tmp_path):
    cache = Cache(tmp_path, most_bytes=400)
    for number in range(3):
        cache.write("things", {"number": number}, b"x" * 50)
    entries = sorted(cache.directory.glob("*/*"), key=lambda file: file.stat().st_mtime_ns)
    for age, entry in enumerate(entries):
        os.utime(entry, (1000 + age, 1000 + age))
    assert cache.read("things", {"number": 0}) is not None
    cache.write("things", {"number": 3}, b"x" * 50)
    cache.write("things", {"number": 4}, b"x" * 50)
    found = [n for n in range(5) if cache.read("things", {"number": n}) is not None]
    assert found == [0, 2, 3, 4]


def test_what_was_left_half_written_is_no_entry_and_goes_in_time(cache):
    cache.write("things", MADE_OF, b"what it is")
    (cache.directory / "things" / "abc.unfinished").write_bytes(b"half")
    old = cache.directory / "things" / "def.unfinished"
    old.write_bytes(b"half")
    os.utime(old, (1, 1))
    cache.write("things", {"number": 1}, b"more")
    names = {file.name.partition(".")[2] for file in (cache.directory / "things").iterdir()}
    assert names == {"", "unfinished"} and not old.exists()


def test_many_writers_of_one_entry_leave_a_whole_one(cache):
    def write() -> None:
        for _ in range(20):
            cache.write("things", MADE_OF, b"x" * 100_000)
            found = cache.read("things", MADE_OF)
            assert found is not None and len(found) == 100_000

    failed = []
    old = threading.excepthook
    threading.excepthook = failed.append
    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    threading.excepthook = old
    assert not failed
    assert len(list(cache.directory.glob("*/*"))) == 1


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({CACHE_VARIABLE: "/somewhere"}, "/somewhere"),
        ({CACHE_VARIABLE: "off", "XDG_CACHE_HOME": "/xdg"}, None),
        ({CACHE_VARIABLE: "", "XDG_CACHE_HOME": "/xdg"}, "/xdg/embedkit"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/home/me"}, "/home/me/.cache/embedkit"),
        ({"HOME": "/home/me"}, "/home/me/.cache/embedkit"),
        ({CACHE_VARIABLE: "~/here", "HOME": "/home/me"}, "/home/me/here"),
        ({"HOME": "relative"}, None),
    ],
)
def test_where_it_is(monkeypatch, environment, place):
    for name in (CACHE_VARIABLE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert machine_cache().directory == (None if place is None else Path(place))


def test_files_that_changed_look_different_whatever_their_times_say(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model").write_bytes(b"one")
    assert files_of(tmp_path) is None, "it could change again within the clock's tick"
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    before = files_of(tmp_path)
    assert list(before) == [os.path.join("sub", "model")]
    assert files_of(tmp_path) == before
    state = (tmp_path / "sub" / "model").stat()
    (tmp_path / "sub" / "model").write_bytes(b"two")
    os.utime(tmp_path / "sub" / "model", ns=(state.st_atime_ns, state.st_mtime_ns))
    assert files_of(tmp_path) != before
    (tmp_path / "another").write_bytes(b"")
    assert len(files_of(tmp_path)) == 2
    (tmp_path / "sub" / "link").symlink_to(tmp_path / "another")
    assert len(files_of(tmp_path)) == 3
    (tmp_path / "folder").symlink_to(tmp_path / "sub")
    assert files_of(tmp_path) is None, "nobody looks at what is behind it"
