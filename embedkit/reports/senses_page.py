"""The senses of a word as a page in the style of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.plots.colours import GROUPS
from embedkit.reports.render import render_page


def senses_page(
    source: str,
    found: Mapping[str, Any],
    points: NDArray[np.float64],
    labels: NDArray[np.int64],
    tooltips: Sequence[str],
    static: Mapping[str, Any] | None = None,
) -> str:
    """Renders a page of a word's senses that needs nothing else.

    Args:
        source: The version.
        found: What is known of the senses, as ``Senses.to_dict`` gives it.
        points: Places of the occurrences on a plane, shape (occurrences, 2).
        labels: The sense of each, shape (occurrences,).
        tooltips: The text around each.
        static: Name of a directory of static vectors as ``source``, and as ``similar`` the words
            most similar to the word there, each with ``word`` and ``similarity``.
    """
    # Bokeh is slow to import, and only a page needs it.
    from embedkit.reports.plots.points import dots

    plot = dots(tooltips, points, labels)
    values = {**found, "source": source, "static": static, "plot": plot, "colours": GROUPS}
    return render_page("senses.html.jinja", values)
