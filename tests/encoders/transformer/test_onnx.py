"""ONNX files of a directory: which are taken, what is refused, and that they are the model."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx_models import export, exported
from safetensors.torch import load_file, save_file
from sentence_transformers.base.modules import Dense
from tiny_models import SENTENCES

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, query_config, read_model
from embedkit.encoders.transformer.onnx_graph import read_graph
from embedkit.errors import ConfigError, EncoderError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch


def read(directory, **settings):
    given = {"device": "cpu", "backend": "onnx", "pooling": "mean", "max_tokens": 24}
    return read_model(ModelConfig(model=str(directory), **given | settings))


def vectors_of(directory, **settings):
    spec = read(directory, **settings)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


def refused(directory, match, error=ConfigError, **settings):
    with pytest.raises(error, match=match) as raised:
        load_encoder(read(directory, **settings))
    assert "\n" not in str(raised.value)


@pytest.fixture
def model(plain_model, tmp_path) -> Path:
    return Path(shutil.copytree(exported(plain_model("bert")), tmp_path / "model"))


def external(file: Path, **changes: str) -> None:
    """Moves a file's weights into one beside it, and changes what it says of their places."""
    graph = onnx.load(file)
    data = f"{file.name}_data"
    onnx.save(graph, file, save_as_external_data=True, location=data, size_threshold=0)
    if changes:
        graph = onnx.load(file, load_external_data=False)
        for tensor in graph.graph.initializer[:1]:
            for entry in tensor.external_data:
                entry.value = changes.get(entry.key, entry.value)
        file.write_bytes(graph.SerializeToString())


def without_weights(model: Path) -> Path:
    (model / "model.safetensors").unlink()
    return model


def test_a_directory_with_an_onnx_file_alone(model, plain_model):
    expected = vectors_of(plain_model("bert"), backend="torch", precision="float32")
    spec = read(without_weights(model))
    assert spec.identity.weights == ("onnx/model.onnx",)
    assert spec.beside_onnx == ()
    assert spec.placement.backend == "onnxruntime" and spec.placement.precision == "float32"
    assert spec.description() == {
        "pooling": "mean",
        "onnx_file": "onnx/model.onnx",
        "onnx_precision": "float32",
    }
    np.testing.assert_allclose(vectors_of(model), expected, atol=2e-5)
    with pytest.raises(ConfigError, match=r"no model\.safetensors in it"):
        read(model, backend="torch")


def test_the_layers_behind_the_pooling_are_those_of_the_directory(sentence_model):
    torch.manual_seed(1)
    directory = Path(exported(sentence_model(dense=(Dense(32, 20),))))
    expected = vectors_of(directory, backend="torch", precision="float32")
    without_weights(directory)
    spec = read(directory)
    assert spec.identity.weights == ("onnx/model.onnx", "2_Dense/model.safetensors")
    np.testing.assert_allclose(vectors_of(directory), expected, atol=2e-5)


def test_auto_takes_no_onnx_file(model):
    assert read(model, backend="auto").placement.backend in ("openvino", "torch")


def test_another_file_is_another_recipe(model):
    spec = read(model)
    assert read(model, onnx_file="onnx/model.onnx") == spec
    other = onnx.load(model / "onnx/model.onnx")
    other.producer_name = "another"
    onnx.save(other, model / "onnx/model_O2.onnx")
    second = read(model, onnx_file="onnx/model_O2.onnx")
    assert second.identity.weights_hash != spec.identity.weights_hash
    plain = read(model, backend="torch")
    assert plain.identity.weights_hash != spec.identity.weights_hash
    assert "onnx_file" not in plain.description()


@pytest.mark.parametrize("place", ["model.onnx", "onnx/model.onnx"])
def test_where_exporters_write_it(model, place):
    (model / "onnx/model.onnx").rename(model / "moved")
    refused(model, r"no onnx/model\.onnx in it; export the model with optimum or")
    (model / "moved").rename(model / place)
    assert read(model).onnx_file == place


