"""What a report says of a version against the one before it."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
from drifting import SUBJECTS, sample

from embedkit.reports.drift.earlier import Earlier, RowChanges
from embedkit.reports.drift.figures import measure_drift, not_compared
from embedkit.reports.examined import ExaminedRows
from embedkit.reports.map import clusters
from embedkit.reports.render import render_html
from embedkit.reports.second_moments import SecondMoments
from embedkit.reports.section import Nothing
from embedkit.reports.sections.drift import SECTION
from embedkit.reports.vector_sample import VectorSample

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def _few_rows_are_enough(monkeypatch):
    monkeypatch.setattr(clusters, "LEAST_ROWS", 200)


def examined(rows):
    return ExaminedRows(1, 1, SecondMoments.of(rows.vectors), VectorSample((rows,)))


def said(before, now, **changes):
    earlier = Earlier("v1", examined(before), (), RowChanges(1, 2, 3, 4))
    facts = SimpleNamespace(drift=measure_drift(replace(earlier, **changes), examined(now)))
    return SECTION.say(Nothing(), facts)


@pytest.fixture
def page(make_report, make_block):
    """Renders what is said of a version."""
    report = make_report([make_block([f"text {n}" for n in range(20)])])

    def render(figures):
        sections = [*report["sections"], "drift"]
        return render_html(report | figures | {"sections": sections})

    return render


def test_what_changed_is_on_the_page_and_texts_stay_texts(page):
    now = sample({0: 120, 1: 90, 2: 120})
    now.beginnings[[SUBJECTS[2] in text for text in now.beginnings]] += HOSTILE
    figures, findings = said(sample({0: 120, 1: 90}), now)
    shown = page(figures)
    assert "1 added, 2 removed, 3 with another text, 4 as they were" in shown
    assert f"{figures['drift']['centroid_cosine']:.6f}" in shown
    assert "goal, " in shown or "match, " in shown or "ball, " in shown
    assert "&lt;script&gt;alert" in shown
    assert HOSTILE not in shown
    assert [one["level"] for one in findings] == ["note"] * (figures["drift"]["auc"] >= 0.75)


def test_rows_of_another_model_are_a_warning_unless_they_are_stored_otherwise(page):
    before = sample({0: 120, 1: 90})
    vectors = before.vectors.copy()
    vectors[:6] = np.roll(vectors[:6], 3, axis=1)
    figures, findings = said(before, replace(before, vectors=vectors))
    assert figures["drift"]["unchanged_below"] == 6
    assert findings[0]["level"] == "warning"
    assert findings[0]["text"].startswith("6 rows of 210 in the samples whose text is what it was")
    assert not said(before, before)[1]
    figures, findings = said(before, replace(before, vectors=vectors), stored=("float32", "binary"))
    assert not findings
    assert "stored as float32 and are as binary" in page(figures)
    assert said(before, replace(before, vectors=vectors), stored=("float16", "float32"))[1]


def test_a_corpus_about_something_else_is_noted():
    figures, findings = said(sample({0: 200}), sample({1: 200}))
    assert figures["drift"]["auc"] > 0.99
    assert [one["level"] for one in findings] == ["note"]
    assert "tells rows from those of version v1" in findings[0]["text"]


def test_where_vectors_are_stored_otherwise_that_may_be_what_tells_them_apart():
    _, (finding,) = said(sample({0: 200}), sample({1: 200}), stored=("float32", "binary"))
    assert "vectors are stored as binary, before as float32, or the corpus is" in finding["text"]


def test_of_equal_vectors_the_variance_is_not_negative():
    for seed in range(9):
        direction = np.random.default_rng(seed).normal(size=16).astype(np.float32)
        rows = sample({0: 60})
        rows = replace(rows, vectors=np.tile(direction, (60, 1)))
        (drift,) = said(rows, rows)[0].values()
        assert (drift["centroid_cosine"], drift["frechet"]) == (1, 0)
        assert 0 <= drift["variance"] < 1e-4
        assert not str(drift["variance"]).startswith("-")


def test_two_recipes_and_rows_that_nobody_counted(page):
    rows = sample({0: 120})
    figures, findings = said(rows, rows, recipe_changes=("prompt was 'a' and is 'b'",))
    assert not findings
    shown = page(figures)
    assert "not held against each other: their vectors are of two recipes: prompt was" in shown
    assert "Equal neighbours" in shown
    assert "Fréchet" not in shown
    figures, _ = said(rows, rows, rows=RowChanges(why="nobody did"))
    assert "Not counted: nobody did." in page(figures)
    assert "Clusters are not compared: too few rows" in page(figures)


def test_without_a_version_before_it_says_why(page):
    facts = SimpleNamespace(drift=not_compared(None, "there is none"))
    figures, findings = SECTION.say(Nothing(), facts)
    assert (figures["drift"]["version"], findings) == (None, [])
    assert "Not compared: there is none." in page(figures)


def test_what_an_earlier_report_said_stands():
    figures, findings = said(sample({0: 200}), sample({1: 200}))
    from pydantic import TypeAdapter

    from embedkit.reports.drift.figures import Drift

    known = TypeAdapter(Drift).validate_python(figures["drift"])
    facts = SimpleNamespace(drift=known)
    assert SECTION.say(Nothing(), facts) == (figures, findings)
    assert asdict(known) == figures["drift"]
