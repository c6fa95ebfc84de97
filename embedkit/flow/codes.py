"""Vectors as the codes that are stored of them, and what that costs."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embedkit.errors import ConfigError, IntegrityError
from embedkit.flow.earlier_rows import Taken
from embedkit.formats.storage_loss import COSINE_BITS, StorageLoss
from embedkit.quantization import CALIBRATED, Calibration, StoredAs
from embedkit.vectors import Vectors

_ROWS_AT_ONCE = 1024


def how_stored(
    vector_dtype: str, dimension: int, calibration: Callable[[], Calibration] | None
) -> StoredAs:
    """Returns how vectors are stored.

    Args:
        vector_dtype: See ``StoredAs``.
        dimension: Components of a vector.
        calibration: Returns what codes of 8 bits are made by.

    Raises:
        ConfigError: There is nothing to make them by.
        IntegrityError: That is of another number of components, or damaged.
    """
    if vector_dtype not in CALIBRATED:
        return StoredAs(vector_dtype, dimension)
    if calibration is None:
        raise ConfigError(
            f"vector_dtype: {vector_dtype} needs the calibration of a version; give it"
        )
    found = calibration()
    if len(found.ranges.low) != dimension:
        raise IntegrityError(
            f"calibration: ranges of {len(found.ranges.low)} components, but vectors have "
            f"{dimension}; restore _meta/calibration.json of the version, or remove it and run the "
            "version's job again"
        )
    return StoredAs(vector_dtype, dimension, found)


def floats_of(taken: Taken, how: StoredAs) -> Taken:
    """Returns vectors that were taken over as floats."""
    if not how.is_quantized:
        return taken
    pieces = [
        (rows, Vectors.from_matrix(how.floats(vectors.matrix))) for rows, vectors in taken.pieces
    ]
    return replace(taken, pieces=pieces)


def codes_of(
    found: Vectors, how: StoredAs, taken: Taken | None, kept: NDArray[np.bool_] | None
) -> tuple[Vectors, StorageLoss]:
    """Returns the codes of rows; those that were taken over bit for bit, and not made anew.

    Args:
        found: Finite vectors of the rows that are kept, one of each.
        how: How they are stored.
        taken: Codes of an earlier version for some of all rows.
        kept: Which of all rows are kept, shape (rows,); all where None.

    Returns:
        The codes, and how far those that were made now are from the vectors.

    Raises:
        ConfigError: The sample that the calibration is of had no vectors.
    """
    vectors = found.matrix
    if len(vectors) and how.calibration is not None and not how.calibration.rows:
        raise ConfigError(
            f"vector_dtype: {how.dtype} cannot be calibrated, as no sampled text has a vector; "
            "take float32 or float16"
        )
    codes = how.stored(vectors)
    made = np.ones(len(codes), dtype=np.bool_)
    for places, theirs in _kept_pieces(taken, kept):
        codes[places] = theirs
        made[places] = False
    if made.all():
        loss = loss_of(vectors, codes, how)
    else:
        loss = loss_of(vectors[made], codes[made], how)
    return Vectors(codes.reshape(-1), how.width), loss


def _kept_pieces(
    taken: Taken | None, kept: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.integer]]]:
    """Yields codes that were taken over, and their places among the rows that are kept."""
    for rows, vectors in () if taken is None else taken.pieces:
        if kept is None:
            yield rows, vectors.matrix
        else:
            yield (np.cumsum(kept) - 1)[rows[kept[rows]]], vectors.matrix[kept[rows]]


def loss_of(vectors: NDArray[np.float32], codes: NDArray[np.integer], how: StoredAs) -> StorageLoss:
    """Measures how far codes are from the vectors that they were made of.

    Args:
        vectors: The vectors, shape (rows, dimension).
        codes: Their codes, shape (rows, width).
        how: How they were made.
    """
    if not len(vectors):
        return StorageLoss()
    cosines, clipped = [], 0
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        clipped += how.clipped(vectors[rows])
        cosines.append(cosines_of(vectors[rows], how.floats(codes[rows])))
    found = np.minimum(np.concatenate(cosines), 1.0)
    return StorageLoss(
        rows=len(vectors),
        components=vectors.size,
        clipped=clipped,
        directed=len(found),
        cosine_sum=int(np.rint(np.ldexp(found, COSINE_BITS)).astype(np.int64).sum()),
        least_cosine=float(found.min()) if len(found) else None,
    )


def cosines_of(vectors: NDArray[np.float32], back: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the cosines of rows, those left out that have no direction."""
    ours, theirs = vectors.astype(np.float64), back.astype(np.float64)
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    directed = lengths > 0
    products: NDArray[np.float64] = np.einsum("ij,ij->i", ours, theirs)
    cosines: NDArray[np.float64] = products[directed] / lengths[directed]
    return cosines
