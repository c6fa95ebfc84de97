"""What every store promises, on a disk, in memory and in S3."""

import errno
import os
import threading
import time
from pathlib import Path

import pytest

from embedkit.dataset import local_store
from embedkit.dataset.stores import copy, create, open_store, probe, read_all
from embedkit.errors import ConfigError, GoneError, StoreError


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return open_store(str(tmp_path / "not" / "there"))
    if request.param == "memory":
        return open_store(f"memory://{tmp_path.name}")
    return open_store(f"s3://{request.getfixturevalue('bucket')}/root")


def test_an_object_is_created_once(store):
    assert store.create("v/a", b"first")
    assert not store.create("v/a", b"second")
    assert store.read("v/a") == b"first"


def test_a_copy_has_the_bytes_and_is_made_once(store):
    data = os.urandom(1 << 20)
    store.create("v1/data/a", data)
    store.create("v1/data/b", b"other")
    assert store.copy("v1/data/a", "v2/data/c")
    assert not store.copy("v1/data/b", "v2/data/c")
    assert not store.copy("v1/data/b", "v1/data/a")
    assert (store.read("v2/data/c"), store.size("v2/data/c")) == (data, len(data))
    assert store.read("v1/data/a") == data
    assert list(store.list("")) == ["v1/data/a", "v1/data/b", "v2/data/c"]
    assert list(store.list(".tmp/")) == []


def test_a_copy_outlives_what_it_was_made_of(store):
    store.create("v1/a", b"bytes")
    store.copy("v1/a", "v2/a")
    store.remove("v1/a")
    assert store.read("v2/a") == b"bytes"
    store.replace("v2/b", b"new")
    store.copy("v2/b", "v3/b")
    store.replace("v2/b", b"newer")
    assert store.read("v3/b") == b"new"


def test_a_copy_of_nothing(store):
    store.create("v2/taken", b"x")
    for key in ("v2/free", "v2/taken"):
        with pytest.raises(FileNotFoundError):
            store.copy("v1/none", key)
    assert store.size("v2/free") is None
    assert store.read("v2/taken") == b"x"


