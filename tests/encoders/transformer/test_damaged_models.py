"""Model directories that cannot be used end as one line that says why, and run no code."""

import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Dense

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.errors import ConfigError, EncoderError
from embedkit.vectors import TokenBatch

pytestmark = pytest.mark.few(6)


@pytest.fixture
def model(sentence_model, tmp_path) -> Path:
    return Path(shutil.copytree(sentence_model(dense=(Dense(32, 8),)), tmp_path / "model"))


def read(directory, **settings):
    config = {"device": "cpu", "backend": "torch", "precision": "float32"} | settings
    return read_model(ModelConfig(model=str(directory), **config))


def fails(directory, match, **settings):
    with pytest.raises(ConfigError, match=match) as raised:
        read(directory, **settings)
    assert "\n" not in str(raised.value)


def fails_to_load(spec, error, match):
    with pytest.raises(error, match=match) as raised:
        load_encoder(spec)
    assert "\n" not in str(raised.value)


def edit(file, **changes):
    content = json.loads(file.read_text()) if file.is_file() else {}
    file.write_text(json.dumps(content | changes))


def edit_module(model, number, **changes):
    file = model / "modules.json"
    modules = json.loads(file.read_text())
    modules[number] |= changes
    file.write_text(json.dumps(modules))


def test_only_a_pickle(model):
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    fails(model, r"pytorch_model\.bin: a pickle could run code, so only safetensors are read")


def test_only_a_pickle_of_a_dense_layer(model):
    (model / "2_Dense" / "model.safetensors").rename(model / "2_Dense" / "pytorch_model.bin")
    fails(model, r"2_Dense/pytorch_model\.bin: a pickle could run code")


def test_no_weights(model):
    (model / "model.safetensors").unlink()
    fails(model, "no model.safetensors in it")


@pytest.mark.parametrize("damage", [lambda data: data[:-1000], lambda data: b"\0" * 100])
def test_damaged_weights(model, damage):
    file = model / "model.safetensors"
    file.write_bytes(damage(file.read_bytes()))
    fails(model, "model.safetensors: not a whole safetensors file")


def test_sharded_weights(model):
    whole = read(model)
    tensors = load_file(model / "model.safetensors")
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, members in shards.items():
        metadata = {"format": "pt"}
        save_file({name: tensors[name] for name in members}, model / shard, metadata=metadata)
    (model / "model.safetensors").unlink()
    weight_map = {name: shard for shard, members in shards.items() for name in members}
    index = {"metadata": {}, "weight_map": weight_map}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    spec = read(model)
    assert spec.identity.weights == ("a.safetensors", "b.safetensors", "2_Dense/model.safetensors")
    assert spec.identity.weights_hash != whole.identity.weights_hash
    batch = TokenBatch.from_lists([[2, 5, 6, 3], [2, 9, 3]])
    vectors = load_encoder(spec).encode(batch)
    shutil.rmtree(model)
    assert vectors.shape == (2, 8)


