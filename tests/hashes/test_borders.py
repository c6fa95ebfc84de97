"""Cuts that the items decide: within their bounds, and where they were after a change."""

import itertools
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.hashes.borders import borders
from embedkit.hashes.digests import hash_of


def hashes(names: list[str]) -> np.ndarray:
    return np.array([int.from_bytes(hash_of(name.encode(), 8)) for name in names], np.uint64)


def pieces(weights: dict[str, int], most: int, most_items: int | None = None) -> list[list[str]]:
    """The names of each piece."""
    names = list(weights)
    ends = list(borders(list(weights.values()), hashes(names), most, most_items))
    return [names[start:end] for start, end in itertools.pairwise([0, *ends])]


@given(
    st.lists(st.integers(0, 40), max_size=120),
    st.integers(1, 60),
    st.none() | st.integers(1, 9),
    st.integers(0, 9),
)
def test_pieces_are_within_their_bounds(
    sizes: list[int], most: int, most_items: int | None, salt: int
) -> None:
    weights = {f"{salt}-{place}": size for place, size in enumerate(sizes)}
    cut = pieces(weights, most, most_items)
    assert [name for piece in cut for name in piece] == list(weights)
    for place, piece in enumerate(cut):
        weight = sum(weights[name] for name in piece)
        assert piece
        assert weight <= most or len(piece) == 1
        assert most_items is None or len(piece) <= most_items
        if place + 1 < len(cut):
            following = weights[cut[place + 1][0]]
            half = 2 * weight >= most or (most_items and 2 * len(piece) >= most_items)
            assert half or weight + following > most


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30), st.integers(1, 300))
def test_what_fits_into_one_piece_is_one(sizes: list[int], room: int) -> None:
    weights = {f"{place}": size for place, size in enumerate(sizes)}
    assert pieces(weights, sum(sizes) + room, len(sizes)) == [list(weights)]


@given(
    st.integers(0, 2**32),
    st.sampled_from(["inserted", "removed", "grown", "moved"]),
    st.floats(0, 1),
)
def test_a_change_moves_a_few_cuts_only(seed: int, how: str, where: float) -> None:
    drawn = random.Random(seed)
    weights = {f"{seed}-{n}": drawn.randint(1, 100) for n in range(4000)}
    before = pieces(weights, 1000)
    items = list(weights.items())
    place = int(where * (len(items) - 1))
    name, size = items[place]
    if how in ("removed", "moved"):
        del items[place]
    if how == "moved":
        items.insert((place + 2000) % len(items), (name, size))
    if how == "inserted":
        items.insert(place, ("new", drawn.randint(1, 100)))
    if how == "grown":
        items[place] = (name, size + 500)
    after = pieces(dict(items), 1000)
    known = set(map(tuple, before))
    changed = sum(tuple(piece) not in known for piece in after)
    assert len(after) > 200
    # In the mean three, and more than twenty once in some ten thousand cases.
    assert changed <= (60 if how == "moved" else 30)


def test_in_the_mean_a_change_moves_three_pieces() -> None:
    weights = {f"file-{n:05d}": 1 + n * 7919 % 100 for n in range(5000)}
    known = set(map(tuple, pieces(weights, 1000)))
    changed = []
    for place in range(0, 5000, 50):
        items = list(weights.items())
        items.insert(place, (f"new-{place}", 50))
        after = pieces(dict(items), 1000)
        changed.append(sum(tuple(piece) not in known for piece in after))
    assert 1 <= np.mean(changed) <= 4


@pytest.mark.parametrize("most_items", [None, 4096])
def test_of_equal_hashes_the_last_one_ends_a_piece(most_items: int | None) -> None:
    ends = list(borders([1] * 10_000, np.zeros(10_000, np.uint64), 100, most_items))
    assert ends == list(range(100, 10_001, 100))


def test_of_nothing_there_is_no_piece() -> None:
    assert list(borders([], np.empty(0, np.uint64), 10)) == []
