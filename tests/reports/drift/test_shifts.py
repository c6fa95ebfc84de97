"""Which clusters are said to have grown, shrunk or moved, of subjects that are planted."""

from dataclasses import replace

import numpy as np
import pytest
from drifting import SUBJECTS, sample

from embedkit.reports.drift.shifts import cluster_shifts
from embedkit.reports.map import clusters

BEFORE = {0: 120, 1: 90, 2: 60, 3: 30}


@pytest.fixture(autouse=True)
def _few_rows_are_enough(monkeypatch):
    monkeypatch.setattr(clusters, "LEAST_ROWS", 200)


def of_subject(found, subject):
    words = set(SUBJECTS[subject].split())
    return [one for one in found.changed if words <= set(one.terms)]


def test_a_subject_that_grew_is_named_with_texts_that_came():
    found = cluster_shifts(sample(BEFORE), sample(BEFORE | {3: 130}))
    assert (found.measured, found.clusters, found.grew) == (True, 4, 1)
    (grown,) = of_subject(found, 3)
    assert grown.changes == ["grew"]
    assert grown.share_before == 0.1
    assert grown.share == 0.325
    assert found.changed[0] == grown
    numbers = [int(text.split("number")[1].split("x")[0]) for text in grown.examples]
    assert len(numbers) == 3
    assert min(numbers) >= 30
    assert found.shifted == pytest.approx(0.225, abs=1e-6)


def test_a_subject_that_is_new_or_gone_has_a_cluster_of_its_own(monkeypatch):
    monkeypatch.setattr(clusters, "FEWEST", 5)
    found = cluster_shifts(sample(BEFORE), sample(BEFORE | {0: 0, 4: 100}))
    (new,), (gone,) = of_subject(found, 4), of_subject(found, 0)
    assert (new.changes, new.share_before) == (["grew"], 0)
    assert (gone.changes, gone.share) == (["shrank"], 0)
    assert new.centre_cosine is None
    assert all("ship" in text for text in gone.examples)
    assert found.shifted == pytest.approx(0.4, abs=1e-6)


def test_a_centre_that_moved_is_told_with_its_cosine():
    later = sample(BEFORE, first=200, turned={1: 0.3})
    found = cluster_shifts(sample(BEFORE), later)
    assert (found.grew, found.shrank, found.moved) == (0, 0, 1)
    (moved,) = of_subject(found, 1)
    assert moved.changes == ["moved"]
    means = [
        side.units[[SUBJECTS[1] in text for text in side.beginnings]].mean(axis=0)
        for side in (sample(BEFORE), later)
    ]
    lengths = np.prod([np.linalg.norm(mean) for mean in means])
    assert moved.centre_cosine == pytest.approx(means[0] @ means[1] / lengths, abs=1e-5)


def test_other_rows_of_the_same_subjects_are_chance():
    for seed in range(4):
        found = cluster_shifts(sample(BEFORE), sample(BEFORE, first=200, seed=seed))
        assert (found.grew, found.shrank, found.moved, found.changed) == (0, 0, 0, [])


def test_nothing_changed_between_equal_samples():
    found = cluster_shifts(sample(BEFORE), sample(BEFORE))
    assert (found.shifted, found.changed) == (0, [])


def test_the_order_of_rows_changes_nothing():
    one, two = sample(BEFORE), sample(BEFORE | {3: 130})
    assert cluster_shifts(one, two) == cluster_shifts(one, two)


def test_without_texts_clusters_have_no_names():
    sides = [replace(side, beginnings=np.full(len(side), None, object))
             for side in (sample(BEFORE), sample(BEFORE | {3: 130}))]  # fmt: skip
    found = cluster_shifts(*sides)
    assert [(one.terms, one.examples) for one in found.changed if "grew" in one.changes] == [
        ([], [])
    ]


def test_why_nothing_is_said(monkeypatch):
    few = cluster_shifts(sample({0: 99}), sample({0: 99, 1: 100}))
    assert (few.measured, few.why) == (False, "too few rows of the sample have different texts")
    monkeypatch.setattr(clusters, "find_clusters", lambda units: None)
    lacking = cluster_shifts(sample(BEFORE), sample(BEFORE))
    assert "install faiss-cpu" in lacking.why
