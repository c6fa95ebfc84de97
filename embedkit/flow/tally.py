"""How far a run is, counted from what its workers say they have committed."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from embedkit.dataset.committed import CommitRecord
from embedkit.records import Block

OnCommit = Callable[[Block, CommitRecord], None]
"""Hears of each block that was committed, in the process that committed it."""


class Tally:
    """Counts documents as their blocks are committed; used by several threads.

    A block's place in its split tells how many documents lie before it, so a commit that nobody
    told of, as its worker was lost at that moment, is counted with the next of its split.

    Args:
        committed: Documents that earlier tries have committed, by split.

    Attributes:
        documents: Documents that the version accounts for, those of earlier tries included.
        documents_before: Those of earlier tries.
        rejects: Rejects of this run.
    """

    def __init__(self, committed: Mapping[str, int] | None = None) -> None:
        self._counting = threading.Lock()
        self._sums = Counter(committed)
        self._reached: Counter[str] = Counter()
        self.documents = self.documents_before = self._sums.total()
        self.rejects = 0

    def on_commit(self, block: Block, record: CommitRecord) -> None:
        """Counts a block that was committed now."""
        self.count(block.split_id, block.documents_before, record.documents, record.rejects)

    def count(self, split_id: str, before: int, documents: int, rejects: int) -> None:
        """Counts a block that was committed now.

        Args:
            split_id: Its split.
            before: Documents that earlier blocks of the split account for.
            documents: Its own, rejects included.
            rejects: The rejects among them.
        """
        with self._counting:
            known = self._of(split_id)
            self._sums[split_id] += documents
            self._reached[split_id] = max(self._reached[split_id], before + documents)
            self.documents += self._of(split_id) - known
            self.rejects += rejects

    def _of(self, split_id: str) -> int:
        return max(self._sums[split_id], self._reached[split_id])


def documents_by_split(committed: Iterable[CommitRecord]) -> dict[str, int]:
    """Adds up the documents of commit records by their splits."""
    documents: Counter[str] = Counter()
    for record in committed:
        documents[record.block_id.partition("-")[0]] += record.documents
    return dict(documents)
