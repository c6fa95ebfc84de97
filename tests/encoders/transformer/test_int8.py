"""Linear layers in int8, against products of whole numbers and against the compiled model."""

import numpy as np
import pytest
import torch
from tiny_models import SENTENCES
from torch import nn

from embedkit.caches import CACHE_VARIABLE
from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, load_observed, read_model
from embedkit.encoders.transformer import openvino_making
from embedkit.encoders.transformer.int8 import Int8Linear, Observer, to_int8
from embedkit.encoders.transformer.kept_networks import kept_networks
from embedkit.encoders.transformer.network import load_network
from embedkit.encoders.transformer.openvino_conversion import converted_padding
from embedkit.encoders.transformer.openvino_models import Networks
from embedkit.encoders.transformer.trial import trial_spans
from embedkit.errors import ConfigError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

LINEAR_LAYERS = 12
"""Of the tiny BERT: two layers of four projections and the two of their nets."""


@pytest.fixture(scope="module")
def spec(tiny_model):
    config = ModelConfig(
        model=tiny_model, pooling="mean", precision="int8", device="cpu", max_tokens=24
    )
    return read_model(config)


@pytest.fixture(scope="module")
def batch(spec):
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    return TokenBatch(ids, offsets)


@pytest.fixture(scope="module")
def measured(spec, batch):
    """The model with ranges, and the vectors of float32."""
    observed = load_observed(spec)
    vectors = observed.encode(batch)
    ranges = observed.ranges()
    np.testing.assert_array_equal(observed.encode(batch), vectors)
    assert observed.ranges() == ranges, "nothing is seen any more"
    return spec.with_ranges(ranges), vectors


def of_whole_numbers(values, weight, bias, least, greatest, halved):
    """The layer by its definition, with whole numbers of 8 bits and one product of these."""
    shares = 0.5 ** np.array([int(digit, 16) for digit in halved])
    values, weight = values * shares, weight / shares
    low, high = min(least, 0), max(greatest, 0)
    step = (high - low) / 255
    zero = round(-low / step)
    marks = np.clip(np.rint(values / step) + zero, 0, 255).astype(np.int64) - zero
    scales = np.abs(weight).max(axis=1) / 64
    weights = np.clip(np.rint(weight / scales[:, None]), -64, 64).astype(np.int64)
    return (marks @ weights.T) * step * scales + bias


@pytest.mark.parametrize(("least", "greatest"), [(-1.0, 3.0), (0.5, 2.0), (-3.0, -1.0)])
def test_products_are_those_of_whole_numbers(least, greatest):
    torch.manual_seed(0)
    linear = nn.Linear(48, 32)
    values = 4 * torch.randn(2, 40, 48)
    halved = "0123" * 12
    found = Int8Linear(linear, least, greatest, halved)(values).detach().numpy()
    arrays = (one.detach().double().numpy() for one in (values, linear.weight, linear.bias))
    expected = of_whole_numbers(*arrays, least, greatest, halved)
    # Few values lie so near between two steps that they are rounded otherwise in float32.
    assert np.quantile(np.abs(found - expected), 0.97) < 1e-5
    assert np.abs(found - expected).max() < 0.05


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e30])
def test_layers_without_a_range_and_weights_without_a_scale_divide_by_nothing(scale):
    linear = nn.Linear(16, 16)
    linear.weight.data *= scale
    linear.weight.data[3] = 0
    layer = Int8Linear(linear, 0.0, 0.0, "8" * 16)
    torch.testing.assert_close(layer(torch.zeros(2, 16)), linear.bias.expand(2, 16))


def test_ranges_are_those_of_what_each_layer_was_given(measured, tiny_model, batch):
    """By hooks on the library's own model, one text at a time, and the same each time."""
    spec, _ = measured
    network = load_network(spec)
    seen = {}
    for name, module in network.transformer.encoder.layer.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(
                lambda _, given, name=name: seen.setdefault(name, []).append(given[0].numpy())
            )
    with torch.inference_mode():
        for row in range(len(batch)):
            ids = torch.from_numpy(batch.take(np.array([row])).input_ids.astype(np.int64))[None]
            network(ids, torch.ones_like(ids))
    assert len(seen) == LINEAR_LAYERS
    found = {name: of for name, *of in spec.placement.ranges}
    assert found.keys() == seen.keys()
    for name, of in seen.items():
        least, greatest, halved = found[name]
        shares = 0.5 ** np.array([int(digit, 16) for digit in halved])
        given = np.concatenate([one[0] for one in of]) * shares
        np.testing.assert_allclose([least, greatest], [given.min(), given.max()], rtol=1e-4)


