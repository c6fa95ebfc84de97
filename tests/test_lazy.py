"""Properties that are computed when they are first asked for."""

import pickle
import threading
from dataclasses import dataclass

import pytest

from embedkit.lazy import lazy_property


@dataclass(frozen=True)
class Asked:
    number: int
    calls: list[int]

    @lazy_property
    def double(self) -> int:
        """Twice the number."""
        self.calls.append(self.number)
        if self.number < 0:
            raise ValueError("a negative number")
        return 2 * self.number


def test_it_is_computed_once_for_each_object():
    one, two = Asked(1, []), Asked(2, [])
    assert (one.double, two.double, one.double, two.double) == (2, 4, 2, 4)
    assert (one.calls, two.calls) == ([1], [2])
    assert Asked.double.__doc__ == "Twice the number."
    assert pickle.loads(pickle.dumps(one)).double == 2


def test_what_fails_is_computed_again():
    asked = Asked(-1, [])
    for _ in range(2):
        with pytest.raises(ValueError, match="negative"):
            asked.double  # noqa: B018
    assert asked.calls == [-1, -1]


def test_two_objects_do_not_wait_for_each_other():
    both = threading.Barrier(2, timeout=10)

    class Waiting:
        @lazy_property
        def value(self) -> int:
            return both.wait()

    values: list[int] = []
    threads = [threading.Thread(target=lambda: values.append(Waiting().value)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values) == [0, 1]
