"""Word vectors as a numpy array, and their words in a file beside it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedkit.errors import InputError
from embedkit.errors.foreign import one_line
from embedkit.training.vector_files.batches import VectorBatch
from embedkit.training.vector_files.contents import open_contents

_ROWS = 8192


class ArrayVectors:
    """A matrix of numpy's and a list of words, see ``VectorFile``.

    Args:
        file: The matrix, as ``numpy.save`` writes it.
        words: The words, in the order of its rows: lines of text, a list in JSON, or a column of
            text in Parquet.

    Raises:
        InputError: One of them cannot be read, or they do not fit each other.
    """

    unit = "row"
    lower_case: bool | None = None

    def __init__(self, file: Path, words: Path | None) -> None:
        self._matrix = _matrix(file)
        if words is None:
            raise InputError(f"{file}: an array has no words; name the file of them with --words")
        self._words = read_words(words)
        self.dimension = int(self._matrix.shape[1])
        if len(self._words) != len(self._matrix):
            raise InputError(
                f"{words}: {len(self._words):,} words, but {file} has {len(self._matrix):,} rows; "
                "give the words of this matrix"
            )

    def batches(self) -> Iterator[VectorBatch]:
        """Reads the rows, see ``VectorFile``."""
        for start in range(0, len(self._words), _ROWS):
            words = self._words[start : start + _ROWS]
            with np.errstate(over="ignore"):
                rows = np.asarray(self._matrix[start : start + _ROWS], dtype=np.float32)
            yield VectorBatch(list(words), rows, np.arange(start + 1, start + 1 + len(words)))


def read_words(file: Path) -> list[str]:
    """Reads a list of words.

    Args:
        file: A ``.parquet`` or ``.json`` file, or one of text with a word on each line.

    Raises:
        InputError: It cannot be read, or is no list of words.
    """
    try:
        if file.suffix == ".parquet":
            return _column(file)
        with open_contents(file) as contents:
            data = contents.read()
        return _list(file, data) if file.suffix == ".json" else _lines(data)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{file}: line {line:,} is no UTF-8; save the words in UTF-8") from error


def _matrix(file: Path) -> NDArray[Any]:
    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(
            f"{file}: no array of numbers that can be read ({one_line(error, only_first=True)}); "
            "save it with numpy.save, as numbers"
        ) from error
    if found.ndim != 2 or found.dtype.kind not in "fiu" or 0 in found.shape:
        raise InputError(
            f"{file}: an array of {found.dtype} of shape {found.shape}, expected one row of "
            "numbers for each word"
        )
    matrix: NDArray[Any] = found
    return matrix


def _lines(data: bytes) -> list[str]:
    # Not splitlines, which ends a line at characters that are words in some lists.
    words = data.decode().removesuffix("\n").split("\n")
    return [word.removesuffix("\r") for word in words]


def _list(file: Path, data: bytes) -> list[str]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON ({one_line(error)}); give a list of words") from error
    if isinstance(found, dict):
        found = _by_row(found)
    if not isinstance(found, list) or not all(isinstance(word, str) for word in found):
        raise InputError(
            f"{file}: expected a list of words, or the row of each word from 0 by its name"
        )
    for number, word in enumerate(found, 1):
        if any("\ud800" <= character <= "\udfff" for character in word):
            raise InputError(
                f"{file}: word {number:,} is half a surrogate pair, which is no text; save the "
                "words in UTF-8"
            )
    return found


def _by_row(rows: dict[str, Any]) -> list[str] | None:
    places = list(rows.values())
    known = all(type(place) is int for place in places)
    if not known or sorted(places) != list(range(len(places))):
        return None
    return sorted(rows, key=rows.__getitem__)


def _column(file: Path) -> list[str]:
    try:
        table = pq.read_table(file)
    except (OSError, pa.ArrowException) as error:
        what = one_line(error, only_first=True)
        raise InputError(f"{file}: no Parquet file that can be read ({what})") from error
    texts = [
        name
        for name, kind in zip(table.schema.names, table.schema.types, strict=True)
        if pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ]
    if len(texts) != 1:
        raise InputError(
            f"{file}: {len(texts)} columns of text ({', '.join(texts)}), expected one, of the words"
        )
    column = table.column(texts[0])
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise InputError(f"{file}: row {row:,} of {texts[0]} is null, expected a word")
    words: list[str] = column.to_pylist()
    return words
