"""What is put together of two versions, and what is refused."""

from dataclasses import asdict, replace

import numpy as np
import pytest
from drifting import sample

from embedkit.reports.drift.earlier import Earlier, RowChanges
from embedkit.reports.drift.figures import measure_drift
from embedkit.reports.examined import ExaminedRows
from embedkit.reports.second_moments import SecondMoments
from embedkit.reports.vector_sample import VectorSample

ROWS = RowChanges(5, 4, 3, 2)


def examined(rows):
    return ExaminedRows(1, 1, SecondMoments.of(rows.vectors), VectorSample((rows,)))


def compared(before, now, changes=()):
    return measure_drift(Earlier("v1", examined(before), changes, ROWS), examined(now))


def test_equal_versions_do_not_differ():
    rows = sample({0: 100, 1: 100})
    found = compared(rows, rows)
    assert (found.version, found.why, found.same_recipe, found.rows) == ("v1", None, True, ROWS)
    assert (found.sampled_before, found.sampled, found.common) == (200, 200, 200)
    assert found.centroid_cosine == found.neighbour_overlap == 1
    assert found.frechet == found.unchanged_below == 0
    assert (found.unchanged, found.unchanged_mean_cosine, found.unchanged_least_cosine) == (
        200,
        1,
        1,
    )
    assert found.mmd < 0
    assert found.mmd_p > 0.99
    assert found.auc == 0.5


def test_rows_of_the_same_text_with_other_vectors_are_counted():
    before = sample({0: 100, 1: 100})
    vectors = before.vectors.copy()
    vectors[3] = np.roll(vectors[3], 5)
    vectors[4] *= 2
    texts = before.texts.copy()
    texts[5] += 1
    vectors[5] = -vectors[5]
    found = compared(before, replace(before, vectors=vectors, texts=texts))
    one, two = before.vectors[3], vectors[3]
    cosine = one @ two / (np.linalg.norm(one) * np.linalg.norm(two))
    assert (found.unchanged, found.unchanged_below) == (199, 1)
    assert found.unchanged_least_cosine == pytest.approx(cosine, abs=1e-5)
    assert found.unchanged_mean_cosine == pytest.approx((198 + cosine) / 199, abs=1e-5)


def test_a_new_subject_is_far_from_what_was():
    found = compared(sample({0: 300, 1: 300}), sample({0: 100, 1: 100, 2: 400}))
    assert found.centroid_cosine < 0.75
    assert found.frechet > 0.1 * found.variance
    assert found.mmd_p == pytest.approx(1 / 500)
    assert found.auc > 0.75


def test_another_recipe_is_refused_but_for_neighbours():
    before = sample({0: 100, 1: 100})
    now = sample({0: 100, 1: 100}, width=24)
    found = compared(before, now, ("prompt was '' and is 'x: '", "weights differs"))
    assert found.why == (
        "their vectors are of two recipes: prompt was '' and is 'x: '; weights differs"
    )
    assert found.recipe_changes == ["prompt was '' and is 'x: '", "weights differs"]
    assert (found.same_recipe, found.rows, found.common) == (False, ROWS, 200)
    assert 0 < found.neighbour_overlap < 1
    for name in ("centroid_cosine", "frechet", "mmd", "mmd_p", "auc", "unchanged_least_cosine"):
        assert asdict(found)[name] is None
    assert (found.clusters.measured, found.clusters.why) == (False, found.why)


def test_why_nothing_else_is_said():
    rows, none = sample({0: 60}), sample({0: 0})
    assert "does not say what its recipe is" in compared(rows, rows, None).why
    assert "no row with a direction" in compared(rows, none).why
    zeros = replace(rows, vectors=np.zeros_like(rows.vectors))
    assert "no row with a direction" in compared(zeros, rows).why
    assert compared(rows, sample({0: 60}, width=20)).why == (
        "their vectors have 16 and 20 dimensions"
    )
    found = measure_drift(Earlier("v1", None, (), ROWS), examined(rows))
    assert "exactly one" in found.why
    assert found.rows == ROWS


def test_rows_without_a_direction_are_left_out():
    rows = sample({0: 60, 1: 60})
    vectors = rows.vectors.copy()
    vectors[0], vectors[1] = 0, np.nan
    found = compared(rows, replace(rows, vectors=vectors))
    assert (found.sampled_before, found.sampled, found.common) == (120, 118, 118)
    assert found.centroid_cosine > 0.99
