"""The map of a version's sample, which goes on from that of the version before."""

import logging

import numpy as np

from embedkit.dataset.manifest import Manifest
from embedkit.dataset.publication import published_before
from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version
from embedkit.reports.examined import ExaminedRows
from embedkit.reports.map.components import Places
from embedkit.reports.map.placed import EarlierPlaces, Method, method_for, place_rows
from embedkit.reports.map.table import DrawnMap, EarlierMap, MapOrigin, read_map, write_map

_LOG = logging.getLogger("embedkit")

MAP = "report/map.parquet"


def draw_map(
    version: Version, manifest: Manifest, examined: ExaminedRows | None
) -> DrawnMap | str | None:
    """Places the rows of a version's sample on a plane, and writes ``MAP``.

    Rows of equal texts are in one place. What the file of these very rows says stands, so that
    drawing it again changes nothing; else the map of the version that was published before is
    where it begins.

    Args:
        version: The version, every block committed.
        manifest: Its manifest.
        examined: What its rows say; None where they have not one vector each.

    Returns:
        What was drawn, or why nothing was; None where ``examined`` is.

    Raises:
        IntegrityError: A file that says which versions are published is damaged.
        StoreError: The store failed.
    """
    if examined is None:
        return None
    rows, clusters = examined.usable, examined.clusters
    if not len(rows):
        return "no row has a vector with a direction"
    of_text = rows.numbers_of(rows.texts)
    recipe = manifest.description.get("recipe") or manifest.description["fingerprint"]
    origin, places = _placed(version, str(recipe), examined)
    numbers = np.full(len(rows), -1, np.int32)
    if not isinstance(clusters, str):
        numbers = clusters.numbers[of_text]
    version.store.replace(version.key(MAP), write_map(rows, places[of_text], numbers, origin))
    return DrawnMap(origin, len(rows))


def _placed(version: Version, recipe: str, examined: ExaminedRows) -> tuple[MapOrigin, Places]:
    """Returns where the rows are that stand for their texts, and how that came about."""
    rows = examined.distinct
    method = method_for(len(rows))
    # One by t-SNE stays where this machine cannot draw another.
    standing = _map_of(version, recipe, {method, "t-sne"})
    if standing is not None:
        places = standing.places_of(rows.texts)
        if np.isfinite(places).all():
            return standing.origin, places
    before = published_before(version)
    earlier = None if before is None else _map_of(version.sibling(before), recipe, {method})
    begin = None
    if earlier is not None:
        begin = EarlierPlaces(earlier.places_of(rows.texts), earlier.origin.beside)
    found = place_rows(rows.units, method, begin, examined.covariance)
    start = None if found.moved is None else before
    origin = MapOrigin(method, recipe, found.explained, start, found.moved, found.beside)
    return origin, found.places


def _map_of(version: Version, recipe: str, methods: set[Method]) -> EarlierMap | None:
    """Returns the map that a version has, if it is of such vectors and by such a method."""
    data = read_if_there(version.store, version.key(MAP))
    if data is None:
        return None
    try:
        found = read_map(data)
    except ValueError as error:
        _LOG.warning("%s: %s; the map is drawn without it", version.url_of(version.key(MAP)), error)
        return None
    same = found.origin.recipe == recipe and found.origin.method in methods
    return found if same else None