def test_others_are_named_where_the_usual_one_is_not_there(model):
    (model / "onnx/model.onnx").rename(model / "onnx/model_quantized.onnx")
    refused(model, r"there is onnx/model_quantized\.onnx: choose it with --onnx-file")
    assert read(model, onnx_file="onnx/model_quantized.onnx").onnx_file.endswith("quantized.onnx")
    refused(model, r"no onnx/x\.onnx in it; there is", onnx_file="onnx/x.onnx")


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "onnx/../../model.onnx"])
def test_a_file_outside_the_directory(model, name):
    shutil.copy(model / "onnx/model.onnx", model.parent)
    refused(model, "leads out of the model's directory", onnx_file=name)


def test_weights_in_a_file_of_their_own(model):
    expected = vectors_of(model)
    file = model / "onnx/model.onnx"
    external(file)
    spec = read(model)
    assert spec.identity.weights == ("onnx/model.onnx", "onnx/model.onnx_data")
    np.testing.assert_array_equal(vectors_of(model), expected)
    data = model / "onnx/model.onnx_data"
    content = bytearray(data.read_bytes())
    content[5] ^= 1
    data.write_bytes(content)
    assert read(model).identity.weights_hash != spec.identity.weights_hash
    with pytest.raises(EncoderError, match="the weights changed since the job was planned"):
        load_encoder(spec)
    data.unlink()
    refused(model, r"model\.onnx_data: named by model\.onnx but missing")


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("../../secret", "leads out of the model's directory"),
        ("/etc/passwd", "leads out of the model's directory"),
        ("a/../../../secret", "leads out of the model's directory"),
        ("..\\..\\secret", "leads out of the model's directory"),
        ("*/_ORT_MEM_ADDR_/*", "named by model.onnx but missing"),
        ("", "named by model.onnx but missing"),
    ],
)
def test_weights_outside_the_directory(model, location, said):
    (model.parent / "secret").write_bytes(bytes(10_000_000))
    external(model / "onnx/model.onnx", location=location)
    refused(without_weights(model), said)


def test_every_place_of_a_tensor_that_is_named_counts(model):
    file = model / "onnx/model.onnx"
    external(file)
    graph = onnx.load(file, load_external_data=False)
    graph.graph.initializer[0].external_data.add(key="location", value="../../secret")
    file.write_bytes(graph.SerializeToString())
    refused(model, "leads out of the model's directory")


def outside() -> TensorProto:
    tensor = TensorProto(data_type=TensorProto.FLOAT, dims=[1], name="stolen")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../secret")
    return tensor


def in_a_constant() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["x"], value=outside())
    return helper.make_model(helper.make_graph([node], "g", [], []))


def in_a_branch() -> onnx.ModelProto:
    inner = helper.make_graph([], "inner", [], [], initializer=[outside()])
    node = helper.make_node("If", ["c"], ["x"], then_branch=inner, else_branch=inner)
    return helper.make_model(helper.make_graph([node], "g", [], []))


def in_a_sparse_tensor() -> onnx.ModelProto:
    sparse = onnx.SparseTensorProto(values=outside(), dims=[4])
    return helper.make_model(helper.make_graph([], "g", [], [], sparse_initializer=[sparse]))


def in_a_function() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["x"], value=outside())
    opsets = [helper.make_opsetid("", 17)]
    function = helper.make_function("d", "f", [], ["x"], [node], opsets)
    return helper.make_model(helper.make_graph([], "g", [], []), functions=[function])


@pytest.mark.parametrize("make", [in_a_constant, in_a_branch, in_a_sparse_tensor, in_a_function])
def test_tensors_are_found_wherever_they_lie(make, tmp_path):
    onnx.save(make(), tmp_path / "model.onnx")
    assert read_graph(tmp_path / "model.onnx").locations == {"../../secret"}


