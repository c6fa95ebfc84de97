"""Another directory's tokenizer on a model: what belongs to it passes, all else needs a word."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import SENTENCES, make_tokenizer
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, query_config, read_model
from embedkit.encoders.transformer.tokenizer_match import COMMON
from embedkit.errors import ConfigError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch


def read(model, tokenizer=None, **settings):
    given = {"device": "cpu", "backend": "torch", "precision": "float32", "pooling": "mean"}
    named = None if tokenizer is None else str(tokenizer)
    return read_model(ModelConfig(model=str(model), tokenizer=named, **given | settings))


def refused(model, tokenizer, match, **settings):
    with pytest.raises(ConfigError, match=match) as raised:
        read(model, tokenizer, **settings)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def model(plain_model, tmp_path) -> Path:
    return Path(shutil.copytree(plain_model("bert"), tmp_path / "model"))


@pytest.fixture
def resaved(model, tmp_path) -> Path:
    """The model's own tokenizer, in files of other bytes."""
    saved = tmp_path / "resaved"
    AutoTokenizer.from_pretrained(model).save_pretrained(saved)
    (saved / "tokenizer.json").write_text(
        json.dumps(json.loads((saved / "tokenizer.json").read_text()))
    )
    return saved


@pytest.fixture
def bare(model, tmp_path) -> Path:
    """The model without a tokenizer."""
    shutil.copytree(model, tmp_path / "bare")
    for file in (tmp_path / "bare").glob("*token*"):
        file.unlink()
    return tmp_path / "bare"


def edited(directory: Path, change) -> Path:
    file = directory / "tokenizer.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return directory


def scale_rows(model: Path, tokenizer: Path, words: str, factor: float) -> None:
    ids = AutoTokenizer.from_pretrained(tokenizer).encode(words, add_special_tokens=False)
    tensors = load_file(model / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][ids] *= factor
    save_file(tensors, model / "model.safetensors", {"format": "pt"})


def test_the_same_files_elsewhere_are_the_models_own(model, tmp_path):
    other = tmp_path / "tokenizer"
    other.mkdir()
    for file in model.glob("*token*"):
        shutil.copy(file, other)
    assert read(model, other) == read(model, model) == read(model)


def test_a_tokenizer_that_was_saved_again_passes(model, resaved, caplog):
    caplog.set_level(logging.INFO)
    spec, own = read(model, resaved), read(model)
    assert not caplog.records
    assert spec.tokenizer.directory == str(resaved)
    assert spec.description() == own.description() | {"tokenizer": str(resaved)}
    assert spec.identity.tokenizer_hash != own.identity.tokenizer_hash
    changed = spec.vector_ingredients() | {"tokenizer": own.identity.tokenizer_hash}
    assert changed == own.vector_ingredients()


def test_the_folder_of_the_transformer_is_found_in_a_directory_of_modules(
    sentence_model, model, tmp_path
):
    other = Path(shutil.copytree(sentence_model(), tmp_path / "other"))
    folder = other / json.loads((other / "modules.json").read_text())[0]["path"]
    edited(folder, lambda content: None)
    assert read(model, other).tokenizer.directory == str(folder)


@pytest.mark.parametrize("kind", ["wordpiece", "mpnet", "unigram", "xlm"])
def test_a_tokenizer_of_another_vocabulary_is_refused_or_named(plain_model, tmp_path, caplog, kind):
    model = plain_model("modernbert")
    make_tokenizer(kind).save_pretrained(tmp_path)
    own = "the model's own of that id; embeddings of common English words have a median norm of"
    said = refused(model, tmp_path, f"tokenizer {tmp_path} does not belong to {model}: .*{own}")
    assert said.endswith("embed with this one all the same by --allow-tokenizer-mismatch")
    assert ("its pad token is 1, the model's 0" in said) == (kind in ("mpnet", "xlm"))
    spec = read(model, tmp_path, allow_tokenizer_mismatch=True)
    (warning,) = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert spec.description()["tokenizer_mismatch"] in warning
    assert spec.description()["tokenizer_mismatch"] in said
    assert spec.vector_ingredients()["tokenizer_mismatch"] is True

    loaded = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    rows = loaded(SENTENCES, truncation=True, max_length=spec.tokenizer.max_tokens)["input_ids"]
    reference = AutoModel.from_pretrained(model).eval()
    with torch.no_grad():
        expected = [reference(torch.tensor([row])).last_hidden_state[0].mean(0) for row in rows]
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    vectors = load_encoder(spec).encode(TokenBatch(ids, offsets))
    np.testing.assert_allclose(vectors, torch.stack(expected).numpy(), atol=2e-5)


@pytest.mark.parametrize("settings", [{}, {"allow_tokenizer_mismatch": True}])
def test_ids_beyond_the_model_are_refused_whatever_is_allowed(model, plain_model, settings):
    other = plain_model("modernbert")
    size = len(AutoTokenizer.from_pretrained(other))
    share = f"{300 / size:.1%} of the tokens are in its range"
    refused(
        model,
        other,
        rf"the tokenizer {other} has ids up to {size - 1}, but the model knows only 300 of them "
        rf"\({share}\); .* no setting allows",
        **settings,
    )


def test_one_id_beyond_the_model_is_refused_as_well(model, resaved):
    def add(content):
        content["added_tokens"].append(content["added_tokens"][0] | {"id": 300, "content": "[NEW]"})

    refused(model, edited(resaved, add), "has ids up to 300, but the model knows only 300 of them")
    shutil.copy(resaved / "tokenizer.json", model)
    refused(model, None, "the tokenizer has ids up to 300, but the model knows only 300 of them")