def test_of_many_copies_at_once_one_wins(store):
    won, start = [], threading.Barrier(8)
    for number in range(8):
        store.create(f"v1/{number}", bytes([number]) * 1000)

    def copy(number):
        start.wait()
        # Half of them against the other way of making an object.
        made = (
            store.copy(f"v1/{number}", "v2/a")
            if number % 2
            else store.create("v2/a", bytes([number]) * 1000)
        )
        if made:
            won.append(number)

    threads = [threading.Thread(target=copy, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("v2/a") == bytes(won) * 1000


def test_replace_changes_an_object_that_is_there_or_not(store):
    store.replace("LATEST", b"one")
    store.replace("LATEST", b"two")
    assert store.read("LATEST") == b"two"


def test_missing_objects(store):
    assert store.size("v/none") is None
    with pytest.raises(FileNotFoundError):
        store.read("v/none")
    # Where nobody asks for that, it is told as what it is.
    with pytest.raises(GoneError, match="v/none: gone; run the same command again to resume"):
        store.read("v/none")
    with pytest.raises(FileNotFoundError):
        store.open("v/none").read()
    store.remove("v/none")


def test_size_open_and_remove(store):
    store.create("v/a", b"0123456789")
    assert store.size("v/a") == 10
    with store.open("v/a") as first, store.open("v/a") as second:
        first.seek(4)
        second.seek(8)
        assert (first.read(2), second.read(2)) == (b"45", b"89")
    store.remove("v/a")
    assert store.size("v/a") is None


def test_when_an_object_was_written(store):
    assert store.modified("v/none") is None
    before = time.time()
    store.create("v/a", b"one")
    # A file system's clock ticks, and S3 tells whole seconds.
    assert before - 1.1 <= store.modified("v/a") <= time.time() + 0.1


def test_a_listing_is_sorted_fresh_and_only_below_its_prefix(store):
    assert list(store.list("v/data/")) == []
    for key in ("v/data/b", "v/data/a", "v/data2/c", "w/d", "v/e"):
        store.create(key, b"x")
    assert list(store.list("v/data/")) == ["v/data/a", "v/data/b"]
    assert list(store.list("")) == ["v/data/a", "v/data/b", "v/data2/c", "v/e", "w/d"]
    store.create("v/data/aa", b"x")
    assert list(store.list("v/data/")) == ["v/data/a", "v/data/aa", "v/data/b"]


def test_a_listing_tells_sizes(store):
    for key, size in (("v/data/b", 3), ("v/data/a", 0), ("w/d", 5)):
        store.create(key, bytes(size))
    assert list(store.sizes("v/data/")) == [("v/data/a", 0), ("v/data/b", 3)]
    assert list(store.sizes("v/none/")) == []


def test_keys_that_begin_with_a_prefix(store):
    assert "v/commits/00001-00000.json" not in store.matching("v/commits/00001-")
    wanted = ["v/commits/00001-00000.json", "v/commits/00001-00001.json"]
    others = ["v/commits/00011-00000.json", "v/commits/100001-00000.json", "v/splits/00001.json"]
    for key in (*wanted, *others):
        store.create(key, b"x")
    found = store.matching("v/commits/00001-")
    assert [key for key in (*wanted, *others, "v/commits/00001-00002.json") if key in found] == (
        wanted
    )


def test_a_listing_sees_another_process_s_objects(store):
    other = open_store(store.url)
    assert list(store.list("v/")) == list(other.list("v/")) == []
    other.create("v/a", b"x")
    assert list(store.list("v/")) == ["v/a"]
    assert store.size("v/a") == 1


def test_an_empty_and_a_large_object(store):
    store.create("v/empty", b"")
    assert store.read("v/empty") == b""
    large = os.urandom(1 << 20) * 24
    assert store.create("v/large", large)
    assert store.read("v/large") == large
    assert not store.create("v/large", large)


def test_of_many_writers_at_once_one_wins(store):
    won, start = [], threading.Barrier(8)

    def write(number):
        start.wait()
        if store.create("v/a", bytes([number]) * 1000):
            won.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("v/a") == bytes(won) * 1000


@pytest.mark.parametrize("key", ["../x", "v/../x", "/x", "v//x", "v/./x", "v\\x", "", "v/\n", "v/"])
def test_no_key_leaves_the_root(store, key):
    for operation in (store.read, store.size, store.open, store.remove):
        with pytest.raises(ConfigError, match="the name of an object"):
            operation(key)
    with pytest.raises(ConfigError):
        store.create(key, b"x")
    with pytest.raises(ConfigError):
        store.replace(key, b"x")
    store.create("v/there", b"x")
    for source, target in ((key, "v/copy"), ("v/there", key)):
        with pytest.raises(ConfigError):
            store.copy(source, target)


def test_probe_accepts_and_leaves_nothing(store):
    probe(store)
    assert list(store.list("")) == []
    assert list(store.list(".tmp/")) == []


class _Forgetful:
    """A store that lets the last writer win, as most file systems do."""

    def __init__(self, store):
        self._store = store

    def __getattr__(self, name):
        return getattr(self._store, name)

    def create(self, key, data):
        self._store.replace(key, data)
        return True


class _Liar(_Forgetful):
    """A store that says it refused, and wrote all the same."""

    def create(self, key, data):
        there = self._store.size(key) is not None
        self._store.replace(key, data)
        return not there


@pytest.mark.parametrize("kind", [_Forgetful, _Liar])
def test_probe_refuses_a_store_where_the_last_writer_wins(store, kind):
    with pytest.raises(ConfigError, match="lets a second writer replace"):
        probe(kind(store))
    assert list(store.list(".tmp/")) == []


class _Repeated(_Forgetful):
    """Its client sent a create twice, as the first answer was lost, and got the second answer."""

    def create(self, key, data):
        created = self._store.create(key, data)
        return False if created else created


class _Lost(_Forgetful):
    """The answer to a create is lost for good."""

    def create(self, key, data):
        if self._store.create(key, data):
            raise StoreError("no answer")
        return False


@pytest.mark.parametrize("kind", [_Repeated, _Lost])
def test_probe_reads_its_own_bytes_back_before_it_refuses(store, kind):
    probe(kind(store))
    assert list(store.list(".tmp/")) == []


class _Another(_Forgetful):
    """Whoever creates finds somebody else's object."""

    def create(self, key, data):
        self._store.create(key, b"of somebody else")
        return False


def test_probe_refuses_a_store_that_holds_other_bytes(store):
    with pytest.raises(ConfigError, match="lets a second writer replace"):
        probe(_Another(store))


def test_the_folders_below_a_root(store):
    assert list(store.folders()) == []
    for key in ("v2/_meta/plan.json", "v1/data/part.parquet", "v1/_SUCCESS", "LATEST"):
        store.create(key, b"x")
    assert [name for name in store.folders() if not name.startswith(".")] == ["v1", "v2"]


def test_read_all_keeps_the_order_and_names_what_is_missing(store):
    keys = [f"v/{number:03d}" for number in range(70)]
    for key in keys:
        store.create(key, key.encode())
    assert list(read_all(store, keys)) == [(key, key.encode()) for key in keys]
    with pytest.raises(FileNotFoundError):
        list(read_all(store, [*keys, "v/none"]))


class _Lossy:
    """Creates the object, or does not, and loses the answer."""

    def __init__(self, store, writes):
        self._store, self._writes = store, writes

    def size(self, key):
        return self._store.size(key)

    def create(self, key, data):
        if self._writes:
            self._store.create(key, data)
        raise StoreError("the connection was reset")

    def copy(self, source, key):
        self.create(key, self._store.read(source))


def test_a_lost_answer_is_looked_up(store):
    assert create(_Lossy(store, True), "v/a", b"x") is False
    assert store.read("v/a") == b"x"
    with pytest.raises(StoreError, match="reset"):
        create(_Lossy(store, False), "v/b", b"x")


def test_a_lost_answer_to_a_copy_is_looked_up(store):
    store.create("v/a", b"x")
    lossy = _Lossy(store, True)
    assert copy(lossy, "v/a", "v/b") is False
    assert store.read("v/b") == b"x"
    with pytest.raises(StoreError, match="reset"):
        copy(_Lossy(store, False), "v/a", "v/c")
    with pytest.raises(FileNotFoundError):
        copy(store, "v/none", "v/c")


def test_roots_that_are_none():
    for root in ("", "simplecache::s3://b/x", "nosuch://b/x"):
        with pytest.raises(ConfigError):
            open_store(root)


@pytest.mark.parametrize(
    "root",
    [
        "ftp://host/x",
        "sftp://host/x",
        "zip://x",
        "hf://datasets/a/b",
        "https://host/x",
        "http://h/x",
    ],
)
def test_file_systems_without_an_exclusive_create_are_refused_unopened(root):
    with pytest.raises(ConfigError, match=root.partition(":")[0]):
        open_store(root)


def test_relative_roots_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_store("out/").url == str(tmp_path / "out")
    assert open_store(f"file://{tmp_path}/out").url == str(tmp_path / "out")


class TestLocal:
    def test_a_write_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        store = open_store(str(tmp_path / "root"))
        store.create("v/a", b"x")

        def full(descriptor):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(local_store.os, "fsync", full)
        with pytest.raises(StoreError, match=r"v/b.*No space left"):
            store.create("v/b", b"y" * 1000)
        assert store.size("v/b") is None
        assert os.listdir(tmp_path / "root" / ".tmp") == []

    def test_a_replacement_that_fails_leaves_nothing(self, tmp_path, monkeypatch):
        store = open_store(str(tmp_path / "root"))
        store.replace("LATEST", b"v1")

        def refused(source, target):
            raise OSError(122, "Disk quota exceeded")

        monkeypatch.setattr(local_store.os, "replace", refused)
        with pytest.raises(StoreError, match=r"LATEST.*Disk quota exceeded"):
            store.replace("LATEST", b"v2")
        assert store.read("LATEST") == b"v1"
        assert os.listdir(tmp_path / "root" / ".tmp") == []

    def test_no_parquet_file_stands_aside(self, tmp_path, monkeypatch):
        seen = []
        monkeypatch.setattr(local_store.os, "link", lambda a, b: seen.append((a, b)))
        open_store(str(tmp_path)).create("v1/data/part-00000-00000.parquet", b"x")
        ((aside, name),) = seen
        assert Path(aside).parent == tmp_path / ".tmp"
        assert not aside.endswith(".parquet")
        assert name.endswith(".parquet")

    def test_the_data_is_on_disk_before_its_name_is(self, tmp_path, monkeypatch):
        order = []
        fsync, link = os.fsync, os.link

        def synced(descriptor):
            order.append(os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        def linked(source, target):
            order.append("link")
            link(source, target)

        store = open_store(str(tmp_path / "root"))
        monkeypatch.setattr(local_store.os, "fsync", synced)
        monkeypatch.setattr(local_store.os, "link", linked)
        store.create("v1/data/a", b"x")
        at = order.index("link")
        assert "/.tmp/" in order[at - 1]
        assert order[at + 1] == str(tmp_path / "root" / "v1" / "data")
        # The new folders' own names are on disk as well.
        assert str(tmp_path / "root" / "v1") in order[:at]
        assert str(tmp_path) in order[:at]

    def test_a_copy_is_a_second_name(self, tmp_path, monkeypatch):
        store = open_store(str(tmp_path / "root"))
        store.create("v1/data/a", b"x")
        order = []
        fsync, link = os.fsync, os.link
        monkeypatch.setattr(
            local_store.os,
            "fsync",
            lambda one: order.append(os.readlink(f"/proc/self/fd/{one}")) or fsync(one),
        )
        monkeypatch.setattr(local_store.os, "link", lambda a, b: order.append("link") or link(a, b))
        assert store.copy("v1/data/a", "v2/data/b")
        assert os.path.samefile(tmp_path / "root/v1/data/a", tmp_path / "root/v2/data/b")
        assert order[-2:] == ["link", str(tmp_path / "root" / "v2" / "data")]
        # Another attempt's name is on disk as well before anything is built on it.
        order.clear()
        assert not store.copy("v1/data/a", "v2/data/b")
        assert order == ["link", str(tmp_path / "root" / "v2" / "data")]

    @pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP])
    def test_where_links_are_refused_a_file_is_copied(self, tmp_path, monkeypatch, number):
        store = open_store(str(tmp_path / "root"))
        store.create("v1/a", b"bytes")
        link = os.link

        def refused(source, target):
            if "/.tmp/" not in source:
                raise OSError(number, os.strerror(number))
            link(source, target)

        monkeypatch.setattr(local_store.os, "link", refused)
        assert store.copy("v1/a", "v2/a")
        assert not store.copy("v1/a", "v2/a")
        assert store.read("v2/a") == b"bytes"
        assert not os.path.samefile(tmp_path / "root/v1/a", tmp_path / "root/v2/a")

    def test_a_copy_onto_a_full_disk_is_an_error(self, tmp_path, monkeypatch):
        store = open_store(str(tmp_path / "root"))
        store.create("v1/a", b"bytes")

        def full(source, target):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(local_store.os, "link", full)
        with pytest.raises(StoreError, match=r"v2/a: could not copy it.*No space left"):
            store.copy("v1/a", "v2/a")

    def test_a_symbolic_link_is_not_linked_again(self, tmp_path):
        store = open_store(str(tmp_path / "root"))
        store.create("v1/b", b"x")
        (tmp_path / "elsewhere").write_bytes(b"bytes")
        (tmp_path / "root/v1/a").symlink_to(tmp_path / "elsewhere")
        assert store.copy("v1/a", "v2/a")
        (tmp_path / "elsewhere").unlink()
        assert store.read("v2/a") == b"bytes"

    def test_old_temporary_files_are_swept_and_new_ones_stay(self, tmp_path):
        folder = tmp_path / ".tmp"
        folder.mkdir()
        (folder / "1-old").write_bytes(b"x")
        os.utime(folder / "1-old", (0, 0))
        (folder / "2-new").write_bytes(b"x")
        probe(open_store(str(tmp_path)))
        assert os.listdir(folder) == ["2-new"]

    def test_a_file_in_the_place_of_the_root(self, tmp_path):
        (tmp_path / "root").write_text("x")
        with pytest.raises(
            ConfigError, match=r"cannot write the output.*check the path and"
        ) as one:
            probe(open_store(str(tmp_path / "root")))
        assert "same command again" not in str(one.value)
        with pytest.raises(ConfigError, match="cannot write the output"):
            probe(open_store(str(tmp_path / "root" / "below")))

    def test_files_get_the_rights_of_the_umask(self, tmp_path):
        before = os.umask(0o027)
        try:
            open_store(str(tmp_path)).create("a", b"x")
        finally:
            os.umask(before)
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("root", ["s3://", "s3:///", "gs://"])
def test_an_output_without_a_bucket_is_a_mistake(root: str) -> None:
    with pytest.raises(ConfigError, match="names no bucket"):
        open_store(root)
