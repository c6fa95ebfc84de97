"""Near duplicates over all rows of a version, in memory that does not grow with them.

Rows of equal texts are found by their hashes, and one of them stands for the others. Those that are
left go into the cells that they are nearest to, and are compared inside of these; see
``near_passes``. What joins them to groups is held here: some 100 bytes for each row of a group.
"""

import importlib.util
import io
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.config import OutputConfig
from embedkit.dataset.manifest import Part, read_manifest
from embedkit.dataset.processes import here
from embedkit.dataset.removal import while_it_stands
from embedkit.dataset.rows import read_rows, schema_of
from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.near_passes import (
    ROW_BITS,
    TEXT,
    Assigned,
    AssignRows,
    ConnectCell,
    EqualTexts,
    PartsToRead,
    Places,
    ReadIds,
    Slice,
    Slices,
    SurveyRows,
)
from embedkit.flow.scratch import Scratch, StoreScratch, remove_scratch, scratch_here
from embedkit.hashes.digests import digest
from embedkit.hashes.repeats import range_count
from embedkit.records import LINE_FIELD
from embedkit.reports.near.cells import Matrix, cell_count, sample_size, train_cells
from embedkit.reports.near.components import Edges, joined, no_edges
from embedkit.reports.near.figures import NearDuplicates, NearGroup, NearRow
from embedkit.reports.near.pairs import Limits, Rows, row_type
from embedkit.reports.sample import excerpt
from embedkit.vectors import value_column

_LOG = logging.getLogger("embedkit")

NEAR_ARROW = "report/near_duplicates.arrow"
NEAR_JSON = "report/near_duplicates.json"

WAY_TO_ONE = 0.95
"""How far a pair is from the model's floor to 1, at least, to be one of near duplicates."""

_HIGHEST_FLOOR = 0.8
_FEW_ROWS = 8192
"""Rows that are all compared with each other; no cells, and no faiss, for so few."""

