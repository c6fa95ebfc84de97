"""Compiled layers: as many graphs as kinds of layers, whatever the stream's length and rows."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModel

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.encoders.transformer.layers import repeated_layers
from embedkit.encoders.transformer.network import load_network
from embedkit.encoders.transformer.precision import to_precision
from embedkit.encoders.transformer.stream import attention
from embedkit.encoders.transformer.stream.attention import STREAM_ATTENTION, attention_of
from embedkit.encoders.transformer.stream.compiled import compile_layers, pays
from embedkit.encoders.transformer.stream.layout import streams
from embedkit.encoders.transformer.stream.network import StreamNetwork
from embedkit.vectors import TokenBatch

LONGEST = 64
SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
    "max_position_embeddings": 66,
}
MODELS = {
    "bert": ("BertConfig", SIZE, 1),
    "roberta": ("RobertaConfig", SIZE, 1),
    "distilbert": (
        "DistilBertConfig",
        {"dim": 32, "n_layers": 4, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100},
        1,
    ),
    # The first has no norm before it, and every third looks farther than its neighbours.
    "modernbert": (
        "ModernBertConfig",
        SIZE
        | {
            "num_hidden_layers": 6,
            "local_attention": 8,
            "global_attn_every_n_layers": 3,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
        3,
    ),
    "gpt2": (
        "GPT2Config",
        {
            "n_embd": 32,
            "n_layer": 4,
            "n_head": 4,
            "vocab_size": 100,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        1,
    ),
    "qwen3": ("Qwen3Config", SIZE | {"num_key_value_heads": 2, "head_dim": 8}, 1),
}
STREAMS = [
    # As many tokens as offsets, so that neither can be told from the other by its size.
    ([3, 9, 5], 17, 16),
    ([LONGEST, LONGEST, 20], 160, 16),
    ([1] * 50, 64, 64),
    ([40, 20, 4], 64, 32),
]


@pytest.fixture(autouse=True, scope="module")
def no_traces():
    """Keeps pytest from catching what torch notes of each compilation, which takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logging.getLogger("torch.__trace"), "propagate", True)
        yield


