"""How the rows of a version stand to those of an earlier one, added up over its blocks."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.manifest import Part
from embedkit.formats.reused import ReusedRows

MOST_SOURCES_SHOWN = 100
"""Input files of which a manifest says how their rows stand to an earlier version's."""


@dataclass
class ReuseSums:
    """What commit records say of an earlier version, added up.

    Attributes:
        versions: Rows taken over, by the earlier version's name.
        compared: Rows that were compared with an earlier version.
        tokens: Tokens of the rows taken over.
        rows: Rows by source; of blocks with few sources alone, as the following.
        reused: Those that were taken over.
        added: Those whose id is new.
        changed: Those whose id had another text.
        totals: ``added`` and ``changed`` of all blocks, whatever their sources.
        unnamed: Rows of blocks with so many sources that they are not named.
    """

    versions: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    tokens: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    reused: Counter[str] = field(default_factory=Counter)
    added: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    unnamed: int = 0

    @classmethod
    def of(cls, records: Iterable[CommitRecord]) -> "ReuseSums":
        """Adds up records."""
        sums = cls()
        for record in records:
            sums._count(record)
        return sums

    def _count(self, record: CommitRecord) -> None:
        reused = record.reused
        if reused is None:
            return
        self.versions[reused.version] += reused.rows
        self.compared += record.rows
        self.tokens += reused.tokens
        self.totals.update(added=reused.added, changed=reused.changed)
        if not record.sources:
            self.unnamed += record.rows
        for source, rows in record.sources.items():
            whole = (rows, 0, 0) if reused.rows == record.rows else (0, 0, 0)
            counts = reused.sources.get(source, whole)
            self.rows[source] += rows
            for sums, count in zip((self.reused, self.added, self.changed), counts, strict=True):
                sums[source] += count

    def add(self, other: "ReuseSums") -> None:
        """Adds what other records add up to."""
        for name in ("versions", "rows", "reused", "added", "changed", "totals"):
            getattr(self, name).update(getattr(other, name))
        self.compared += other.compared
        self.tokens += other.tokens
        self.unnamed += other.unnamed

    def against(
        self, rows: int, parts_of: Callable[[str], Sequence[Part] | None]
    ) -> ReusedRows | None:
        """Returns how the rows stand to an earlier version's, None where none were compared.

        Args:
            rows: All rows of the version.
            parts_of: Returns the parts of an earlier version by its name, None where they cannot
                be told.
        """
        if not self.versions:
            return None
        # Rows that were not compared with it may be any of its rows.
        told = len(self.versions) == 1 and self.compared == rows
        earlier = parts_of(next(iter(self.versions))) if told else None
        removed = None
        if earlier is not None:
            known = self.compared - self.totals["added"]
            removed = max(0, sum(part.rows for part in earlier) - known)
        return ReusedRows(
            versions=dict(sorted(self.versions.items())),
            compared=self.compared,
            rows=self.versions.total(),
            tokens=self.tokens,
            added=self.totals["added"],
            changed=self.totals["changed"],
            removed=removed,
            sources=self._by_source(earlier),
        )

    def _by_source(
        self, earlier: Sequence[Part] | None
    ) -> dict[str, tuple[int, int, int, int, int | None]]:
        before = None if earlier is None or self.unnamed else _rows_by_source(earlier)
        found: dict[str, tuple[int, int, int, int, int | None]] = {}
        for source in {*self.rows, *(before or ())}:
            rows, added = self.rows[source], self.added[source]
            removed = None if before is None else max(0, before[source] - (rows - added))
            reused = self.reused[source]
            found[source] = (reused, rows - reused, added, self.changed[source], removed)
        # Those where most is not as it was.
        most = sorted(found, key=lambda one: (-sum(n or 0 for n in found[one][1:]), one))
        return {source: found[source] for source in sorted(most[:MOST_SOURCES_SHOWN])}


def _rows_by_source(parts: Sequence[Part]) -> Counter[str] | None:
    """Returns the rows of each source, None where a part does not name its own."""
    rows: Counter[str] = Counter()
    for part in parts:
        if not part.sources:
            return None
        rows.update(part.sources)
    return rows
