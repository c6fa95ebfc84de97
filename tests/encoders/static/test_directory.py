"""A directory of word vectors, as embedkit and sentence-transformers read it."""

import os
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from embedkit.encoders.static.directory import write_directory
from embedkit.encoders.static.vectors import open_vectors
from embedkit.errors import ConfigError

WORDS = ["the", "king", ",", "x", "naïve", "日本", "▁the", "new york"]
TEXTS = [
    ("The king, the king", ["the", "king", ",", "the", "king"]),
    ("xylophone kings naïve", ["naïve"]),
    ("x xx [UNK] \x00king king", ["x", "king"]),
    ("日本 king\nx", ["日本", "king", "x"]),
]


@pytest.fixture
def matrix() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(WORDS), 3)).astype(np.float32)


@pytest.fixture
def directory(tmp_path: Path, matrix: np.ndarray) -> Path:
    write_directory(tmp_path / "model", matrix, WORDS)
    return tmp_path / "model"


def test_sentence_transformers_takes_the_mean_of_the_words_that_are_known(
    directory: Path, matrix: np.ndarray
) -> None:
    found = SentenceTransformer(str(directory), device="cpu").encode([text for text, _ in TEXTS])
    places = [[WORDS.index(word) for word in words] for _, words in TEXTS]
    expected = [matrix[rows].mean(axis=0) for rows in places]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_words_and_vectors_are_found_again(directory: Path, matrix: np.ndarray) -> None:
    vectors = open_vectors(directory)
    assert vectors.words == WORDS
    assert vectors.lower_case
    assert isinstance(vectors.matrix.base, np.memmap)
    np.testing.assert_array_equal(vectors.matrix, matrix)
    assert [vectors.index_of(word) for word in WORDS] == list(range(len(WORDS)))
    assert vectors.index_of("King") == 1
    assert vectors.index_of("[UNK]") is None


def test_case_counts_where_words_have_it(tmp_path: Path) -> None:
    write_directory(tmp_path / "m", np.eye(2, dtype=np.float32), ["Bat", "bat"])
    vectors = open_vectors(tmp_path / "m")
    assert [vectors.index_of(word) for word in ("Bat", "bat", "BAT")] == [0, 1, None]


def test_what_stands_there_stays(tmp_path: Path, directory: Path, matrix: np.ndarray) -> None:
    with pytest.raises(ConfigError, match="exists and is no empty directory"):
        write_directory(directory, matrix, WORDS)
    with pytest.raises(ConfigError, match="8 vectors, but 7 words"):
        write_directory(tmp_path / "new", matrix, WORDS[:7])
    (tmp_path / "empty").mkdir()
    write_directory(tmp_path / "empty", matrix, WORDS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "model"]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_others_may_read_all_files_where_the_umask_lets_them(
    tmp_path: Path, matrix: np.ndarray, mask: int, mode: int
) -> None:
    counts = np.ones(len(WORDS), dtype=np.int64)
    before = os.umask(mask)
    try:
        write_directory(tmp_path / "model", matrix, WORDS, counts=counts)
    finally:
        os.umask(before)
    files = list((tmp_path / "model").iterdir())
    assert "statistics.safetensors" in {file.name for file in files}
    assert {file.stat().st_mode & 0o777 for file in files} == {mode}


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path, matrix: np.ndarray) -> None:
    left = tmp_path / f".model.{os.getpid()}.tmp"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half of it")
    write_directory(tmp_path / "model", matrix, WORDS)
    assert open_vectors(tmp_path / "model").words == WORDS
    assert [path.name for path in left.iterdir()] == ["model.safetensors"]


def test_nothing_is_left_of_a_directory_that_could_not_be_written(
    tmp_path: Path, matrix: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("embedkit.encoders.static.directory.write_words", full)
    with pytest.raises(RuntimeError):
        write_directory(tmp_path / "model", matrix, WORDS)
    assert not list(tmp_path.iterdir())
