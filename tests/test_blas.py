"""How many threads BLAS has while threads of our own compute."""

import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from embedkit.blas import blas_on_one_thread


def threads_of_blas() -> set[int]:
    """What BLAS libraries have whose threads are the whole process's; not those of OpenMP."""
    return {
        one["num_threads"]
        for one in threadpool_info()
        if one["user_api"] == "blas" and one["threading_layer"] == "pthreads"
    }


@pytest.fixture(autouse=True)
def three():
    """What BLAS had before; set by a thread that ends, as only one may set it at a time."""
    assert np.ones((2, 2)) @ np.ones(2) is not None
    before = threads_of_blas()

    def settle(count: int) -> None:
        thread = threading.Thread(target=threadpool_limits, args=(count, "blas"))
        thread.start()
        thread.join()

    settle(3)
    if threads_of_blas() != {3}:
        pytest.skip(f"no BLAS here has threads of the whole process: {threadpool_info()}")
    yield
    settle(max(before))


def test_it_is_given_back():
    with blas_on_one_thread():
        assert threads_of_blas() == {1}
    assert threads_of_blas() == {3}


def test_it_is_given_back_after_a_fault():
    with pytest.raises(ValueError, match="here"), blas_on_one_thread():
        raise ValueError("here")
    assert threads_of_blas() == {3}


def test_whoever_leaves_last_gives_it_back():
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with blas_on_one_thread():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with blas_on_one_thread():
        thread.start()
        assert entered.wait(30)
    assert threads_of_blas() == {1}
    leave.set()
    thread.join(30)
    assert threads_of_blas() == {3}
