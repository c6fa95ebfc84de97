"""What of an earlier version may stand in a new one, settled before anything runs."""

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from embedkit.config import OutputConfig
from embedkit.corpus.splits import Plan
from embedkit.dataset.plan_file import VersionPlan, read_plan
from embedkit.dataset.publication import newest_other
from embedkit.dataset.recipe import (
    NUMERICS,
    fingerprint_of_first_release,
    numerics_of,
    recipe_of,
)
from embedkit.dataset.version import Version, latest_name
from embedkit.errors import ConfigError, IntegrityError
from embedkit.flow.unchanged import unchanged_splits
from embedkit.reports.phrasing import noun

Scope = Literal["source", "global"]

_LOG = logging.getLogger("embedkit")
_HASH = re.compile(r"[0-9a-f]{32,}")
_MOST_SHOWN = 100
_FILES = {"tokenizer": "tokenizer.json", "architecture": "config.json"}
"""Ingredients that are hashes of what one file of a model says."""


@dataclass(frozen=True)
class Reuse:
    """An earlier version of the same recipe, and how vectors are taken over from it; picklable.

    Attributes:
        version: The earlier version.
        scope: Where an unchanged text is looked for, see ``OutputConfig.reuse_scope``; all of the
            version where there are no input files, such as for rows of a user's own pipeline.
        numerics: What the numerics of a part must be for its vectors to be taken over; None where
            any are good.
        verify: Whether unchanged files are read all the same.
        splits: For each split whose inputs are as they were, by its id, that split's id in the
            earlier version.
        into: The version that takes vectors over, where what is known of all rows of the earlier
            one is kept until it is complete.
    """

    version: Version
    scope: Scope = "source"
    numerics: Mapping[str, Any] | None = None
    verify: bool = False
    splits: Mapping[str, str] = field(default_factory=dict)
    into: Version | None = None

    def without_splits(self) -> "Reuse":
        """Returns what a worker needs beside its split."""
        return replace(self, splits={})


def _nobody(why: str) -> None:
    """Hears of it and does nothing."""


def find_reuse(
    version: Version,
    ours: VersionPlan,
    output: OutputConfig,
    plan: Plan | None = None,
    on_refusal: Callable[[str], None] = _nobody,
) -> Reuse | None:
    """Finds the earlier version that a new one may take vectors over from.

    Args:
        version: The version that is begun or joined.
        ours: Its plan, with all that plays a part in its vectors.
        output: Says which earlier version is meant.
        plan: The splits that the version was begun with; without it none is looked for that is
            what it was.
        on_refusal: Hears why nothing is taken over from it, as the log does.

    Returns:
        None where there is none, or its recipe is another one.

    Raises:
        ConfigError: The version that was named is not there.
        IntegrityError: A file that says so is damaged.
        StoreError: The store failed.
    """
    if output.reuse == "off":
        return None
    name = latest_name(version.store) if output.reuse == "latest" else output.reuse
    if name == version.name and output.reuse == "latest":
        # It was published before something of it was lost, which is made anew as it was then.
        name = newest_other(version)
    if name is None or name == version.name:
        return None
    earlier = version.sibling(name)
    try:
        theirs = read_plan(earlier)
    except FileNotFoundError as error:
        if output.reuse == "latest":
            return None
        raise ConfigError(
            f"reuse: there is no version {name} in {version.root}; name another one, or latest"
        ) from error
    except IntegrityError as error:
        raise IntegrityError(
            f"{error}, or take nothing over from that version, with --reuse off"
        ) from error
    if (why := _why_not(ours, theirs)) is not None:
        refusal = f"nothing is taken over from version {name}: {why}"
        _LOG.warning(refusal)
        on_refusal(refusal)
        return None
    numerics = numerics_of(ours.vectors) if output.reuse_numerics == "same" else None
    scope: Scope = output.reuse_scope if ours.inputs_digest else "global"
    if scope == "source":
        _say_where_sources_went(name, ours, theirs)
    reuse = Reuse(earlier, scope, numerics, output.verify_inputs, into=version)
    if reuse.verify or plan is None:
        return reuse
    return replace(reuse, splits=unchanged_splits(plan, ours, theirs))


def _say_where_sources_went(name: str, ours: VersionPlan, theirs: VersionPlan) -> None:
    before, now = theirs.input_files.keys(), ours.input_files.keys()
    gone, new = before - now, now - before
    if gone and new:
        _LOG.info(
            "since version %s %s went and %s came; --reuse-scope global would find texts that "
            "moved from one to another",
            name,
            noun(len(gone), "input file"),
            noun(len(new), "input file"),
        )


def _why_not(ours: VersionPlan, theirs: VersionPlan) -> str | None:
    """Says what keeps vectors of one version from standing in another, if anything does."""
    if not theirs.vectors:
        same = theirs.fingerprint == fingerprint_of_first_release(ours.vectors)
        return None if same else "it does not say what its recipe is, which is another one"
    if recipe_of(ours.vectors) != recipe_of(theirs.vectors):
        return "; ".join(changes(ours.vectors, theirs.vectors))
    kinds = [plan.job.get("vector_dtype", "float32") for plan in (theirs, ours)]
    if kinds[0] != kinds[1]:
        return _said("vector_dtype", *kinds)
    return None


def changes(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[str]:
    """Says what differs between two recipes, such as ``prompt was '' and is 'passage: '``.

    Args:
        ours: All that plays a part in the vectors of a new version, by name.
        theirs: The same of an earlier one.
    """
    for name in sorted((ours.keys() | theirs.keys()) - set(NUMERICS)):
        was, now = theirs.get(name), ours.get(name)
        if (was or None) != (now or None):
            yield _said(name, was, now)


def _said(name: str, was: Any, now: Any) -> str:
    if any(isinstance(value, str) and _HASH.fullmatch(value) for value in (was, now)):
        return f"{_FILES.get(name, name)} differs"
    kind = type(now if was is None else was)
    neutral = kind() if kind in (str, int, bool, list, dict) else None
    shown = [repr(neutral if value is None else value) for value in (was, now)]
    before, after = (one if len(one) <= _MOST_SHOWN else one[:_MOST_SHOWN] + "…" for one in shown)
    return f"{name} was {before} and is {after}"