class Counting:
    """A backend that compiles nothing and keeps the graphs."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.GraphModule] = []

    def __call__(self, graph, inputs):
        self.graphs.append(graph)
        return graph.forward


def model_of(name: str) -> torch.nn.Module:
    config_name, settings, _ = MODELS[name]
    torch.manual_seed(0)
    config = getattr(transformers, config_name)(**settings)
    return AutoModel.from_config(config).eval().requires_grad_(False)


def run(
    model: torch.nn.Module, lengths: list[int], length: int, slots: int, longest: int = LONGEST
) -> torch.Tensor:
    ends = np.full(slots + 1, length, dtype=np.int32)
    ends[: len(lengths) + 1] = np.cumsum([0, *lengths])
    places = np.arange(length) - np.repeat(ends[:-1], np.diff(ends))
    offsets = torch.from_numpy(ends)
    with torch.inference_mode(), attention_of(model, STREAM_ATTENTION):
        output = model(
            input_ids=torch.arange(length)[None] % 90 + 5,
            position_ids=torch.from_numpy(places)[None],
            cu_seq_lens_q=offsets,
            cu_seq_lens_k=offsets,
            max_length_q=longest,
            max_length_k=longest,
            use_cache=False,
        )
    return output.last_hidden_state


def padded(model: torch.nn.Module, rows: int, width: int) -> torch.Tensor:
    ids = torch.arange(rows * width).reshape(rows, width) % 90 + 5
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.few(2)
def test_one_graph_for_each_kind_of_layer(name):
    model, backend = model_of(name), Counting()
    expected = [run(model, *stream) for stream in STREAMS]
    in_batches = padded(model, 3, 7)
    assert compile_layers(model, backend)
    first, *others = STREAMS
    assert torch.equal(run(model, *first), expected[0])
    assert len(backend.graphs) == MODELS[name][2]
    for stream, vectors in zip(others, expected[1:], strict=True):
        assert torch.equal(run(model, *stream), vectors)
    assert torch.equal(padded(model, 3, 7), in_batches)
    assert len(backend.graphs) == MODELS[name][2]


def test_float8_is_compiled_too():
    model, backend = model_of("bert"), Counting()
    to_precision(model, "float8")
    expected = [run(model, *stream) for stream in STREAMS]
    compile_layers(model, backend)
    for stream, vectors in zip(STREAMS, expected, strict=True):
        assert torch.equal(run(model, *stream), vectors)
    assert len(backend.graphs) == 1


@pytest.mark.parametrize(
    ("name", "precision", "gains"),
    [
        ("bert", "bfloat16", False),
        ("gpt2", "float32", False),
        ("bert", "float8", True),
        ("modernbert", "bfloat16", True),
        ("qwen3", "bfloat16", True),
    ],
)
def test_models_that_are_compiled_unasked(name, precision, gains):
    model = model_of(name)
    to_precision(model, precision)
    assert pays(model) == gains


@pytest.mark.parametrize(
    ("architecture", "layers"), [("qwen3", "-1"), ("albert", "-1"), ("qwen3", "1..2:sum")]
)
@pytest.mark.few(1)
def test_a_network_over_streams(architecture, layers, plain_model):
    wanted = {"backend": "torch", "device": "cpu", "precision": "float32"}
    wanted |= {"pooling": "mean", "max_tokens": 64, "layers": layers}
    spec = read_model(ModelConfig(model=plain_model(architecture), **wanted))
    network, backend = StreamNetwork(load_network(spec), spec), Counting()
    random = np.random.default_rng(5)
    calls = [
        TokenBatch.from_lists(
            random.integers(5, 60, size=size).tolist() for size in random.integers(1, 64, size=rows)
        )
        for rows in (1, 90, 7, 40)
    ]

    def vectors() -> list[torch.Tensor]:
        with torch.inference_mode():
            return [
                network(
                    *map(torch.from_numpy, (one.input_ids, one.places, one.offsets)), one.longest
                )
                for batch in calls
                for one in streams(batch, (1024, 256, 128), 64, spec.pad_id)
            ]

    expected = vectors()
    assert len({len(one) for one in expected}) > 1
    compile_layers(network.network.transformer, backend)
    assert all(map(torch.equal, vectors(), expected))
    assert len(backend.graphs) == 1


class Layer(torch.nn.Linear):
    def forward(self, hidden, **_):
        return super().forward(hidden)


def of_layers(layer: type[torch.nn.Module], *arguments: int) -> torch.nn.ModuleDict:
    layers = torch.nn.ModuleList(layer(*arguments) for _ in range(2))
    return torch.nn.ModuleDict({"layers": layers}).requires_grad_(False)


def test_models_do_not_use_up_each_others_graphs():
    limit = torch._dynamo.config.recompile_limit
    backends = [Counting() for _ in range(limit + 2)]
    offsets = torch.tensor([0, 16], dtype=torch.int32)
    for width, backend in enumerate(backends, 4):
        model = of_layers(Layer, width, width)
        compile_layers(model, backend)
        for layer in model["layers"]:
            layer(torch.ones(1, 16, width), cu_seq_lens_q=offsets, max_length_q=16)
    assert [len(backend.graphs) for backend in backends] == [1] * len(backends)


def test_the_layers_are_the_largest_list():
    model = model_of("bert")
    assert repeated_layers(model) == list(model.encoder.layer)
    assert not compile_layers(torch.nn.Linear(2, 2))


def ours(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.name.startswith("embedkit")]


def test_a_failure_is_said_once_and_all_layers_run_uncompiled(caplog):
    tries = []

    def failing(graph, inputs):
        tries.append(graph)
        raise FileNotFoundError("no compiler: g++\nand a page of it")

    model = model_of("bert")
    expected = [run(model, *stream) for stream in STREAMS]
    compile_layers(model, failing)
    with caplog.at_level(logging.WARNING, logger="embedkit"):
        for stream, vectors in zip(STREAMS, expected, strict=True):
            assert torch.equal(run(model, *stream), vectors)
    assert len(tries) == 1
    (said,) = ours(caplog)
    assert "the model's layers run uncompiled" in said
    assert "no compiler: g++" in said
    assert "\n" not in said


def test_a_layer_whose_code_depends_on_the_length_runs_uncompiled(caplog):
    class Odd(torch.nn.Module):
        def forward(self, hidden, **_):
            return hidden * 2 if hidden.shape[1] == 64 else hidden

    model = of_layers(Odd)
    compile_layers(model, Counting())
    offsets = torch.tensor([0, 64], dtype=torch.int32)
    with caplog.at_level(logging.WARNING, logger="embedkit"):
        for layer in model["layers"]:
            for length, total in ((64, 1024), (32, 256)):
                ends = {"cu_seq_lens_q": offsets * length // 64, "max_length_q": length}
                assert layer(torch.ones(1, length, 8), **ends).sum() == total
    (said,) = ours(caplog)
    assert "run uncompiled" in said
    assert "arguments" in said


def test_an_error_of_the_device_is_no_failure_to_compile():
    def broken(graph, inputs):
        def run(*_):
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        return run

    model = model_of("bert")
    compile_layers(model, broken)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=r"^CUDA error: an illegal memory access"):
            run(model, *STREAMS[0])


@pytest.mark.parametrize(
    ("name", "window"), [("bert", [-1, -1]), ("modernbert", [4, 4]), ("qwen3", [-1, 0])]
)
@pytest.mark.few(1)
def test_the_kernel_for_gpus_is_one_node_of_a_graph_for_all_longest_rows(name, window, monkeypatch):
    """Only traced here, as the kernel itself needs a GPU."""
    calls = []

    def traced(graph, inputs):
        calls.append([node.args for node in graph.graph.nodes if "_varlen" in str(node.target)])
        hidden = next(place for place, one in enumerate(inputs) if getattr(one, "ndim", 0) == 3)
        return lambda *arguments: (torch.zeros_like(arguments[hidden]),)

    monkeypatch.setattr(attention, "attend", attention._by_kernel)
    model = model_of(name).bfloat16()
    compile_layers(model, traced)
    for longest in (LONGEST, 512, 1024, 8192):
        for stream in STREAMS:
            run(model, *stream, longest)
    assert len(calls) == MODELS[name][2]
    assert all(isinstance(one, torch.fx.Node) for (args,) in calls for one in args[5:7])
    assert any(list(arguments[9]) == window for (arguments,) in calls)


_COMPILED = """
import sys

import torch
from torch._dynamo.utils import counters

from encoders.transformer.stream.test_compiled import STREAMS, model_of, run
from embedkit.encoders.transformer.stream.compiled import compile_layers

model = model_of(sys.argv[1])
expected = [run(model, *stream) for stream in STREAMS]
compile_layers(model)
for stream, vectors in zip(STREAMS, expected, strict=True):
    torch.testing.assert_close(run(model, *stream), vectors, rtol=0, atol=2e-5)
    torch._dynamo.config.error_on_recompile = True
print(counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"])
"""


@pytest.mark.soak
@pytest.mark.parametrize("name", ["bert", "modernbert", "qwen3"])
def test_generated_code_serves_the_next_process(name, tmp_path):
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    found = [
        subprocess.run(
            [sys.executable, "-c", _COMPILED, name],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for _ in range(2)
    ]
    kinds = str(MODELS[name][2])
    assert found == [[kinds, "0"], ["0", kinds]]
