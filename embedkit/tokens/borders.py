"""Chooses the borders of chunks by the text around each, so that an edit moves only those near it.

Content-defined chunking, as backups and file stores do it, with units of text for bytes: every
border between two units has a rank, a hash of the characters around it. What is too long for a
chunk is parted at its border of least rank, and so is each of the parts that is still too long.
Whether a border is chosen then depends on borders of lower rank nearby alone, and on those of lower
rank near them; such chains end soon, as with each step there are fewer (the sequence of local
minima of "Asymmetric Extremum" chunking, Zhang et al. 2015, taken to its end).
"""

from bisect import bisect_left
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_REACH = 16
"""Characters on either side of a border that its rank depends on."""

_AT_ONCE = 1 << 15
"""Borders that are looked at together, which bounds the memory."""


def border_ranks(text: str, borders: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Returns the rank of each border: a hash of the characters around it.

    Args:
        text: The text.
        borders: Number of characters before each border, shape (borders,).
    """
    around = np.zeros(len(text) + 2 * _REACH, np.uint32)
    around[_REACH : _REACH + len(text)] = np.frombuffer(
        text.encode("utf-32-le", "surrogatepass"), "<u4"
    )
    ranks = np.empty(len(borders), np.uint32)
    for first in range(0, len(borders), _AT_ONCE):
        some = borders[first : first + _AT_ONCE]
        windows = around[some[:, np.newaxis] + np.arange(2 * _REACH)]
        ranks[first : first + _AT_ONCE] = _mixed((windows * _FACTORS).sum(axis=1, dtype=np.uint64))
    return ranks


def chosen_borders(places: NDArray[np.int64], ranks: NDArray[np.uint32], limit: int) -> list[int]:
    """Chooses the borders at which chunks end.

    Chunks have more than half of the limit where the units allow it, and no two neighbours fit into
    one. Only a single unit may be longer than the limit.

    Args:
        places: Size of all units before each border, from 0 to the size of all, shape (units + 1,).
        ranks: Rank of each border between two units, shape (units - 1,). Of equal ones the first
            is chosen.
        limit: Largest size of a chunk.

    Returns:
        Numbers of the chosen borders, from 0 to the number of units.
    """
    chosen = [0]
    for first, last in pairwise([0, *_lowest(places, ranks, limit), len(places) - 1]):
        chosen += _most_even(places, first, last, limit)
        chosen.append(last)
    return _joined(places, ranks, chosen, limit)


def _lowest(places: NDArray[np.int64], ranks: NDArray[np.uint32], limit: int) -> list[int]:
    """Returns borders of least rank, until what lies between two of them fits or has none.

    Each of the parts has more than half of the limit. So a border with the least rank as far as
    a chunk reaches on either side is always chosen, and parts the text in two that know nothing
    of each other.
    """
    margin = limit // 2 + 1
    first, last = 0, len(places) - 1
    start, end = places.item(first), places.item(last)
    if end - start <= limit:
        return []
    inner = places[first + 1 : last]
    lowest, highest = inner.searchsorted(start + margin), inner.searchsorted(end - margin, "right")
    open_places = inner[lowest:highest]
    if not len(open_places):
        return []
    shift = first + 1 + int(lowest)
    order = ranks[shift - 1 : shift - 1 + len(open_places)].argsort(kind="stable")
    is_open = np.ones(len(open_places), np.bool_)
    found = [first, last]
    for some in (order[at : at + _AT_ONCE] for at in range(0, len(order), _AT_ONCE)):
        for number in some[is_open[some]].tolist():
            if not is_open[number]:
                continue
            border = number + shift
            at = bisect_left(found, border)
            here, left, right = (places.item(one) for one in (border, found[at - 1], found[at]))
            # What fits is not parted again, and what is too near would be too small.
            from_place = left if here - left <= limit else here - margin + 1
            to_place = right if right - here <= limit else here + margin - 1
            is_open[
                open_places.searchsorted(from_place) : open_places.searchsorted(to_place, "right")
            ] = False
            found.insert(at, border)
    return found[1:-1]


def _most_even(places: NDArray[np.int64], first: int, last: int, limit: int) -> list[int]:
    """Returns borders that part what does not fit, each into parts as even as may be.

    Such a stretch has borders near its ends alone, so that this, too, depends on the text nearby.
    """
    start, end = places.item(first), places.item(last)
    if end - start <= limit:
        return []
    inner = places[first + 1 : last]
    smaller = np.minimum(inner - start, end - inner)
    if smaller.max(initial=0) == 0:
        return []
    border = first + 1 + int(smaller.argmax())
    left = _most_even(places, first, border, limit)
    return [*left, border, *_most_even(places, border, last, limit)]


def _joined(
    places: NDArray[np.int64], ranks: NDArray[np.uint32], chosen: list[int], limit: int
) -> list[int]:
    """Leaves out borders, the highest rank first, where what they part fits into one chunk."""
    kept = list(chosen)
    for border in sorted(chosen[1:-1], key=lambda one: (-int(ranks[one - 1]), -one)):
        at = bisect_left(kept, border)
        if places.item(kept[at + 1]) - places.item(kept[at - 1]) <= limit:
            kept.pop(at)
    return kept


def _mixed(sums: NDArray[np.uint64]) -> NDArray[np.uint32]:
    """Mixes the bits of hashes, as SplitMix64 ends."""
    mixed = (sums ^ (sums >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(32)).astype(np.uint32)


def _factors(number: int) -> NDArray[np.uint64]:
    """Returns odd factors without a pattern: powers of the golden ratio's multiplier."""
    factors, factor = [], 1
    for _ in range(number):
        factor = factor * 0x9E3779B97F4A7C15 % (1 << 64)
        factors.append(factor)
    return np.array(factors, np.uint64)


_FACTORS = _factors(2 * _REACH)
