"""What the lines of a version's inputs were, and the true number of each in its file."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from embedkit.corpus.names import format_and_compression
from embedkit.corpus.splits import Split
from embedkit.dataset.commit import SplitEnd
from embedkit.records import LineCounts, Reject


@dataclass(frozen=True)
class LineNumbers:
    """The lines of all ranges of a version's inputs.

    Attributes:
        counts: What all lines are; None where a split was read by a release that did not count.
        before: By file of which ranges were read, where each begins, and the lines before it.
    """

    counts: LineCounts | None
    before: Mapping[str, list[tuple[int, int]]]

    @classmethod
    def of(cls, splits: Iterable[Split], ends: Mapping[str, SplitEnd]) -> "LineNumbers":
        """Adds up what the ends of the splits say.

        Args:
            splits: The plan's splits, with their ranges.
            ends: The end of each.
        """
        total = LineCounts()
        before: dict[str, list[tuple[int, int]]] = defaultdict(list)
        lines: dict[str, int] = defaultdict(int)
        for split in splits:
            counted = ends[split.split_id].line_counts
            if len(counted) != len(split.ranges):
                return cls(None, {})
            for file, counts in zip(split.ranges, counted, strict=True):
                before[file.source].append((file.start, lines[file.source]))
                lines[file.source] += counts.lines
                total += counts
        parted = {source: ranges for source, ranges in before.items() if len(ranges) > 1}
        return cls(total, {source: ranges for source, ranges in parted.items() if lines[source]})

    def true_line(self, reject: Reject) -> Reject:
        """Returns a reject with the number of its line in the file, where that is known."""
        ranges = self.before.get(reject.source)
        if reject.line_in_range is None or ranges is None:
            return reject
        place = bisect_right(ranges, reject.row_index, key=lambda begun: begun[0]) - 1
        line = ranges[place][1] + reject.line_in_range
        return replace(reject, line=line, line_in_range=None)


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
