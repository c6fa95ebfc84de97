"""The report of a version: the statistics of its blocks added up, and the rows that it shows."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.manifest import Manifest, Part
from embedkit.dataset.rejects import read_rejects
from embedkit.dataset.rows import read_rows
from embedkit.dataset.stores import read_all
from embedkit.dataset.version import Version, block_of
from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.flow.line_numbers import LineNumbers, place_of
from embedkit.flow.prepare import Draft
from embedkit.reports.account import RunAccount
from embedkit.reports.facts import Facts
from embedkit.reports.render import render_html
from embedkit.reports.repeats import COLUMNS, TextRepeats, find_repeats, hash64
from embedkit.reports.report import build_report, report_json
from embedkit.reports.sample import Sample, Wanted, read_sample
from embedkit.reports.sections import records
from embedkit.reports.statistics import Sidecar, Statistics

REPORT_JSON = "report/report.json"
REPORT_HTML = "report/report.html"

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_BLOCKS_AT_ONCE = 256
_PARTS_AT_ONCE = 4


@dataclass(frozen=True, eq=False)
class Gathered:
    """What the sidecars of consecutive blocks say.

    Attributes:
        statistics: Their statistics, added in block order.
        hashes: The hashes of the texts of all their rows, in order, uint64, shape (rows,).
    """

    statistics: Statistics
    hashes: NDArray[np.uint64]


BlockParts = Sequence[tuple[str, Part | None]]
"""Consecutive blocks with their parts; a block without rows has none."""

Each = Callable[[Callable[[BlockParts], Gathered], Iterable[BlockParts]], Iterable[Gathered]]
"""Calls a function with each of some items, and gives the results in their order."""


def gather(version: Version, blocks: BlockParts) -> Gathered:
    """Reads the sidecars of consecutive blocks; of larger blocks also the text hashes in the parts.

    Raises:
        IntegrityError: A sidecar or part is damaged.
        StoreError: The store failed.
    """
    keys = [version.stats_key(block) for block, _ in blocks]
    statistics = Statistics.empty()
    hashes: list[NDArray[np.uint64] | Part] = []
    for (block, part), (key, data) in zip(blocks, read_all(version.store, keys), strict=True):
        try:
            sidecar = Sidecar.from_json(data, block)
            statistics += sidecar.statistics
            hashes.append(_text_hashes_of(sidecar, part))
        except ValueError as error:
            # What is no JSON was found before; this is JSON of another shape, or with other bytes.
            raise IntegrityError(
                f"{version.url_of(key)}: not the statistics that were written "
                f"({one_line(error)}); remove it and {version.url_of(version.commit_key(block))}, "
                "then run the same command again, which encodes its block anew"
            ) from error
    unread = [found for found in hashes if isinstance(found, Part)]
    read = _in_threads(partial(_text_hashes_in, version), unread)
    every = [next(read) if isinstance(found, Part) else found for found in hashes]
    return Gathered(statistics, np.concatenate([*every, np.empty(0, np.uint64)]))


def _text_hashes_of(sidecar: Sidecar, part: Part | None) -> NDArray[np.uint64] | Part:
    """Returns the text hashes that a sidecar holds, or the part to be read for them."""
    rows = part.rows if part else 0
    found = sidecar.text_hashes
    if sidecar.rows != rows or (found is not None and len(found) != rows):
        raise ValueError(f"of {sidecar.rows} rows, where its part has {rows}")
    return part or np.empty(0, np.uint64) if found is None else found


def _text_hashes_in(version: Version, part: Part) -> NDArray[np.uint64]:
    return hash64(read_rows(version, part, ["text_hash"]).column("text_hash"))


def _in_threads(function: Callable[[_Item], _Result], items: Sequence[_Item]) -> Iterator[_Result]:
    """Calls a function with each item, a few at a time; the results come in their order."""
    if items:
        with ThreadPoolExecutor(_PARTS_AT_ONCE, thread_name_prefix="parts") as pool:
            yield from pool.map(function, items)


def write_report(
    draft: Draft,
    manifest: Manifest,
    blocks: Sequence[str],
    account: RunAccount,
    numbers: LineNumbers,
    each: Each = map,
) -> None:
    """Adds up the statistics of all blocks in block order and writes the report, twice.

    Args:
        draft: The version, every block committed.
        manifest: Its manifest.
        blocks: Its blocks, in order.
        account: What the run did, and the version holds.
        numbers: The lines of its inputs.
        each: Gathers runs of blocks, which may be in other processes.

    Raises:
        IntegrityError: A sidecar, a part or a file of rejects is damaged.
        StoreError: The store failed.
    """
    version = draft.version
    rows = _Rows(version, manifest.parts)
    total = Statistics.empty()

    def hashes() -> Iterator[NDArray[np.uint64]]:
        nonlocal total
        for gathered in each(partial(gather, version), rows.in_runs(blocks)):
            total += gathered.statistics
            yield gathered.hashes

    columns = (*COLUMNS, *(["text"] if draft.options.store_text else []))
    repeats = find_repeats(hashes(), partial(rows.at, columns))
    counted = total.get(records.SECTION) or records.Records()
    examples = counted.examples(partial(read_rejects, version))
    facts = Facts(
        dataset={**manifest.description, "version": version.name},
        account=replace(account, lines=numbers.counts),
        sample=_with_lines(read_sample(total.keys, rows.read, draft.options.excerpts), numbers),
        repeats=_repeats_with_lines(repeats, numbers),
        examples={
            reason: tuple(map(numbers.true_line, found)) for reason, found in examples.items()
        },
        place=partial(place_of, input_format=manifest.input_format),
    )
    report = build_report(total, facts)
    # Replaced, not created: a run that was killed here left a report without this run's figures.
    version.store.replace(version.key(REPORT_JSON), report_json(report))
    version.store.replace(version.key(REPORT_HTML), render_html(report).encode())


class _Rows:
    """Reads rows of a version by their block, or by their place among all rows."""

    def __init__(self, version: Version, parts: Sequence[Part]) -> None:
        self._version = version
        self._parts = parts
        self._by_block = {block_of(part.path): part for part in parts}
        self._ends = np.cumsum([part.rows for part in parts])

    def in_runs(self, blocks: Sequence[str]) -> Iterator[BlockParts]:
        """Yields blocks with their parts, many at a time."""
        for start in range(0, len(blocks), _BLOCKS_AT_ONCE):
            run = blocks[start : start + _BLOCKS_AT_ONCE]
            yield [(block, self._by_block.get(block)) for block in run]

    def read(self, wanted: Sequence[Wanted]) -> Iterator[pa.Table]:
        """Reads rows of blocks, see ``ReadRows``."""
        return _in_threads(self._read, wanted)

    def _read(self, wanted: Wanted) -> pa.Table:
        part = self._by_block[wanted.block_id]
        return read_rows(self._version, part, wanted.columns, wanted.rows)

    def at(self, columns: Sequence[str], places: Sequence[int]) -> pa.Table:
        """Reads some columns of the rows at ascending places among all rows."""
        parts = np.searchsorted(self._ends, places, side="right")
        tables = []
        for number in np.unique(parts):
            start = int(self._ends[number - 1]) if number else 0
            inside = np.array(places)[parts == number] - start
            tables.append(read_rows(self._version, self._parts[number], columns, inside))
        return pa.concat_tables(tables)


def _with_lines(sample: Sample, numbers: LineNumbers) -> Sample:
    """Returns a sample whose lines are those of the files."""
    lines = (numbers.line_of(row.source, row.row_index, row.line) for row in sample.rows)
    rows = tuple(replace(row, line=line) for row, line in zip(sample.rows, lines, strict=True))
    return replace(sample, rows=rows)


def _repeats_with_lines(repeats: TextRepeats, numbers: LineNumbers) -> TextRepeats:
    lines = (numbers.line_of(text.source, text.row_index, text.line) for text in repeats.top)
    top = tuple(replace(text, line=line) for text, line in zip(repeats.top, lines, strict=True))
    return replace(repeats, top=top)
