"""Runs whose encoder does not give the vectors of canary texts, or does."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from embedkit.dataset.stores import open_store
from embedkit.encoders.canary import canaries_of
from embedkit.encoders.kinds import load_encoder
from embedkit.engines import plain, ray_encoders
from embedkit.engines.run import run_job
from embedkit.errors import CanaryError
from embedkit.flow.prepare import prepare


def test_an_encoder_that_gives_others_makes_no_row(make_job, monkeypatch):
    job = make_job(canaries="always")

    def other(spec):
        """What a CPU gives whose pooling is another."""
        return load_encoder(replace(spec, pooling=("max",)))

    with monkeypatch.context() as patched:
        patched.setattr(plain, "load_encoder", other)
        with pytest.raises(CanaryError, match="canary texts get a vector that is"):
            run_job(job)
    store = open_store(job.output)
    assert not [key for key in store.list("") if "/_meta/commits/" in key or "/data/" in key]
    done = run_job(job)
    assert done.published
    assert done.rows > 0


@pytest.mark.parametrize("asked", ["always", "never"])
def test_encoders_in_ray_are_given_them(ray_session, make_job, monkeypatch, asked):
    given = {}

    class Pool:
        def __init__(self, model, **settings):
            given.update(settings)

        def stop(self):
            pass

    monkeypatch.setattr(ray_encoders, "EncoderPool", Pool)
    job = prepare(make_job(canaries=asked))
    fitting = SimpleNamespace(
        threads=1, encoder_cpus=0.5, encoder_gpus=0, encoders=SimpleNamespace(least=1, most=1)
    )
    with ray_encoders.ray_encoders(job, fitting):
        pass
    if asked == "never":
        assert given["canaries"] is None
    else:
        found, expected = ray.get(given["canaries"]), canaries_of(job.model, load_encoder)
        np.testing.assert_array_equal(found.vectors, expected.vectors)
