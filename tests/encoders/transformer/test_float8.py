"""Linear layers in float8, against products in float64 of the values that float8 leaves."""

import numpy as np
import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForTextEncoding

from embedkit.encoders.transformer import float8
from embedkit.encoders.transformer.float8 import (
    FORMAT,
    Float8Linear,
    check_device,
    scaled_rows,
)
from embedkit.encoders.transformer.precision import to_precision
from embedkit.errors import ConfigError


def e4m3_values() -> np.ndarray:
    """All values of e4m3 by its definition: 4 bits of exponent, bias 7, and 3 of fraction."""
    values = {
        fraction / 8 * 2.0**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7)
        for exponent in range(16)
        for fraction in range(8)
        if (exponent, fraction) != (15, 7)
    }
    return np.array(sorted(values | {-value for value in values}))


def nearest(values: np.ndarray) -> np.ndarray:
    """The nearest values of e4m3, by looking at all of them."""
    known = e4m3_values()
    return known[np.abs(values[..., None] - known).argmin(axis=-1)]


def of_integers(rows: int, width: int, seed: int) -> torch.Tensor:
    """Whole numbers that float8 holds exactly, with 448 in each row, which makes the scale 1."""
    values = torch.randint(-16, 17, (rows, width), generator=torch.Generator().manual_seed(seed))
    values[:, 0] = 448
    return values.float()


