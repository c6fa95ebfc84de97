"""All versions of a root, each told by a few small files of its own."""

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from embedkit.dataset.committed import checked_record, committed_blocks
from embedkit.dataset.finalize import Totals
from embedkit.dataset.growing import standing_listing
from embedkit.dataset.manifest import checked_manifest, checked_success
from embedkit.dataset.plan_file import VersionPlan, checked_plan, splits_in
from embedkit.dataset.publication import checked_number
from embedkit.dataset.recipe import recipe_of
from embedkit.dataset.removal import removals
from embedkit.dataset.store_keys import is_hopeless, normalize_root
from embedkit.dataset.stores import Store, in_order, open_store, read_found, read_if_there, refused
from embedkit.dataset.version import (
    Version,
    check_directory,
    find_versions,
    is_version_name,
    latest_name,
    split_of,
)
from embedkit.errors import ConfigError, IntegrityError, StoreError

_LOG = logging.getLogger("embedkit")

_MOST_RECORDS = 64
"""Commit records that are read of one version that grows without a listing of what it has."""


@dataclass(frozen=True)
class ListedVersion:
    """What a version is, and how far it has come.

    Attributes:
        version: Its name.
        url: Its path or URL.
        complete: Whether it is complete.
        latest: Whether ``LATEST`` names it.
        published: Its number among the published versions of its root; None where it has none.
        date: When it was completed, or, where it is not complete, when it was begun, as ISO 8601
            text by the store's clock; None where the store does not tell.
        rows: Its rows; of an unfinished one those of its growing listing, or, where it has none,
            of its commit records, None where these are too many to be read one by one.
        rejects: Records that could not be embedded, as far as rows are known.
        size: Bytes of its parts, as far as rows are known.
        model: The model as the job named it; None of an unfinished one without a listing.
        recipe: Hash of all that defines its vectors; None where it does not say.
        trial: How many documents a trial was to read; None of the whole corpus.
        blocks: Its blocks, of an unfinished one those that are committed.
        splits: Splits of its plan; None where that does not say.
        splits_ended: Those of them that were read to their end.
        removing: Whether a prune has begun to remove it, so that nothing else is said of it.
        fault: What is damaged of it, and what to do about it; None where nothing is.
    """

    version: str
    url: str
    complete: bool = False
    latest: bool = False
    published: int | None = None
    date: str | None = None
    rows: int | None = None
    rejects: int | None = None
    size: int | None = None
    model: str | None = None
    recipe: str | None = None
    trial: int | None = None
    blocks: int | None = None
    splits: int | None = None
    splits_ended: int | None = None
    removing: bool = False
    fault: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)


def list_versions(root: str | os.PathLike[str]) -> list[ListedVersion]:
    """Lists the versions of a root, the newest first.

    Of each of them a handful of small files is read, of many versions at once; what is damaged of
    one is said of it, and hides no other.

        >>> from embedkit import list_versions
        >>> [(one.version, one.rows) for one in list_versions("embeddings") if one.complete]
        [('vadff9308c351', 15)]

    Args:
        root: The directory or URL that holds the versions.

    Raises:
        ConfigError: There is no version below it.
        StoreError: The store failed.
    """
    path = normalize_root(root)
    check_directory(path)
    with refused("cannot read the dataset"):
        here = open_store(path)
        names = list(filter(is_version_name, here.folders()))
        listed = in_order(partial(_listed, path, _latest(here), removals(here)), names)
        found = [one for _, one in listed if one is not None]
    if not found:
        # Says what there is instead, or that it is one version.
        single = find_versions(path)[0]
        raise ConfigError(f"{path}: one version, and no root; its root is {single.root}")
    return sorted(found, key=lambda one: (one.date or "", one.version), reverse=True)


def _latest(store: Store) -> str | None:
    try:
        return latest_name(store)
    except IntegrityError as error:
        _LOG.warning("%s", error)
        return None


