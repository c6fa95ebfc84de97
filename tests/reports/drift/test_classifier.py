"""The classifier of two versions, against scikit-learn."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from embedkit.reports import second_moments
from embedkit.reports.drift import classifier
from embedkit.reports.drift.classifier import (
    components,
    domain_auc,
    logistic_regression,
    roc_auc,
)
from embedkit.reports.second_moments import SecondMoments


def units(rows, seed, shift=0.0, width=40):
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(rows, width)) * np.linspace(2, 0.3, width)
    vectors[:, 3] += shift
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("penalty", [1.0, 10.0])
@pytest.mark.parametrize("shift", [0.0, 1.0, 50.0])
def test_weights_are_those_of_scikit_learn(penalty, shift):
    random = np.random.default_rng(4)
    labels = random.integers(0, 2, 300).astype(np.float64)
    features = random.normal(size=(300, 5)) + shift * labels[:, None]
    found = logistic_regression(features, labels, penalty)
    oracle = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(features, labels)
    assert found[:-1] == pytest.approx(oracle.coef_[0], abs=1e-4)
    assert found[-1] == pytest.approx(oracle.intercept_[0], abs=1e-3)


def test_areas_are_those_of_scikit_learn():
    random = np.random.default_rng(5)
    for scores in (random.normal(size=90), random.integers(0, 4, 90)):
        labels = random.integers(0, 2, 90)
        assert roc_auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_components_are_those_of_scikit_learn():
    rows = units(300, 1)
    found = components(rows, SecondMoments.of(rows))
    oracle = PCA(classifier.COMPONENTS, whiten=True, svd_solver="full").fit_transform(rows)
    assert np.abs(found) == pytest.approx(np.abs(oracle) * np.sqrt(300 / 299), abs=5e-3)


def test_rows_tell_the_components_of_many_dimensions(monkeypatch):
    rows = units(300, 1)
    expected = components(rows, SecondMoments.of(rows))
    monkeypatch.setattr(second_moments, "MOST_DIMENSIONS", 8)
    found = components(rows, SecondMoments.of(rows))
    assert np.abs(found) == pytest.approx(np.abs(expected), abs=5e-3)


def test_dimensions_that_say_nothing_are_left_out():
    rows = units(100, 1, width=4)
    wide = np.concatenate([rows, np.zeros((100, 5), np.float32)], axis=1)
    assert components(wide, SecondMoments.of(wide)).shape == (100, 4)


def test_the_area_is_that_of_scikit_learn_fold_by_fold():
    one, two = units(200, 1), units(260, 2, 2.0)
    names = tuple(np.random.default_rng(seed).integers(0, 2**63, size).astype(np.uint64)
                  for seed, size in ((3, 200), (4, 260)))  # fmt: skip
    moments = SecondMoments.of(one) + SecondMoments.of(two)
    found = domain_auc((one, two), names, moments)
    features = components(np.concatenate([one, two]), moments)
    labels, folds = np.repeat([0, 1], [200, 260]), np.concatenate(names) % np.uint64(5)
    areas = []
    for fold in range(5):
        held = folds == fold
        fitted = LogisticRegression(tol=1e-10, max_iter=10_000)
        fitted.fit(features[~held], labels[~held])
        areas.append(roc_auc_score(labels[held], fitted.decision_function(features[held])))
    assert found == pytest.approx(np.mean(areas), abs=1e-4)
    assert 0.6 < found < 0.95


def test_rows_of_both_samples_are_in_one_fold():
    rows, names = units(400, 1), np.arange(400, dtype=np.uint64)
    moments = SecondMoments.of(rows)
    assert domain_auc((rows, rows), (names, names), moments) == pytest.approx(0.5, abs=1e-9)
    assert domain_auc((rows[:300], rows[100:]), (names[:300], names[100:]), moments) == (
        pytest.approx(0.5, abs=0.08)
    )


def test_few_rows_tell_nothing():
    rows, names = units(49, 1), np.arange(49, dtype=np.uint64)
    assert domain_auc((rows, rows), (names, names), SecondMoments.of(rows)) is None
