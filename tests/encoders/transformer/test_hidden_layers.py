"""Which hidden layers ``--layers`` means."""

import pytest

from embedkit.encoders.transformer.hidden_layers import HiddenLayers, read_layers
from embedkit.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "numbers", "joining", "canonical"),
    [
        ("-2", (5,), "sum", "5"),
        ("0", (0,), "sum", "0"),
        ("-7", (0,), "sum", "0"),
        ("3", (3,), "sum", "3"),
        ("3..3:concat", (3,), "sum", "3"),
        ("-4..-1:sum", (3, 4, 5, 6), "sum", "3..6:sum"),
        ("3..6:sum", (3, 4, 5, 6), "sum", "3..6:sum"),
        ("0..-1:mean", (0, 1, 2, 3, 4, 5, 6), "mean", "0..6:mean"),
        (" -2..6:concat ", (5, 6), "concat", "5..6:concat"),
    ],
)
def test_layers_of_a_model_of_six(given, numbers, joining, canonical):
    layers = read_layers(given, 6, "model")
    assert layers == HiddenLayers(numbers, joining)
    assert str(layers) == canonical
    assert read_layers(canonical, 6, "model") == layers
    assert layers.joined == (len(numbers) if joining == "concat" else 1)


@pytest.mark.parametrize("given", ["-1", "6", "6..-1:concat", "-1..-1:sum", "-1:mean"])
def test_the_last_layer_however_it_is_spelled(given):
    assert read_layers(given, 6, "model") is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("7", "model has 6 layers; take numbers from 0, .* to 6, or from -7 to -1"),
        ("-8", "model has 6 layers"),
        ("-4..9:sum", "model has 6 layers"),
        ("-1..-4:sum", "-1 is above -4"),
        ("-4..-1", "leaves open how they become one; put :sum, :mean or :concat"),
        ("-4..-1:max", "leaves open how"),
        ("-4..-1:", "leaves open how"),
        ("2:max", "leaves open how"),
        ("", "expected one such as -2, or a range"),
        ("last", "expected one such as -2"),
        ("-4,-1", "expected one such as -2"),
        ("1.5", "expected one such as -2"),
        ("٣", "expected one such as -2"),
        ("-4..-1:sum\nx", "expected one such as -2"),
    ],
)
def test_what_is_no_layer_is_said_in_one_line(given, said):
    with pytest.raises(ConfigError, match=said) as raised:
        read_layers(given, 6, "model")
    assert "\n" not in str(raised.value)
