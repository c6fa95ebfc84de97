import re
from xml.etree import ElementTree

import pytest

from embedkit.reports.charts import cosine_chart, length_chart, norm_chart
from embedkit.reports.svg import Series, Tick, bar_chart


def parse(markup):
    return ElementTree.fromstring(str(markup))


def rects(chart, style):
    return chart.findall(f".//g[@class='{style}']/rect")


def number(value):
    return float(value.rstrip("%"))


def draw(heights, **more):
    chart = bar_chart(
        "all of it",
        [Series("one", "main", heights)],
        [f"bar {place}" for place in range(len(heights))],
        [Tick(0, "left"), Tick(1, "right")],
        "things",
        str,
        **more,
    )
    return parse(chart)


def test_bars_are_as_high_as_their_values():
    bars = rects(draw([1, 2, 4, 0]), "main")
    heights = [number(bar.get("height")) for bar in bars]
    assert len(bars) == 3
    assert heights[1] == pytest.approx(2 * heights[0], abs=0.05)
    assert heights[2] == pytest.approx(4 * heights[0], abs=0.05)
    floors = {round(number(bar.get("y")) + number(bar.get("height")), 1) for bar in bars}
    assert floors == {196.0}


def test_a_bar_too_low_to_see_is_drawn_all_the_same():
    bars = rects(draw([100_000, 1]), "main")
    assert number(bars[1].get("height")) >= 1


def test_stacked_bars_stand_on_each_other():
    chart = parse(
        bar_chart(
            "x",
            [Series("a", "main", [3]), Series("b", "other", [2], stacked=True)],
            ["t"],
            [],
            "axis",
            str,
        )
    )
    below, above = rects(chart, "main")[0], rects(chart, "other")[0]
    top_of_below = number(below.get("y"))
    assert number(above.get("y")) + number(above.get("height")) == pytest.approx(top_of_below)


def test_a_chart_says_what_it_is():
    chart = draw([1, 2], mark=Tick(0.5, "here"))
    assert chart.get("role") == "img"
    assert chart.get("aria-label") == "all of it"
    assert [title.text for title in chart.iter("title")] == ["bar 0", "bar 1"]
    texts = [text.text for text in chart.iter("text")]
    assert {"left", "right", "things", "here"} <= set(texts)


@pytest.mark.parametrize("heights", [[], [0, 0]])
def test_nothing_to_draw(heights):
    assert rects(draw(heights), "main") == []


def test_labels_are_escaped():
    bad = '"><script>x</script>'
    chart = bar_chart(bad, [Series(bad, "main", [1])], [bad], [Tick(0, bad)], bad, lambda _: bad)
    assert "<script" not in chart
    assert parse(chart).get("aria-label") == bad


def test_the_length_chart_colours_what_was_truncated(make_report, usual_blocks):
    report = make_report(usual_blocks)
    chart = parse(length_chart(report["tokens"], 256))
    mark = number(chart.find(".//line[@class='mark']").get("x1"))
    main, other = rects(chart, "main"), rects(chart, "other")
    assert main and other
    ends = [number(bar.get("x")) + number(bar.get("width")) for bar in main]
    assert max(ends) <= mark
    # Half the gap between two bars, which is 12 % of the place of one: the mark is on their border.
    assert number(other[0].get("x")) - mark == pytest.approx(
        number(other[0].get("width")) / 0.88 * 0.06, abs=0.002
    )
    assert all(number(bar.get("x")) >= mark for bar in other)
    told = [title.text for title in chart.iter("title")]
    rows = [int(re.search(r": ([\d,]+) rows?", text).group(1).replace(",", "")) for text in told]
    assert rows == report["tokens"]["bars"]["counts"]


def test_a_limit_inside_a_bar_splits_it(make_report, make_block):
    block = make_block([f"t{n}" for n in range(60)], n_tokens=range(2, 62), max_tokens=11)
    report = make_report([block], {"max_tokens": 11})
    chart = parse(length_chart(report["tokens"], 11))
    assert (
        len(rects(chart, "main")) + len(rects(chart, "other"))
        == len(report["tokens"]["bars"]["counts"]) + 1
    )


def test_a_limit_beyond_the_longest_row_is_not_drawn(make_report, make_block):
    report = make_report([make_block(["a", "b"], n_tokens=[3, 9])])
    assert parse(length_chart(report["tokens"], 256)).find(".//line[@class='mark']") is None


def test_ticks_are_few_and_inside(make_report, usual_blocks, make_block):
    report = make_report(usual_blocks)
    import numpy as np

    vectors = np.random.default_rng(1).normal(size=(90, 8)).astype(np.float32)
    free = make_report([make_block([f"t{n}" for n in range(90)], vectors)], {"normalized": False})
    charts = [
        length_chart(report["tokens"], 256),
        cosine_chart(report["similarity"]),
        norm_chart(free["norms"]),
    ]
    for chart in map(parse, charts):
        ticks = [text for text in chart.iter("text") if text.get("y") == "213"]
        assert 3 <= len(ticks) <= 20
        assert all(0 <= number(tick.get("x")) <= 100 for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)
