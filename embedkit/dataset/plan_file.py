"""The plan of a version: what it was begun with, and which job may go on with it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from embedkit.corpus.splits import Plan
from embedkit.dataset.recipe import fingerprint, naming
from embedkit.dataset.stores import create
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError, RemovedError
from embedkit.formats.json_record import LongRecord

_MOST_NAMED = 10
_MOST_SHOWN = 100
_NO_PLAN = "restore it, or remove it and run the version's own job again, which writes it anew"


@dataclass(frozen=True)
class VersionPlan(LongRecord):
    """What a version was begun with.

    Attributes:
        fingerprint: Hash of the recipe and precision of its vectors, or what the first release
            hashed in its place.
        inputs_digest: Hash over what its input files are.
        job_digest: Hash of the settings that shape its rows.
        vectors: All that plays a part in its vectors, by name; empty where it does not say.
        job: The settings that shape its rows, by name.
        corpus: The splits, as JSON values of their own plan.
    """

    fingerprint: str
    inputs_digest: str = ""
    job_digest: str = ""
    vectors: dict[str, Any] = field(default_factory=dict)
    job: dict[str, Any] = field(default_factory=dict)
    corpus: dict[str, Any] = field(default_factory=dict)

    @property
    def vectors_named(self) -> str:
        """The fingerprint by which plans of any release can be compared."""
        return fingerprint(self.vectors) if self.vectors else self.fingerprint

    @property
    def input_files(self) -> dict[str, str]:
        """What it tells of its input files, by their names."""
        files = self.corpus.get("input_files") or ()
        try:
            return {source: f"{size} bytes ({etag})" for source, _, size, etag, *_ in files}
        except (TypeError, ValueError):
            return {}


@dataclass(frozen=True)
class _Fixed:
    """Something that all who write to a version must agree on, how it is called, and its facts."""

    what: str
    of: Callable[[VersionPlan], str]
    facts: Callable[[VersionPlan], dict[str, Any]]
    absent: str = "not set"


_FIXED = {
    "fingerprint": _Fixed(
        "another model or other settings of it",
        lambda plan: plan.vectors_named,
        lambda plan: naming(plan.vectors),
    ),
    "inputs_digest": _Fixed(
        "other inputs",
        lambda plan: plan.inputs_digest,
        lambda plan: plan.input_files,
        absent="not there",
    ),
    "job_digest": _Fixed(
        "other settings of its rows", lambda plan: plan.job_digest, lambda plan: plan.job
    ),
}


def create_or_check_plan(
    version: Version, plan: VersionPlan, *, renew: bool = False
) -> VersionPlan:
    """Creates the plan of a version unless it has one.

    Args:
        version: The version to begin or to join.
        plan: Its plan, if it is to be begun; vectors, inputs and settings of rows must be the same
            for all who write to a version.
        renew: Whether a plan that cannot be read is replaced by this one.

    Returns:
        The plan that stands, which is an earlier run's where there was one.

    Raises:
        ConfigError: The version was begun with another model, other inputs or other settings.
        IntegrityError: The plan that stands is damaged.
        RemovedError: The version is removed at this moment.
        StoreError: The store failed.
    """
    data = plan.to_json()
    if create(version.store, version.plan_key, data):
        return plan
    try:
        standing = read_plan(version)
    except IntegrityError:
        if not renew:
            raise
        version.store.replace(version.plan_key, data)
        return plan
    except FileNotFoundError as error:
        raise RemovedError(
            f"{version.url}: removed by embedkit prune just now; run the same command again, which "
            "begins the version anew"
        ) from error
    for name, fixed in _FIXED.items():
        if fixed.of(plan) == fixed.of(standing):
            continue
        said = differences(fixed.facts(plan), fixed.facts(standing), fixed.absent) or (
            f"{name} {fixed.of(standing)}, this job has {fixed.of(plan)}"
        )
        if renew:
            raise IntegrityError(
                f"{version.url_of(version.plan_key)}: not this version's plan ({said}); {_NO_PLAN}"
            )
        raise ConfigError(
            f"{version.url} was begun with {fixed.what} ({said}); give this job another version "
            "name, or none"
        )
    return standing


def read_plan(version: Version) -> VersionPlan:
    """Reads the plan that stands.

    Raises:
        FileNotFoundError: There is none.
        IntegrityError: It is damaged.
        StoreError: The store failed.
    """
    return checked_plan(version, version.store.read(version.plan_key))


def checked_plan(version: Version, data: bytes) -> VersionPlan:
    """Reads a plan that was read from its version.

    Raises:
        IntegrityError: It is damaged.
    """
    try:
        return VersionPlan.parse(data)
    except ValueError as error:
        raise IntegrityError(f"{version.url_of(version.plan_key)}: {error}; {_NO_PLAN}") from error


def standing_plan(version: Version, stored: VersionPlan) -> Plan:
    """Returns the splits of the plan that stands.

    Raises:
        IntegrityError: It has other than splits.
    """
    try:
        return Plan.of_dict(stored.corpus)
    except ValueError as error:
        raise IntegrityError(
            f"{version.url_of(version.plan_key)}: not the plan that was written ({error}); "
            f"{_NO_PLAN}"
        ) from error


def planned_splits(version: Version) -> int | None:
    """Returns the number of splits of a version's plan, or None where it does not say.

    Raises:
        IntegrityError: The plan is damaged.
        StoreError: The store failed.
    """
    try:
        return splits_in(read_plan(version))
    except FileNotFoundError:
        return None


def splits_in(plan: VersionPlan) -> int | None:
    """Returns the number of splits of a plan, or None where it does not say."""
    splits = plan.corpus.get("splits")
    return len(splits) if isinstance(splits, list) else None


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], absent: str = "not set") -> str:
    """Says in which settings two jobs differ, such as ``text_column: title, was text``.

    Args:
        ours: Names and values; none where they are not known.
        theirs: Those of an earlier job.
        absent: What is said of a name that one of them lacks.
    """
    if not ours or not theirs:
        return ""
    found = [
        f"{name}: {_shown(ours.get(name), absent)}, was {_shown(theirs.get(name), absent)}"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    return "; ".join(found[:_MOST_NAMED])


def _shown(value: Any, absent: str) -> str:
    if value is None or value == [] or value == "":
        return absent
    shown = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return shown if len(shown) <= _MOST_SHOWN else shown[:_MOST_SHOWN] + "…"
