"""How a version lies to another one: to that before it, in its report, or to any other."""

import logging
import os
from dataclasses import asdict, dataclass
from typing import Any

from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.publication import published_before
from embedkit.dataset.removal import while_it_stands
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, GoneError, IntegrityError, RemovedError
from embedkit.flow.diff import ComparedVersion, VersionDiff, diff_versions, recipe_changes
from embedkit.flow.examine import examine_both, examine_rows
from embedkit.formats.reused import ReusedRows
from embedkit.reports.drift.earlier import Earlier, RowChanges
from embedkit.reports.drift.figures import Drift, measure_drift, not_compared, without_texts
from embedkit.reports.examined import ExaminedRows

_LOG = logging.getLogger("embedkit")
_OF_DIFF = ("moved", "re_encoded", "metadata")


@dataclass(frozen=True)
class Comparison:
    """Two versions held against each other.

    Attributes:
        diff: Which rows differ.
        drift: What their vectors say.
    """

    diff: VersionDiff
    drift: Drift

    def to_dict(self) -> dict[str, Any]:
        """Returns all of it as JSON values."""
        figures = asdict(self.drift)
        del figures["version"], figures["rows"]["why"]
        figures["rows"] |= {name: getattr(self.diff, name) for name in _OF_DIFF}
        sides = {"earlier": self.diff.earlier, "later": self.diff.later}
        return {**{name: side.to_dict() for name, side in sides.items()}, **figures}


def compare_versions(
    earlier: str | os.PathLike[str], later: str | os.PathLike[str], texts: bool = True
) -> Comparison:
    """Compares two complete versions: their rows, and where their vectors lie.

    Memory is bounded by the samples of both, of 25,000 rows at most.

        >>> from embedkit import compare_versions
        >>> drift = compare_versions("embeddings/vadff9308c351", "embeddings").drift
        >>> drift.same_recipe, drift.unchanged, drift.centroid_cosine
        (True, 15, 1.0)

    Args:
        earlier: A version's path, or its root's for the latest one; a path or URL.
        later: The same of the other one, of whatever root.
        texts: Whether the beginnings of stored texts are shown.

    Raises:
        ConfigError: There is no such version, it is not complete, or its rows have not one vector
            each.
        IntegrityError: A file of one of them is damaged.
        StoreError: The store failed.
    """
    diff = diff_versions(earlier, later)
    sides = (diff.earlier, diff.later)
    for side in sides:
        if side.manifest is None:
            raise ConfigError(f"{side.version.url}: not complete; run its job to the end")
    examined = _examined(*sides, texts)
    for side, found in zip(sides, examined, strict=True):
        if found is None:
            raise ConfigError(
                f"{side.version.url}: its rows have not one vector each, and no others are "
                "compared; embedkit diff compares the rows"
            )
    rows = RowChanges(
        diff.added, diff.removed, diff.changed, diff.later.rows - diff.added - diff.changed
    )
    name, stored = diff.earlier.version.name, _stored(*sides)
    before = Earlier(name, examined[0], diff.recipe_changes, rows, stored)
    return Comparison(diff, measure_drift(before, examined[1]))


def examine_with_earlier(
    version: Version, manifest: Manifest, texts: bool, known: Drift | None = None
) -> tuple[ExaminedRows | None, Drift]:
    """Reads the rows of a version whose report is written, and compares them with those before.

    That is the version published before it, if there is one.

    Parts that both have are read once, so that a night which copies most of its parts reads few
    more than it would without.

    Args:
        version: The version, every block committed.
        manifest: Its manifest.
        texts: Whether the beginnings of stored texts are read as well.
        known: What an earlier report of the version says; it is compared with the same one again,
            or where that is gone, what was said of it stands.

    Returns:
        What its rows say, see ``examine_rows``, and how they lie to those of the version before it.

    Raises:
        IntegrityError: A part of the version is gone or damaged.
        StoreError: The store failed.
    """
    try:
        before = _before(version, manifest, known)
        if isinstance(before, str):
            why = before
        else:
            ours = ComparedVersion(version, manifest, manifest.parts)
            with while_it_stands(before.version):
                earlier, later = _examined(before, ours, texts)
            name = before.version.name
            rows = _changes(manifest.reused, manifest.rows, name)
            changes, stored = recipe_changes(before, ours), _stored(before, ours)
            return later, measure_drift(Earlier(name, earlier, changes, rows, stored), later)
    except (GoneError, IntegrityError, RemovedError) as error:
        # Whether it is the earlier version's, reading this one alone will tell.
        why = f"the version before it cannot be read: {error}"
        _LOG.warning("the version is not compared with the one before it: %s", error)
    examined = examine_rows(version, manifest.parts, texts)
    if known is not None and known.version is not None:
        return examined, known if texts else without_texts(known)
    return examined, not_compared(None, why)


def _before(version: Version, manifest: Manifest, known: Drift | None) -> ComparedVersion | str:
    """Returns the version that was published before another one, or that was taken for it.

    Where there is none, it says why.
    """
    if "trial" in manifest.description:
        return "it is a trial, which is compared with no version"
    name = published_before(version) if known is None else known.version
    if name is None:
        # Why it was not compared stands, as nobody knows any more with what.
        return (known and known.why) or "no version was published before it"
    earlier = version.sibling(name)
    if not earlier.is_complete():
        return f"version {name}, which was published before it, is not complete any more"
    try:
        found = read_manifest(earlier)
    except ConfigError as error:
        # It was complete a moment ago; what is left of one that is removed is not compared.
        return f"the version before it cannot be read: {error}"
    return ComparedVersion(earlier, found, found.parts)


def _stored(earlier: ComparedVersion, later: ComparedVersion) -> tuple[str, str]:
    """Returns how the vectors of two versions are stored."""
    said = [side.manifest.description if side.manifest else {} for side in (earlier, later)]
    before, now = (str(one.get("vector_dtype", "float32")) for one in said)
    return before, now


def _examined(
    earlier: ComparedVersion, later: ComparedVersion, texts: bool
) -> tuple[ExaminedRows | None, ExaminedRows | None]:
    return examine_both((earlier.version, earlier.parts), (later.version, later.parts), texts)


def _changes(reused: ReusedRows | None, rows: int, before: str) -> RowChanges:
    """Returns how many rows are not what they were, as the run counted them."""
    if reused is None or list(reused.versions) != [before] or reused.compared != rows:
        return RowChanges(why="the run took no vectors over from it; embedkit diff counts them")
    return RowChanges(
        added=reused.added,
        removed=reused.removed,
        changed=reused.changed,
        unchanged=rows - reused.added - reused.changed,
    )
