"""The Grafana dashboard shows every metric of a run, and none that a run does not have."""

import itertools
import json
import re

import pytest
from manifests import K8S

from embedkit.actors.metrics import EXPORTED

DASHBOARD = json.loads((K8S / "grafana" / "embedkit.json").read_text())
PANELS = DASHBOARD["panels"]
QUERIES = [target["expr"] for panel in PANELS for target in panel["targets"]]


def test_every_metric_is_shown_and_no_other():
    used = {name for query in QUERIES for name in re.findall(r"\bray_\w+", query)}
    assert used == set(EXPORTED)


def test_what_only_grows_is_shown_as_a_rate_or_a_sum_and_the_rest_as_it_is():
    for query in QUERIES:
        for name in re.findall(r"\bray_\w+", query):
            before = query[: query.index(name)]
            grows = name.endswith("_total")
            assert re.search(r"(rate|sum)\($" if grows else r"max\($", before), query


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_say_what_they_show(panel):
    assert panel["description"].endswith(".")
    assert panel["datasource"]["uid"] == "${datasource}"
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert [one["refId"] for one in panel["targets"]] == list("ABCD"[: len(panel["targets"])])


def test_panels_lie_beside_each_other():
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in PANELS)
        for x, y in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) == 23


def test_versions_are_chosen_by_a_metric_that_is_there():
    (variable,) = [one for one in DASHBOARD["templating"]["list"] if one["name"] == "version"]
    (name,) = re.findall(r"ray_\w+", variable["definition"])
    assert name in EXPORTED
    assert variable["query"]["query"] == variable["definition"]
    tagged = [query for query in QUERIES if "encode_retries" not in query]
    assert all('{version=~"$version"}' in query for query in tagged)
