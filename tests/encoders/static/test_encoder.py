"""Vectors of texts from static vectors, against the libraries that made the directories."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from model2vec import StaticModel
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, StaticEmbedding
from tiny_models import SENTENCES, make_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.static.directory import write_directory
from embedkit.errors import ConfigError, EncoderError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

TEXTS = [text for text in SENTENCES if text != "!"]
WORDS = ["the", "a", ".", ",", "rain", "one", "two", "fox", "vectors", "日本語のテキスト", "am"]


def encoded(directory: Path, texts: list[str], **settings: object) -> np.ndarray:
    spec = read_model(ModelConfig(model=str(directory), **settings))
    assert spec.kind == "static"
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(texts)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


@pytest.fixture
def words(tmp_path: Path) -> Path:
    matrix = np.random.default_rng(2).normal(size=(len(WORDS), 6)).astype(np.float32)
    write_directory(tmp_path / "words", matrix, WORDS)
    return tmp_path / "words"


def piece_tokenizer(kind: str) -> Tokenizer:
    return make_tokenizer(kind).backend_tokenizer


def matrix_of(tokenizer: Tokenizer, width: int = 7) -> np.ndarray:
    shape = (tokenizer.get_vocab_size(), width)
    return np.random.default_rng(3).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", ["wordpiece", "unigram", "bytes"])
def test_static_embedding_is_sentence_transformers(
    tmp_path: Path, kind: str, normalize: bool
) -> None:
    tokenizer = piece_tokenizer(kind)
    modules = [StaticEmbedding(tokenizer, matrix_of(tokenizer)), *[Normalize()] * normalize]
    model = SentenceTransformer(modules=modules, device="cpu")
    model.save(str(tmp_path / "model"))
    expected = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(encoded(tmp_path / "model", TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_model2vec_is_model2vec(
    tmp_path: Path, kind: str, normalize: bool, dtype: type[np.generic]
) -> None:
    tokenizer = piece_tokenizer(kind)
    matrix = (matrix_of(tokenizer) * 20).astype(dtype)
    config = {"model_type": "model2vec", "normalize": normalize}
    StaticModel(matrix, tokenizer, config=config).save_pretrained(tmp_path / "model")
    expected = StaticModel.from_pretrained(tmp_path / "model").encode(TEXTS, max_length=None)
    # Model2Vec's mean of float16 is rounded to float16 on the way.
    bound = {"atol": 0.01, "rtol": 2e-3} if dtype == np.float16 else {"atol": 2e-5}
    np.testing.assert_allclose(encoded(tmp_path / "model", TEXTS), expected, **bound)


def test_model2vec_with_fewer_vectors_than_tokens(tmp_path: Path) -> None:
    tokenizer = piece_tokenizer("wordpiece")
    size = tokenizer.get_vocab_size()
    rng = np.random.default_rng(4)
    StaticModel(
        rng.normal(size=(5, 3)).astype(np.float32),
        tokenizer,
        config={"model_type": "model2vec"},
        weights=rng.uniform(0.1, 2, size).astype(np.float32),
        token_mapping=rng.integers(0, 5, size),
    ).save_pretrained(tmp_path / "model")
    expected = StaticModel.from_pretrained(tmp_path / "model").encode(TEXTS, max_length=None)
    np.testing.assert_allclose(encoded(tmp_path / "model", TEXTS), expected, atol=2e-6)


def test_words_are_sentence_transformers_and_model2vec(words: Path) -> None:
    texts = [text for text in TEXTS if encoded(words, [text]).any()]
    assert len(texts) > 5
    found = encoded(words, texts)
    by_sentence_transformers = SentenceTransformer(str(words), device="cpu")
    np.testing.assert_allclose(found, by_sentence_transformers.encode(texts), atol=1e-6)
    by_model2vec = StaticModel.from_pretrained(words)
    np.testing.assert_allclose(found, by_model2vec.encode(texts, max_length=None), atol=1e-6)


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_a_row_has_the_same_bytes_whatever_is_beside_it(words: Path, rows: int) -> None:
    rng = np.random.default_rng(5)
    lengths = np.append(rng.integers(0, 40, rows - 1), 9_000)
    texts = [" ".join(rng.choice(WORDS, length)) for length in lengths]
    together = encoded(words, texts, pooling="sif", normalize=True)
    alone = np.concatenate(
        [encoded(words, [text], pooling="sif", normalize=True) for text in texts]
    )
    assert together.tobytes() == alone.tobytes()


def test_settings_of_texts_hold_for_static_vectors(words: Path) -> None:
    whole = encoded(words, ["rain fox one two"])
    np.testing.assert_array_equal(encoded(words, ["rain fox one two"], dimensions=2), whole[:, :2])
    np.testing.assert_array_equal(encoded(words, ["fox one two"], prompt="rain "), whole)
    np.testing.assert_array_equal(encoded(words, ["rain fox one two the"], max_tokens=4), whole)
    assert not encoded(words, ["unheard of"]).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "openvino"}, "backend is openvino, but .* static vectors, .*leave --backend"),
        ({"device": "cuda"}, "device is cuda"),
        ({"precision": "bfloat16"}, "precision is bfloat16"),
        ({"tokenizer": "x"}, "tokenizer is x, but .* each belongs to a token of its own"),
        ({"layers": "-2"}, "layers is -2, but .* there are no layers"),
        ({"granularity": "word"}, "a word has the same one everywhere"),
        ({"granularity": "token"}, "granularity is token"),
        ({"dimensions": 7}, "have 6 components; take fewer"),
        ({"pooling": "cls"}, "pooling is cls, but .* know mean, idf, sif, mean-pc"),
        ({"pooling": "idf"}, "has no texts, which takes a corpus"),
        ({"pooling": "sif-pc"}, "has no component.sif, which takes a corpus"),
        ({"prompt_name": "x"}, "no prompt named 'x'; expected one of document, query"),
        ({"prompt": "the", "prompt_name": "x"}, "take one of them"),
    ],
)
def test_settings_without_meaning_are_refused(
    words: Path, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_model(ModelConfig(model=str(words), **settings))


def lacking_rows(directory: Path) -> None:
    other = directory.with_name("fewer")
    write_directory(other, np.eye(2, dtype=np.float32), ["a", "b"])
    (directory / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())


def dense_behind(directory: Path) -> None:
    names = ("StaticEmbedding", "Dense")
    entries = (f'{{"path": "", "type": "sentence_transformers.models.{name}"}}' for name in names)
    (directory / "modules.json").write_text(f"[{', '.join(entries)}]")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lacking_rows, "3 vectors, but .* has 12 tokens; download"),
        (dense_behind, "modules StaticEmbedding, Dense; expected StaticEmbedding, and behind"),
        (lambda directory: (directory / "tokenizer.json").unlink(), "tokenizer.json: missing"),
        (lambda directory: (directory / "tokenizer.json").write_text("{"), "cannot be read"),
        (lambda directory: (directory / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda directory: (directory / "model.safetensors").write_bytes(b"x" * 99), "not a whole"),
    ],
)
def test_damaged_directories_are_refused(
    words: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(words)
    with pytest.raises(ConfigError, match=message):
        read_model(ModelConfig(model=str(words)))


def test_ids_beyond_the_vectors_are_said(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 9}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    matrix = np.ones((2, 2), dtype=np.float32)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, matrix)]).save(str(tmp_path / "m"))
    with pytest.raises(EncoderError, match="2 vectors, but the tokenizer gave id 9"):
        encoded(tmp_path / "m", ["a"])


def test_the_layout_of_older_releases(tmp_path: Path) -> None:
    tokenizer = piece_tokenizer("wordpiece")
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, matrix_of(tokenizer))])
    model.save(str(tmp_path / "m"))
    (tmp_path / "m" / "0_StaticEmbedding").mkdir()
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / "m" / name).rename(tmp_path / "m" / "0_StaticEmbedding" / name)
    kinds = {"0_StaticEmbedding": "StaticEmbedding", "1_Normalize": "Normalize"}
    modules = [
        {"idx": place, "path": path, "type": f"sentence_transformers.models.{kind}"}
        for place, (path, kind) in enumerate(kinds.items())
    ]
    (tmp_path / "m" / "modules.json").write_text(json.dumps(modules))
    expected = model.encode(TEXTS, normalize_embeddings=True)
    np.testing.assert_allclose(encoded(tmp_path / "m", TEXTS), expected, atol=2e-6)


def test_truncation_of_the_tokenizers_own_file_holds(tmp_path: Path) -> None:
    tokenizer = piece_tokenizer("wordpiece")
    tokenizer.enable_truncation(5)
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, matrix_of(tokenizer))])
    model.save(str(tmp_path / "m"))
    expected = SentenceTransformer(str(tmp_path / "m"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(encoded(tmp_path / "m", TEXTS), expected, atol=2e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_vectors_of_other_types_are_read_as_they_are(tmp_path: Path, dtype: torch.dtype) -> None:
    tokenizer = piece_tokenizer("wordpiece")
    matrix = torch.from_numpy(matrix_of(tokenizer)).to(dtype)
    SentenceTransformer(modules=[StaticEmbedding(tokenizer, matrix)]).save(str(tmp_path / "m"))
    save_file({"embedding.weight": matrix}, tmp_path / "m" / "model.safetensors")
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    expected = [matrix.float()[row].mean(0).numpy() for row in ids]
    np.testing.assert_allclose(encoded(tmp_path / "m", TEXTS), expected, atol=2e-6)


def test_texts_of_unknown_words_are_as_sentence_transformers_has_them(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = SentenceTransformer(modules=[StaticEmbedding(tokenizer, np.float32([[1, 2], [3, 5]]))])
    model.save(str(tmp_path / "m"))
    texts = ["x", "a x", "a"]
    np.testing.assert_allclose(encoded(tmp_path / "m", texts), model.encode(texts), atol=1e-6)
