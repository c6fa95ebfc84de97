import re

import numpy as np
import pytest
from bokeh.models import Axis, HoverTool, Label, Quad, Span

from embedkit.reports.plots.bars import Series, Tick, bar_chart
from embedkit.reports.plots.charts import Charts
from embedkit.reports.plots.colours import MAIN, OTHER


class Kept:
    """Keeps the plots that charts would place on a page."""

    def __init__(self):
        self.plots, self.labels = [], []

    def place(self, plot, label):
        self.plots.append(plot)
        self.labels.append(label)
        return label


def drawn(name, *values):
    kept = Kept()
    getattr(Charts(kept), name)(*values)
    return kept.plots[0], kept.labels[0]


def bars(plot, colour=None):
    """Returns the bars of a colour, or what is told of all, as columns of numbers."""
    (found,) = [
        one for one in plot.renderers
        if one.glyph.fill_color == colour and isinstance(one.glyph, Quad)
    ]  # fmt: skip
    return found.data_source.data


def ticks(plot):
    (axis,) = [one for one in plot.below if isinstance(one, Axis)]
    assert list(axis.ticker.ticks) == list(axis.major_label_overrides)
    return dict(axis.major_label_overrides)


def draw(heights, **more):
    told = [f"bar {place}" for place in range(len(heights))]
    series = [Series(MAIN, heights)]
    ends = [Tick(0, "left"), Tick(len(heights), "right")]
    return bar_chart(series, told, ends, "things", "0,0", **more)


def test_bars_are_as_high_as_their_values_and_stand_in_their_places():
    plot = draw([1, 2, 4, 0])
    found = bars(plot, MAIN)
    assert found["top"].tolist() == [1, 2, 4]
    assert found["bottom"].tolist() == [0, 0, 0]
    assert np.floor(found["left"]).tolist() == np.floor(found["right"]).tolist() == [0, 1, 2]
    assert plot.y_range.end >= 4
    assert (plot.x_range.start, plot.x_range.end) == (0, 4)


def test_a_bar_too_low_to_see_is_drawn_all_the_same():
    plot = draw([100_000, 1])
    (renderer,) = [one for one in plot.renderers if one.glyph.fill_color == MAIN]
    assert renderer.glyph.line_color == MAIN
    assert len(renderer.data_source.data["top"]) == 2


def test_stacked_bars_stand_on_each_other():
    series = [Series(MAIN, [3, 1]), Series(OTHER, [2, 0], stacked=True)]
    plot = bar_chart(series, ["t", "u"], [], "axis", "0,0")
    assert bars(plot, OTHER)["bottom"].tolist() == [3]
    assert bars(plot, OTHER)["top"].tolist() == [5]
    assert plot.y_range.end >= 5


def test_a_chart_tells_of_every_bar_over_its_whole_height():
    plot = draw([1, 0, 2], mark=Tick(1.5, "here"))
    told = bars(plot)
    assert told["told"] == ["bar 0", "bar 1", "bar 2"]
    assert set(told["top"]) == {plot.y_range.end}
    (tool,) = plot.select(HoverTool)
    assert [one.data_source.data for one in tool.renderers] == [told]
    assert ticks(plot) == {0: "left", 3: "right"}
    assert plot.below[0].axis_label == "things"
    assert [one.text for one in plot.select(Label)] == ["here"]


@pytest.mark.parametrize("heights", [[], [0, 0]])
def test_nothing_to_draw(heights):
    plot = draw(heights)
    assert len(bars(plot, MAIN)["top"]) == 0
    assert plot.y_range.end > 0


def test_the_length_chart_colours_what_was_truncated(make_report, usual_blocks):
    report = make_report(usual_blocks)
    plot, label = drawn("length_chart", report["tokens"], 256)
    (mark,) = plot.select(Span)
    main, other = bars(plot, MAIN), bars(plot, OTHER)
    assert len(main["top"]) and len(other["top"])
    assert max(main["right"]) <= mark.location <= min(other["left"])
    told = bars(plot)["told"]
    rows = [int(re.search(r": ([\d,]+) rows?", text).group(1).replace(",", "")) for text in told]
    assert rows == report["tokens"]["bars"]["counts"]
    assert "the model sees 256" in label


def test_a_limit_inside_a_bar_splits_it(make_report, make_block):
    block = make_block([f"t{n}" for n in range(60)], n_tokens=range(2, 62), max_tokens=11)
    report = make_report([block], {"max_tokens": 11})
    plot, _ = drawn("length_chart", report["tokens"], 11)
    held = len(bars(plot, MAIN)["top"]) + len(bars(plot, OTHER)["top"])
    assert held == len(report["tokens"]["bars"]["counts"]) + 1


def test_a_limit_beyond_the_longest_row_is_not_drawn(make_report, make_block):
    report = make_report([make_block(["a", "b"], n_tokens=[3, 9])])
    plot, _ = drawn("length_chart", report["tokens"], 256)
    assert not list(plot.select(Span))


def test_ticks_are_few_and_inside(make_report, usual_blocks, make_block):
    report = make_report(usual_blocks)
    vectors = np.random.default_rng(1).normal(size=(90, 8)).astype(np.float32)
    free = make_report([make_block([f"t{n}" for n in range(90)], vectors)], {"normalized": False})
    for name, *values in (
        ("length_chart", report["tokens"], 256),
        ("cosine_chart", report["similarity"]),
        ("norm_chart", free["norms"]),
    ):
        plot, _ = drawn(name, *values)
        found = ticks(plot)
        assert 3 <= len(found) <= 20
        assert all(-1e-9 <= place <= plot.x_range.end + 1e-9 for place in found)
        assert len(set(found.values())) == len(found)


def test_ticks_stand_where_their_numbers_are(make_report, usual_blocks):
    report = make_report(usual_blocks)
    for name, edges, *values in (
        ("cosine_chart", report["similarity"]["edges"], report["similarity"]),
        ("length_chart", [e - 1 for e in report["tokens"]["bars"]["edges"]], report["tokens"], 256),
    ):
        plot, _ = drawn(name, *values)
        for place, label in ticks(plot).items():
            number = float(label.replace(",", ""))
            assert np.interp(place, range(len(edges)), edges) == pytest.approx(number, abs=1e-6)
