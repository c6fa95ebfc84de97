"""Word vectors as text, a word and its numbers on a line: word2vec's, fastText's and GloVe's."""

import re
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.training.vector_files.batches import VectorBatch
from embedkit.training.vector_files.contents import line_of

_BLOCK = 4 << 20
_SAMPLE = 1 << 19
_SAMPLED = 1000
_BLANKS = " \t\r"
_HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*\n?")


class TextVectors:
    """A text file of word vectors, see ``VectorFile``.

    A word may hold blanks, as some of GloVe's do: the numbers are the last of a line.

    Args:
        file: The file.
        contents: Its bytes.
        header: Whether the first line says how many words there are, and of how many numbers; told
            from the file where None.

    Raises:
        InputError: It is empty, or its first lines are no words and numbers.
    """

    unit = "line"
    lower_case: bool | None = None

    def __init__(self, file: Path, contents: BufferedReader, header: bool | None = None) -> None:
        self._file = file
        self._contents = contents
        lines = _sample(contents)
        if not lines:
            raise InputError(f"{file}: empty; download it again")
        said = _HEADER.fullmatch(lines[0])
        if header is None:
            header = said is not None and (len(lines) < 2 or len(lines[1].split()) != 2)
        self._header = (int(said[1]), int(said[2])) if header and said else None
        if header and self._header is None:
            raise InputError(
                f"{file}: line 1 is no header of two numbers; give --format glove if it has none"
            )
        if header:
            line_of(contents, file, 1)
        self._first = 2 if header else 1
        self._separator = "\t" if _is_tabbed(lines[-1]) else " "
        self.dimension = self._numbers_per_line(lines[1:] if header else lines)

    def _numbers_per_line(self, lines: list[bytes]) -> int:
        """Returns how many numbers most of the first lines have, or the header says."""
        separator = self._separator.encode()
        stripped = [line.rstrip(b" \t\r\n") for line in lines]
        counts = Counter(line.count(separator) for line in stripped if line)
        usual = max(counts, key=lambda count: (counts[count], -count), default=0)
        if self._header is None:
            if not usual:
                raise InputError(
                    f"{self._file}: line 1 has no number behind its word; is this a file of word "
                    "vectors?"
                )
            return usual
        words, said = self._header
        if not words or not said:
            raise InputError(
                f"{self._file}: the header says {words:,} words of {said:,} numbers; there is "
                "nothing to convert"
            )
        if counts and said != usual and said not in counts:
            raise InputError(
                f"{self._file}: the header says {said} numbers for each word, but lines have "
                f"{usual}; download it again, or write it again with its true header"
            )
        return said

    def batches(self) -> Iterator[VectorBatch]:
        """Reads the lines, see ``VectorFile``."""
        number = self._first
        words = 0
        while block := self._contents.read(_BLOCK):
            if not block.endswith(b"\n"):
                block += line_of(self._contents, self._file, number)
            lines = block.removesuffix(b"\n").split(b"\n")
            batch = self._parsed(lines, number)
            number += len(lines)
            words += len(batch.words)
            yield batch
        if self._header and words != self._header[0]:
            raise InputError(
                f"{self._file}: the header says {self._header[0]:,} words, but there are "
                f"{words:,}; download it again, or write it again with its true header"
            )

    def _parsed(self, lines: list[bytes], number: int) -> VectorBatch:
        """Takes lines apart, the first of which has a number."""
        places = np.arange(number, number + len(lines))
        texts, strange = _decoded(lines)
        stripped = pc.utf8_rtrim(pa.array(texts, pa.large_string()), _BLANKS)
        some = pc.not_equal(stripped, "").to_numpy(zero_copy_only=False)
        stripped, places = stripped.filter(pa.array(some)), places[some]
        parts = pc.split_pattern(stripped, self._separator, max_splits=self.dimension, reverse=True)
        self._check_counts(pc.list_value_length(parts).to_numpy(), places)
        flat = parts.flatten()
        of_words = np.arange(len(places)) * (self.dimension + 1)
        of_numbers = np.delete(np.arange(len(flat)), of_words)
        words: list[str | None] = flat.take(pa.array(of_words)).to_pylist()
        for at in np.searchsorted(places, np.array(strange, dtype=np.int64) + number):
            words[at] = None
        return VectorBatch(words, self._numbers(flat.take(pa.array(of_numbers)), places), places)

    def _check_counts(self, lengths: NDArray[Any], places: NDArray[np.int64]) -> None:
        few = np.flatnonzero(lengths != self.dimension + 1)
        if len(few):
            raise InputError(
                f"{self._file}: line {places[few[0]]:,} has {lengths[few[0]] - 1} numbers, "
                f"expected {self.dimension}; download it again, or mend the line"
            )

    def _numbers(self, flat: pa.Array, places: NDArray[np.int64]) -> NDArray[np.float32]:
        try:
            numbers = pc.cast(flat, pa.float32())
        except pa.ArrowInvalid as error:
            at = next(at for at, one in enumerate(flat.to_pylist()) if not _is_number(one))
            line, shown = places[at // self.dimension], flat[at].as_py()[:40]
            raise InputError(
                f"{self._file}: line {line:,} has {shown!r} where a number is expected; download "
                "it again, or mend the line"
            ) from error
        found: NDArray[np.float32] = numbers.to_numpy().reshape(-1, self.dimension)
        return found


def _sample(contents: BufferedReader) -> list[bytes]:
    """Returns the first lines without reading them."""
    head = contents.peek(_SAMPLE)
    lines = head.split(b"\n")
    # The last one may go on.
    whole = lines[:-1] if len(lines) > 1 and len(head) >= _SAMPLE else lines
    return [line for line in whole[:_SAMPLED] if line.strip()]


def _is_tabbed(line: bytes) -> bool:
    stripped = line.rstrip(b" \t\r\n")
    return stripped.rfind(b"\t") > stripped.rfind(b" ")


def _decoded(lines: list[bytes]) -> tuple[list[str], list[int]]:
    """Returns lines as text, and which of them are no UTF-8."""
    try:
        return [line.decode() for line in lines], []
    except UnicodeDecodeError:
        texts = [line.decode("utf-8", "replace") for line in lines]
        pairs = enumerate(zip(texts, lines, strict=True))
        return texts, [at for at, (text, line) in pairs if text.encode() != line]


def _is_number(text: str) -> bool:
    try:
        pc.cast(pa.array([text]), pa.float32())
    except pa.ArrowInvalid:
        return False
    return True
