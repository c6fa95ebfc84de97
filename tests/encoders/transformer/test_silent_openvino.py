"""OpenVINO tells nobody of what it does, and leaves nothing at home."""

import os
import subprocess
import sys

import pytest

_LOAD = """
import sys
from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder
from embedkit.encoders.kinds import read_model

settings = {"model": sys.argv[1], "backend": "openvino", "device": "cpu", "pooling": "mean"}
load_encoder(read_model(ModelConfig(**settings)))
assert "openvino_telemetry" not in sys.modules, "telemetry is on"
"""


@pytest.mark.soak
def test_loading_a_model_says_nothing_to_anybody(tiny_model, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [sys.executable, "-c", _LOAD, tiny_model]
    done = subprocess.run(
        command,
        env=environment | {"HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