def test_a_missing_shard(model):
    (model / "model.safetensors").unlink()
    index = {"weight_map": {"x": "gone.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    fails(model, "gone.safetensors: named by model.safetensors.index.json but missing")


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a\\b"])
def test_a_shard_outside(model, name):
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
    fails(model, "leads out of the model's directory")


def test_a_module_outside(model):
    edit_module(model, 1, path="../elsewhere")
    fails(model, "'../elsewhere' leads out of the model's directory")


def test_missing_tensors(model):
    tensors = load_file(model / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if "layer.1" not in name}
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    fails_to_load(read(model), ConfigError, "the weights lack .*, which would be random")


def test_tensors_of_another_shape(model):
    edit(model / "config.json", intermediate_size=48)
    fails_to_load(read(model), ConfigError, "the weights lack encoder.* and shape")


def test_a_way_to_save_memory_costs_no_text(model):
    batch = TokenBatch.from_lists([[2, 5, 6, 3], [2, 9, 3]])
    before = load_encoder(read(model)).encode(batch)
    edit(model / "config.json", chunk_size_feed_forward=3)
    assert np.array_equal(load_encoder(read(model)).encode(batch), before)


def test_a_missing_pooler_does_not_matter(model):
    tensors = load_file(model / "model.safetensors")
    kept = {name: value for name, value in tensors.items() if not name.startswith("pooler")}
    assert len(kept) < len(tensors)
    save_file(kept, model / "model.safetensors", metadata={"format": "pt"})
    load_encoder(read(model))


def test_weights_that_change_under_a_job(model):
    spec = read(model)
    tensors = load_file(model / "model.safetensors")
    save_file({k: v + 1 for k, v in tensors.items()}, model / "model.safetensors", {"format": "pt"})
    fails_to_load(spec, EncoderError, "the weights changed since the job was planned")
    (model / "model.safetensors").unlink()
    fails_to_load(spec, EncoderError, "model.safetensors: missing")


def test_an_unknown_architecture(model):
    edit(model / "config.json", model_type="unheard_of")
    fails(model, "model type 'unheard_of' cannot be used")


def test_an_architecture_that_is_no_text_encoder(model):
    edit(model / "config.json", model_type="timm_wrapper")
    fails(model, "cannot be used|no hidden_size")


def test_foreign_code_does_not_run(model, tmp_path):
    ran = tmp_path / "ran"
    (model / "evil.py").write_text(f"open({str(ran)!r}, 'w').close()")
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    edit(model / "config.json", model_type="evil", auto_map=auto_map)
    fails(model, "it needs code from its directory, which never runs")
    edit(model / "config.json", model_type="bert")
    fails(model, "auto_map names evil.Config as AutoConfig: it needs code from its directory")
    spec = read(model, ignore_auto_map=True)
    load_encoder(spec)
    assert spec.ignored_code == ("AutoConfig=evil.Config", "AutoModel=evil.Model")
    edit_module(model, 0, type="evil.Transformer")
    fails(model, r"module evil\.Transformer is not supported, and no code of a model directory")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("name", "auto_map"),
    [
        ("config.json", {"AutoModel": "modeling.Model"}),
        ("config.json", {"AutoModelForTextEncoding": "hub/other--modeling.Model"}),
        ("config.json", {"AutoConfig": "configuration.Config"}),
        ("tokenizer_config.json", {"AutoTokenizer": [None, "tokenization.Fast"]}),
        ("tokenizer_config.json", ["tokenization.Slow", None]),
    ],
)
def test_classes_of_a_directory_are_not_replaced_unasked(model, name, auto_map):
    plain = read(model)
    edit(model / name, auto_map=auto_map)
    fails(model, f"{name}: auto_map names .* needs code from its directory, which never runs")
    spec = read(model, ignore_auto_map=True)
    (said,) = spec.ignored_code
    assert spec.vector_ingredients()["ignored_code"] == said
    assert "ignored_code" not in plain.vector_ingredients()


@pytest.mark.parametrize(
    "auto_map", [{}, {"AutoTokenizer": [None, None]}, {"AutoModelForMaskedLM": "heads.Model"}]
)
def test_heads_of_a_directory_are_not_loaded_anyway(model, auto_map):
    edit(model / "config.json", auto_map=auto_map)
    assert read(model).ignored_code == ()
    assert (
        read(model, ignore_auto_map=True).vector_ingredients() == read(model).vector_ingredients()
    )


def test_an_auto_map_of_another_type(model):
    edit(model / "config.json", auto_map="modeling.Model")
    fails(model, "auto_map is no object")


@pytest.mark.parametrize("kind", ["custom_st.Transformer", "modeling.Transformer", "os.system"])
def test_modules_from_elsewhere(model, kind):
    edit_module(model, 0, type=kind)
    fails(model, f"module {kind} is not supported, and no code of a model directory runs")
    fails(model, f"module {kind} is not supported", ignore_auto_map=True)


DEEP = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.mark.parametrize(
    "name",
    [
        "config.json", "modules.json", "tokenizer_config.json", "tokenizer.json",
        "1_Pooling/config.json", "2_Dense/config.json", "config_sentence_transformers.json",
        "sentence_bert_config.json",
    ],
)  # fmt: skip
def test_files_nested_deep(model, name):
    (model / name).write_text(DEEP)
    if name == "tokenizer.json":
        fails(model, "the tokenizer cannot be read")
    else:
        fails(model, f"{name}: nested too deep|the tokenizer cannot be read")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "x/y.json"])
def test_files_that_never_end(model, name):
    file = model / name
    file.parent.mkdir(exist_ok=True)
    file.unlink(missing_ok=True)
    os.mkfifo(file)
    fails(model, f"{name}: not a regular file")
    file.unlink()
    file.symlink_to("/dev/zero")
    fails(model, f"{name}: not a regular file")


