"""Encoders in Ray that must give the vectors of canary texts before they are used."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import ray.cloudpickle
from running import tiny_job

from embedkit.actors.encoder_pool import EncoderPool
from embedkit.encoders.base import Encoder
from embedkit.encoders.canary import Canaries, canaries_of
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.errors import CanaryError

pytestmark = pytest.mark.timeout(600)
# Encoders cannot import it.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class OneBroken(Canaries):
    """Finds the encoder wrong that is the first to get there."""

    mark: str = ""

    def check(self, encoder: Encoder) -> None:
        try:
            Path(self.mark).touch(exist_ok=False)
        except FileExistsError:
            super().check(encoder)
        else:
            raise CanaryError("cpu: broken")


@pytest.fixture(scope="module")
def spec(tiny_model):
    return read_model(tiny_job(tiny_model, "in", "out"))


def make_pool(spec, canaries, encoders: int) -> EncoderPool:
    return EncoderPool(spec, encoders, "tests", 2, 240.0, cpus=0.5, canaries=canaries)


def test_one_that_fails_is_left_out_and_the_others_do_its_work(spec, ray_session, tmp_path, caplog):
    canaries = canaries_of(spec, load_encoder)
    found = OneBroken(canaries.batch, canaries.vectors, 0.25, str(tmp_path / "mark"))
    pool = make_pool(spec, found, 2)
    assert pool.wait_until_ready()[0] == 32
    assert "an encoder is left out: cpu: broken" in caplog.text
    expected = load_encoder(spec).encode(canaries.batch)
    for vectors in pool.connection().encode_all([canaries.batch] * 5):
        np.testing.assert_array_equal(vectors, expected)
    pool.loads(60.0)
    assert pool.running == 1
    pool.stop()


@pytest.mark.soak
def test_where_all_fail_the_run_says_so(spec, ray_session):
    canaries = canaries_of(spec, load_encoder)
    wrong = replace(canaries, vectors=-canaries.vectors)
    pool = make_pool(spec, wrong, 2)
    with pytest.raises(CanaryError, match=r"4 of 4 canary texts get a vector that is 2\.00 of"):
        pool.wait_until_ready()
    pool.stop()
