"""Correlations and their intervals, held against SciPy."""

import numpy as np
import pytest
from scipy import stats

from embedkit.search.evaluate.bootstrap import RESAMPLES, interval, interval_of_mean
from embedkit.search.evaluate.correlation import correlate


def pairs(count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and scores that go together in part, both with values that occur twice."""
    random = np.random.default_rng(3)
    cosines = random.normal(size=count).round(1)
    return cosines, (cosines + random.normal(size=count)).round(0)


def test_both_are_scipy_s():
    cosines, scores = pairs()
    found = correlate(cosines, scores)
    assert found.pairs == 40
    assert found.spearman == pytest.approx(stats.spearmanr(cosines, scores).statistic, abs=1e-12)
    assert found.pearson == pytest.approx(stats.pearsonr(cosines, scores).statistic, abs=1e-12)


@pytest.mark.parametrize("name", ["spearman", "pearson"])
def test_their_intervals_are_those_of_scipy_s_bootstrap(name):
    cosines, scores = pairs()
    statistic = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[name]
    expected = stats.bootstrap(
        (cosines, scores),
        lambda one, other: statistic(one, other).statistic,
        n_resamples=RESAMPLES,
        paired=True,
        vectorized=False,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert correlate(cosines, scores).intervals[name] == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("most", [1 << 22, 1000])
def test_an_interval_of_a_mean_is_that_of_scipy_s_bootstrap(most, monkeypatch):
    monkeypatch.setattr("embedkit.search.evaluate.bootstrap._MOST_DRAWN", most)
    values = np.random.default_rng(1).random(57)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert interval_of_mean(values) == pytest.approx(tuple(expected), abs=1e-12)


def test_draws_without_a_figure_are_left_out():
    undefined = np.array([np.nan])
    assert interval(1, lambda drawn: np.repeat(undefined, len(drawn))) is None
    alternating = interval(
        3, lambda drawn: np.where(np.arange(len(drawn)) % 2, np.nan, drawn.max(axis=1))
    )
    assert alternating is not None
    assert not np.isnan(alternating).any()


def test_equal_cosines_correlate_with_nothing():
    found = correlate(np.ones(4), np.arange(4.0))
    assert (found.spearman, found.pearson) == (None, None)
    assert found.to_dict()["intervals"] == {"spearman": None, "pearson": None}
