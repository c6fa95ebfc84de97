"""How alike the vectors of a sample are: neighbours, all pairs, and the closest pairs to read."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.sample import Sample, SampledRow

MOST_PAIRS = 10
"""Closest pairs that a report shows."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two rows with different texts.

    Attributes:
        cosine: Of their vectors.
        left: The one that comes first in the sample.
        right: The other.
    """

    cosine: float
    left: SampledRow
    right: SampledRow


@dataclass(frozen=True, eq=False)
class Comparison:
    """Cosines within a sample of n rows with different texts.

    Chunks of one document are not compared: they may overlap, and to be alike is in their nature.

    Attributes:
        sampled: Rows of the sample.
        copies: Rows set aside because an earlier one of the sample has exactly their text.
        unusable: Rows set aside because their vector is zero or not finite.
        siblings: Pairs left out because both rows are chunks of one document.
        nearest: Cosine of each row to its nearest neighbour, float64, shape (n,) less the rows
            without another document's row beside them.
        pairs: Cosine of every pair, float64, shape (n * (n - 1) / 2 - siblings,).
        closest: Pairs by descending cosine; no row is in two of them, so that one crowd of near
            copies does not fill the list.
    """

    sampled: int
    copies: int
    unusable: int
    siblings: int
    nearest: NDArray[np.float64]
    pairs: NDArray[np.float64]
    closest: tuple[Pair, ...]


def compare(sample: Sample, most_pairs: int = MOST_PAIRS) -> Comparison:
    """Compares every row of a sample with every other.

    Args:
        sample: At most some hundred rows, so all cosines fit in memory at once.
        most_pairs: Closest pairs to give.
    """
    vectors = sample.vectors.astype(np.float64)
    norms = np.linalg.norm(vectors, axis=1)
    usable = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    hashes = np.array([sample.rows[place].text_hash for place in usable], dtype=np.str_)
    _, first = np.unique(hashes, return_index=True)
    kept = usable[np.sort(first)]
    units = vectors[kept] / norms[kept, None]
    # Rounded, so that the order in which a matrix product adds cannot change a report.
    cosines = np.clip(np.round(units @ units.T, 6), -1, 1)
    rows = [sample.rows[place] for place in kept]
    siblings = _of_one_document(rows)
    left, right = np.triu_indices(len(kept), 1)
    apart = ~siblings[left, right]
    above = left[apart], right[apart]
    pairs = cosines[above]
    cosines[siblings] = -np.inf
    compared = ~siblings.all(axis=1)
    return Comparison(
        sampled=len(sample.rows),
        copies=len(usable) - len(kept),
        unusable=len(sample.rows) - len(usable),
        siblings=int((~apart).sum()),
        nearest=cosines[compared].max(axis=1) if compared.any() else np.empty(0),
        pairs=pairs,
        closest=_closest(rows, pairs, above, most_pairs),
    )


def _of_one_document(rows: list[SampledRow]) -> NDArray[np.bool_]:
    """Tells which rows are chunks of one document, each row and itself among them."""
    numbers: dict[str | int, int] = {}
    documents = np.array(
        [numbers.setdefault(row.doc_id or place, place) for place, row in enumerate(rows)], np.intp
    )
    same: NDArray[np.bool_] = documents[:, None] == documents[None, :]
    return same


def _closest(
    rows: list[SampledRow],
    cosines: NDArray[np.float64],
    places: tuple[NDArray[np.intp], NDArray[np.intp]],
    most: int,
) -> tuple[Pair, ...]:
    shown: set[int] = set()
    found: list[Pair] = []
    for pair in np.argsort(-cosines, kind="stable"):
        if len(found) == most:
            break
        left, right = int(places[0][pair]), int(places[1][pair])
        if shown.isdisjoint((left, right)):
            shown.update((left, right))
            found.append(Pair(float(cosines[pair]), rows[left], rows[right]))
    return tuple(found)
