"""What the lines of a version's inputs were, and the true number of each in its file."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from operator import itemgetter

from embedkit.corpus.names import format_and_compression
from embedkit.corpus.splits import Split
from embedkit.dataset.committed import SplitEnd
from embedkit.dataset.manifest import Manifest
from embedkit.records import LineCounts, Reject


@dataclass(frozen=True)
class LineNumbers:
    """The lines of all ranges of a version's inputs.

    Attributes:
        counts: What all lines are; None where a split was read by a release that did not count.
        before: By file of which ranges were read, where each begins, and the lines before it.
    """

    counts: LineCounts | None
    before: Mapping[str, Sequence[Sequence[int]]]

    @classmethod
    def of(cls, splits: Iterable[Split], ends: Mapping[str, SplitEnd]) -> "LineNumbers":
        """Adds up what the ends of the splits say.

        Args:
            splits: The plan's splits, with their ranges.
            ends: The end of each.
        """
        total = LineCounts()
        before: dict[str, list[list[int]]] = defaultdict(list)
        lines: dict[str, int] = defaultdict(int)
        for split in splits:
            counted = ends[split.split_id].line_counts
            if len(counted) != len(split.ranges):
                return cls(None, {})
            for file, counts in zip(split.ranges, counted, strict=True):
                before[file.source].append([file.start, lines[file.source]])
                lines[file.source] += counts.lines
                total += counts
        parted = {source: ranges for source, ranges in before.items() if len(ranges) > 1}
        return cls(total, {source: ranges for source, ranges in parted.items() if lines[source]})

    @classmethod
    def of_version(cls, manifest: Manifest) -> "LineNumbers":
        """Reads back what ``described`` wrote."""
        counts = LineCounts(**manifest.lines) if manifest.lines else None
        return cls(counts, manifest.line_ranges)

    def described(self, manifest: Manifest) -> Manifest:
        """Returns a manifest that says what the lines of the inputs are."""
        if self.counts is None:
            return manifest
        ranges = {source: list(map(list, begun)) for source, begun in self.before.items()}
        return replace(manifest, lines=asdict(self.counts), line_ranges=ranges)

    def true_line(self, reject: Reject) -> Reject:
        """Returns a reject with the number of its line in the file, where that is known."""
        if reject.source not in self.before:
            return reject
        line = self.line_of(reject.source, reject.row_index, reject.line_in_range)
        return reject if line is None else replace(reject, line=line, line_in_range=None)

    def line_of(self, source: str, row_index: int, line_in_range: int | None) -> int | None:
        """Returns the number of a line in its file; None where there is none or it is not known.

        Args:
            source: The file.
            row_index: The place in it of the record that begins with the line.
            line_in_range: The number that the line has in its range of the file.
        """
        if line_in_range is None or self.counts is None:
            return None
        ranges = self.before.get(source)
        if ranges is None:
            return line_in_range
        place = bisect_right(ranges, row_index, key=itemgetter(0)) - 1
        return ranges[place][1] + line_in_range


def place_of(source: str, row_index: int, line: int | None, input_format: str) -> str:
    """Says where a record stands in its file, and what the number counts.

    Args:
        source: The file.
        row_index: The record's place in it.
        line: The number of its line, row or element, where that is known.
        input_format: See ``Manifest``.
    """
    named = format_and_compression(source)[0] if input_format == "auto" else input_format
    if line is not None:
        # Lines of JSON are no records where some are blank; elements have no lines.
        counted = named in ("json", "parquet") and line == row_index + 1
        return f"record {line}" if counted else f"line {line}"
    if not named:
        return f"row_index {row_index}"
    return f"byte {row_index}" if named in ("text", "jsonl") else f"record {row_index + 1}"
