"""The report of a version: the statistics of its blocks added up, and the rows that it shows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from embedkit.dataset.manifest import Manifest, Part
from embedkit.dataset.rejects import read_rejects
from embedkit.dataset.rows import read_rows
from embedkit.dataset.version import Version, block_of
from embedkit.flow.compare import examine_with_earlier
from embedkit.flow.gather import Gathered
from embedkit.flow.line_numbers import LineNumbers, place_of
from embedkit.flow.map import draw_map
from embedkit.flow.near_duplicates import is_gated, near_duplicates_of
from embedkit.flow.neighbours import KnownNeighbours
from embedkit.flow.page import write_page
from embedkit.flow.prepare import Draft
from embedkit.flow.verdict import REPORT_JSON, judge
from embedkit.records import LINE_FIELD, Reject
from embedkit.reports.account import RunAccount
from embedkit.reports.drift.figures import Drift
from embedkit.reports.facts import Facts, Nearest
from embedkit.reports.near.figures import NearDuplicates, NearRow
from embedkit.reports.repeats import COLUMNS, TextRepeats, name_repeats
from embedkit.reports.report import Report, build_report, report_json
from embedkit.reports.sample import Sample, Wanted, excerpt, read_sample
from embedkit.reports.sections import records
from embedkit.threads import GeneratorThreads

_TOLD = ("id", "source", "row_index", "n_tokens")
EXAMINED_AT_ONCE = 4
"""Parts whose rows are read at the same time; each takes some MB for what it reads ahead."""


def write_report(
    draft: Draft,
    manifest: Manifest,
    gathered: Gathered,
    account: RunAccount,
    numbers: LineNumbers,
) -> None:
    """Writes the report of a version, for programs and for people.

    Args:
        draft: The version, every block committed.
        manifest: Its manifest.
        gathered: What its blocks say.
        account: What the run did, and the version holds.
        numbers: The lines of its inputs.

    Raises:
        IntegrityError: A part or a file of rejects is damaged.
        StoreError: The store failed.
    """
    version, texts = draft.version, draft.shows_texts
    near = _near_duplicates(draft, manifest)
    nearest = KnownNeighbours(version, None if draft.reuse is None else draft.reuse.version)
    report = report_of(version, manifest, gathered, account, numbers, near, nearest, texts)
    put_report(version, judge(draft.output, manifest, report))


def put_report(version: Version, report: Report) -> None:
    """Writes a report for programs and for people.

    Raises:
        StoreError: The store failed.
    """
    # Replaced, not created: a run that was killed here left a report without this run's figures.
    version.store.replace(version.key(REPORT_JSON), report_json(report))
    write_page(version, report)


def report_of(
    version: Version,
    manifest: Manifest,
    gathered: Gathered,
    account: RunAccount,
    numbers: LineNumbers,
    near: NearDuplicates | str,
    nearest: Nearest,
    texts: bool,
    drift: Drift | None = None,
) -> Report:
    """Makes the report of a version, which nobody has judged yet.

    Args:
        version: The version, every block committed.
        manifest: Its manifest.
        gathered: What its blocks say.
        account: What the run did, and the version holds.
        numbers: The lines of its inputs.
        near: What is known of its near duplicates, or why nothing is.
        nearest: Finds the neighbours of a sample's rows, or knows them.
        texts: Whether the beginnings of texts are shown.
        drift: What an earlier report of the version says of it and the version before it.

    Raises:
        IntegrityError: A part or a file of rejects is damaged.
        StoreError: The store failed.
    """
    rows = _Rows(version, manifest.parts)
    columns = (*COLUMNS, *(["text"] if texts else []))
    repeats = name_repeats(gathered.repeated, partial(rows.at, columns))
    total = gathered.statistics
    keys = total.keys if texts else replace(total.keys, texts=())
    counted = total.get(records.SECTION) or records.Records()
    examples = counted.examples(partial(read_rejects, version))
    examined, drift = examine_with_earlier(version, manifest, texts, drift)
    facts = Facts(
        dataset={**manifest.description, "version": version.name},
        account=replace(account, lines=numbers.counts),
        sample=_with_lines(read_sample(keys, rows.read, texts), numbers),
        repeats=_repeats_with_lines(repeats, numbers),
        examples={
            reason: tuple(_shown(one, numbers, texts) for one in found)
            for reason, found in examples.items()
        },
        place=partial(place_of, input_format=manifest.input_format),
        examined=examined,
        rows_at=partial(_told, rows, numbers, manifest.input_format, texts),
        near_duplicates=_near_with_lines(near, numbers),
        nearest=nearest,
        drift=drift,
        texts=texts,
        map=draw_map(version, manifest, examined),
    )
    return build_report(total, facts)


def _near_duplicates(draft: Draft, manifest: Manifest) -> NearDuplicates | str:
    reused = manifest.reused
    taken_over = 0 if reused is None or is_gated(draft.output) else reused.rows
    asked, texts = draft.output.near_duplicates, draft.shows_texts
    return near_duplicates_of(draft.version, manifest.parts, asked, texts, taken_over)


def _near_with_lines(near: NearDuplicates | str, numbers: LineNumbers) -> NearDuplicates | str:
    """Returns what is known of near duplicates, or why nothing is; lines are those of the files."""
    if isinstance(near, str):
        return near

    def with_line(row: NearRow) -> NearRow:
        return replace(row, line=numbers.line_of(row.source, row.row_index, row.line))

    largest = (replace(group, shown=tuple(map(with_line, group.shown))) for group in near.largest)
    return replace(near, largest=tuple(largest))


class _Rows:
    """Reads rows of a version by their block, or by their place among all rows."""

    def __init__(self, version: Version, parts: Sequence[Part]) -> None:
        self._version = version
        self._parts = parts
        self._by_block = {block_of(part.path): part for part in parts}
        self._ends = np.cumsum([part.rows for part in parts])

    def read(self, wanted: Sequence[Wanted]) -> Iterator[pa.Table]:
        """Reads rows of blocks, see ``ReadRows``."""
        if wanted:
            with GeneratorThreads(EXAMINED_AT_ONCE, thread_name_prefix="parts") as pool:
                yield from pool.map(self._read, wanted)

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


def _told(
    rows: _Rows, numbers: LineNumbers, input_format: str, texts: bool, places: Sequence[int]
) -> list[dict[str, Any]]:
    """Tells of rows by their places among all, see ``RowsAt``."""
    if not places:
        return []
    columns = (*_TOLD, LINE_FIELD.name, *(["text"] if texts else []))
    ascending = sorted(places)
    told = {}
    for place, row in zip(ascending, rows.at(columns, ascending).to_pylist(), strict=True):
        line = row.pop(LINE_FIELD.name, None)
        line = numbers.line_of(row["source"], row["row_index"], line)
        where = place_of(row["source"], row["row_index"], line, input_format)
        text = excerpt(row.pop("text", ""))
        told[place] = {**row, "text": text, "line": line, "place": where}
    return [told[place] for place in places]


def _shown(reject: Reject, numbers: LineNumbers, texts: bool) -> Reject:
    """Returns a reject with its line in the file, and without its text where none are shown."""
    reject = numbers.true_line(reject)
    return reject if texts else replace(reject, excerpt="")


def _with_lines(sample: Sample, numbers: LineNumbers) -> Sample:
    """Returns a sample whose lines are those of the files."""
    lines = (numbers.line_of(row.source, row.row_index, row.line) for row in sample.rows)
    rows = tuple(replace(row, line=line) for row, line in zip(sample.rows, lines, strict=True))
    return replace(sample, rows=rows)


def _repeats_with_lines(repeats: TextRepeats, numbers: LineNumbers) -> TextRepeats:
    lines = (numbers.line_of(text.source, text.row_index, text.line) for text in repeats.top)
    top = tuple(replace(text, line=line) for text, line in zip(repeats.top, lines, strict=True))
    return replace(repeats, top=top)