def test_what_a_graph_is_read_for_is_what_the_onnx_library_reads(model):
    file = model / "onnx/model.onnx"
    external(file)
    graph = onnx.load(file, load_external_data=False).graph
    found = read_graph(file)
    assert found.operators == {node.op_type for node in graph.node}
    assert found.locations == {"model.onnx_data"}


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "it is empty"),
        (lambda data: data[:-100], "longer than what holds it"),
        (lambda data: b"\xff" * 200, "more than ten bytes|wire type"),
        (lambda data: b"version https://git-lfs.github.com/spec/v1\n", "not a whole ONNX file"),
        (lambda data: b"PK\x03\x04" + bytes(100), "not a whole ONNX file"),
    ],
    ids=["empty", "cut", "noise", "a pointer to the file", "a zip"],
)
def test_damaged_files(model, damage, said):
    file = model / "onnx/model.onnx"
    file.write_bytes(damage(file.read_bytes()))
    refused(model, said)


def test_graphs_within_graphs_without_end(tmp_path):
    data = b""
    for _ in range(200):
        # A graph of a node of an attribute that is the graph before.
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            length = len(data)
            size = bytes([length & 127 | 128, length >> 7 & 127 | 128, length >> 14])
            data = tag + size + data
    size = len(data)
    whole = b"\x3a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + data
    (tmp_path / "model.onnx").write_bytes(whole)
    with pytest.raises(ConfigError, match="graphs within graphs, more than 64 deep"):
        read_graph(tmp_path / "model.onnx")


def save_graph(model: Path, nodes: list, inputs: list, outputs: list, **more) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs, **more)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(made, model / "onnx/model.onnx")


def value(name: str, *shape: object, kind: int = TensorProto.INT64):
    return helper.make_tensor_value_info(name, kind, shape)


IDS = value("input_ids", "rows", "tokens")
HIDDEN = value("last_hidden_state", "rows", "tokens", 32, kind=TensorProto.FLOAT)


def test_operators_of_ones_own_are_never_loaded(model):
    node = helper.make_node("Evil", ["input_ids"], ["last_hidden_state"], domain="mine")
    save_graph(model, [node], [IDS], [HIDDEN])
    refused(without_weights(model), "onnxruntime cannot load it .*Evil")


def test_inputs_that_nobody_gives(model):
    node = helper.make_node("Identity", ["past_key_values.0.key"], ["last_hidden_state"])
    past = value("past_key_values.0.key", "rows", "tokens", 32, kind=TensorProto.FLOAT)
    save_graph(model, [node], [IDS, past], [HIDDEN])
    refused(model, r"takes past_key_values\.0\.key \(tensor\(float\)\), which is not given")


def test_a_fixed_shape(model):
    export(model, dynamic_axes=None)
    refused(model, "takes input_ids of the fixed shape 2 x 5; export it with dynamic axes")


def test_no_vector_for_each_token(model):
    node = helper.make_node("Cast", ["input_ids"], ["sentence_embedding"], to=TensorProto.FLOAT)
    pooled = value("sentence_embedding", "rows", 32, kind=TensorProto.FLOAT)
    save_graph(model, [node], [IDS], [pooled])
    refused(model, "gives sentence_embedding, none of which has a vector for each token")


def test_token_vectors_of_another_width(model):
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["numbers", "axis"], ["last_hidden_state"]),
    ]
    axis = helper.make_tensor("axis", TensorProto.INT64, [1], [2])
    narrow = value("last_hidden_state", "rows", "tokens", 1, kind=TensorProto.FLOAT)
    save_graph(model, nodes, [IDS], [narrow], initializer=[axis])
    refused(without_weights(model), r"gives vectors of 1 components \(expected 32\)")


def test_vectors_that_are_not_finite(model):
    file = model / "onnx/model.onnx"
    graph = onnx.load(file)
    for tensor in graph.graph.initializer:
        if tensor.name.endswith("LayerNorm.bias"):
            tensor.raw_data = np.full(32, np.nan, dtype=np.float32).tobytes()
    onnx.save(graph, file)
    refused(without_weights(model), "gives vectors of numbers that are not finite")


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (("input_ids", "attention_mask", "token_type_ids"), "token_embeddings"),
        (("attention_mask", "input_ids", "position_ids"), "hidden"),
    ],
)
def test_inputs_and_outputs_by_their_names(model, plain_model, inputs, output):
    expected = vectors_of(plain_model("bert"), backend="torch", precision="float32")
    export(model, inputs=inputs, output=output)
    np.testing.assert_allclose(vectors_of(without_weights(model)), expected, atol=2e-5)


