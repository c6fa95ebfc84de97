"""Work that is spread over processes: the same results in the same order, or the error that was."""

import os
import subprocess
import sys
import textwrap
from functools import partial
from itertools import count, islice
from operator import mul

import pytest

from embedkit.dataset.processes import here, processes
from embedkit.errors import IntegrityError, ResumableError


@pytest.fixture(scope="module")
def each():
    with processes(2) as two:
        yield two


def test_results_come_in_the_order_of_the_items(each):
    items = list(range(50))
    assert list(each(partial(mul, 3), items)) == list(here(partial(mul, 3), items))
    assert list(each(partial(mul, 3), [])) == []


def test_others_do_the_work(each):
    found = set(each(_pid, range(20)))
    assert len(found) == 2
    assert os.getpid() not in found


def test_items_are_taken_as_results_are(each):
    taken = count()
    results = each(partial(mul, 3), taken)
    assert list(islice(results, 10)) == list(range(0, 30, 3))
    results.close()
    assert next(taken) <= 16


def test_what_a_function_raises_is_raised_here_and_work_goes_on(each):
    with pytest.raises(IntegrityError, match="item 7 is damaged; restore it"):
        list(each(_damaged, range(20)))
    assert list(each(partial(mul, 3), [1, 2])) == [3, 6]


def test_what_a_function_prints_is_no_answer(each):
    assert list(each(print, ["one", "two"])) == [None, None]


def test_a_process_that_is_killed_is_named_and_the_run_can_be_resumed():
    with processes(2) as each, pytest.raises(ResumableError, match=r"ended \(-9\); run the same"):
        list(each(_die, range(4)))


def test_one_process_is_this_one():
    with processes(1) as each:
        assert list(each(_pid, [None])) == [os.getpid()]


def test_a_script_without_a_guard_is_not_run_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            from math import factorial
            from embedkit.dataset.processes import processes
            print("once")
            with processes(2) as each:
                print(list(each(factorial, range(6))))
        """)
    )
    # A module of the working directory's is not that of the library.
    tmp_path.joinpath("json.py").write_text("raise SystemExit('not this one')")
    command = [sys.executable, "-P", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout.splitlines() == ["once", "[1, 1, 2, 6, 24, 120]"], done.stderr


def _pid(item):
    return os.getpid()


def _damaged(item):
    if item == 7:
        raise IntegrityError(f"item {item} is damaged; restore it")
    return item


def _die(item):
    os.kill(os.getpid(), 9)
