"""What is carried to a machine with a GPU and no registry, in an environment of what it has."""

import json
import subprocess
import sys

import pytest
import torch
from environments import REPOSITORY, make_environment_of
from gpu.steps import STEPS
from safetensors.torch import load_file

from tests.gpu.bundle import main

ON_THE_MACHINE = ("torch", "transformers", "sentence-transformers", "numpy", "pyarrow")
ABSENT = ("apache_beam", "embedkit", "orjson", "ray", "zstandard")


@pytest.mark.soak
def test_the_bundle_alone_measures_an_encoder(tmp_path, minilm, public_data, capsys):
    """Neither Ray nor Beam, nor anything else that only this project needs, is installed."""
    bundle, site = tmp_path / "bundle", tmp_path / "bundle" / "site"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    options = ["--output", str(bundle), "--python", version]
    main([*options, "--model", minilm, "--data", str(public_data)])
    printed = capsys.readouterr().out
    assert "MB" in printed and "run.py --output results --model model --data data" in printed
    halves = load_file(bundle / "model" / "model.safetensors")
    weight = "encoder.layer.0.output.dense.weight"
    exact = load_file(f"{minilm}/model.safetensors")[weight]
    torch.testing.assert_close(halves[weight].float(), exact, rtol=1e-3, atol=1e-6)

    made = make_environment_of(tmp_path / "env", ON_THE_MACHINE)
    looks = f"from importlib.util import find_spec; print([n for n in {ABSENT} if find_spec(n)])"
    assert made.run("python", "-c", looks, cwd=bundle).stdout == "[]\n"
    command = [sys.executable, "-m", "pip", "--python", str(made.python), "install", "--no-index"]
    wheels = map(str, (bundle / "wheels").iterdir())
    subprocess.run([*command, "--no-deps", "--target", str(site), *wheels], check=True)
    arguments = ["--tiny", "--output", "results", "--model", "model", "--data", "data"]
    arguments += ["--steps", *(step.name for step in STEPS if not step.name.startswith("BERT-"))]
    done = made.run("python", "tests/gpu/run.py", *arguments, cwd=bundle, PYTHONPATH=str(site))
    results = bundle / "results"
    assert done.returncode == 0, done.stdout + (results / "run.log").read_text()[-3000:]
    steps = json.loads((results / "results.json").read_text())["steps"]
    assert not [step for step in steps if "error" in step]
    figures = next(step["found"] for step in steps if step["name"] == "Cranfield")
    assert figures["float32"]["ndcg_at_10"] > 0.2
    assert str(REPOSITORY) not in (results / "run.log").read_text()


def test_a_bundle_that_is_too_large_to_be_carried(monkeypatch, tmp_path, capsys):
    (tmp_path / "README").touch()
    monkeypatch.setattr("tests.gpu.bundle.make_bundle", lambda *_: 64_000_001)
    with pytest.raises(SystemExit, match="more than 64 MB"):
        main(["--output", str(tmp_path)])
