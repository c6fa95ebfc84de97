"""Weighted means of word vectors, against scikit-learn and the formulas of their authors."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from embedkit.config import CorpusConfig, ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.errors import ConfigError, InputError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.training.convert import convert_vectors
from embedkit.vectors import TokenBatch

WORDS = ["the", "rain", "sun", "falls", "on", "plain", "never"]
MATRIX = np.random.default_rng(9).normal(size=(len(WORDS), 5)).astype(np.float32)
TEXTS = [
    "the rain falls on the plain",
    "the sun",
    "sun and rain and sun",
    "the the the",
    "on the plain the sun falls",
    "of nothing here",
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return converted(tmp_path, with_corpus=True)


def converted(folder: Path, with_corpus: bool) -> Path:
    lines = (" ".join([word, *map(str, row)]) for word, row in zip(WORDS, MATRIX, strict=True))
    (folder / "v.txt").write_text("\n".join(lines))
    (folder / "c.jsonl").write_text("\n".join(json.dumps({"t": text}) for text in TEXTS))
    corpus = CorpusConfig(inputs=(str(folder / "c.jsonl"),), text_column="t")
    done = convert_vectors(
        folder / "v.txt", folder / "model", corpus=corpus if with_corpus else None
    )
    assert done.texts == (6 if with_corpus else None)
    return folder / "model"


def encoded(model: Path, pooling: str) -> np.ndarray:
    spec = read_model(ModelConfig(model=str(model), pooling=pooling))
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(TEXTS)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


def occurrences() -> np.ndarray:
    return np.array([[text.split().count(word) for word in WORDS] for text in TEXTS])


def test_words_are_counted(model: Path) -> None:
    found = load_file(model / "statistics.safetensors")
    np.testing.assert_array_equal(found["counts"], occurrences().sum(axis=0))
    np.testing.assert_array_equal(found["texts"], (occurrences() > 0).sum(axis=0))
    assert found["all_texts"].tolist() == [6]


def expected_mean(weights: np.ndarray, by_weight: bool) -> np.ndarray:
    weighted = occurrences() * weights
    parts = (weighted if by_weight else occurrences()).sum(axis=1, keepdims=True)
    return weighted @ MATRIX / np.maximum(parts, 1e-9)


def sif_weights(shares: np.ndarray) -> np.ndarray:
    return 1e-3 / (1e-3 + shares)


def test_idf_is_scikit_learns(model: Path) -> None:
    weights = TfidfVectorizer(vocabulary=WORDS).fit(TEXTS).idf_
    np.testing.assert_allclose(encoded(model, "idf"), expected_mean(weights, True), atol=1e-6)


def test_sif_is_its_authors(model: Path) -> None:
    counts = occurrences().sum(axis=0)
    expected = expected_mean(sif_weights(counts / counts.sum()), False)
    np.testing.assert_allclose(encoded(model, "sif"), expected, atol=1e-6)


def test_sif_without_counts_goes_by_rank(tmp_path: Path) -> None:
    shares = 1 / np.arange(1, len(WORDS) + 1)
    expected = expected_mean(sif_weights(shares / shares.sum()), False)
    found = encoded(converted(tmp_path, with_corpus=False), "sif")
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("weighting", ["mean", "idf", "sif"])
def test_the_first_component_is_taken_out(model: Path, weighting: str) -> None:
    vectors = encoded(model, weighting)
    svd = TruncatedSVD(1, algorithm="arpack").fit(vectors)
    expected = vectors - svd.transform(vectors) @ svd.components_
    found = encoded(model, f"{weighting}-pc")
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_poolings_are_other_vectors(model: Path) -> None:
    names = {}
    for pooling in ("mean", "idf", "sif", "mean-pc", "idf-pc", "sif-pc"):
        spec = read_model(ModelConfig(model=str(model), pooling=pooling))
        names[json.dumps(spec.vector_ingredients(), sort_keys=True)] = pooling
    assert len(names) == 6
    spec = read_model(ModelConfig(model=str(model)))
    assert "statistics" not in spec.vector_ingredients()


@pytest.mark.parametrize(
    ("tensor", "pooling"),
    [
        ("counts", "sif"),
        ("texts", "idf"),
        ("all_texts", "idf"),
        ("component.sif", "sif-pc"),
        ("component.mean", "mean-pc"),
    ],
)
def test_statistics_of_other_words_are_refused(model: Path, tensor: str, pooling: str) -> None:
    file = model / "statistics.safetensors"
    save_file({**load_file(file), tensor: np.ones(3)}, file)
    with pytest.raises(ConfigError, match=rf"{tensor} has shape \(3,\), expected \("):
        encoded(model, pooling)
    save_file({"other": np.ones(3)}, file)
    if tensor != "counts":
        with pytest.raises(ConfigError, match=r"has no .*, which takes a corpus: write the"):
            encoded(model, pooling)


def test_a_directory_gets_them_as_a_file_does(tmp_path: Path, model: Path) -> None:
    (tmp_path / "other").mkdir()
    without = converted(tmp_path / "other", with_corpus=False)
    corpus = CorpusConfig(inputs=(str(tmp_path / "c.jsonl"),), text_column="t")
    done = convert_vectors(without, tmp_path / "again", corpus=corpus)
    assert (done.words, done.texts) == (len(WORDS), 6)
    for file in sorted(path.name for path in model.iterdir()):
        assert (tmp_path / "again" / file).read_bytes() == (model / file).read_bytes()
    (model / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="none of word vectors that embedkit wrote"):
        convert_vectors(model, tmp_path / "more")


def test_a_corpus_of_other_words_is_refused(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("a 1 2\nb 1 2\n")
    (tmp_path / "c.txt").write_text("x y z\n")
    corpus = CorpusConfig(inputs=(str(tmp_path / "c.txt"),))
    with pytest.raises(InputError, match="no word of its 1 texts has a vector"):
        convert_vectors(tmp_path / "v.txt", tmp_path / "model", corpus=corpus)
    assert not (tmp_path / "model").exists()


def test_what_could_not_be_counted_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "v.txt").write_text("a 1 2\nb 1 2\n")
    lines = ['{"t": "a b"}', "{bad", '{"t": ""}', '{"t": "b"}', '{"t": ""}']
    (tmp_path / "c.jsonl").write_text("\n".join(lines))
    corpus = CorpusConfig(inputs=(str(tmp_path / "c.jsonl"),), text_column="t")
    done = convert_vectors(tmp_path / "v.txt", tmp_path / "model", corpus=corpus)
    assert done.texts == 2
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == 2
    assert said[1].startswith("1 records left out: invalid_json, such as c.jsonl, line 2: ")
    assert said[0].startswith("2 records left out: empty_text, such as c.jsonl, line 3: ")