def linear_of(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.data = weight
    if bias is not None:
        linear.bias.data = bias
    return linear


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("shape", [(1,), (5,), (2, 3), (1, 40)])
def test_products_are_exact_where_float8_is(shape, with_bias):
    weight = of_integers(32, 48, seed=1)
    bias = torch.arange(32).float() if with_bias else None
    hidden = of_integers(int(np.prod(shape)), 48, seed=2)
    exact = hidden.double() @ weight.double().T + (0 if bias is None else bias.double())
    found = Float8Linear(linear_of(weight, bias))(hidden.bfloat16().view(*shape, 48))
    assert found.dtype == torch.bfloat16
    assert torch.equal(found, exact.to(torch.bfloat16).view(*shape, 32))


@pytest.mark.parametrize("magnitude", [1e-30, 1e-3, 1.0, 3e4])
def test_products_of_rounded_values(magnitude):
    random = torch.Generator().manual_seed(3)
    weight = torch.randn(64, 384, generator=random) * torch.logspace(-3, 3, 64)[:, None]
    hidden = (torch.randn(20, 384, generator=random) * magnitude).bfloat16()
    linear = Float8Linear(linear_of(weight))
    rows, scales = scaled_rows(hidden)
    outputs = linear.weight.double() * linear.scales.double().T
    exact = (rows.double() * scales.double()) @ outputs.T
    # Of rounding to bfloat16, and of sums in float32 of 384 products that cancel.
    bound = exact.abs() * 2**-8 + (rows.double() * scales).abs() @ outputs.abs().T * 2**-20
    assert ((linear(hidden).double() - exact).abs() <= bound).all()
    true = hidden.double() @ weight.double().T
    near = torch.nn.functional.cosine_similarity(
        linear(hidden).double() / magnitude, true / magnitude
    )
    assert near.min() > 0.995


@pytest.mark.parametrize("with_bias", [True, False])
def test_torchs_own_product_is_what_is_emulated(with_bias):
    """The call for tensor cores, which torch answers on a CPU as well."""
    torch.manual_seed(8)
    linear = Float8Linear(nn.Linear(64, 48, bias=with_bias).requires_grad_(False))
    rows, scales = scaled_rows(torch.randn(20, 64).bfloat16())
    arguments = (rows, linear.weight.t(), scales, linear.scales, linear.bias)
    found, emulated = float8._by_tensor_cores(*arguments), float8._in_float32(*arguments)
    assert found.dtype == emulated.dtype == torch.bfloat16
    torch.testing.assert_close(found, emulated, rtol=2**-7, atol=1e-5)


def test_rows_are_rounded_to_the_nearest_value_of_the_format():
    random = np.random.default_rng(4)
    rows = random.standard_normal((50, 64)).astype(np.float32) * np.float32(7)
    found, scales = scaled_rows(torch.from_numpy(rows))
    assert found.dtype == FORMAT
    assert scales.shape == (50, 1)
    np.testing.assert_allclose(scales[:, 0], np.abs(rows).max(axis=1) / 448, rtol=1e-6)
    assert (found.float().abs().amax(dim=1) == 448).all()
    np.testing.assert_array_equal(found.double(), nearest(rows / scales.numpy()))


def test_each_token_and_each_output_has_a_scale_of_its_own():
    weight = torch.randn(16, 32, generator=torch.Generator().manual_seed(5))
    hidden = torch.randn(8, 32, generator=torch.Generator().manual_seed(6))
    one = Float8Linear(linear_of(weight))(hidden)
    # Powers of two change the scales and nothing else.
    tokens, outputs = 2.0 ** torch.arange(-4, 4)[:, None], 2.0 ** torch.arange(-8, 8)[:, None]
    other = Float8Linear(linear_of(weight * outputs))(hidden * tokens)
    assert torch.equal(other.float(), one.float() * tokens * outputs.T)


def test_zeros_huge_values_and_what_is_not_finite():
    bias = torch.arange(16).float()
    weight = of_integers(16, 32, seed=7) / 2048
    huge = float(torch.finfo(torch.bfloat16).max)
    hidden = torch.zeros(6, 32)
    hidden[1, 3] = huge
    hidden[2, :2] = torch.tensor([huge, -huge])
    hidden[3, 5] = 1e-44
    hidden[4, 0] = float("inf")
    hidden[5, 0] = float("nan")
    found = Float8Linear(linear_of(weight, bias))(hidden).float()
    assert torch.equal(found[0], bias)
    expected = (hidden[1].double() @ weight.double().T).float()
    torch.testing.assert_close(found[1], expected, rtol=0.08, atol=0)
    assert found[2].isfinite().all()
    assert torch.equal(found[3], bias)
    assert not found[4:].isfinite().any()


def test_weights_of_zero_and_huge_ones():
    weight = torch.zeros(16, 16)
    weight[1] = 1e30
    found = Float8Linear(linear_of(weight))(torch.full((1, 16), 2.0**-10))
    assert found[0, 0] == 0
    assert found[0, 1].isfinite()
    torch.testing.assert_close(found[0, 1].item(), 1e30 * 16 / 1024, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    "architecture",
    [
        "bert",
        "distilbert",
        "roberta",
        "mpnet",
        "deberta-v3",
        "modernbert",
        "qwen3",
        "mistral",
        "albert",
        "t5",
    ],
)
def test_models_compute_nearly_what_they_did(architecture, plain_model):
    auto = AutoModelForTextEncoding if architecture == "t5" else AutoModel
    model = auto.from_pretrained(plain_model(architecture), dtype=torch.float32).eval()
    model.requires_grad_(False)
    ids = torch.arange(5, 45).reshape(2, 20)
    exact = model(input_ids=ids).last_hidden_state
    to_precision(model, "float8")
    made = [part for part in model.modules() if isinstance(part, Float8Linear)]
    assert len(made) >= 4
    assert all(part.weight.dtype == FORMAT for part in made)
    assert all(part.scales.dtype == torch.float32 for part in made)
    found = model(input_ids=ids).last_hidden_state
    assert found.dtype == torch.bfloat16
    near = torch.nn.functional.cosine_similarity(found.float(), exact, dim=-1)
    assert near.mean() > 0.98
    assert 0.9 < near.min() < 0.9999


def test_a_model_without_linear_layers_is_refused(plain_model):
    model = AutoModel.from_pretrained(plain_model("gpt2"), dtype=torch.float32)
    with pytest.raises(ConfigError, match="GPT2Model has no linear layers for it; take precision"):
        to_precision(model, "float8")


def test_layers_that_tensor_cores_cannot_take_stay():
    layers = nn.ModuleList([nn.ModuleDict({"odd": nn.Linear(24, 16), "even": nn.Linear(16, 32)})])
    model = nn.ModuleDict({"layers": layers})
    to_precision(model, "float8")
    assert type(layers[0]["odd"]) is nn.Linear
    assert layers[0]["odd"].weight.dtype == torch.bfloat16
    assert type(layers[0]["even"]) is Float8Linear
    to_precision(model, "float8")
    assert layers[0]["even"].weight.dtype == FORMAT


def test_a_device_that_cannot_multiply_is_refused_in_one_line(monkeypatch):
    check_device("cpu")

    def fails(*_):
        raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLt\nand a page of it")

    monkeypatch.setattr(float8, "_in_float32", fails)
    with pytest.raises(ConfigError, match=r"cannot multiply it on cpu .*; take precision") as error:
        check_device("cpu")
    assert "\n" not in str(error.value)
