"""The sections of the report, a module and a fragment of the page for each."""

from typing import Any

from embedkit.reports.section import Section
from embedkit.reports.sections import (
    clusters,
    dataset,
    dimensions,
    drift,
    evaluation,
    geometry,
    groups,
    languages,
    lengths,
    map,
    near_duplicates,
    quantization,
    records,
    repeated,
    reuse,
    run,
    scores,
    scripts,
    similarity,
    vector_groups,
    vectors,
)

SECTIONS: tuple[Section[Any, Any], ...] = (
    records.SECTION,
    evaluation.SECTION,
    lengths.SECTION,
    groups.SECTION,
    scripts.SECTION,
    languages.SECTION,
    vectors.SECTION,
    vector_groups.SECTION,
    quantization.SECTION,
    scores.SECTION,
    repeated.SECTION,
    near_duplicates.SECTION,
    similarity.SECTION,
    geometry.SECTION,
    clusters.SECTION,
    map.SECTION,
    drift.SECTION,
    dimensions.SECTION,
    reuse.SECTION,
    run.SECTION,
    dataset.SECTION,
)
"""In the order in which the page shows them."""
