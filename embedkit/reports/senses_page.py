"""The senses of a word as a page in the style of the report."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.reports.render import render_page
from embedkit.reports.scatter import dots_chart


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
    label = f"Occurrences of {found['word']} on a plane, in {len(found['senses'])} senses"
    chart = dots_chart(label, tooltips, points, labels)
    values = {**found, "source": source, "chart": chart, "static": static}
    return render_page("senses.html.jinja", values)
