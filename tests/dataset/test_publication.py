"""Publishing: every published version has a number of its own, and LATEST names the highest."""

import threading

import pytest

from embedkit.dataset.describe import describe
from embedkit.dataset.mend import mend
from embedkit.dataset.publication import (
    fault_of_number,
    is_published,
    name_where_none_is,
    number_of,
    point_latest,
    publish,
    publish_above_all,
)
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version, find_versions, latest
from embedkit.errors import ConfigError, IntegrityError


@pytest.fixture
def versions(tmp_path):
    return [Version(str(tmp_path / "root"), name) for name in ("v1", "v2", "v3")]


def test_it_moves_to_the_version_published_last(versions, job):
    for number, version in enumerate(versions, 1):
        job.complete(version)
        assert latest(version.root) == version
        assert number_of(version) == number


def test_an_old_version_found_complete_does_not_bring_it_back(versions, job):
    first, second, _ = versions
    job.complete(first)
    job.complete(second)
    job.complete(first)
    point_latest(first)
    assert latest(first.root) == second


def test_a_version_that_is_not_published_leaves_it_where_it_was(versions, job):
    first, second, third = versions
    job.complete(first)
    job.seal(second)
    assert (second.is_complete(), is_published(second)) == (True, False)
    assert latest(first.root) == first
    assert describe(second)["published"] is False
    assert validate(second).problems == ()
    job.complete(third)
    assert latest(first.root) == third
    # Published after all, it is the newest.
    publish(second)
    assert latest(first.root) == second
    assert [number_of(one) for one in versions] == [1, 3, 2]
    assert validate(second).problems == ()


def test_without_any_published_version_a_root_has_no_latest(versions, job):
    first, second, _ = versions
    job.seal(first)
    assert validate(first).problems == ()
    job.write(second)
    assert find_versions(first.root) == [first, second]
    with pytest.raises(ConfigError, match=r"v1 \(complete\), v2 \(unfinished\); give the path"):
        find_version(first.root)
    assert find_version(first.url) == first


def test_where_there_is_no_other_latest_names_one_that_is_not_published(versions, job):
    first, second, third = versions
    with pytest.raises(IntegrityError, match="not complete"):
        name_where_none_is(first)
    job.seal(first)
    job.seal(second)
    assert name_where_none_is(first)
    assert name_where_none_is(first)
    assert not name_where_none_is(second)
    assert (latest(first.root), number_of(first)) == (first, 0)
    assert validate(first).problems == ()
    job.complete(third)
    assert not name_where_none_is(first)
    assert latest(first.root) == third


def test_an_incomplete_version_cannot_be_published(versions, job):
    first, second, _ = versions
    job.complete(first)
    job.write(second)
    with pytest.raises(IntegrityError, match="not complete"):
        publish(second)
    assert latest(first.root) == first


def test_a_run_killed_before_it_moved_is_made_good(versions, job):
    first, second, _ = versions
    job.complete(first)
    job.complete(second)
    second.store.replace("LATEST", b"v1\n")
    point_latest(second)
    assert latest(first.root) == second


def test_who_points_it_back_by_hand_is_not_overruled_by_that_version_s_own_job(versions, job):
    first, second, third = versions
    job.complete(first)
    job.complete(second)
    second.store.replace("LATEST", b"v1\n")
    job.complete(first)
    assert latest(first.root) == first
    job.complete(third)
    assert latest(first.root) == third


def test_a_version_that_was_removed_is_replaced(versions, job):
    first, second, third = versions
    job.complete(first)
    job.complete(second)
    for key in list(second.store.list("v2/")):
        second.store.remove(key)
    with pytest.raises(IntegrityError, match="LATEST names v2, which is not complete"):
        latest(first.root)
    job.complete(first)
    assert latest(first.root) == first
    job.complete(third)
    # Built anew, it is newer than what was published meanwhile.
    job.complete(second)
    assert latest(first.root) == second


@pytest.mark.parametrize("damage", [b"", b"../x", b"v9\n", b"\xff\xfe"])
def test_one_that_is_damaged_or_names_nothing_is_written_anew(versions, job, damage):
    first, second, _ = versions
    job.complete(first)
    job.complete(second)
    second.store.replace("LATEST", damage)
    job.complete(first)
    assert latest(first.root) == second


def test_versions_of_the_first_release_keep_their_numbers(versions, job):
    first, second, third = versions
    job.seal(first)
    job.seal(second)
    for number, version in ((4, first), (5, second)):
        mark = version.store.read(version.success_key)
        version.store.replace(
            version.success_key, mark.replace(b'"number": 0', b'"number": %d' % number)
        )
    second.store.create("LATEST", b"v2\n")
    publish(first)
    assert latest(first.root) == second
    job.complete(third)
    assert number_of(third) == 6
    assert latest(first.root) == third