def _listed(
    root: str, latest: str | None, removed: Mapping[str, bool], name: str
) -> ListedVersion | None:
    """Tells of the version of a name, or that there is none."""
    version = Version(root, name)
    if removed.get(name):
        return ListedVersion(name, version.url, latest=name == latest, removing=True)
    try:
        told = _told(version)
    except IntegrityError as error:
        told = {"fault": str(error)}
    except StoreError as error:
        # No other version is any the worse for a file of this one that may not be read.
        if not (is_hopeless(error.__cause__) or isinstance(error.__cause__, IsADirectoryError)):
            raise
        told = {"fault": str(error)}
    if told is None:
        return None
    return ListedVersion(name, version.url, latest=name == latest, **told)


def _told(version: Version) -> dict[str, Any] | None:
    success = read_if_there(version.store, version.success_key)
    if success is not None:
        manifest = read_if_there(version.store, version.manifest_key)
        if manifest is not None:
            return _complete(version, success, manifest)
    plan = read_if_there(version.store, version.plan_key)
    if plan is not None:
        return _unfinished(version, checked_plan(version, plan))
    if success is None and version.store.size(version.manifest_key) is None:
        return None
    raise IntegrityError(
        f"{version.url_of(version.plan_key)}: gone; restore it, or run the version's own job "
        "again, which writes it anew"
    )


def _complete(version: Version, success_data: bytes, manifest_data: bytes) -> dict[str, Any]:
    success = checked_success(version, success_data)
    manifest = checked_manifest(version, manifest_data, success)
    published = read_if_there(version.store, version.published_key)
    # Versions of the first release have their number in _SUCCESS itself.
    number = checked_number(version, version.success_key, success_data, optional=True)
    if published is not None:
        number = max(number, checked_number(version, version.published_key, published))
    said = manifest.description
    ingredients = said.get("ingredients")
    return {
        "complete": True,
        "published": number or None,
        "date": _date(version, version.manifest_key),
        "rows": manifest.rows,
        "rejects": manifest.rejects,
        "size": manifest.size,
        "model": _text(said.get("model")),
        "recipe": _text(said.get("recipe")) or _recipe(ingredients),
        "trial": _number(said.get("trial")),
        "blocks": manifest.blocks,
        "splits": manifest.splits,
        "splits_ended": manifest.splits,
    }


def _unfinished(version: Version, plan: VersionPlan) -> dict[str, Any]:
    blocks = committed_blocks(version)
    ended = filter(None, map(split_of, version.store.list(version.key("_meta/splits/"))))
    listing = standing_listing(version)
    said: Mapping[str, Any] = {}
    counts: dict[str, Any] = {}
    if listing is not None:
        said = listing.description
        counts = {name: getattr(listing, name) for name in ("rows", "rejects", "size")}
    elif len(blocks) <= _MOST_RECORDS:
        # Of an earlier release, or just begun.
        counts = _counted(version, blocks)
    return {
        **counts,
        "date": _date(version, version.plan_key),
        "model": _text(said.get("model")),
        "recipe": _recipe(plan.vectors),
        "trial": _number(plan.job.get("limit")),
        "blocks": len(blocks),
        "splits": splits_in(plan),
        "splits_ended": len(set(ended)),
    }


def _counted(version: Version, blocks: Sequence[str]) -> dict[str, Any]:
    # One may have been taken back at this moment.
    found = read_found(version.store, map(version.commit_key, blocks))
    totals = Totals.of(
        [
            checked_record(version, block, key, data)
            for block, (key, data) in zip(blocks, found, strict=True)
            if data is not None
        ]
    )
    counts = {name: totals.counts[name] for name in ("rows", "rejects")}
    return {**counts, "size": sum(part.size for part in totals.parts)}


def _recipe(ingredients: object) -> str | None:
    return recipe_of(ingredients) if isinstance(ingredients, Mapping) and ingredients else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _number(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _date(version: Version, key: str) -> str | None:
    seconds = version.store.modified(key)
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
