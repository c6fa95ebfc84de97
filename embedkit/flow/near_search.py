"""One search for near duplicates, pass by pass, and what joins rows to groups.

Rows of equal texts are found by their hashes, and one of them stands for the others. Those that are
left go into the cells that they are nearest to, and are compared inside of these; see
``near_passes``. What joins them to groups is held here: some 100 bytes for each row of a group.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.dataset.manifest import Part
from embedkit.dataset.rows import schema_of
from embedkit.dataset.version import Version
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.near_passes import (
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
    equal_texts,
    read_few_rows,
    stand_for_others,
)
from embedkit.flow.scratch import Scratch
from embedkit.hashes.digests import digest
from embedkit.hashes.repeats import range_count
from embedkit.lazy import lazy_property
from embedkit.reports.near.cells import Matrix, cell_count, sample_size, train_cells
from embedkit.reports.near.components import Edges, joined, no_edges
from embedkit.reports.near.figures import NearDuplicates
from embedkit.reports.near.pairs import Limits, Rows, edges_within, row_type
from embedkit.vectors import stored_as

WAY_TO_ONE = 0.95
"""How far a pair is from the model's floor to 1, at least, to be one of near duplicates."""

_HIGHEST_FLOOR = 0.8
FEW_ROWS = 8192
"""Rows that are all compared with each other; no cells, and no faiss, for so few."""

_ROWS_OF_RUN = 1 << 17
_PARTS_OF_RUN = 64
_FLOOR_ROWS = 4096
_PROBED_PRODUCTS = 200_000_000
_LEAST_PROBES, _MOST_PROBES = 256, 4096
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

    few_rows: int = FEW_ROWS
    rows_of_run: int = _ROWS_OF_RUN
    rows_of_cell: int = Limits().meant
    limits: Limits = field(default_factory=Limits)


def rows_in(parts: Sequence[Part]) -> int:
    """Returns how many rows some parts have."""
    return sum(part.rows for part in parts)


def digest_of(parts: Sequence[Part]) -> str:
    """Returns what tells some parts from others."""
    return digest(*(fact for part in parts for fact in (part.path, part.sha256)))


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


@dataclass(frozen=True, eq=False)
class _Found:
    """What a search found.

    Attributes:
        floor: Mean cosine of random pairs.
        threshold: Least cosine of two near duplicates.
        equal: Rows whose text another one stands for, behind the place of that one.
        near: Pairs of places that connect the others.
        compared: Rows that were compared by their vectors.
        unusable: Rows whose vector has no direction.
        ids: Returns the ids of rows by their places, ascending.
        probed: Pairs that some rows have among all others.
        probes: How many rows these are.
    """

    floor: float | None
    threshold: float
    equal: Edges
    near: Edges
    compared: int
    unusable: int
    ids: Callable[[Places], pa.Array]
    probed: Edges = field(default_factory=no_edges)
    probes: int = 0


@dataclass(frozen=True)
class Search:
    """One search for near duplicates.

    Attributes:
        version: The version.
        parts: Its parts.
        asked: The setting.
        map_splits: Reaches the workers.
        scratch: Where they leave rows for each other.
        sizes: What is done at once.
    """

    version: Version
    parts: tuple[Part, ...]
    asked: str
    map_splits: MapSplits
    scratch: Scratch
    sizes: Sizes

    def run(self) -> tuple[Groups, NearDuplicates]:
        """Passes over the parts, and joins what was found."""
        few = self.rows <= self.sizes.few_rows
        found = self._of_few() if few else self._in_cells()
        places, labels = joined(np.concatenate([found.equal, found.near]))
        groups = Groups.of(places, labels, found.ids(places))
        removable = len(places) - int(groups.keep.sum())
        return groups, NearDuplicates(
            parts_digest=digest_of(self.parts),
            asked=self.asked,
            threshold=found.threshold,
            floor=found.floor,
            version_rows=self.rows,
            groups=int(groups.keep.sum()),
            rows=len(places),
            removable=removable,
            share=removable / self.rows if self.rows else 0.0,
            equal_texts=len(found.equal),
            compared=found.compared,
            unusable=found.unusable,
            recall=1.0 if few else _recall(found.probed, places, labels),
            recall_pairs=len(found.probed),
            recall_rows=found.probes,
            exact=few,
            largest=(),
        )

    def _of_few(self) -> _Found:
        """Compares all rows with each other, which are read once."""
        few = read_few_rows(PartsToRead(0, self.version, 0, self.parts))
        rows = few.rows[np.lexsort((few.rows["place"], few.rows["key"]))]
        floor = _floor(rows)
        threshold = _threshold(self.asked, floor)
        equal = equal_texts(few.texts)
        rows = rows[~np.isin(rows["place"], equal[:, 1])]
        stand_for_others(rows, equal[:, 0])
        every = few.texts["place"]
        return _Found(
            floor,
            threshold,
            equal,
            edges_within([rows], threshold),
            len(rows),
            len(every) - len(equal) - len(rows),
            lambda places: few.ids.take(pa.array(np.searchsorted(every, places))),
        )

    def _in_cells(self) -> _Found:
        """Compares rows within cells of alike ones, pass by pass."""
        cells = cell_count(self.rows, self.sizes.rows_of_cell)
        texts, sample = self._survey(cells)
        equal = self._equal_texts(texts)
        floor = _floor(sample)
        threshold = _threshold(self.asked, floor)
        repeats = np.sort(equal[:, 1])
        probes = sample[~np.isin(sample["place"], repeats)][: self._probes]
        centres = np.zeros((1, self.dimension), np.float32)
        if cells > 1 and len(sample):
            centres = train_cells(sample["vector"], cells)
        assigned = self._assign(equal, centres, threshold, probes)
        return _Found(
            floor,
            threshold,
            equal,
            self._connect(assigned, threshold),
            sum(one.compared for one in assigned),
            sum(one.unusable for one in assigned),
            self._ids,
            np.concatenate([no_edges(), *(one.pairs for one in assigned)]),
            len(probes),
        )

    @property
    def rows(self) -> int:
        """Rows of the version."""
        return rows_in(self.parts)

    @lazy_property
    def dimension(self) -> int:
        """Components of a vector; 1 where there is none."""
        schema = schema_of(self.version, self.parts)
        return stored_as(schema).dimension if schema.names else 1

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