def test_a_mended_version_of_the_first_release_keeps_its_number(versions, job):
    first, second, _ = versions
    job.seal(first)
    mark = first.store.read(first.success_key)
    first.store.replace(first.success_key, mark.replace(b'"number": 0', b'"number": 4'))
    job.complete(second)
    first.store.replace(first.manifest_key, b"")
    mend(first)
    assert not first.is_complete()
    job.complete(first)
    assert number_of(first) == 4


def test_a_root_that_was_copied_without_hidden_files(versions, job):
    first, second, third = versions
    job.complete(first)
    job.complete(second)
    for key in list(first.store.list(".numbers/")):
        first.store.remove(key)
    job.complete(first)
    assert latest(first.root) == second
    job.complete(third)
    assert latest(first.root) == third


def test_it_goes_back_and_forth_by_hand(versions, job):
    first, second, third = versions
    for version in versions[:2]:
        job.complete(version)
    publish_above_all(first)
    assert (latest(first.root), number_of(first), number_of(second)) == (first, 3, 2)
    # Neither the job of either of them nor asking once more changes that.
    job.complete(second)
    point_latest(second)
    publish_above_all(first)
    assert (latest(first.root), number_of(first)) == (first, 3)
    job.complete(third)
    assert latest(first.root) == third
    publish_above_all(second)
    assert [number_of(version) for version in versions] == [3, 5, 4]
    assert latest(first.root) == second
    assert [validate(version).problems for version in versions] == [(), (), ()]
    assert mend(first) == []
    assert number_of(first) == 3


def test_one_that_was_kept_back_is_published_by_hand(versions, job):
    first, second, _ = versions
    job.complete(first)
    with pytest.raises(IntegrityError, match="not complete"):
        publish_above_all(second)
    job.seal(second)
    publish_above_all(second)
    assert (latest(first.root), number_of(second)) == (second, 2)


def test_who_edited_latest_by_hand_may_publish_what_it_names(versions, job):
    first, second, _ = versions
    job.complete(first)
    job.complete(second)
    second.store.replace("LATEST", b"v1\n")
    publish_above_all(first)
    point_latest(second)
    assert latest(first.root) == first
    second.store.replace("LATEST", b"v1\n")
    publish_above_all(second)
    assert latest(first.root) == second


def test_a_version_of_the_first_release_is_published_once_more(versions, job):
    first, second, _ = versions
    job.seal(first)
    mark = first.store.read(first.success_key)
    first.store.replace(first.success_key, mark.replace(b'"number": 0', b'"number": 4'))
    first.store.create("LATEST", b"v1\n")
    job.complete(second)
    publish_above_all(first)
    assert (latest(first.root), number_of(first)) == (first, 6)
    assert fault_of_number(first) is None


class Interrupted:
    """A store that lets others work just before one of its operations."""

    def __init__(self, store, operation, key, work):
        self._store, self._at, self._work = store, (operation, key), work

    def __getattr__(self, name):
        operation = getattr(self._store, name)

        def call(*args):
            if self._at == (name, args[0]):
                work, self._work = self._work, lambda: None
                work()
            return operation(*args)

        return call


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("list", ".numbers/"),
        ("create", ".numbers/00000001"),
        ("create", "v1/_PUBLISHED"),
        ("read", "LATEST"),
        ("replace", "LATEST"),
    ],
)
def test_two_published_at_once_get_two_numbers_and_the_higher_is_the_latest(
    versions, job, operation, key
):
    first, second, third = versions
    for version in versions:
        job.seal(version)

    def others():
        publish(second)
        publish(third)

    slow = Version(first.root, "v1")
    slow.__dict__["store"] = Interrupted(open_store(first.root), operation, key, others)
    publish(slow)
    numbers = {number_of(version): version for version in versions}
    assert sorted(numbers) == [1, 2, 3]
    assert latest(first.root) == numbers[3]


@pytest.mark.parametrize(
    ("operation", "key"),
    [
        ("list", ".numbers/"),
        ("create", ".numbers/00000003"),
        ("replace", "v1/_PUBLISHED"),
        ("read", "LATEST"),
        ("replace", "LATEST"),
    ],
)
@pytest.mark.parametrize("other", ["another", "the same"])
def test_by_hand_while_others_publish(versions, job, operation, key, other):
    first, second, third = versions
    job.complete(first)
    job.complete(second)
    job.seal(third)

    def others():
        publish(third)
        publish_above_all(first if other == "the same" else second)

    slow = Version(first.root, "v1")
    slow.__dict__["store"] = Interrupted(open_store(first.root), operation, key, others)
    publish_above_all(slow)
    numbers = {number_of(version): version for version in versions}
    assert len(numbers) == 3
    assert latest(first.root) == numbers[max(numbers)]
    # Nor is it any other once all of them have been looked at again.
    for version in versions:
        point_latest(version)
    assert latest(first.root) == numbers[max(numbers)]
    assert [validate(version).problems for version in versions] == [(), (), ()]


