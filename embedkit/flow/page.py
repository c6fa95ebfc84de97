"""The page of a version, from what the version holds."""

import logging
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version
from embedkit.flow.map import MAP
from embedkit.flow.verdict import REPORT_HTML
from embedkit.reports.plots.map_rows import OF_THE_MAP
from embedkit.reports.render import render_html

_LOG = logging.getLogger("embedkit")


def write_page(version: Version, report: Mapping[str, Any]) -> None:
    """Writes ``report.html`` of a version.

    Args:
        version: The version, whose map is in it if there is one.
        report: What ``build_report`` gave, or ``report.json`` read back.

    Raises:
        StoreError: The store failed.
    """
    drawn = report.get("map", {})
    placed = _placed(version, drawn.get("rows")) if drawn.get("measured") else None
    page = render_html(report, placed=placed)
    version.store.replace(version.key(REPORT_HTML), page.encode())


def _placed(version: Version, rows: int | None) -> pa.Table | None:
    data = read_if_there(version.store, version.key(MAP))
    if data is None:
        return None
    try:
        table = pq.read_table(pa.BufferReader(data))
        for name, kind in OF_THE_MAP.items():
            kinds = [field.type for field in table.schema if field.name == name]
            if kinds != [kind]:
                found = " and ".join(map(str, kinds)) or "not there"
                raise ValueError(f"column {name!r} is {found}, not {kind}")
        if table.num_rows != rows:
            raise ValueError(f"{table.num_rows} rows, where the report says {rows}")
    except (pa.ArrowException, OSError, ValueError) as error:
        _LOG.warning(
            "%s: damaged (%s); the page shows no map", version.url_of(version.key(MAP)), error
        )
        return None
    return table
