"""A report as one HTML file that needs nothing else: no request, no other file."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa

from embedkit.reports import phrasing
from embedkit.reports.plots.map_rows import map_rows
from embedkit.reports.section import Section
from embedkit.reports.sections import SECTIONS

_FILTERS = ("count", "duration", "model_name", "noun", "percent", "plain", "significant", "size")
_LONGEST_TEXT = 1000


def render_html(
    report: Mapping[str, Any],
    sections: Sequence[Section[Any, Any]] = SECTIONS,
    placed: pa.Table | None = None,
) -> str:
    """Renders a report.

    Everything that came from outside (texts, ids, sources, names of models, details of rejects) is
    escaped, and control characters in it are made visible. A policy in the page forbids requests
    besides, and all scripts but those that draw its plots.

    Args:
        report: What ``build_report`` gave, or ``report.json`` read back.
        sections: The sections that it may have.
        placed: What ``map.parquet`` holds; None where there is no map.

    Returns:
        A page that encodes to UTF-8 whatever the report holds.
    """
    names = report.get("sections", [section.name for section in sections])
    fragments = [section.fragment for section in sections if section.name in names]
    folders = dict.fromkeys(fragment.parent for fragment in fragments)
    clusters = report.get("clusters", {}).get("clusters", [])
    has_map = placed is not None and report.get("map", {}).get("measured")
    points = map_rows(placed, clusters) if has_map else None
    values = {**report, "points": points, "fragments": [fragment.name for fragment in fragments]}
    return render_page("report.html.jinja", values, tuple(folders))


def with_verdict(page: str, report: Mapping[str, Any]) -> str:
    """Returns a page whose first sentence and gates are those of a report, and nothing else.

    Args:
        page: A page of the same version; one of an earlier release, without them, stays as it is.
        report: What ``judged`` gave.
    """
    start, end = (f"<!-- {name} -->" for name in ("verdict", "/verdict"))
    before, opened, rest = page.partition(start)
    _, closed, after = rest.partition(end)
    if not (opened and closed):
        return page
    verdict = _environment(()).get_template("verdict.html.jinja").render(report)
    return before + verdict.rstrip("\n") + after


def render_page(name: str, values: Mapping[str, Any], folders: tuple[Path, ...] = ()) -> str:
    """Renders a page from a template of this folder; what it prints is escaped and made visible.

    The template has ``plots`` and ``charts`` to place what is drawn, and the ``policy`` that they
    need.

    Args:
        name: The template's file.
        values: What it may print.
        folders: Where else templates are that it includes.
    """
    # Bokeh is slow to import, and only who writes a page needs it.
    from embedkit.reports.plots.charts import Charts
    from embedkit.reports.plots.document import Plots, policy

    plots = Plots()
    drawn = {"plots": plots, "charts": Charts(plots), "policy": policy()}
    return _environment(folders).get_template(name).render({**values, **drawn})


@lru_cache
def _environment(folders: tuple[Path, ...]) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([Path(__file__).parent, *folders]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters.update({name: getattr(phrasing, name) for name in _FILTERS})
    return environment


def _shown(value: Any) -> Any:
    """Cleans every string that the template prints, so that none can be forgotten."""
    return phrasing.plain(value, _LONGEST_TEXT) if type(value) is str else value