def test_what_is_given_much_is_halved_until_it_is_as_others_with_less_for_the_weights():
    """By SmoothQuant's formula, max|x|^a / max|w|^(1 - a), in powers of two."""
    random = np.random.default_rng(3)
    linear = nn.Linear(64, 32)
    model = nn.Module()
    model.layers = nn.ModuleList([nn.ModuleDict({"a": linear})])
    observer = Observer(model)
    given = random.normal(size=(50, 64)) * np.exp2(random.integers(-3, 6, size=64))
    given[:, 5] = 0
    linear(torch.from_numpy(given.astype(np.float32)))
    ((_, least, greatest, halved),) = observer.ranges()
    weights = np.abs(linear.weight.detach().numpy()).max(axis=0)
    with np.errstate(divide="ignore"):
        sizes = np.log2(np.abs(given).max(axis=0) ** 0.75 / weights**0.25)
    expected = np.clip(np.rint(sizes - np.sort(sizes)[31]) + 8, 0, 15)
    assert [int(digit, 16) for digit in halved] == expected.tolist()
    assert halved[5] == "0" and len(set(halved)) > 5
    after = given * 0.5**expected
    np.testing.assert_allclose([least, greatest], [after.min(), after.max()], rtol=1e-6)
    assert np.ptp(np.abs(after).max(axis=0)) < np.ptp(np.abs(given).max(axis=0)) / 2**8


def test_a_layer_that_was_given_nothing_or_no_number_stays_as_it_is():
    layers = nn.ModuleList(
        nn.ModuleDict({"a": nn.Linear(4, 4), "b": nn.Linear(4, 4)}) for _ in "ab"
    )
    model = nn.Module()
    model.layers = layers
    observer = Observer(model)
    for values in (torch.ones(2, 4), torch.full((1, 4), float("nan")), torch.ones(2, 4)):
        layers[0]["b"](values)
    layers[1]["a"](torch.tensor([[-1.0, 0, 2, 0]]))
    layers[1]["a"](torch.empty(0, 4))
    ranges = observer.ranges()
    (found,) = ranges
    assert found[0] == "1.a" and found[1] < 0 < found[2] and len(found[3]) == 4
    to_int8(model, ranges)
    kinds = {name: type(one) for name, one in layers.named_modules() if "." in name}
    assert kinds == {"0.a": nn.Linear, "0.b": nn.Linear, "1.a": Int8Linear, "1.b": nn.Linear}
    with pytest.raises(ConfigError, match="precision is int8, but Module has no linear layers"):
        to_int8(model, (("7.a", 0.0, 1.0, "8888"),))


def test_the_compiled_model_multiplies_in_int8(measured):
    """What is not fused would be rounded in float32 and be slower than without."""
    spec, _ = measured
    network = load_network(spec, attention="eager")
    to_int8(network.transformer, spec.placement.ranges)
    compiled = Networks(converted_padding(network, spec, hidden=False)).compiled(spec).padding
    said = [one.get_rt_info() for one in compiled.get_runtime_model().get_ops()]
    products = [
        one["runtimePrecision"].astype(str)
        for one in said
        if one["layerType"].astype(str) == "FullyConnected"
    ]
    assert products.count("u8") + products.count("i8") == LINEAR_LAYERS


def test_vectors_are_near_to_float32_and_the_same_when_kept(measured, batch, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    spec, exact = measured
    assert kept_networks(spec) is None
    found = load_encoder(spec).encode(batch)
    cosines = (found * exact).sum(axis=1)
    cosines /= np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    assert 0.99 < cosines.min() < 0.999999
    assert kept_networks(spec) is not None
    name, least, greatest, halved = spec.placement.ranges[0]
    others = spec.with_ranges(((name, least, 2 * greatest, halved), *spec.placement.ranges[1:]))
    assert kept_networks(others) is None

    def never(*_, **__):
        raise AssertionError("converted once more")

    monkeypatch.setattr(openvino_making, "made_runner", never)
    np.testing.assert_array_equal(load_encoder(spec).encode(batch), found)


def test_a_conversion_that_rounds_otherwise_is_refused(measured, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    spec, _ = measured
    converted = openvino_making.converted_padding

    def with_small_steps(network, *arguments, **named):
        layers = [one for one in network.modules() if isinstance(one, Int8Linear)]
        steps = [layer.step for layer in layers]
        for layer in layers:
            layer.step /= 8
        made = converted(network, *arguments, **named)
        for layer, step in zip(layers, steps, strict=True):
            layer.step = step
        return made

    monkeypatch.setattr(openvino_making, "converted_padding", with_small_steps)
    with pytest.raises(ConfigError, match="converted to OpenVINO, bert gives other vectors"):
        load_encoder(spec)


@pytest.mark.soak
def test_vectors_of_tokens(tiny_model, batch):
    config = ModelConfig(
        model=tiny_model, precision="int8", device="cpu", max_tokens=24, granularity="token"
    )
    spec = read_model(config)
    observed = load_observed(spec)
    spans = trial_spans(batch)
    exact = observed.encode(spans)
    found = load_encoder(spec.with_ranges(observed.ranges())).encode(spans)
    assert len(found) == len(batch.input_ids) + len(batch)
    cosines = (found * exact).sum(axis=1)
    cosines /= np.linalg.norm(found, axis=1) * np.linalg.norm(exact, axis=1)
    assert 0.97 < cosines.min() < 0.999999


def test_without_ranges_it_is_refused(spec):
    with pytest.raises(ConfigError, match="precision is int8, for which embedkit run measures"):
        load_encoder(spec)