def test_positions_that_do_not_begin_at_0(plain_model, tmp_path):
    directory = plain_model("roberta")
    expected = vectors_of(directory, backend="torch", precision="float32")
    model = Path(shutil.copytree(directory, tmp_path / "model"))
    export(model, inputs=("input_ids", "attention_mask", "position_ids"))
    np.testing.assert_allclose(vectors_of(without_weights(model)), expected, atol=2e-5)


def test_an_export_without_a_mask_is_found_out(model):
    export(model, inputs=("input_ids",))
    refused(model, "gives other vectors than the weights beside it")
    refused(without_weights(model), "gives other vectors than each text alone")


def test_ids_of_32_bits_and_vectors_of_16(model, plain_model):
    expected = vectors_of(plain_model("bert"), backend="torch", precision="float32")
    file = model / "onnx/model.onnx"
    loaded = onnx.load(file)
    graph = loaded.graph
    for one in graph.input:
        one.type.tensor_type.elem_type = TensorProto.INT32
    for node in graph.node:
        node.input[:] = [
            f"{name}_64" if name in ("input_ids", "attention_mask") else name for name in node.input
        ]
    wide = [
        helper.make_node("Cast", [one.name], [f"{one.name}_64"], to=TensorProto.INT64)
        for one in graph.input
    ]
    for number, node in enumerate(wide):
        graph.node.insert(number, node)
    (result,) = graph.output
    for node in graph.node:
        node.output[:] = ["full" if name == result.name else name for name in node.output]
    half = helper.make_node("Cast", ["full"], [result.name], to=TensorProto.FLOAT16)
    graph.node.append(half)
    result.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(loaded, file)
    np.testing.assert_allclose(vectors_of(without_weights(model)), expected, atol=2e-3)


def test_another_models_export_is_found_out(model):
    tensors = load_file(model / "model.safetensors")
    tensors["encoder.layer.1.output.dense.bias"] += torch.arange(32) / 100
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    refused(model, "gives other vectors than the weights beside it")


def test_a_quantized_file_is_near_enough(model, plain_model, caplog):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    name = "onnx/model_qint8.onnx"
    quantize_dynamic(model / "onnx/model.onnx", model / name, weight_type=QuantType.QInt8)
    spec = read(model, onnx_file=name)
    assert (spec.onnx_precision, read(model).onnx_precision) == ("quantized", "float32")
    assert spec.description()["onnx_precision"] == "quantized"
    caplog.set_level("INFO")
    exact = vectors_of(plain_model("bert"), backend="torch", precision="float32", normalize=True)
    found = vectors_of(model, onnx_file=name, normalize=True)
    assert "is of quantized precision: relative distance" in caplog.text
    assert 0.9 < (found * exact).sum(axis=1).min() < 0.9999