def test_many_published_at_once_by_threads(tmp_path, job):
    versions = [Version(str(tmp_path), f"v{number}") for number in range(8)]
    for version in versions:
        job.seal(version)
    # Each of them twice, as two attempts at a version's completion would.
    barrier = threading.Barrier(16)

    def work(version):
        barrier.wait()
        publish(Version(version.root, version.name))

    threads = [threading.Thread(target=work, args=(one,)) for one in [*versions, *versions]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    numbers = {number_of(version): version for version in versions}
    assert len(numbers) == 8
    assert latest(str(tmp_path)) == numbers[max(numbers)]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"number": "1"}', b"\xff"])
def test_a_damaged_mark_is_named_with_its_remedy(versions, job, damage):
    first, *_ = versions
    job.complete(first)
    first.store.replace(first.published_key, damage)
    with pytest.raises(
        IntegrityError, match=r"v1/_PUBLISHED: not what .* wrote; run the version's job again"
    ):
        number_of(first)
    mend(first)
    publish(first)
    assert number_of(first) == 1


@pytest.mark.parametrize("said", [b'{"number": 9}', b"{", b'{"number": 2}'])
def test_a_mark_with_another_number_is_named_and_gets_its_own_again(versions, job, said):
    first, second, _ = versions
    job.complete(first)
    job.complete(second)
    first.store.replace(first.published_key, said)
    (problem,) = [one for one in validate(first).problems if "LATEST" not in one][:1]
    assert "v1/_PUBLISHED: " in problem
    assert problem.endswith("; run the version's job again, which makes it anew")
    (mended,) = mend(first)
    assert "_PUBLISHED" in mended
    job.complete(first)
    assert [number_of(one) for one in (first, second)] == [1, 2]
    assert latest(first.root) == second
    assert validate(first).problems == ()


@pytest.mark.parametrize("damage", [b"", b"\x00\x00", b"v9\n"])
def test_an_entry_of_another_name_is_named_and_made_anew(versions, job, damage):
    first, second, _ = versions
    job.complete(first)
    job.complete(second)
    first.store.replace(".numbers/00000001", damage)
    (problem,) = validate(first).problems
    assert ".numbers/00000001: does not name v1" in problem
    mend(first)
    assert validate(first).problems == ()
    assert first.store.read(".numbers/00000001") == b"v1\n"
    # Which is how copies that leave out names with a dot lack it.
    first.store.remove(".numbers/00000001")
    assert validate(first).problems == ()


class Killed(BaseException):
    """The end of a process."""


class Dying:
    """A store whose user dies at its operation of that number, before or after it is done."""

    def __init__(self, store, number, done):
        self._store, self._left, self._done = store, number, done

    def __getattr__(self, name):
        operation = getattr(self._store, name)

        def call(*args):
            self._left -= 1
            if self._left < 0 and not self._done:
                raise Killed
            result = operation(*args)
            if self._left < 0:
                raise Killed
            return result

        return call if callable(operation) else operation


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
def test_killed_anywhere_by_hand(tmp_path, job, done):
    versions = [Version(str(tmp_path), name) for name in ("v1", "v2")]
    for version in versions:
        job.complete(version)
    number, finished = 0, False
    while not finished:
        dying = Version(str(tmp_path), "v1")
        dying.__dict__["store"] = Dying(open_store(dying.root), number, done)
        try:
            publish_above_all(dying)
            finished = True
        except Killed:
            pass
        assert latest(dying.root) in versions
        assert [fault_of_number(version) for version in versions] == [None, None]
        publish_above_all(versions[0])
        assert latest(dying.root) == versions[0]
        # As it was at first.
        publish_above_all(versions[1])
        assert latest(dying.root) == versions[1]
        number += 1
    assert number > 8
    assert [validate(version).problems for version in versions] == [(), ()]


@pytest.mark.soak
@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("where", ["local", "S3"])
def test_killed_at_any_operation_while_another_publishes(tmp_path, request, job, where, done):
    place = str(tmp_path) if where == "local" else f"s3://{request.getfixturevalue('bucket')}"
    number, finished = 0, False
    while not finished:
        versions = [Version(f"{place}/{number}", name) for name in ("v1", "v2")]
        for version in versions:
            job.seal(version)
        dying = Version(versions[0].root, "v1")
        dying.__dict__["store"] = Dying(open_store(dying.root), number, done)
        try:
            publish(dying)
            finished = True
        except Killed:
            pass
        publish(versions[1])
        # Whoever looks now sees a version that is complete.
        assert latest(dying.root).is_complete()
        for version in versions:
            publish(version)
        numbers = {number_of(version): version for version in versions}
        assert len(numbers) == 2
        assert min(numbers) > 0
        assert latest(dying.root) == numbers[max(numbers)]
        assert [validate(version).problems for version in versions] == [(), ()]
        number += 1
    assert number > 8
