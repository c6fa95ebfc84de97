import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from embedkit.reports.histogram import Histogram, lowest_values

LENGTHS = st.lists(st.integers(0, 2048), min_size=1, max_size=200)


@given(LENGTHS, st.floats(0.001, 1))
def test_quantiles_of_whole_numbers_are_exact(lengths, share):
    expected = np.quantile(lengths, share, method="inverted_cdf")
    assert Histogram.of(np.array(lengths)).quantile(share) == expected


@given(st.lists(st.floats(1e-3, 1e7), min_size=1, max_size=100), st.floats(0.001, 1))
def test_other_quantiles_are_within_a_thousandth(values, share):
    expected = np.quantile(values, share, method="inverted_cdf")
    found = Histogram.of(np.array(values)).quantile(share)
    assert abs(found - expected) <= 1e-3 * expected


@given(LENGTHS, LENGTHS, LENGTHS)
def test_adding_is_counting_all_at_once(one, two, three):
    a, b, c = (Histogram.of(np.array(part)) for part in (one, two, three))
    whole = Histogram.of(np.array(one + two + three))
    assert (a + b) + c == whole == c + (b + a)
    assert whole.total == len(one + two + three)


@given(LENGTHS)
def test_an_empty_histogram_changes_nothing(lengths):
    histogram = Histogram.of(np.array(lengths))
    assert histogram + Histogram() == histogram == Histogram() + histogram


@given(LENGTHS, st.lists(st.integers(0, 2050), min_size=2, max_size=9, unique=True))
def test_bars_hold_what_numpy_counts(lengths, edges):
    edges = np.array(sorted(edges), dtype=np.float64)
    # The last edge is open here and closed in numpy.
    inside = [length for length in lengths if length < edges[-1]]
    expected, _ = np.histogram(inside, bins=edges)
    assert Histogram.of(np.array(lengths)).between(edges).tolist() == expected.tolist()


@given(LENGTHS, st.integers(0, 2048))
def test_above_keeps_what_is_greater(lengths, limit):
    kept = [length for length in lengths if length > limit]
    assert Histogram.of(np.array(lengths)).above(limit) == Histogram.of(np.array(kept))


@given(LENGTHS)
def test_json_form_comes_back(lengths):
    histogram = Histogram.of(np.array(lengths))
    codec = TypeAdapter(Histogram)
    written = json.dumps(codec.dump_python(histogram, mode="json"))
    assert codec.validate_python(json.loads(written)) == histogram


def test_bins_follow_each_other_without_a_gap():
    bins = Histogram.of(np.array([0.0, 1e-30, 1.0, 3e9])).bins
    assert (np.diff(lowest_values(np.arange(bins[-1] - 5000, bins[-1]))) > 0).all()
    assert lowest_values(bins)[0] == 0
    longest = Histogram.of(np.array([1e300])).bins
    assert lowest_values(longest + 1)[0] == 2.0**128


def test_nothing_counted():
    assert Histogram().quantile(0.5) == 0
    assert Histogram().between(np.array([0.0, 1.0])).tolist() == [0]
