"""Lets ``LATEST`` name the version of a person's choice."""

import os
from dataclasses import asdict, dataclass
from typing import Any

from embedkit.dataset.committed import committed_blocks, ended_splits
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.plan_file import planned_splits
from embedkit.dataset.publication import number_of, publish_above_all
from embedkit.dataset.removal import check_not_removed, while_it_stands
from embedkit.dataset.store_keys import normalize_root
from embedkit.dataset.stores import refused
from embedkit.dataset.version import Version, check_directory, is_version_name, latest_name
from embedkit.errors import ConfigError, IntegrityError, ResumableError
from embedkit.flow.verdict import read_report
from embedkit.reports.phrasing import noun

_HOW = "give ROOT/VERSION, or ROOT and --version"


@dataclass(frozen=True)
class Publication:
    """What publishing a version by hand changed.

    Attributes:
        version: Its name.
        url: Its path or URL.
        before: The version that ``LATEST`` named before; None where it named none.
        number: Its number among the published versions of its root, the highest of them unless
            another one was published meanwhile.
        latest: Whether ``LATEST`` names it now.
        verdict: What its report says first; None where that says nothing.
    """

    version: str
    url: str
    before: str | None
    number: int
    latest: bool
    verdict: str | None

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)


def publish_version(path: str | os.PathLike[str], version: str | None = None) -> Publication:
    """Lets ``LATEST`` name a complete version, an older one than it names, too.

    Runs that publish at the same time get a number before or after it, and ``LATEST`` names the
    later of the two. What a run publishes afterwards takes its place again.

        >>> from embedkit import publish_version
        >>> publish_version("embeddings", "vadff9308c351").latest
        True

    Args:
        path: The version; or its root, where its name is given beside.
        version: Its name.

    Raises:
        ConfigError: There is no such version, or it is a trial or has no rows.
        ResumableError: It is not complete, or is being removed, or the store failed.
        IntegrityError: A part of it is gone or has another size, or a file that says what is
            published is damaged.
    """
    root = normalize_root(path)
    if version is None:
        root, _, version = root.rpartition("/")
    if not root or root.endswith("/") or not is_version_name(version):
        raise ConfigError(f"{os.fspath(path)}: no version; {_HOW}")
    chosen = Version(root, version)
    check_directory(root)
    with refused("cannot read the dataset"):
        check_not_removed(chosen)
        with while_it_stands(chosen):
            _check(chosen)
        before = _named_by_latest(chosen)
    publish_above_all(chosen)
    return Publication(
        version=chosen.name,
        url=chosen.url,
        before=before,
        number=number_of(chosen),
        latest=_named_by_latest(chosen) == chosen.name,
        verdict=read_report(chosen).get("verdict", {}).get("sentence"),
    )


def _check(version: Version) -> None:
    """Checks that readers can do with a version."""
    if not version.is_complete():
        planned = planned_splits(version)
        if planned is None and not version.is_begun():
            raise ConfigError(f"{version.url}: there is no such version; {_HOW}")
        ended, blocks = len(ended_splits(version)), len(committed_blocks(version))
        of = "" if planned is None else f" of {planned}"
        raise ResumableError(
            f"{version.url}: not complete: {ended}{of} splits were read to their end, and "
            f"{noun(blocks, 'block')} committed; run its job to the end first"
        )
    manifest = read_manifest(version)
    trial = manifest.description.get("trial")
    if trial is not None:
        raise ConfigError(
            f"{version.url}: a trial of the first {noun(trial, 'document')}, which LATEST never "
            "names; run the job without --limit"
        )
    if not manifest.rows:
        raise ConfigError(f"{version.url}: has no rows for a reader; publish another version")
    _check_parts(version, manifest)


def _check_parts(version: Version, manifest: Manifest) -> None:
    """Checks by one listing that all parts are there; what is in them is not read."""
    sizes = {key: size for key, size, _ in version.store.times(version.key("data/"))}
    for part in manifest.parts:
        key = version.key(part.path)
        size = sizes.get(key)
        if size != part.size:
            fault = "gone" if size is None else f"{size:,} bytes instead of {part.size:,}"
            raise IntegrityError(
                f"{version.url_of(key)}: {fault}; run the version's job again, which makes it anew"
            )


def _named_by_latest(version: Version) -> str | None:
    try:
        return latest_name(version.store)
    except IntegrityError:
        # It is written anew.
        return None