def test_weights_of_16_bits_are_near_enough(model, plain_model):
    file = model / "onnx/model.onnx"
    loaded = onnx.load(file)
    graph = loaded.graph
    nodes = []
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            half = onnx.numpy_helper.to_array(tensor).astype(np.float16)
            name = tensor.name
            tensor.CopyFrom(onnx.numpy_helper.from_array(half, f"{name}_16"))
            nodes.append(helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    for node in nodes:
        graph.node.insert(0, node)
    onnx.save(loaded, file)
    assert read(model).onnx_precision == "half"
    exact = vectors_of(plain_model("bert"), backend="torch", precision="float32")
    found = vectors_of(model)
    assert 0 < np.abs(found - exact).max() < 0.02 * np.abs(exact).max()


@pytest.mark.parametrize(
    "change",
    [{"offset": "999999999"}, {"length": "999999999"}, {"offset": "-4"}, {"length": "nothing"}],
)
def test_places_in_the_file_of_weights_that_are_not_there(model, change, capfd):
    external(model / "onnx/model.onnx", **change)
    refused(without_weights(model), "onnxruntime cannot load it")
    assert capfd.readouterr() == ("", "")


def test_a_version_of_onnx_that_onnxruntime_does_not_know(model):
    file = model / "onnx/model.onnx"
    loaded = onnx.load(file)
    loaded.ir_version = 99
    onnx.save(loaded, file)
    refused(model, r"onnxruntime cannot load it \(Unsupported model IR version: 99")


def test_a_row_that_is_not_finite_is_computed_again_by_torch(model, monkeypatch):
    from embedkit.encoders.transformer.onnx_network import OnnxTransformer

    def spoilt(self, input_ids, attention_mask):
        output = computed(self, input_ids, attention_mask)
        output.last_hidden_state[input_ids[:, 1] == first] = float("nan")
        return output

    spec = read(model)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    first = int(ids[1])
    encoder = load_encoder(spec)
    expected = encoder.encode(TokenBatch(ids, offsets))
    computed = OnnxTransformer.forward
    monkeypatch.setattr(OnnxTransformer, "forward", spoilt)
    np.testing.assert_allclose(encoder.encode(TokenBatch(ids, offsets)), expected, atol=2e-5)
    monkeypatch.undo()
    alone = load_encoder(read(without_weights(model)))
    monkeypatch.setattr(OnnxTransformer, "forward", spoilt)
    assert np.isnan(alone.encode(TokenBatch(ids, offsets))[0]).all()


def test_what_onnxruntime_cannot_compute(model, capfd):
    encoder = load_encoder(read(without_weights(model)))
    with pytest.raises(EncoderError, match="onnxruntime cannot compute 1 texts of up to 3 tokens"):
        encoder.encode(TokenBatch.from_lists([[1, 2_000, 2]]))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"layers": "-2"}, "layers is -2, but an ONNX file gives its last layer alone"),
        ({"device": "cuda"}, "backend onnx runs on cpu"),
        ({"precision": "bfloat16"}, "precision is bfloat16, but backend onnx computes as its"),
    ],
)
def test_settings_that_it_does_not_have(model, settings, said):
    refused(model, said, **settings)


def test_onnxruntime_that_is_not_installed(model, monkeypatch):
    import importlib.metadata

    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    refused(model, "install onnxruntime, which is the extra onnx of embedkit-batch")


def test_the_threads_are_those_that_are_asked_for(model, monkeypatch):
    import onnxruntime

    made = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, file, options, **settings):
            made.append((options.intra_op_num_threads, options.inter_op_num_threads, settings))
            super().__init__(file, options, **settings)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    load_encoder(read(model, encoder_threads=3))
    assert made == [(3, 1, {"providers": ["CPUExecutionProvider"]})]


@pytest.mark.parametrize(
    ("settings", "fetched"),
    [
        ({}, ["onnx/model.onnx", "onnx/model.onnx_data", "model.onnx"]),
        ({"onnx_file": "onnx/model_O2.onnx"}, ["onnx/model_O2.onnx"]),
        ({"backend": "torch"}, []),
    ],
)
def test_the_hub_is_asked_for_the_file_and_its_weights(monkeypatch, settings, fetched):
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    names = ["onnx/model.onnx", "onnx/model.onnx_data", "onnx/model_O2.onnx", "model.onnx"]

    def download(name, revision, allow_patterns, ignore_patterns):
        settled = {"allow_patterns": allow_patterns, "ignore_patterns": ignore_patterns}
        asked.extend(filter_repo_objects(names, **settled))
        raise OSError("enough")

    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    refused("house/model", "the hub could not be read", **settings)
    assert asked == fetched


def test_queries_are_encoded_by_the_same_file(model):
    spec = read(without_weights(model))
    described = {"max_tokens": 24, "normalized": True, "dimension": 32, **spec.description()}
    again = read_model(query_config(str(model), described))
    assert again.identity == spec.identity
    assert again.placement.backend == "onnxruntime"
