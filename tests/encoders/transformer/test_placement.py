"""What a transformer runs on, by what the job asks for and the GPU that its machine has."""

import sys

import pytest

from embedkit.config import ModelConfig
from embedkit.encoders.hardware import Gpu, Machine
from embedkit.encoders.spec import Placement
from embedkit.encoders.transformer import placement
from embedkit.encoders.transformer.placement import choose_placement
from embedkit.errors import ConfigError

NEW, OLD = Gpu(has_bf16=True), Gpu(has_bf16=False)
NEWEST = Gpu(has_bf16=True, has_float8=True)


def never():
    raise AssertionError("asked for a GPU that cannot matter")


def placed(find_gpu, is_here=True, **wishes) -> Placement:
    machine = Machine(find_gpu, is_here)
    return choose_placement(ModelConfig(model="m", **wishes), "bert", machine)


@pytest.mark.parametrize(
    ("gpu", "wishes", "precision"),
    [
        (NEW, {}, "bfloat16"),
        (OLD, {}, "float32"),
        (NEW, {"device": "cuda"}, "bfloat16"),
        (OLD, {"device": "cuda", "precision": "float16"}, "float16"),
        (NEW, {"backend": "torch", "precision": "float32"}, "float32"),
        (NEWEST, {}, "bfloat16"),
        (NEWEST, {"precision": "float8"}, "float8"),
    ],
)
def test_a_gpu_is_taken_where_there_is_one(gpu, wishes, precision):
    found = placed(lambda: gpu, batch_tokens=77, encoder_threads=3, **wishes)
    assert found == Placement("torch", "cuda", precision, batch_tokens=77, threads=3)
    assert placed(lambda: gpu, **wishes).batch_tokens > placed(never, device="cpu").batch_tokens


@pytest.mark.parametrize(
    ("gpu", "wishes", "can_stream", "reason"),
    [
        (NEW, {}, True, None),
        (NEW, {"precision": "float16"}, True, None),
        (NEWEST, {"precision": "float8"}, True, None),
        (NEW, {}, False, "model type bert attends in a way of its own"),
        (NEW, {"precision": "float32"}, True, "FlashAttention has no float32"),
        (OLD, {"precision": "float16"}, True, "needs a GPU of compute capability 8.0"),
    ],
)
def test_a_gpu_does_without_padding_where_it_can(gpu, wishes, can_stream, reason, caplog):
    caplog.set_level("INFO", logger="embedkit")
    machine = Machine(lambda: gpu)
    found = choose_placement(ModelConfig(model="m", **wishes), "bert", machine, can_stream)
    assert found.unpadded == (reason is None)
    said = [one.getMessage() for one in caplog.records]
    assert (said == []) if reason is None else (len(said) == 1 and reason in said[0])


def test_a_torch_without_the_kernel_computes_padded_batches(monkeypatch, caplog):
    caplog.set_level("INFO", logger="embedkit")
    monkeypatch.setitem(sys.modules, "torch.nn.attention.varlen", None)
    monkeypatch.delattr("torch.nn.attention.varlen", raising=False)
    machine = Machine(lambda: NEW)
    assert not choose_placement(ModelConfig(model="m"), "bert", machine, can_stream=True).unpadded
    assert "this torch has no varlen_attn" in caplog.text


@pytest.mark.parametrize(
    "wishes",
    [
        {"device": "cpu", "backend": "torch", "precision": "float32"},
        {"backend": "openvino", "precision": "float32"},
        {"backend": "openvino", "device": "cpu", "precision": "float32"},
    ],
)
def test_a_gpu_is_not_looked_for_where_it_cannot_matter(wishes):
    found = placed(never, **wishes)
    assert (found.device, found.backend) == ("cpu", wishes["backend"])


@pytest.mark.parametrize(
    ("gpu", "wishes", "problem"),
    [
        (NEW, {}, "needs a GPU of compute capability 8.9 to 11, .*; take precision bfloat16"),
        (OLD, {"device": "cuda"}, "needs a GPU of compute capability 8.9 to 11"),
        (None, {"backend": "torch"}, "needs a GPU of compute capability 8.9 to 11"),
        (None, {}, "needs a GPU of compute capability 8.9 to 11"),
        (NEWEST, {"device": "cpu"}, "needs a GPU of compute capability 8.9 to 11"),
        (NEWEST, {"backend": "openvino"}, "backend openvino has no float8 on cpu; take bfloat16"),
    ],
)
def test_float8_is_refused_where_there_is_none(gpu, wishes, problem):
    with pytest.raises(ConfigError, match=problem):
        placed(lambda: gpu, precision="float8", **wishes)


@pytest.mark.parametrize(
    ("gpu", "wishes", "runs"),
    [
        (NEW, {}, "torch is to run the model on cuda"),
        (NEW, {"device": "cuda"}, "torch is to run the model on cuda"),
        (None, {"backend": "torch"}, "torch is to run the model on cpu"),
        (None, {"backend": "onnx"}, "onnxruntime is to run the model on cpu"),
    ],
)
def test_int8_is_refused_where_there_is_none(gpu, wishes, runs):
    with pytest.raises(ConfigError, match=f"precision is int8, .*{runs}; give --backend openvino"):
        placed(lambda: gpu, precision="int8", **wishes)


@pytest.mark.parametrize(
    ("flags", "most", "slow"),
    [
        ("avx2 fma", "", True),
        ("avx2 avx_vnni", "", False),
        ("avx512f avx512_vnni", "", False),
        ("avx512f avx512_vnni", "AVX512_CORE", True),
    ],
)
def test_int8_on_a_processor_without_units_for_it_is_said_to_be_slow(
    flags, most, slow, monkeypatch, caplog
):
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", most)
    monkeypatch.setattr(placement, "processor_abilities", lambda: f"Some CPU: {flags}")
    for wishes in ({}, {"backend": "openvino"}):
        found = placed(lambda: None, precision="int8", **wishes)
        assert (found.backend, found.device, found.precision) == ("openvino", "cpu", "int8")
    assert ("no units for products of int8" in caplog.text) == slow


def test_without_a_gpu_the_cpu_is_taken_unless_one_is_asked_for():
    assert placed(lambda: None, precision="float32").device == "cpu"
    assert not placed(lambda: None, precision="float32").unpadded
    with pytest.raises(ConfigError, match="device is cuda, but torch finds no CUDA device here"):
        placed(lambda: None, device="cuda")
    with pytest.raises(ConfigError, match="backend openvino runs on cpu"):
        placed(never, device="cuda", backend="openvino")


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_a_processor_that_cannot_be_asked_computes_in_float32_unless_it_is_told(
    backend, monkeypatch
):
    def ask():
        raise AssertionError("asked this machine's processor about another's")

    monkeypatch.setattr(placement, "_torch_has_bf16", ask)
    monkeypatch.setattr(placement, "openvino_has_bf16", ask)
    monkeypatch.setattr(placement, "_warn_of_slow_int8", ask)
    elsewhere = placed(lambda: None, is_here=False, backend=backend)
    assert (elsewhere.device, elsewhere.precision) == ("cpu", "float32")
    asked = placed(lambda: None, is_here=False, backend=backend, precision="bfloat16")
    assert asked.precision == "bfloat16"
    if backend == "openvino":
        rounded = placed(lambda: None, is_here=False, backend=backend, precision="int8")
        assert rounded.precision == "int8"
    assert placed(lambda: NEW, is_here=False, backend="torch").precision == "bfloat16"
