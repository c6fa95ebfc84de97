"""Which format a file of word vectors has, told from what it holds."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Literal, get_args

from embedkit.errors import InputError
from embedkit.training.vector_files.arrays import ArrayVectors
from embedkit.training.vector_files.batches import VectorFile
from embedkit.training.vector_files.binary import BinaryVectors
from embedkit.training.vector_files.contents import open_contents
from embedkit.training.vector_files.directory import DirectoryVectors
from embedkit.training.vector_files.text import TextVectors

VectorFormat = Literal["auto", "word2vec", "word2vec-text", "glove", "npy"]
FORMATS = get_args(VectorFormat)

_HEAD = 1 << 16
_HEADER = re.compile(rb"[ \t]*\d+[ \t]+(\d+)[ \t\r]*\n")
_NUMPY = b"\x93NUMPY"
_OTHERS = {
    b"PK\x03\x04": "a zip archive; unpack it and name the file in it",
    b"\x89HDF": "an HDF5 file; save its vectors with numpy.save, and its words as lines",
    b"\xba\x16\x4f\x2f": "fastText's own binary; name the .vec file that is published beside it",
    b"\xff\xfe": "text in UTF-16; save it in UTF-8",
    b"\xfe\xff": "text in UTF-16; save it in UTF-8",
    b"PAR1": "a Parquet file; save its vectors with numpy.save, and name it as --words",
}


@contextmanager
def open_vector_file(
    file: Path, words: Path | None = None, form: VectorFormat = "auto"
) -> Iterator[VectorFile]:
    """Opens a file of word vectors, compressed or not.

    Args:
        file: The file, or a model directory of word vectors.
        words: The file of its words, where it is an array.
        form: Its format; told from its first bytes where ``auto``.

    Raises:
        InputError: It is none that can be read, or is a pickle, which could run code.
    """
    if file.is_dir():
        yield DirectoryVectors(file)
        return
    with open_contents(file) as contents:
        head = contents.peek(_HEAD)[:_HEAD]
        if not head:
            raise InputError(f"{file}: empty; download it again")
        _refuse(file, head)
        form = _form(head) if form == "auto" else form
        if form != "npy" and words is not None:
            raise InputError(f"{words}: words are in {file} itself; leave --words out")
        yield _opened(file, contents, words, form)


def _opened(
    file: Path, contents: BufferedReader, words: Path | None, form: VectorFormat
) -> VectorFile:
    if form == "npy":
        return ArrayVectors(file, words)
    if form == "word2vec":
        return BinaryVectors(file, contents)
    header = {"glove": False, "word2vec-text": True}.get(form)
    return TextVectors(file, contents, header)


def _form(head: bytes) -> VectorFormat:
    if head.startswith(_NUMPY):
        return "npy"
    said = _HEADER.match(head)
    if said is None:
        return "glove"
    behind = head[said.end() :]
    line, newline, _ = behind.partition(b"\n")
    # The word may be of any characters; what follows are numbers in text alone.
    numbers = line.split()[1:]
    if (newline or len(behind) < _HEAD // 2) and all(map(_is_number, numbers)) and numbers:
        return "word2vec-text"
    return "word2vec" if behind else "word2vec-text"


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _refuse(file: Path, head: bytes) -> None:
    for mark, what in _OTHERS.items():
        if head.startswith(mark):
            raise InputError(f"{file}: {what}")
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        kind, vectors = "KeyedVectors", ""
        for model in ("FastText", "Word2Vec", "Doc2Vec"):
            if model.encode() in head:
                kind, vectors = model, ".wv"
        raise InputError(
            f"{file}: a pickle, which could run code, so it is not read; if you trust it: python "
            f'-c "from gensim.models import {kind}; {kind}.load({str(file)!r}){vectors}'
            f".save_word2vec_format('vectors.bin', binary=True)\" and convert vectors.bin"
        )
