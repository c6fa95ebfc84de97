"""Near duplicates over all rows of a version, in memory that does not grow with them."""

import importlib.util
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from embedkit.config import OutputConfig
from embedkit.dataset.manifest import Part, read_manifest
from embedkit.dataset.processes import here
from embedkit.dataset.removal import while_it_stands
from embedkit.dataset.rows import read_rows, schema_of
from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError, GoneError
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.near_passes import ROW_BITS, Places
from embedkit.flow.near_search import FEW_ROWS, Groups, Search, Sizes, digest_of, rows_in
from embedkit.flow.scratch import Scratch, StoreScratch, scratch_here
from embedkit.records import LINE_FIELD
from embedkit.reports.near.figures import NearDuplicates, NearGroup, NearRow
from embedkit.reports.sample import excerpt
from embedkit.vectors import value_column

_LOG = logging.getLogger("embedkit")

NEAR_ARROW = "report/near_duplicates.arrow"
NEAR_JSON = "report/near_duplicates.json"

_MOST_ROWS_HERE = 1_000_000
"""Rows that one process looks at unasked, while it completes a version."""

_GROUPS_SHOWN = 10
_ROWS_SHOWN = 3
_SHOWN = ("id", "source", "row_index", LINE_FIELD.name)


def near_duplicates_in(
    path: str, name: str | None = None, threshold: float | None = None, texts: bool = True
) -> tuple[Version, NearDuplicates]:
    """Finds the near duplicates of a complete version from its parts alone.

    Args:
        path: A root, for its newest version, or the path of a version.
        name: Another version of the root.
        threshold: Least cosine of two near duplicates; see ``find_near_duplicates``.
        texts: Whether the beginnings of texts are shown, where the version stores them and its
            report shows some.

    Raises:
        ConfigError: There is no such version, its rows have not one vector each, the threshold is
            none, or what it takes is not installed.
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    # It loads how jobs are prepared, for which this module checks a setting.
    from embedkit.flow.verdict import read_report

    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"threshold: {threshold:g} is no cosine above 0, and at most 1")
    version = find_version(path if name is None else f"{path.rstrip('/')}/{name}")
    if not version.is_complete():
        raise ConfigError(f"{version.url}: not complete; run its job to the end")
    asked, parts = "on" if threshold is None else f"{threshold:g}", read_manifest(version).parts
    if reason := why_not(version, parts, asked):
        raise ConfigError(f"{version.url}: {reason}")
    with while_it_stands(version):
        # The file is beside the report, and goes where that goes.
        texts = texts and read_report(version).get("texts", True) is not False
        return version, find_near_duplicates(version, parts, asked, texts)


def fault_of_setting(asked: str) -> str | None:
    """Says why near duplicates cannot be looked for on this machine, where that was asked for."""
    if asked in ("auto", "off") or _can_cluster():
        return None
    return (
        f"near_duplicates: {asked}, but faiss is not installed; install faiss-cpu, which is the "
        "extra report of embedkit, or leave the setting out"
    )


def compares_rows(output: OutputConfig, rows: int) -> bool:
    """Whether a version of so many new rows, of one vector each, is looked through by cells."""
    asked = output.near_duplicates
    return rows > FEW_ROWS and asked != "off" and (asked != "auto" or _can_cluster())


def is_gated(output: OutputConfig) -> bool:
    """Whether a gate needs what near duplicates say, so that they are looked for every time."""
    return any(gate.path.startswith("near_duplicate") for gate in output.gates)


def why_not(version: Version, parts: Sequence[Part], asked: str, taken_over: int = 0) -> str | None:
    """Says why near duplicates of a version are not looked for; None where they are.

    Args:
        version: The version.
        parts: Its parts.
        asked: The setting.
        taken_over: How many of its rows were taken over from an earlier version.

    Raises:
        ConfigError: They were asked for, and what it takes is not installed.
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    return _no_need(version, parts, asked, taken_over) or _no_means(parts, asked)


