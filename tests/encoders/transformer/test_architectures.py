"""Every architecture against sentence-transformers: pooling, sides of fill, batches, long rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_models import exported
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from tiny_models import CONFIGURATIONS, MAX_TOKENS, MORE, OTHERS, SENTENCES, make_tokenizer
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, T5Config, T5EncoderModel, T5Model

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.transformer.placement import OPENVINO_ARCHITECTURES
from embedkit.errors import ConfigError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

ARCHITECTURES = CONFIGURATIONS | OTHERS | MORE
BOUNDS = {"torch": 2e-5, "openvino": 1e-4, "onnx": 2e-5}
MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
TEXTS = (SENTENCES * 6)[:64]


def spec_of(directory: str | Path, backend: str = "torch", **settings: Any) -> ModelSpec:
    wanted = {"device": "cpu", "backend": backend, "precision": "float32"}
    return read_model(ModelConfig(model=str(directory), **(wanted | settings)))


def batch_of(spec: ModelSpec, texts: list[str]) -> TokenBatch:
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(texts)
    return TokenBatch(ids, offsets)


def vectors_of(directory: str | Path, texts: list[str], **settings: Any) -> np.ndarray:
    spec = spec_of(directory, **settings)
    return load_encoder(spec).encode(batch_of(spec, texts))


def oracle(directory: str | Path, texts: list[str], **settings: Any) -> np.ndarray:
    """One text at a time: whatever fills up a batch cannot move a vector then."""
    model = SentenceTransformer(str(directory), device="cpu")
    return model.encode(texts, batch_size=1, **settings)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture(scope="module")
def all_modes(sentence_model: Callable[..., str]) -> Callable[[str], tuple[Path, np.ndarray]]:
    """Gives a model that joins all pooling modes, and its vectors of ``TEXTS``."""
    made: dict[str, tuple[Path, np.ndarray]] = {}

    def of(architecture: str) -> tuple[Path, np.ndarray]:
        if architecture not in made:
            directory = Path(sentence_model(architecture, pooling=MODES, normalize=False))
            expected = oracle(directory, SENTENCES)
            made[architecture] = directory, np.tile(expected, (6, 1))[: len(TEXTS)]
        return made[architecture]

    return of


_SOON_CONVERTED = ("bert", "deberta-v3", "gte")


@pytest.mark.parametrize(
    ("architecture", "backend"),
    [
        *((one, "torch") for one in ARCHITECTURES),
        *((one, "openvino") for one in ARCHITECTURES if one in _SOON_CONVERTED),
        *(
            pytest.param(one, "openvino", marks=pytest.mark.soak)
            for one in ARCHITECTURES
            if one not in _SOON_CONVERTED
        ),
        # Of the others onnxruntime computes no more than their exports say.
        *((one, "onnx") for one in ("bert", "xlm-roberta", "qwen3")),
    ],
)
@pytest.mark.few(8)
def test_pooling_and_sides_of_fill(architecture, backend, all_modes):
    directory, expected = all_modes(architecture)
    if backend == "onnx":
        exported(directory)
    for side in ("left", "right") if backend == "torch" else ("right",):
        edit(directory / "tokenizer_config.json", padding_side=side)
        spec = spec_of(directory, backend)
        encoder = load_encoder(spec)
        batch = batch_of(spec, TEXTS)
        together = encoder.encode(batch)
        alone = [encoder.encode(batch.take(np.array([row])))[0] for row in range(len(SENTENCES))]
        for found, wanted in ((together, expected), (alone, expected[: len(SENTENCES)])):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=BOUNDS[backend])


@pytest.mark.parametrize("architecture", ["deberta", "gte", "nomic_bert", "albert", "electra"])
@pytest.mark.few(2)
def test_rows_longer_than_a_trial(architecture, plain_model, openvino_has_bf16):
    directory = plain_model(architecture)
    spec = spec_of(directory, "auto", pooling="mean", max_tokens=60, normalize=True)
    assert spec.placement.backend == "openvino"
    texts = [" ".join(SENTENCES)[start:] for start in (0, 40, 500)]
    exact = vectors_of(directory, texts, pooling="mean", max_tokens=60, normalize=True)
    found = load_encoder(spec).encode(batch_of(spec, texts))
    np.testing.assert_allclose(found, exact, rtol=0, atol=2e-5)
    if openvino_has_bf16(directory):
        half = {"backend": "openvino", "precision": "bfloat16", "normalize": True}
        found = vectors_of(directory, texts, pooling="mean", max_tokens=60, **half)
        assert (found * exact).sum(axis=1).min() > 0.995


def test_what_openvino_is_not_tried_with_runs_on_torch(plain_model):
    for architecture in OTHERS.keys() | {"gpt2", "mistral"}:
        assert architecture not in OPENVINO_ARCHITECTURES
        spec = spec_of(plain_model(architecture), "auto", pooling="mean")
        assert spec.placement.backend == "torch"


def test_deberta_with_a_table_of_positions_takes_no_more_than_it_has(plain_model, tmp_path):
    directory = Path(plain_model("deberta"))
    assert spec_of(directory, pooling="mean", max_tokens=500).tokenizer.max_tokens == 500
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    edit(tmp_path / "config.json", position_biased_input=True)
    with pytest.raises(ConfigError, match=r"max_tokens is 500, but .* has 64 positions"):
        spec_of(tmp_path, pooling="mean", max_tokens=500)


@pytest.mark.parametrize("architecture", ["gte", "nomic_bert"])
def test_architectures_that_once_came_with_code(architecture, plain_model, tmp_path):
    """Their directories name it still, and have the names that weights had in it."""
    directory = Path(plain_model(architecture))
    for file in directory.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    edit(tmp_path / "config.json", auto_map={"AutoModel": "modeling.Model"})
    with pytest.raises(ConfigError, match=r"auto_map names modeling\.Model as AutoModel: it needs"):
        spec_of(tmp_path, pooling="cls")
    found = vectors_of(tmp_path, SENTENCES, pooling="cls", ignore_auto_map=True)
    np.testing.assert_array_equal(found, vectors_of(directory, SENTENCES, pooling="cls"))


@pytest.mark.parametrize("backend", BOUNDS)
def test_a_t5_sentence_encoder(backend, sentence_model):
    torch.manual_seed(1)
    layer = Dense(32, 24, bias=False, activation_function=torch.nn.Identity())
    directory = exported(sentence_model("t5", dense=(layer,)))
    found = vectors_of(directory, TEXTS, backend=backend)
    np.testing.assert_allclose(
        found[: len(SENTENCES)], oracle(directory, SENTENCES), rtol=0, atol=BOUNDS[backend]
    )


def test_the_decoder_of_a_t5_model_is_left_out(tmp_path):
    tokenizer = make_tokenizer("unigram")
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
    T5Model(T5Config(vocab_size=len(tokenizer), pad_token_id=0, **sizes)).save_pretrained(tmp_path)
    found = vectors_of(tmp_path, SENTENCES, pooling="cls", max_tokens=MAX_TOKENS)
    model = T5EncoderModel.from_pretrained(tmp_path).eval()
    for text, vector in zip(SENTENCES, found, strict=True):
        ids = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt").input_ids
        with torch.no_grad():
            expected = model(input_ids=ids).last_hidden_state[0, 0].numpy()
        np.testing.assert_allclose(vector, expected, rtol=0, atol=2e-5)


TASK = "Instruct: find a fox\nQuery:"


def end_with(directory: Path, template: str) -> None:
    """Has a tokenizer put what a template says around its texts."""
    file = str(directory / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]") if name in template]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=ends)
    tokenizer.save(file)


@pytest.mark.parametrize("template", ["$A [SEP]", "[CLS] $A", "$A"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize(
    "architecture",
    [
        "qwen3",
        pytest.param("gpt2", marks=pytest.mark.soak),
        pytest.param("mistral", marks=pytest.mark.soak),
    ],
)
def test_decoders_pooled_at_the_last_token(architecture, side, template, sentence_model):
    """Texts that are cut keep the token at their end, and instructions come before them."""
    directory = Path(
        sentence_model(
            architecture,
            pooling="lasttoken",
            max_tokens=40,
            prompts={"query": TASK, "document": ""},
        )
    )
    end_with(directory, template)
    edit(directory / "tokenizer_config.json", padding_side=side)
    for name in ("query", "document"):
        found = vectors_of(directory, TEXTS, prompt_name=name)
        expected = oracle(directory, SENTENCES, prompt_name=name)
        np.testing.assert_allclose(found[: len(SENTENCES)], expected, rtol=0, atol=2e-5)
    spec = spec_of(directory)
    library = AutoTokenizer.from_pretrained(directory)
    long = library(SENTENCES[7], truncation=True, max_length=40).input_ids
    assert len(long) == 40
    assert batch_of(spec, [SENTENCES[7]]).input_ids.tolist() == long
    assert (long[-1] == library.sep_token_id) == template.endswith("[SEP]")


def test_a_decoder_without_a_token_for_fill(sentence_model):
    directory = Path(sentence_model("gpt2", pooling="lasttoken"))
    file = directory / "tokenizer_config.json"
    kept = json.loads(file.read_text())
    del kept["pad_token"]
    file.write_text(json.dumps(kept))
    model = SentenceTransformer(str(directory), device="cpu")
    assert model.tokenizer.pad_token is None
    # The library cannot do without, even for one text.
    model.tokenizer.pad_token = "[PAD]"
    found = vectors_of(directory, TEXTS)[: len(SENTENCES)]
    expected = model.encode(SENTENCES, batch_size=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)


def test_an_end_that_only_the_tokenizers_config_asks_for(sentence_model, caplog):
    """The library takes the tokenizer.json's word for it, and so do the vectors."""
    directory = Path(sentence_model("qwen3", pooling="lasttoken"))
    config = directory / "tokenizer_config.json"
    edit(config, add_eos_token=True, eos_token="[SEP]")
    spec_of(directory)
    assert "add_eos_token" not in caplog.text
    end_with(directory, "[CLS] $A")
    spec_of(directory)
    assert f"{config}: add_eos_token is true, but tokenizer.json puts no '[SEP]'" in caplog.text
    found = vectors_of(directory, SENTENCES)
    np.testing.assert_allclose(found, oracle(directory, SENTENCES), rtol=0, atol=2e-5)
