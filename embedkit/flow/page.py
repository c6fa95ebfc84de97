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
    page = render_html(report, placed=_placed(version))
    version.store.replace(version.key(REPORT_HTML), page.encode())


def _placed(version: Version) -> pa.Table | None:
    data = read_if_there(version.store, version.key(MAP))
    if data is None:
        return None
    try:
        table = pq.read_table(pa.BufferReader(data))
        missing = [name for name in OF_THE_MAP if name not in table.column_names]
        if missing:
            raise ValueError(f"no column {missing[0]!r}")
    except (pa.ArrowException, OSError, ValueError) as error:
        _LOG.warning(
            "%s: damaged (%s); the page shows no map", version.url_of(version.key(MAP)), error
        )
        return None
    return table
