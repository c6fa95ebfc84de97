import json
from functools import reduce

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from embedkit.reports.moments import Moments

PARTS = st.lists(
    st.lists(st.floats(-1e3, 1e3), max_size=30).map(np.array), min_size=1, max_size=8
).filter(lambda parts: sum(map(len, parts)) > 0)


@given(PARTS)
def test_merged_moments_are_those_of_the_whole(parts):
    whole = np.concatenate(parts)
    total = reduce(lambda one, two: one + two, map(Moments.of, parts))
    scale = max(1.0, float(np.abs(whole).max()))
    assert total.count == len(whole)
    assert abs(total.mean - np.mean(whole)) <= 1e-12 * scale
    assert abs(total.m2 - np.var(whole) * len(whole)) <= 1e-12 * scale**2 * len(whole)
    assert (total.low, total.high) == (whole.min(), whole.max())


@given(PARTS)
def test_grouping_does_not_matter(parts):
    moments = [Moments.of(part) for part in parts]
    left = reduce(lambda one, two: one + two, moments)
    right = reduce(lambda one, two: two + one, reversed(moments))
    assert left == right


def test_digits_survive_a_large_mean():
    # A sum of squares would lose all of them: 1e18 + 0.25 is 1e18.
    values = np.array([1e9, 1e9 + 1] * 1000)
    total = Moments.of(values[:700]) + Moments.of(values[700:])
    assert abs(total.deviation - 0.5) < 1e-9


def test_no_digit_is_lost_among_many_parts():
    values = 1e6 + np.random.default_rng(1).normal(size=20_000) * 1e-3
    parts = [Moments.of(part) for part in np.array_split(values, 5000)]
    total = reduce(lambda one, two: one + two, parts)
    assert abs(total.mean - np.mean(values)) <= 1e-9
    assert abs(total.deviation / np.std(values - 1e6) - 1) <= 1e-6


def test_nothing_is_neutral_and_survives_json():
    some = Moments.of(np.array([1.0, 2.0]))
    assert some + Moments() == some == Moments() + some
    for moments in (Moments(), some):
        codec = TypeAdapter(Moments)
        written = json.dumps(codec.dump_python(moments, mode="json"), allow_nan=False)
        assert codec.validate_python(json.loads(written)) == moments
    assert Moments.of(np.empty(0)) == Moments()