def _no_need(version: Version, parts: Sequence[Part], asked: str, taken_over: int) -> str | None:
    """Says why there is nothing to be looked for, or it would not pay."""
    if asked == "off":
        return "near_duplicates is off"
    schema = schema_of(version, parts)
    column = value_column(schema)
    if schema.names and column != "embedding":
        what = "several vectors" if column == "embeddings" else "scores and no vector"
        return f"its rows have {what} each, which are not compared"
    rows = rows_in(parts)
    if asked == "auto" and rows > FEW_ROWS and taken_over > rows // 2:
        # It would cost more than all else that such a run does.
        return (
            f"{taken_over:,} of {rows:,} rows were taken over from an earlier version, and all "
            "would be compared once more, which near_duplicates: on does, or embedkit duplicates"
        )
    return None


def _no_means(parts: Sequence[Part], asked: str) -> str | None:
    """Says what this machine lacks for it, which is an error where it was asked for."""
    if rows_in(parts) <= FEW_ROWS or _can_cluster():
        return None
    if fault := fault_of_setting(asked):
        raise ConfigError(fault)
    return (
        f"of more than {FEW_ROWS:,} rows they take faiss, which is not installed; install "
        "faiss-cpu, which is the extra report of embedkit"
    )


def _can_cluster() -> bool:
    return importlib.util.find_spec("faiss") is not None


def near_duplicates_of(
    version: Version, parts: Sequence[Part], asked: str, texts: bool, taken_over: int = 0
) -> NearDuplicates | str:
    """Returns what is known of a version's near duplicates, which are looked for if need be.

    Args:
        version: The version.
        parts: Its parts.
        asked: The setting.
        texts: Whether the beginnings of stored texts are shown.
        taken_over: How many of its rows were taken over from an earlier version.

    Returns:
        What is known, or why nothing is.

    Raises:
        ConfigError: They were asked for, and what it takes is not installed.
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    if (reason := _no_need(version, parts, asked, taken_over)) is not None:
        return reason
    lacking = _no_means(parts, asked)
    if lacking is None:
        known = known_near_duplicates(version, parts, asked, texts)
        if known is not None:
            return known
        if asked != "auto" or rows_in(parts) <= _MOST_ROWS_HERE:
            return find_near_duplicates(version, parts, asked, texts)
        lacking = (
            f"more than {_MOST_ROWS_HERE:,} rows take an engine's workers, and this run had none "
            "for it; embedkit duplicates looks for them on one machine"
        )
    _LOG.warning("near duplicates are not looked for: %s", lacking)
    return lacking


def is_surely_small(version: Version, vector_bytes: int) -> bool:
    """Whether the parts of a version tell by one listing that it has few rows.

    Args:
        version: The version.
        vector_bytes: Bytes of a vector, which compression at most halves.

    Raises:
        StoreError: The store failed.
    """
    size = sum(size for _, size in version.store.sizes(version.key("data/")))
    return size <= FEW_ROWS * vector_bytes // 2


def find_by_workers(
    version: Version,
    parts: Sequence[Part],
    asked: str,
    texts: bool,
    map_splits: MapSplits,
    taken_over: int = 0,
) -> None:
    """Looks for the near duplicates of a larger version on an engine's workers.

    Of a smaller one nothing is done, as that takes less than reaching them. Its rows stand twice
    below ``_meta/`` until it is complete; see ``remove_scratch``.

    Args:
        version: The version, every block committed.
        parts: Its parts.
        asked: The setting.
        texts: Whether the beginnings of stored texts are shown.
        map_splits: Reaches the workers.
        taken_over: How many of its rows were taken over from an earlier version.

    Raises:
        ConfigError: They were asked for, and what it takes is not installed.
        GoneError: Another run completed the version without them meanwhile.
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    if rows_in(parts) <= FEW_ROWS or why_not(version, parts, asked, taken_over) is not None:
        return
    if known_near_duplicates(version, parts, asked, texts) is None:
        scratch = StoreScratch(version, secrets.token_hex(8))
        try:
            find_near_duplicates(version, parts, asked, texts, map_splits, scratch)
        except GoneError:
            # Another run of the same job that has found them takes all scratch away.
            if known_near_duplicates(version, parts, asked, texts) is None:
                raise


