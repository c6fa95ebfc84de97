"""Word vectors as word2vec writes them in binary: a word, a blank, and its numbers as they are."""

import re
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

import numpy as np

from embedkit.errors import InputError
from embedkit.training.vector_files.batches import VectorBatch
from embedkit.training.vector_files.contents import line_of

_BLOCK = 4 << 20
_LONGEST_WORD = 1 << 16
_MOST_NUMBERS = 1 << 20
_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*\n")


class BinaryVectors:
    """A binary file of word2vec's, see ``VectorFile``.

    Args:
        file: The file.
        contents: Its bytes.

    Raises:
        InputError: It has no header, or one that says there is nothing.
    """

    unit = "word"
    lower_case: bool | None = None

    def __init__(self, file: Path, contents: BufferedReader) -> None:
        self._file = file
        self._contents = contents
        said = _HEADER.fullmatch(line_of(contents, file, 1))
        if said is None:
            raise InputError(f"{file}: no header of two numbers; is this a word2vec file?")
        self._words, self.dimension = int(said[1]), int(said[2])
        if not self._words or not self.dimension:
            raise InputError(
                f"{file}: the header says {self._words:,} words of {self.dimension:,} numbers; "
                "there is nothing to convert"
            )
        if self.dimension > _MOST_NUMBERS:
            # All of a word's are read at once, so what no word has must not take the memory.
            raise InputError(
                f"{file}: the header says {self.dimension:,} numbers for each word, which no file "
                "has; download it again"
            )

    def batches(self) -> Iterator[VectorBatch]:
        """Reads the words, see ``VectorFile``."""
        size = 4 * self.dimension
        held = b""
        done = 0
        while done < self._words:
            more = self._contents.read(max(_BLOCK, 2 * size))
            held += more
            words, starts, place = self._found(held, self._words - done, size)
            if not words and not more:
                raise InputError(
                    f"{self._file}: ends within word {done + 1:,} of the {self._words:,} that its "
                    "header says; download it again"
                )
            if not words and len(held) > size + _LONGEST_WORD:
                raise self._no_word(done + 1)
            vectors = np.empty((len(words), self.dimension), dtype=np.float32)
            for row, start in zip(vectors, starts, strict=True):
                row[:] = np.frombuffer(held, "<f4", self.dimension, start)
            yield VectorBatch(words, vectors, np.arange(done + 1, done + 1 + len(words)))
            done += len(words)
            held = held[place:]
        if (held + self._contents.read(_BLOCK)).strip():
            raise InputError(
                f"{self._file}: goes on behind the {self._words:,} words of {self.dimension} "
                "numbers that its header says; download it again, or write it with its true header"
            )

    def _found(self, held: bytes, most: int, size: int) -> tuple[list[str | None], list[int], int]:
        """Returns the words that are there with all of their numbers, and what comes behind."""
        words: list[str | None] = []
        starts: list[int] = []
        place = 0
        while len(words) < most:
            end = held.find(b" ", place, place + _LONGEST_WORD)
            if end < 0 or end + 1 + size > len(held):
                break
            # Its authors' program ends the line, gensim does not.
            words.append(_decoded(held[place:end].removeprefix(b"\n")))
            starts.append(end + 1)
            place = end + 1 + size
        return words, starts, place

    def _no_word(self, number: int) -> InputError:
        return InputError(
            f"{self._file}: no end of word {number:,} in {_LONGEST_WORD:,} bytes; the header says "
            f"{self.dimension} numbers for each, which may not be so; download it again"
        )


def _decoded(word: bytes) -> str | None:
    try:
        return word.decode()
    except UnicodeDecodeError:
        return None
