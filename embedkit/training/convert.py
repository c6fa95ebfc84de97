"""A file of word vectors made a model directory."""

import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.config import CorpusConfig
from embedkit.encoders.static.directory import MATRIX, TENSOR, new_directory, write_words
from embedkit.encoders.static.tensor_file import MatrixFile
from embedkit.errors import InputError
from embedkit.tokens.whole_words import is_lower_case
from embedkit.training.vector_files.batches import VectorBatch, VectorFile
from embedkit.training.vector_files.formats import VectorFormat, open_vector_file
from embedkit.training.word_statistics import add_statistics

_LOG = logging.getLogger("embedkit")
_MOST_STRANGE = 0.01
"""Share of words that are no UTF-8 from which on the file has another encoding."""


@dataclass(frozen=True)
class Converted:
    """A model directory that was written.

    Attributes:
        directory: Its path.
        words: Words that it has.
        dimension: Components of a vector.
        lower_case: Whether texts are lower-cased before their words are looked up.
        duplicates: Words that were there before, whose later vectors were left out.
        undecodable: Words that were left out as they are no UTF-8, or empty.
        with_blanks: Words with white space in them, which no text has.
        texts: Texts of the corpus that the words were counted in; None where there was none.
    """

    directory: str
    words: int
    dimension: int
    lower_case: bool
    duplicates: int
    undecodable: int
    with_blanks: int
    texts: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns it for programs."""
        return asdict(self)

    def to_text(self) -> str:
        """Returns it in lines for people."""
        case = ", texts lower-cased" if self.lower_case else ""
        left_out = [
            (self.duplicates, "more vectors of words that were there before, left out"),
            (self.undecodable, "words that are no UTF-8, or empty, left out"),
            (self.with_blanks, "words with white space in them, which no text has"),
        ]
        return "\n".join(
            [
                f"{self.directory}: {self.words:,} words, {self.dimension} components{case}",
                *(f"  {count:,} {what}" for count, what in left_out if count),
                *([] if self.texts is None else [f"  words counted in {self.texts:,} texts"]),
                f"  embedkit run INPUT... --model {self.directory} --output ROOT",
            ]
        )


class _Words:
    """The words so far, each once, in their order."""

    def __init__(self, file: Path, unit: str) -> None:
        self._file = file
        self.unit = unit
        self.known: dict[str, None] = {}
        self.seen = self.duplicates = self.undecodable = 0
        self.first_strange = 0

    def add(self, batch: VectorBatch) -> NDArray[np.float32]:
        """Takes the words of a batch, and returns the vectors of those that are new.

        Raises:
            InputError: A component of a vector is not finite.
        """
        self._check(batch)
        known = self.known
        before = len(known)
        self.seen += len(batch.words)
        # Files that everybody takes have an empty one, which no text has.
        words = [word for word in batch.words if word]
        if len(words) < len(batch.words):
            first = next(row for row, word in enumerate(batch.words) if not word)
            self.first_strange = self.first_strange or int(batch.places[first])
            self.undecodable += len(batch.words) - len(words)
        known.update(dict.fromkeys(words))
        if len(known) - before == len(batch.words):
            return batch.vectors
        self.duplicates += len(words) - (len(known) - before)
        return batch.vectors[self._new(batch, before)]

    def _new(self, batch: VectorBatch, before: int) -> list[int]:
        """Returns the rows of those words that were added, at the place that each has first."""
        added = set(islice(reversed(self.known), len(self.known) - before))
        rows = []
        for row, word in enumerate(batch.words):
            if word in added:
                added.discard(word)
                rows.append(row)
        return rows

    def _check(self, batch: VectorBatch) -> None:
        bad = np.flatnonzero(~np.isfinite(batch.vectors).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self._file}: {self.unit} {batch.places[bad[0]]:,}: the vector of "
                f"{str(batch.words[bad[0]])[:100]!r} has a component that is not finite; take it "
                "out, or mend it"
            )


def convert_vectors(
    file: Path,
    directory: Path,
    words: Path | None = None,
    form: VectorFormat = "auto",
    lower_case: bool | None = None,
    corpus: CorpusConfig | None = None,
) -> Converted:
    """Writes a file of word vectors as a model directory, whole or not at all.

    Some thousand vectors are in memory at a time, and all of the words.

    Args:
        file: word2vec's binary or text, GloVe's or fastText's text, each perhaps compressed with
            gzip, zstd, bz2 or xz; an array of numpy's; or a model directory of word vectors.
        directory: Where the model goes; nothing may be there yet, or an empty directory.
        words: The words of an array.
        form: The file's format; told from its first bytes where ``auto``.
        lower_case: Whether texts are lower-cased before their words are looked up; where None, they
            are if no word has an upper-case letter.
        corpus: Texts in which the words are counted, for means that are weighted by their
            frequency; for none where None.

    Raises:
        InputError: The file is damaged, or none of word vectors.
        ConfigError: The directory holds something.
        StoreError: It could not be written.
    """
    with open_vector_file(file, words, form) as source, new_directory(directory) as draft:
        found = _Words(file, source.unit)
        with MatrixFile(draft / MATRIX, TENSOR, source.dimension) as matrix:
            for rows in _rows(source, found):
                matrix.append(rows)
            # Of the token for words that are unknown.
            matrix.append(np.zeros((1, source.dimension)))
        _check_words(file, found)
        names = list(found.known)
        lower_case = source.lower_case if lower_case is None else lower_case
        lower_case = is_lower_case(names) if lower_case is None else lower_case
        write_words(draft, names, lower_case=lower_case)
        texts = None if corpus is None else add_statistics(draft, len(names), corpus)
    return Converted(
        directory=str(directory),
        words=len(names),
        dimension=source.dimension,
        lower_case=lower_case,
        duplicates=found.duplicates,
        undecodable=found.undecodable,
        with_blanks=sum(any(map(str.isspace, name)) for name in names),
        texts=texts,
    )


def _rows(source: VectorFile, found: _Words) -> Iterator[NDArray[np.float32]]:
    for batch in source.batches():
        yield found.add(batch)


def _check_words(file: Path, found: _Words) -> None:
    if found.undecodable > _MOST_STRANGE * found.seen:
        raise InputError(
            f"{file}: {found.undecodable:,} of {found.seen:,} words are no UTF-8, or empty, the "
            f"first in {found.unit} {found.first_strange:,}; save it in UTF-8, with its words"
        )
    if not found.known:
        raise InputError(f"{file}: no word in it; is this a file of word vectors?")
    if found.undecodable:
        _LOG.warning(
            "%s: %s words are no UTF-8, or empty, and are left out, the first in %s %s",
            file, f"{found.undecodable:,}", found.unit, f"{found.first_strange:,}",
        )  # fmt: skip
    if found.duplicates:
        _LOG.warning(
            "%s: %s words have a second vector, and keep their first",
            file, f"{found.duplicates:,}",
        )  # fmt: skip
