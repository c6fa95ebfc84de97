"""Rows that models are tried on, whatever the id of their fill."""

from dataclasses import replace

import numpy as np
import pytest

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.transformer.trial import greatest_distance
from embedkit.vectors import TokenBatch


def test_fill_that_is_the_last_id_of_a_vocabulary(plain_model):
    """OpenVINO's conversion is tried on other ids, of which none lies behind it."""
    settings = {"pooling": "mean", "backend": "openvino", "precision": "float32", "device": "cpu"}
    spec = read_model(ModelConfig(model=plain_model("bert"), **settings))
    batch = TokenBatch.from_lists([[5, 6, 7], [8, 9]])
    expected = load_encoder(spec).encode(batch)
    vectors = load_encoder(replace(spec, pad_id=299)).encode(batch)
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("factor", "distance"), [(1.0, 0.0), (1.25, 0.25), (np.nan, np.nan)])
def test_the_distance_of_the_worst_vector(factor, distance):
    expected = np.ones((3, 4))
    vectors = expected * np.array([[1.0], [factor], [1.0]])
    assert greatest_distance(vectors, expected) == pytest.approx(distance, nan_ok=True)