@pytest.mark.parametrize(
    ("role", "token", "said"),
    [
        ("pad_token", "[MASK]", "its pad token is 4, the model's 0"),
        ("unk_token", "[PAD]", "its unk token is 0, the model's 1"),
        ("cls_token", "[SEP]", "its cls token is 3, the model's 2"),
        ("mask_token", "[CLS]", "its mask token is 2, the model's 4"),
    ],
)
def test_special_tokens_of_other_ids_are_refused(model, resaved, role, token, said):
    file = resaved / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {role: token}))
    found = refused(model, resaved, said)
    assert "300 of its 300 tokens (100.0%)" in found


def test_special_tokens_are_compared_with_the_configuration_of_a_model_without_tokenizer(
    bare, model
):
    assert read(bare, model).tokenizer.directory == str(model)
    file = bare / "config.json"
    file.write_text(
        json.dumps(json.loads(file.read_text()) | {"pad_token_id": 7, "eos_token_id": [3, 9]})
    )
    found = refused(bare, model, "its pad token is 0, the model's 7")
    assert "eos" not in found


def swapped(directory: Path, first: str, second: str) -> Path:
    def change(content):
        known = content["model"]["vocab"]
        known[first], known[second] = known[second], known[first]

    return edited(directory, change)


def test_few_other_tokens_are_no_mismatch(model, resaved):
    vocabulary = json.loads((resaved / "tokenizer.json").read_text())["model"]["vocab"]
    rare = [token for token in vocabulary if not token.isascii()][:2]
    assert read(model, swapped(resaved, *rare)).tokenizer_mismatch == ""


def test_few_other_tokens_of_common_words_are_a_mismatch(model, resaved):
    said = refused(model, swapped(resaved, "##t", "##a"), r"298 of its 300 tokens \(99\.3%\)")
    assert "100% of those of common" not in said


def test_the_same_ids_for_other_words_are_a_mismatch(model, resaved):
    def turn(content):
        known = content["model"]["vocab"]
        names = [name for name, number in sorted(known.items(), key=lambda one: one[1])]
        turned = names[:5] + names[6:] + names[5:6]
        content["model"]["vocab"] = {name: number for number, name in enumerate(turned)}

    refused(model, edited(resaved, turn), r"5 of its 300 tokens \(1\.7%\) and 0% of those")


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (0.0, "median norm of 0, 100% of them zero or not finite"),
        (0.3, "median norm of .* over all rows"),
        (4.0, "median norm of .* over all rows"),
        (float("nan"), "100% of them zero or not finite"),
    ],
)
def test_embeddings_of_a_strange_length_are_refused(bare, model, factor, said):
    scale_rows(bare, model, COMMON, factor)
    refused(bare, model, said)


def test_some_embeddings_of_length_0_are_refused(bare, model):
    scale_rows(bare, model, "the of and to in", 0)
    refused(bare, model, r"median norm of [\d.]+, \d+% of them zero or not finite")


@pytest.mark.parametrize("factor", [0.75, 1.3])
def test_embeddings_of_common_words_may_be_somewhat_shorter_or_longer(bare, model, factor):
    scale_rows(bare, model, COMMON, factor)
    assert read(bare, model).tokenizer_mismatch == ""


@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_embeddings_are_found_under_a_prefix_and_in_half_precision(bare, model, prefix, dtype):
    scale_rows(bare, model, COMMON, 0.2)
    tensors = load_file(bare / "model.safetensors")
    renamed = {f"{prefix}{name}": one.to(dtype) for name, one in tensors.items()}
    save_file(renamed, bare / "model.safetensors", {"format": "pt"})
    refused(bare, model, "median norm")


def test_a_tokenizer_of_the_models_own_that_cannot_be_read_is_no_obstacle(model, resaved, caplog):
    caplog.set_level(logging.INFO)
    (model / "tokenizer.json").write_text("{")
    assert read(model, resaved).tokenizer_mismatch == ""
    assert "compared with the model's weights alone" in caplog.text


def test_a_directory_without_a_tokenizer(model, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(model, tmp_path / "empty", "empty: no tokenizer in it")
    refused(model, tmp_path / "nowhere", "tokenizer .*nowhere: no such directory, and not a hub id")


def test_what_is_no_regular_file_is_never_opened(model, resaved):
    os.mkfifo(resaved / "vocab.txt")
    refused(model, resaved, "not a regular file")


def test_code_of_a_tokenizers_directory_never_runs(model, resaved):
    file = resaved / "tokenizer_config.json"
    named = {"auto_map": {"AutoTokenizer": ["evil.Slow", "evil.Fast"]}}
    file.write_text(json.dumps(json.loads(file.read_text()) | named))
    refused(model, resaved, "auto_map names evil.Slow/evil.Fast as AutoTokenizer")
    spec = read(model, resaved, ignore_auto_map=True)
    assert spec.ignored_code == ("AutoTokenizer=evil.Slow/evil.Fast",)
    # The code of the model that the tokenizer was taken from is not asked for.
    (resaved / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    assert read(model, resaved, ignore_auto_map=True).ignored_code == spec.ignored_code


def test_queries_are_tokenized_as_the_rows_were(model, resaved, plain_model):
    for directory, tokenizer in ((model, resaved), (plain_model("modernbert"), resaved)):
        spec = read(directory, tokenizer, allow_tokenizer_mismatch=True)
        described = {"max_tokens": 24, "normalized": True, "dimension": 32, **spec.description()}
        again = read_model(query_config(str(directory), described))
        assert again.tokenizer.directory == spec.tokenizer.directory
        assert again.tokenizer_mismatch == spec.tokenizer_mismatch