def known_near_duplicates(
    version: Version, parts: Sequence[Part], asked: str | None, texts: bool
) -> NearDuplicates | None:
    """Returns what stands beside the report, if it is of these parts.

    Args:
        version: The version.
        parts: Its parts.
        asked: The setting that it must be by; None takes it by any.
        texts: Whether texts may be shown; else they go, from what stands as well.

    Raises:
        StoreError: The store failed.
    """
    data = read_if_there(version.store, version.key(NEAR_JSON))
    if data is None or version.store.size(version.key(NEAR_ARROW)) is None:
        return None
    try:
        found = NearDuplicates.parse(data)
    except ValueError:
        # Torn, or of another release: it is made anew.
        return None
    if found.parts_digest != digest_of(parts) or asked not in (None, found.asked):
        return None
    if texts or all(row.text is None for group in found.largest for row in group.shown):
        return found
    found = replace(found, largest=tuple(map(_without_texts, found.largest)))
    version.store.replace(version.key(NEAR_JSON), found.to_json())
    return found


def _without_texts(group: NearGroup) -> NearGroup:
    return replace(group, shown=tuple(replace(row, text=None) for row in group.shown))


def find_near_duplicates(
    version: Version,
    parts: Sequence[Part],
    asked: str = "auto",
    texts: bool = False,
    map_splits: MapSplits = here,
    scratch: Scratch | None = None,
    sizes: Sizes | None = None,
) -> NearDuplicates:
    """Finds the near duplicates of a version, and writes them beside its report.

    ``NEAR_ARROW`` is an Arrow file with a row for each that is in a group: ``id``, ``group``, a
    number from 0 for the largest group, and ``keep``, true of the one with the least id of each.
    ``NEAR_JSON`` has the figures.

    Args:
        version: The version; its rows have one vector each.
        parts: Its parts.
        asked: ``auto``, ``on``, or the least cosine of two near duplicates; without one it is
            ``WAY_TO_ONE`` of the way from the mean cosine of random pairs to 1.
        texts: Whether the beginnings of stored texts are shown.
        map_splits: Reaches the workers.
        scratch: Where they leave rows for each other; a folder of this machine unless given.
        sizes: What is done at once.

    Raises:
        IntegrityError: A part is gone or damaged.
        OSError: There is no room on the local disk.
        StoreError: The store failed.
    """
    with ExitStack() as stack:
        search = Search(
            version,
            tuple(parts),
            asked,
            map_splits,
            scratch or stack.enter_context(scratch_here()),
            sizes or Sizes(),
        )
        groups, found = search.run()
    found = replace(found, largest=tuple(_shown(version, parts, groups, texts)))
    version.store.replace(version.key(NEAR_ARROW), groups.to_bytes())
    # Behind it, as it tells of what the other one is.
    version.store.replace(version.key(NEAR_JSON), found.to_json())
    return found


def _shown(
    version: Version, parts: Sequence[Part], groups: Groups, texts: bool
) -> Iterator[NearGroup]:
    """Reads what a report tells of the largest groups, each part once."""
    begins = np.flatnonzero(groups.keep)
    sizes = np.diff(begins, append=len(groups.places))[:_GROUPS_SHOWN].tolist()
    shown = [
        groups.places[begin : begin + min(size, _ROWS_SHOWN)].tolist()
        for begin, size in zip(begins.tolist(), sizes, strict=False)
    ]
    wanted = sorted(place for places in shown for place in places)
    told = _told(version, parts, np.array(wanted, np.int64), texts)
    for size, places in zip(sizes, shown, strict=True):
        yield NearGroup(size, tuple(told[place] for place in places))


def _told(
    version: Version, parts: Sequence[Part], places: Places, texts: bool
) -> dict[int, NearRow]:
    """Reads what is told of rows at ascending places."""
    columns = (*_SHOWN, *(["text"] if texts else []))
    told: dict[int, NearRow] = {}
    for number in np.unique(places >> ROW_BITS).tolist():
        inside = places[places >> ROW_BITS == number]
        rows = read_rows(version, parts[number], columns, inside & ((1 << ROW_BITS) - 1))
        for place, row in zip(inside.tolist(), rows.to_pylist(), strict=True):
            text = row.get("text")
            told[place] = NearRow(
                id=row["id"],
                source=row["source"],
                row_index=row["row_index"],
                line=row.get(LINE_FIELD.name),
                text=None if text is None else excerpt(text),
            )
    return told
