"""Canary texts: which encoders pass, and which are told from the model."""

from dataclasses import replace

import numpy as np
import pytest
from running import tiny_job
from tiny_models import save_transformer

from embedkit.encoders.canary import CANARY_TEXTS, canaries_for, canaries_of, wants_canaries
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.errors import CanaryError, ConfigError


@pytest.fixture(scope="module")
def spec(tiny_model):
    return read_model(tiny_job(tiny_model, "in", "out"))


@pytest.fixture(scope="module")
def canaries(spec):
    return canaries_of(spec, load_encoder)


def placed(spec, **changes):
    return replace(spec, placement=replace(spec.placement, **changes))


def test_they_are_what_the_model_gives_in_float32_on_a_cpu(spec, canaries):
    exact = placed(spec, backend="torch", device="cpu", precision="float32", unpadded=False)
    np.testing.assert_array_equal(canaries.vectors, load_encoder(exact).encode(canaries.batch))
    assert canaries.vectors.shape == (len(CANARY_TEXTS), 32)
    # Wherever it is to run.
    elsewhere = canaries_of(placed(spec, device="cuda", precision="bfloat16"), load_encoder)
    np.testing.assert_array_equal(canaries.vectors, elsewhere.vectors)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_encoder_of_the_model_passes(spec, canaries, precision):
    canaries.check(load_encoder(placed(spec, backend="torch", precision=precision)))


def test_another_pooling_and_other_weights_are_told(spec, canaries, tmp_path):
    assert spec.pooling == ("mean",)
    with pytest.raises(
        CanaryError, match=r"[1-4] of 4 canary texts get a vector that is \d\.\d\d of"
    ):
        canaries.check(load_encoder(replace(spec, pooling=("max",))))
    other = tiny_job(save_transformer(tmp_path / "other", "bert", seed=1), "in", "out")
    with pytest.raises(CanaryError, match="is not used, as its device") as raised:
        canaries.check(load_encoder(read_model(other)))
    assert len(str(raised.value).splitlines()) == 1


class Broken:
    """A card that gives something else."""

    device = "NVIDIA Broken"

    def __init__(self, encode):
        self.encode = encode


def test_a_broken_card_is_told(canaries):
    right = canaries.vectors
    canaries.check(Broken(lambda _: right * np.float32(1.01)))
    for wrong, match in (
        (np.where(np.arange(4)[:, None] == 2, np.nan, right), "1 of 4 .* is not a number for the"),
        (np.zeros_like(right), "4 of 4 .* is 1.00 of its length from"),
        (-right, r"^NVIDIA Broken: 4 of 4 canary texts get a vector that is 2\.00 of"),
        (right[:, :8], r"vectors of shape \(4, 8\) instead of \(4, 32\)"),
    ):
        with pytest.raises(CanaryError, match=match):
            canaries.check(Broken(lambda _, wrong=wrong: wrong))


def test_who_is_asked(spec):
    assert not wants_canaries(spec, "auto")
    assert wants_canaries(spec, "always")
    on_gpu = placed(spec, device="cuda")
    assert wants_canaries(on_gpu, "auto")
    assert not wants_canaries(on_gpu, "never")
    for vectors in (replace(spec.vectors, of="word"), replace(spec.vectors, in_windows=True)):
        assert not wants_canaries(replace(on_gpu, vectors=vectors), "always")


def test_weights_that_a_cpu_may_have_no_room_for_are_not_loaded_unasked(spec, monkeypatch):
    monkeypatch.setattr("embedkit.encoders.canary._MOST_WEIGHTS", 1000)
    assert not wants_canaries(placed(spec, device="cuda"), "auto")
    assert wants_canaries(placed(spec, device="cuda"), "always")


def test_a_model_that_no_cpu_can_run_has_none_unless_it_must(spec, caplog):
    def load(_):
        raise ConfigError("needs a GPU")

    assert canaries_for(spec, "auto", load) is None
    assert "are tried on no canary texts, as a CPU could not: needs a GPU" in caplog.text
    with pytest.raises(ConfigError, match="needs a GPU"):
        canaries_for(spec, "always", load)
    assert canaries_for(spec, "auto", load_encoder) is not None
