"""Borders of chunks: what decides them is near them, whatever sizes and ranks there are."""

import random
from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.tokens.borders import border_ranks, chosen_borders

few = st.integers(0, 4)
ranks_of = st.one_of(st.lists(few, max_size=80), st.lists(st.integers(0, 10**9), max_size=80))


def chosen(ranks: list[int], limit: int, sizes: list[int] | None = None) -> list[int]:
    places = np.append(0, np.cumsum(sizes or [1] * (len(ranks) + 1)))
    return chosen_borders(places, np.array(ranks, np.uint32), limit)


def landmarks(ranks: list[int], limit: int) -> list[int]:
    """Borders of the least rank, and the first of those, as far as a chunk reaches on each side."""
    found = []
    for border in range(limit + 1, len(ranks) + 1 - limit // 2):
        before = ranks[border - 1 - limit : border - 1]
        behind = ranks[border : border + limit]
        if min(before) > ranks[border - 1] <= min(behind, default=10**10):
            found.append(border)
    return found


@settings(max_examples=150)
@given(begins=st.tuples(ranks_of, ranks_of), shared=ranks_of, limit=st.integers(2, 12))
def test_behind_a_landmark_nothing_depends_on_what_is_before(
    begins: tuple[list[int], list[int]], shared: list[int], limit: int
) -> None:
    of_shared = landmarks(shared, limit)
    found = [chosen([*begin, *shared], limit) for begin in begins]
    from_end = [
        [len(begin) + len(shared) + 1 - border for border in borders]
        for begin, borders in zip(begins, found, strict=True)
    ]
    for border in of_shared:
        place = len(shared) + 1 - border
        first, second = ([one for one in places if one <= place] for places in from_end)
        assert first == second
        assert first[0] == place


def test_landmarks_are_frequent() -> None:
    chance = random.Random(1)
    ranks = [chance.randrange(1 << 32) for _ in range(100_000)]
    gaps = [(b - a) / 10 for a, b in pairwise(landmarks(ranks, 10))]
    assert sum(gaps) / len(gaps) < 2.5
    assert max(gaps) < 12


@settings(max_examples=150)
@given(
    units=st.lists(st.tuples(st.integers(0, 30), few), min_size=1, max_size=80),
    limit=st.integers(1, 40),
)
def test_parts_are_neither_too_large_nor_to_be_joined(
    units: list[tuple[int, int]], limit: int
) -> None:
    sizes, ranks = [size for size, _ in units], [rank for _, rank in units[1:]]
    borders = chosen(ranks, limit, sizes)
    assert (borders[0], borders[-1]) == (0, len(units))
    parts = [sizes[first:last] for first, last in pairwise(borders)]
    assert all(sum(part) <= limit or sum(size > 0 for size in part) == 1 for part in parts)
    assert all(sum(one) + sum(following) > limit for one, following in pairwise(parts))


@given(st.text(max_size=200), st.text(max_size=50), st.integers(0, 10**6))
def test_a_rank_is_of_the_characters_around(text: str, other: str, place: int) -> None:
    borders = np.arange(len(text) + 1)
    ranks = border_ranks(text, borders)
    far = border_ranks(f"{other}{text}", borders + len(other))
    assert ranks[16:].tolist() == far[16:].tolist()
    assert ranks[:-16].tolist() == border_ranks(f"{text}{other}", borders)[:-16].tolist()
    assert border_ranks(text, borders[place % len(borders) :][:1]) == ranks[place % len(borders)]


def test_ranks_are_what_they_were() -> None:
    # Another rank is another border, and every chunk of every corpus would be encoded again.
    text = "The quick brown fox. 漢字かな交じり文。 Another sentence, \U0001f600 and more of it."
    ranks = border_ranks(text, np.array([0, 20, 32, len(text)]))
    assert ranks.tolist() == RANKS


RANKS = [3415585237, 3796598440, 3703120091, 1828598535]