def test_files_that_are_far_too_large(model):
    with (model / "special_tokens_map.json").open("wb") as file:
        file.truncate(1 << 40)
    fails(model, r"special_tokens_map\.json: 1,099,511,627,776 bytes are too many")


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 0}, {"num_attention_heads": "4"}, {"pad_token_id": 10**12},
        {"pad_token_id": "x"}, {"vocab_size": "many"}, {"vocab_size": 10**12}, {"vocab_size": None},
        {"max_position_embeddings": {"a": 1}}, {"max_position_embeddings": 10**9},
        {"hidden_act": 7}, {"hidden_act": "unheard_of"}, {"layer_norm_eps": "x"},
        {"num_hidden_layers": 10**9}, {"num_hidden_layers": -1.5}, {"hidden_size": 0},
        {"hidden_size": -32}, {"hidden_size": 10**9}, {"intermediate_size": 10**12},
        {"type_vocab_size": 10**11}, {"model_type": ["bert"]}, {"model_type": 10**400},
        {"hidden_dropout_prob": []}, {"auto_map": 7}, {"num_labels": "x"}, {"torch_dtype": "x"},
    ],
    ids=str,
)  # fmt: skip
def test_numbers_that_make_no_model(model, changes):
    edit(model / "config.json", **{key: str(value) if value == 10**400 else value
                                   for key, value in changes.items()})  # fmt: skip
    try:
        load_encoder(read(model))
    except ConfigError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 1000
    else:
        assert {*changes} <= {"num_labels", "torch_dtype", "hidden_dropout_prob"}


def test_tokenizers_of_strangers(model):
    edit(model / "tokenizer_config.json", unk_token="")
    fails(model, "the tokenizer cannot be read")
    edit(model / "tokenizer_config.json", unk_token="[UNK]")
    read(model)
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["max_input_chars_per_word"] = 10**9
    file.write_text(json.dumps(content))
    fails(model, "max_input_chars_per_word is 1,000,000,000")


_BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}


def _replaced(content: str) -> dict[str, object]:
    return {"type": "Replace", "pattern": {"String": "a"}, "content": content}


@pytest.mark.parametrize(
    ("part", "changes", "said"),
    [
        ("normalizer", _replaced("b" * 1_000_000), "more than 64 times as long"),
        ("normalizer", {"type": "Sequence", "normalizers": [_replaced("aa")] * 30}, "64 times"),
        ("normalizer", {"type": "Prepend", "prepend": "b " * 1_000_000}, "64 times"),
        ("normalizer", _replaced("bbb"), None),
        ("pre_tokenizer", {"type": "Sequence", "pretokenizers": [_BYTES] * 40}, "64 times"),
        ("pre_tokenizer", _BYTES, None),
        ("model", {"unk_token": "[NOPE]"}, "lacks its own token for unknown words, '.NOPE.'"),
        ("model", {"continuing_subword_prefix": "#" * 1_000_000}, "has 1,000,000 characters"),
    ],
)
def test_tokenizers_that_make_much_of_a_text(model, part, changes, said):
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    content[part] = (content[part] or {}) | changes
    file.write_text(json.dumps(content))
    if said is None:
        read(model)
    else:
        fails(model, said)


def test_special_tokens_that_the_model_does_not_know(model):
    file = model / "tokenizer.json"
    content = json.loads(file.read_text())
    for token in content["post_processor"]["special_tokens"].values():
        token["ids"] = [1 << 31]
    file.write_text(json.dumps(content))
    fails(model, "the tokenizer has ids up to 2147483648, but the model knows only")


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_more_added_tokens_than_can_be_loaded(model, name):
    token = {"content": "<t>", "single_word": False}
    edit(model / name, added_tokens=[token] * 100_001)
    fails(model, f"{name}: 100,0.. added tokens")


def header(content: object, length: int | None = None) -> bytes:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return (len(data) if length is None else length).to_bytes(8, "little") + data


def tensor(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 7, header({}, 1 << 62), header({}, 99),
        header({"a": tensor(offsets=(0, 800))}) + b"\0" * 8,
        header({"a": tensor(offsets=(8, 0))}) + b"\0" * 8,
        header({"a": tensor(shape=(-2,))}) + b"\0" * 8,
        header({"a": tensor(dtype="F99")}) + b"\0" * 8,
        header({"a": tensor(shape=(2**40, 2**40))}) + b"\0" * 8,
        header({"a": tensor(), "b": tensor()}) + b"\0" * 8,
        header(DEEP.encode()), header(b"\xff\xfe"), header([1]), header({"a": 1}),
    ],
)  # fmt: skip
def test_headers_of_weights_that_lie(model, data):
    (model / "model.safetensors").write_bytes(data)
    fails(model, "model.safetensors: not a whole safetensors file")


