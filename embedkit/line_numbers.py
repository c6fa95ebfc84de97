"""What the lines of a version's inputs were, and the true number of each in its file."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

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
        """Returns a reject with the number of its line in the file."""
        ranges = self.before.get(reject.source)
        if reject.line is None or ranges is None:
            return reject
        place = bisect_right(ranges, reject.row_index, key=lambda begun: begun[0]) - 1
        return replace(reject, line=ranges[place][1] + reject.line)
