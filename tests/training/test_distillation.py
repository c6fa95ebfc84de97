"""Sentence models distilled into static vectors, against model2vec called by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
from calling import call
from model2vec import StaticModel
from model2vec.distill import distill
from sentence_transformers import SentenceTransformer
from tiny_models import save_transformer
from tokenizers import Tokenizer
from word_corpus import texts

from embedkit.config import CorpusConfig
from embedkit.encoders.static.vectors import open_vectors
from embedkit.errors import ConfigError, InputError
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.training.config import DistillConfig
from embedkit.training.distillation import distill_static
from embedkit.training.vocabulary import frequent_words, model_splitter

TEXTS = ["The king of Zürich reads a corpus.", "vectors", "the zanzibar bat; 日本語"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.txt"
    lines = [*texts(40), "zanzibar Zanzibar, zanzibar!", "x" * 4000]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def distilled(tmp_path: Path, model: str, corpus: Path | None = None, **settings: object) -> Path:
    config = DistillConfig(
        model=model, output=tmp_path / "static", **{"dimensions": 16, **settings}
    )
    given = None if corpus is None else CorpusConfig(inputs=[corpus], max_record_bytes=2000)
    distill_static(config, given)
    return tmp_path / "static"


def check(found: Path, expected: StaticModel) -> None:
    """Both are the same tokens, vectors and weights, and embed texts alike."""
    model = StaticModel.from_pretrained(found)
    assert list(model.tokens) == list(expected.tokens)
    np.testing.assert_array_equal(model.embedding, expected.embedding)
    np.testing.assert_array_equal(model.weights, expected.weights)
    np.testing.assert_allclose(model.encode(TEXTS), expected.encode(TEXTS), atol=1e-6)


@pytest.mark.parametrize(
    "architecture",
    [
        "bert",
        "modernbert",
        *(pytest.param(a, marks=pytest.mark.soak) for a in ("mpnet", "xlm-roberta")),
    ],
)
def test_tokens_and_words_of_a_corpus_are_those_of_model2vec(tmp_path, corpus, architecture):
    model = save_transformer(tmp_path / architecture, architecture)
    found = distilled(tmp_path, model, corpus, vocabulary_size=20)
    lines = corpus.read_text().splitlines()[:-1]
    words = frequent_words(lines, Tokenizer.from_file(f"{model}/tokenizer.json"), 20)
    check(found, distill(model, vocabulary=words, pca_dims=16))
    told = json.loads((found / "training.json").read_text())
    assert told["words_of_corpus"] == 20
    assert told["corpus"]["rejects"] == {"too_long": 1}
    assert told["settings"]["dimensions"] == told["dimension"] == 16
    assert str(tmp_path) not in (found / "config.json").read_text()
    assert {path.suffix for path in found.iterdir()} == {".json", ".safetensors"}


def test_without_a_corpus_the_models_own_tokens_are_distilled_also_without_pca(tmp_path):
    model = save_transformer(tmp_path / "bert", "bert")
    found = distilled(tmp_path, model, dimensions=0, sif_coefficient=1e-3)
    check(found, distill(model, pca_dims=None, sif_coefficient=1e-3))
    assert json.loads((found / "training.json").read_text())["corpus"] == {}


def test_padding_that_a_tokenizer_names_is_no_part_of_any_vector(tmp_path, corpus):
    model = save_transformer(tmp_path / "bert", "bert")
    plain = distilled(tmp_path, model, corpus)
    (tmp_path / "static").rename(tmp_path / "plain")
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    tokenizer.enable_padding(length=30)
    tokenizer.enable_truncation(20)
    tokenizer.save(f"{model}/tokenizer.json")
    padded = StaticModel.from_pretrained(distilled(tmp_path, model, corpus))
    wanted = StaticModel.from_pretrained(tmp_path / "plain")
    np.testing.assert_array_equal(padded.embedding, wanted.embedding)
    assert len(padded.tokenizer.encode("the king").ids) == 2
    assert plain.name == "static"


def test_the_directory_is_read_by_all_who_know_static_vectors(tmp_path, corpus):
    model = save_transformer(tmp_path / "bert", "bert")
    found = distilled(tmp_path, model, corpus)
    expected = StaticModel.from_pretrained(found).encode(TEXTS)
    assert "zanzibar" in open_vectors(found).words
    embedded = TextEmbedder(str(found)).embed(TEXTS)
    np.testing.assert_allclose(embedded.vectors, expected, atol=1e-5)
    by_others = SentenceTransformer(str(found), device="cpu").encode(["the zanzibar bat"])
    assert by_others.shape == (1, 16)


def test_words_are_parted_as_the_model_parts_them(tmp_path):
    model = save_transformer(tmp_path / "bert", "bert")
    split = model_splitter(Tokenizer.from_file(f"{model}/tokenizer.json"))
    assert split("The KING's café") == ["the", "king", "'", "s", "cafe"]
    model = save_transformer(tmp_path / "xlm", "xlm-roberta")
    split = model_splitter(Tokenizer.from_file(f"{model}/tokenizer.json"))
    assert split("The KING's café, x") == ["The", "KING", "'", "s", "café", ",", "x"]
    model = save_transformer(tmp_path / "modernbert", "modernbert")
    split = model_splitter(Tokenizer.from_file(f"{model}/tokenizer.json"))
    assert split(" The KING's café") == ["The", "KING", "'", "s", "café"]


@pytest.mark.parametrize("architecture", ["bert", "xlm-roberta", "modernbert"])
def test_words_that_are_tokens_already_are_none_of_the_new_ones(tmp_path, architecture):
    model = save_transformer(tmp_path / architecture, architecture)
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    lines = ["the zanzibar the the !", "the a yes zanzibar yes zanzibar !"]
    assert frequent_words(lines, tokenizer, 5) == ["zanzibar", "yes"]
    assert frequent_words(lines, tokenizer, 1) == ["zanzibar"]


def test_what_cannot_be_distilled_is_refused_in_one_line(tmp_path, corpus, monkeypatch):
    model = save_transformer(tmp_path / "bert", "bert")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match="no word in it"):
        distilled(tmp_path, model, tmp_path / "empty.txt")
    with pytest.raises(ConfigError, match="no such directory"):
        distilled(tmp_path, str(tmp_path / "none" / "here"))
    static = distilled(tmp_path, model)
    with pytest.raises(ConfigError, match="exists already"):
        distilled(tmp_path, model)
    again = DistillConfig(model=str(static), output=tmp_path / "again")
    with pytest.raises(ConfigError, match="not a transformer"):
        distill_static(again)
    # Neither a pickle nor code of the directory is loaded.
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    (tmp_path / "bert" / "config.json").write_text(
        json.dumps(config | {"auto_map": {"AutoModel": "model.Own"}})
    )
    with pytest.raises(ConfigError, match="needs code from its"):
        distill_static(DistillConfig(model=model, output=tmp_path / "again"))
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    (tmp_path / "bert" / "model.safetensors").rename(tmp_path / "bert" / "pytorch_model.bin")
    with pytest.raises(ConfigError, match="safetensors"):
        distill_static(DistillConfig(model=model, output=tmp_path / "again"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="model2vec is not installed"):
        distill_static(DistillConfig(model=model, output=tmp_path / "again"))


def test_what_model2vec_stumbles_over_is_said_in_one_line(tmp_path, monkeypatch):
    def stumbles(*_, **settings):
        raise ValueError("no such tokenizer\nis known")

    monkeypatch.setattr("model2vec.distill.distill_from_model", stumbles)
    model = save_transformer(tmp_path / "bert", "bert")
    with pytest.raises(ConfigError, match="model2vec cannot distill it") as error:
        distilled(tmp_path, model)
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["bert"]


def test_the_command_line_distills(tmp_path, corpus):
    model = save_transformer(tmp_path / "bert", "bert")
    output = f"--output={tmp_path / 'static'}"
    answer = call("train", "static", "--from", model, output, "--vocabulary-size=5", "--json")
    assert answer.code == 2
    assert answer.error.startswith("vocabulary_size says how a corpus is read, but there is no")
    arguments = [str(corpus), "--vocabulary-size=5", "--dimensions=8", "--json"]
    told = call("train", "static", "--from", model, output, *arguments).json
    assert (told["words_of_corpus"], told["dimension"]) == (5, 8)
    assert told["directory"] == str(tmp_path / "static")