def test_modules_out_of_place(model):
    edit_module(model, 1, type="sentence_transformers.models.Normalize", path="3_Normalize")
    edit_module(model, 3, type="sentence_transformers.models.Pooling", path="1_Pooling")
    fails(model, "Transformer, Normalize, Dense, Pooling; expected Transformer, Pooling, and any")


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize(
    "kind",
    ["BoW", "CNN", "LSTM", "WeightedLayerPooling", "WordEmbeddings", "WordWeights"],
)
def test_modules_that_are_not_supported(model, kind, place):
    edit_module(model, place, type=f"sentence_transformers.models.{kind}")
    fails(
        model,
        f"{kind} is not supported, and no code of a model directory runs; expected Asym, Dense",
    )


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        ("torch.nn.modules.activation.Tanh", None),
        ("os.system", "activation_function: os.system is not allowed"),
        ("torch.nn.modules.sparse.Embedding", "is not allowed"),
        ("torch.hub.load", "is not allowed"),
    ],
)
def test_activations_come_from_a_list(model, activation, message):
    edit(model / "2_Dense" / "config.json", activation_function=activation)
    if message:
        fails(model, message)
    else:
        assert read(model).dense[0].activation == "Tanh"


def test_dense_layers_that_do_not_fit(model):
    edit(model / "2_Dense" / "config.json", out_features=9)
    fails(model, r"linear.weight has shape \(8, 32\), but config.json says \(9, 32\)")
    edit(model / "2_Dense" / "config.json", out_features=8)
    edit(model / "1_Pooling" / "config.json", pooling_mode=["mean", "max"])
    fails(model, "takes 32 components, but gets 64")


def test_dense_layers_of_something_else(model):
    edit(model / "2_Dense" / "config.json", module_input_name="token_embeddings")
    fails(
        model, "module_input_name: Input should be 'sentence_embedding', found 'token_embeddings'"
    )


def test_a_dense_layer_without_its_bias(model):
    file = model / "2_Dense" / "model.safetensors"
    save_file({"linear.weight": load_file(file)["linear.weight"]}, file)
    fails_to_load(read(model), ConfigError, "not the weights of its config.json")


@pytest.mark.parametrize(
    "name", ["config.json", "modules.json", "1_Pooling/config.json", "2_Dense/config.json"]
)
def test_files_that_are_no_json(model, name):
    (model / name).write_text("{")
    fails(model, f"{name}: not JSON")


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "2_Dense/config.json"])
def test_files_that_are_missing(model, name):
    (model / name).unlink()
    fails(model, f"{name}: cannot be read")


@pytest.mark.parametrize("name", ["config.json", "1_Pooling/config.json", "2_Dense/config.json"])
def test_files_that_hold_something_else(model, name):
    (model / name).write_text("[1]")
    fails(model, f"{name}: expected a JSON dict, found a list")
    (model / name).write_text("{}")
    if name != "1_Pooling/config.json":
        fails(model, name)


def test_no_tokenizer(model):
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).unlink()
    fails(model, "no tokenizer in it")


def test_a_tokenizer_with_more_ids_than_the_model(model):
    edit(model / "config.json", vocab_size=50)
    fails(model, "the model knows only 50 of them")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"transformer_task": "fill-mask"},
            "transformer_task: Input should be 'feature-extraction', found 'fill-mask'",
        ),
        ({"config_args": {"is_decoder": True}}, "config_args: is_decoder is not supported"),
        ({"modality_config": {"text": {"method": "get_text_features"}}}, "modality_config"),
        ({"modality_config": {"message": {}}}, "modality_config"),
    ],
)
def test_transformers_that_are_driven_in_another_way(model, settings, message):
    edit(model / "sentence_bert_config.json", **settings)
    fails(model, message)


def test_quantized_weights_and_other_kinds_of_models(model):
    edit(model / "config_sentence_transformers.json", model_type="CrossEncoder")
    fails(model, "model_type: Input should be 'SentenceTransformer', found 'CrossEncoder'")
    edit(model / "config_sentence_transformers.json", model_type="SentenceTransformer")
    edit(model / "config.json", quantization_config={"quant_method": "gptq"})
    fails(model, "quantized weights are not supported")


def test_a_model_that_openvino_gets_wrong_is_refused(model, monkeypatch):
    from embedkit.encoders.transformer import openvino_making

    real = openvino_making._with_torch
    monkeypatch.setattr(openvino_making, "_with_torch", lambda *given: real(*given) + 0.5)
    spec = read(model, backend="openvino")
    fails_to_load(spec, ConfigError, "converted to OpenVINO, bert gives other vectors")


def test_a_model_that_openvino_cannot_convert_is_refused(model, monkeypatch):
    from embedkit.encoders.transformer import pooling

    def unheard_of(hidden, mask):
        return torch.linalg.eigvals(hidden[:, :1].mT @ hidden[:, :1]).real

    monkeypatch.setitem(pooling._POOLERS, "mean", unheard_of)
    spec = read(model, backend="openvino")
    root = logging.getLogger()
    before = root.level, list(root.filters), list(root.handlers)
    fails_to_load(spec, ConfigError, "bert cannot be converted to OpenVINO .* take backend torch")
    assert (root.level, root.filters, root.handlers) == before