_ROWS_OF_RUN = 1 << 17
_PARTS_OF_RUN = 64
_FLOOR_ROWS = 4096
_PROBED_PRODUCTS = 200_000_000
_LEAST_PROBES, _MOST_PROBES = 256, 4096
_GROUPS_SHOWN = 10
_ROWS_SHOWN = 3
_SHOWN = ("id", "source", "row_index", LINE_FIELD.name)
_GROUP_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("group", pa.int64(), nullable=False),
        pa.field("keep", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Sizes:
    """What is done at once.

    Attributes:
        few_rows: So many rows are all compared with each other.
        rows_of_run: Rows that one worker reads.
        rows_of_cell: Rows that a cell is meant to have.
        limits: How large cells may be.
    """

    few_rows: int = _FEW_ROWS
    rows_of_run: int = _ROWS_OF_RUN
    rows_of_cell: int = Limits().meant
    limits: Limits = field(default_factory=Limits)


def near_duplicates_in(
    path: str, name: str | None = None, threshold: float | None = None, texts: bool = True
) -> tuple[Version, NearDuplicates]:
    """Finds the near duplicates of a complete version from its parts alone.

    Args:
        path: A root, for its newest version, or the path of a version.
        name: Another version of the root.
        threshold: Least cosine of two near duplicates; see ``find_near_duplicates``.
        texts: Whether the beginnings of texts are shown, where the version stores them.

    Raises:
        ConfigError: There is no such version, its rows have not one vector each, the threshold is
            none, or what it takes is not installed.
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise ConfigError(f"threshold: {threshold:g} is no cosine above 0, and at most 1")
    version = find_version(path if name is None else f"{path.rstrip('/')}/{name}")
    if not version.is_complete():
        raise ConfigError(f"{version.url}: not complete; run its job to the end")
    asked, parts = "on" if threshold is None else f"{threshold:g}", read_manifest(version).parts
    if reason := why_not(version, parts, asked):
        raise ConfigError(f"{version.url}: {reason}")
    with while_it_stands(version):
        return version, find_near_duplicates(version, parts, asked, texts)


def fault_of_setting(asked: str) -> str | None:
    """Says why near duplicates cannot be looked for on this machine, where that was asked for."""
    if asked in ("auto", "off") or _can_cluster():
        return None
    return (
        f"near_duplicates: {asked}, but faiss is not installed; install faiss-cpu, which is the "
        "extra report of embedkit, or leave the setting out"
    )


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
    if asked == "off":
        return "near_duplicates is off"
    schema = schema_of(version, parts)
    column = value_column(schema)
    if schema.names and column != "embedding":
        what = "several vectors" if column == "embeddings" else "scores and no vector"
        return f"its rows have {what} each, which are not compared"
    rows = _rows(parts)
    if rows <= _FEW_ROWS:
        return None
    if asked == "auto" and taken_over > rows // 2:
        # It would cost more than all else that such a run does.
        return (
            f"{taken_over:,} of {rows:,} rows were taken over from an earlier version, and all "
            "would be compared once more, which near_duplicates: on does, or embedkit duplicates"
        )
    if _can_cluster():
        return None
    if fault := fault_of_setting(asked):
        raise ConfigError(fault)
    return (
        f"of more than {_FEW_ROWS:,} rows they take faiss, which is not installed; install "
        "faiss-cpu, which is the extra report of embedkit"
    )


def _can_cluster() -> bool:
    return importlib.util.find_spec("faiss") is not None


def _rows(parts: Sequence[Part]) -> int:
    return sum(part.rows for part in parts)


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
    reason = why_not(version, parts, asked, taken_over)
    if reason is None:
        known = _known(version, parts, asked, texts)
        return known or find_near_duplicates(version, parts, asked, texts)
    if asked == "auto" and "faiss" in reason:
        _LOG.warning("near duplicates are not looked for: %s", reason)
    return reason


def is_surely_small(version: Version, vector_bytes: int) -> bool:
    """Whether the parts of a version tell by one listing that it has few rows.

    Args:
        version: The version.
        vector_bytes: Bytes of a vector, which compression at most halves.

    Raises:
        StoreError: The store failed.
    """
    size = sum(size for _, size in version.store.sizes(version.key("data/")))
    return size <= _FEW_ROWS * vector_bytes // 2


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
    below ``_meta/`` meanwhile.

    Args:
        version: The version, every block committed.
        parts: Its parts.
        asked: The setting.
        texts: Whether the beginnings of stored texts are shown.
        map_splits: Reaches the workers.
        taken_over: How many of its rows were taken over from an earlier version.

    Raises:
        ConfigError: They were asked for, and what it takes is not installed.
        IntegrityError: A part is gone or damaged.
        StoreError: The store failed.
    """
    if _rows(parts) <= _FEW_ROWS or why_not(version, parts, asked, taken_over) is not None:
        return
    if _known(version, parts, asked, texts) is None:
        scratch = StoreScratch(version, secrets.token_hex(8))
        find_near_duplicates(version, parts, asked, texts, map_splits, scratch)
        remove_scratch(version)


def _known(
    version: Version, parts: Sequence[Part], asked: str, texts: bool
) -> NearDuplicates | None:
    """Returns what stands beside the report, if it is of these parts."""
    data = read_if_there(version.store, version.key(NEAR_JSON))
    if data is None or version.store.size(version.key(NEAR_ARROW)) is None:
        return None
    try:
        found = NearDuplicates.parse(data)
    except ValueError:
        # Torn, or of another release: it is made anew.
        return None
    same = found.parts_digest == _digest_of(parts) and found.asked == asked
    told = any(row.text is not None for group in found.largest for row in group.shown)
    return found if same and (texts or not told) else None


def _digest_of(parts: Sequence[Part]) -> str:
    return digest(*(fact for part in parts for fact in (part.path, part.sha256)))


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
        search = _Search(
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


@dataclass(frozen=True, eq=False)
class Groups:
    """The rows in groups, group by group, the one to keep first.

    Attributes:
        places: Where each row is.
        ids: Its id.
        numbers: The number of its group.
        keep: Whether it is the one to keep.
    """

    places: Places
    ids: pa.Array
    numbers: NDArray[np.int64]
    keep: NDArray[np.bool_]

    @classmethod
    def of(cls, places: Places, labels: Places, ids: pa.Array) -> "Groups":
        """Orders rows by the size of their groups, then by the least id of each.

        Args:
            places: Where rows are.
            labels: What tells the group of each.
            ids: Their ids.
        """
        rows = pa.table({"label": labels, "id": ids})
        order = pc.sort_indices(rows, [("label", "ascending"), ("id", "ascending")]).to_numpy()
        labels, ids = labels[order], ids.take(pa.array(order))
        keep = np.ones(len(labels), np.bool_)
        keep[1:] = labels[1:] != labels[:-1]
        begins = np.flatnonzero(keep)
        sizes = np.diff(begins, append=len(labels))
        least = pa.table({"size": sizes, "id": ids.take(pa.array(begins))})
        ranks = np.empty(len(begins), np.int64)
        by_size = pc.sort_indices(least, [("size", "descending"), ("id", "ascending")]).to_numpy()
        ranks[by_size] = np.arange(len(begins))
        numbers = np.repeat(ranks, sizes)
        last = np.argsort(numbers, kind="stable")
        return cls(places[order][last], ids.take(pa.array(last)), numbers[last], keep[last])

    def to_bytes(self) -> bytes:
        """Returns an Arrow file of them."""
        sink = io.BytesIO()
        columns = [self.ids, pa.array(self.numbers), pa.array(self.keep)]
        options = pa.ipc.IpcWriteOptions(compression="zstd")
        with pa.ipc.new_file(sink, _GROUP_SCHEMA, options=options) as file:
            file.write_table(pa.table(columns, schema=_GROUP_SCHEMA))
        return sink.getvalue()


@dataclass(frozen=True)
class _Search:
    """One search for near duplicates."""

    version: Version
    parts: tuple[Part, ...]
    asked: str
    map_splits: MapSplits
    scratch: Scratch
    sizes: Sizes

    def run(self) -> tuple[Groups, NearDuplicates]:
        """Passes over the parts, and joins what was found."""
        few = self.rows <= self.sizes.few_rows
        cells = 1 if few else cell_count(self.rows, self.sizes.rows_of_cell)
        texts, sample = self._survey(cells)
        equal = self._equal_texts(texts)
        floor = _floor(sample)
        threshold = _threshold(self.asked, floor)
        repeats = np.sort(equal[:, 1])
        probes = sample[~np.isin(sample["place"], repeats)][: 0 if few else self._probes]
        centres = np.zeros((1, self.dimension), np.float32)
        if cells > 1 and len(sample):
            centres = train_cells(sample["vector"], cells)
        assigned = self._assign(equal, centres, threshold, probes)
        near = self._connect(assigned, threshold)
        places, labels = joined(np.concatenate([equal, near]))
        groups = Groups.of(places, labels, self._ids(places))
        removable = len(places) - int(groups.keep.sum())
        pairs = np.concatenate([no_edges(), *(one.pairs for one in assigned)])
        return groups, NearDuplicates(
            parts_digest=_digest_of(self.parts),
            asked=self.asked,
            threshold=threshold,
            floor=floor,
            version_rows=self.rows,
            groups=int(groups.keep.sum()),
            rows=len(places),
            removable=removable,
            share=removable / self.rows if self.rows else 0.0,
            equal_texts=len(equal),
            compared=sum(one.compared for one in assigned),
            unusable=sum(one.unusable for one in assigned),
            recall=1.0 if few else _recall(pairs, places, labels),
            recall_pairs=len(pairs),
            recall_rows=len(probes),
            exact=few,
            largest=(),
        )

    @property
    def rows(self) -> int:
        """Rows of the version."""
        return _rows(self.parts)

    @property
    def dimension(self) -> int:
        """Components of a vector; 1 where there is none."""
        schema = schema_of(self.version, self.parts)
        return schema.field("embedding").type.list_size if schema.names else 1

    @property
    def _probes(self) -> int:
        wanted = _PROBED_PRODUCTS // max(1, self.rows)
        return max(_LEAST_PROBES, min(_MOST_PROBES, wanted))

    def _runs(self) -> Iterator[PartsToRead]:
        """Cuts the parts into runs, in a way that depends on nothing but them."""
        first = number = rows = 0
        for end, part in enumerate(self.parts):
            full = rows + part.rows > self.sizes.rows_of_run or end - first == _PARTS_OF_RUN
            if end > first and full:
                yield PartsToRead(number, self.version, first, self.parts[first:end])
                first, number, rows = end, number + 1, 0
            rows += part.rows
        if self.parts:
            yield PartsToRead(number, self.version, first, self.parts[first:])

    def _survey(self, cells: int) -> tuple[list[Slices], Rows]:
        """Returns where the hashes of texts are, by their range, and a sample of the rows."""
        ranges = range_count(self.rows)
        wanted = max(sample_size(cells), _FLOOR_ROWS, self._probes)
        survey = SurveyRows(self.scratch, ranges, wanted, self.rows, self.dimension)
        found = list(self.map_splits(survey, list(self._runs())))
        files = [(f"texts-{number}", one.bounds) for number, one in enumerate(found)]
        drawn = np.concatenate([np.empty(0, row_type(self.dimension)), *(f.sample for f in found)])
        # The same rows in the same order, whichever parts they are in.
        order = np.lexsort((drawn["place"], drawn["key"]))
        return list(_slices(files, ranges, TEXT.itemsize)), drawn[order]

    def _equal_texts(self, texts: Sequence[Slices]) -> Edges:
        found = self.map_splits(EqualTexts(self.scratch), texts)
        return np.concatenate([no_edges(), *found])

    def _assign(
        self, equal: Edges, centres: Matrix, threshold: float, probes: Rows
    ) -> list[Assigned]:
        repeats, standing = np.sort(equal[:, 1]), np.unique(equal[:, 0])
        runs = [
            replace(run, repeats=run.among(repeats), standing=run.among(standing))
            for run in self._runs()
        ]
        assign = AssignRows(self.scratch, centres, threshold, probes)
        return list(self.map_splits(assign, runs))

    def _connect(self, assigned: Sequence[Assigned], threshold: float) -> Edges:
        files = [file for one in assigned for file in one.files]
        cells = len(files[0][1]) - 1 if files else 0
        dtype = row_type(self.dimension)
        connect = ConnectCell(self.scratch, self.dimension, threshold, self.sizes.limits)
        found = self.map_splits(connect, list(_slices(files, cells, dtype.itemsize)))
        return np.concatenate([no_edges(), *found])

    def _ids(self, places: Places) -> pa.Array:
        runs = [replace(run, wanted=run.among(places)) for run in self._runs()]
        asked = [run for run in runs if len(run.wanted)]
        return pa.concat_arrays([pa.array([], pa.string()), *self.map_splits(ReadIds(), asked)])


def _slices(
    files: Sequence[tuple[str, NDArray[np.int64]]], count: int, row_bytes: int
) -> Iterator[Slices]:
    """Yields what belongs together of all files, as far as there is anything."""
    for number in range(count):
        slices = (
            Slice(name, int(bounds[number]), int(bounds[number + 1] - bounds[number]))
            for name, bounds in files
        )
        of_rows = Slices(number, tuple(one for one in slices if one.count), row_bytes)
        if of_rows.rows > 1:
            yield of_rows


def _floor(sample: Rows) -> float | None:
    """Returns the mean cosine of random pairs, of all pairs of some rows in closed form."""
    vectors = sample["vector"][:_FLOOR_ROWS].astype(np.float64)
    count = len(vectors)
    if count < 2:
        return None
    total = vectors.sum(axis=0)
    return round(float(total @ total - count) / (count * (count - 1)), 6)


def _threshold(asked: str, floor: float | None) -> float:
    if asked not in ("auto", "on"):
        return float(asked)
    # Rows that are nearly all the same have no random pairs, so what is above says nothing.
    low = min(max(floor or 0.0, 0.0), _HIGHEST_FLOOR)
    return round(low + WAY_TO_ONE * (1 - low), 6)


def _recall(pairs: Edges, places: Places, labels: Places) -> float | None:
    """Returns the share of pairs of which both rows are in one group."""
    if not len(pairs):
        return None
    if not len(places):
        return 0.0
    at = np.minimum(np.searchsorted(places, pairs), len(places) - 1)
    grouped = (places[at] == pairs).all(axis=1) & (labels[at[:, 0]] == labels[at[:, 1]])
    return round(float(grouped.mean()), 6)


def _shown(
    version: Version, parts: Sequence[Part], groups: Groups, texts: bool
) -> Iterator[NearGroup]:
    """Reads what a report tells of the largest groups."""
    begins = np.flatnonzero(groups.keep)
    ends = np.append(begins, len(groups.places))[1:]
    columns = (*_SHOWN, *(["text"] if texts else []))
    for begin, end in list(zip(begins.tolist(), ends.tolist(), strict=True))[:_GROUPS_SHOWN]:
        shown = groups.places[begin : min(end, begin + _ROWS_SHOWN)].tolist()
        yield NearGroup(end - begin, tuple(_row(version, parts, place, columns) for place in shown))


def _row(version: Version, parts: Sequence[Part], place: int, columns: Sequence[str]) -> NearRow:
    part, row = parts[place >> ROW_BITS], place & ((1 << ROW_BITS) - 1)
    (found,) = read_rows(version, part, columns, np.array([row])).to_pylist()
    text = found.get("text")
    return NearRow(
        id=found["id"],
        source=found["source"],
        row_index=found["row_index"],
        line=found.get(LINE_FIELD.name),
        text=None if text is None else excerpt(text),
    )
