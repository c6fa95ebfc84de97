"""Some texts of a corpus, the same ones however its records are parted into files."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from embedkit.config import CorpusConfig
from embedkit.corpus.columns import Columns, Problems, make_texts
from embedkit.corpus.documents import MOST_RECORD_BYTES, check_texts
from embedkit.corpus.formats import read_ranges
from embedkit.corpus.splits import Split
from embedkit.hashes.digests import text_hash

SAMPLED = 1024
"""Texts of a sample, at most."""

ABOVE_ALL = "g"
"""Behind every hexadecimal digit."""

_MOST_CHARACTERS = 8192
"""Characters that are kept of a text, so that a sample of whole books takes some MB."""


class TextSample:
    """The different texts with the smallest hashes.

    Samples of parts, added, are the sample of the whole, in whatever order.

    Args:
        most: How many.
        bound: Texts whose hashes are not below it are left out, as others are known to be nearer.

    Attributes:
        bound: Texts whose hashes are not below it are not in the sample, or were seen already.
    """

    def __init__(self, most: int = SAMPLED, bound: str = ABOVE_ALL) -> None:
        self._most = most
        self._held: dict[str, str] = {}
        self.bound = bound

    def add(self, texts: Iterable[str]) -> None:
        """Looks at some more texts."""
        self._hold((text_hash(text), text) for text in texts)

    def __iadd__(self, other: "TextSample") -> "TextSample":
        """Looks at the texts of another sample."""
        self._hold(other._held.items())
        return self

    def _hold(self, hashed: Iterable[tuple[str, str]]) -> None:
        for key, text in hashed:
            if key < self.bound:
                self._held[key] = text[:_MOST_CHARACTERS]
                if len(self._held) >= 2 * self._most:
                    self._cut()
        self._cut()

    def _cut(self) -> None:
        if len(self._held) > self._most:
            nearest = sorted(self._held)[: self._most]
            self._held = {key: self._held[key] for key in nearest}
            self.bound = nearest[-1]

    @property
    def texts(self) -> dict[str, str]:
        """Beginnings of the texts by the hashes of all of them, in the order of the hashes."""
        return {key: self._held[key] for key in sorted(self._held)}


def sample_split(split: Split, config: CorpusConfig, bound: str = ABOVE_ALL) -> TextSample:
    """Reads the texts of a split, and of Parquet files no other columns.

    Ids do not matter: a text whose record repeats one is a text like others.

    Args:
        split: The split.
        config: How its files are read.
        bound: See ``TextSample``.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    sample = TextSample(bound=bound)
    for texts in _texts(split, config):
        sample.add(texts)
    return sample


def _texts(split: Split, config: CorpusConfig) -> Iterator[list[str]]:
    """Yields the texts that can be embedded, of a trial those of its first records."""
    columns = replace(Columns.of(config), id=None, metadata=(), query=None)
    most = min(config.max_record_bytes, MOST_RECORD_BYTES)
    left = split.documents
    for _, batches in read_ranges(split.ranges, config, columns):
        for records in batches:
            problems: Problems = {}
            texts = (
                make_texts(records.columns, columns, problems, most) if records.row_index else []
            )
            check_texts(texts, most, problems)
            yield [text for place, text in enumerate(texts[:left]) if place not in problems]
            left = None if left is None else left - len(records)
            if left is not None and left <= 0:
                return
