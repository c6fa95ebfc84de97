"""The script that checks and measures a GPU, in tiny sizes on the CPU."""

import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gpu.ndcg import ndcg_at_10
from gpu.steps import STEPS
from gpu.table import as_text
from gpu.throughput import agreement, steady_rate

from embedkit.vectors import TokenBatch

FOLDER = Path(__file__).parent
OWN_STEPS = """
import os, time
from dataclasses import dataclass

@dataclass(frozen=True)
class Step:
    name: str
    seconds: float = 30.0

    def run(self, bench, found):
        found["pid"] = os.getpid()
        if self.name == "raises":
            raise ValueError("no\\n such thing")
        if self.name == "dies":
            os._exit(3)
        if self.name == "hangs":
            time.sleep(60)

NAMES = ("first", "raises", "dies", "after", "hangs", "last")
STEPS = tuple(Step(name, 0.5 if name == "hangs" else 30.0) for name in NAMES)
"""


def run(folder: Path, output: Path, *options: str) -> tuple[int, dict, str]:
    command = [sys.executable, str(folder / "run.py"), "--tiny", "--output", str(output), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    results = json.loads((output / "results.json").read_text())
    return done.returncode, results, done.stdout + done.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_without_a_gpu_it_says_how_it_can_be_tried():
    command = [sys.executable, str(FOLDER / "run.py")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "torch finds no CUDA device here; --tiny tries the script on the CPU" in done.stderr


@pytest.mark.soak
def test_all_checks_and_a_model_in_several_forms(tmp_path):
    """In tiny sizes on the CPU; other models and forms are measured as these are."""
    large = ("BERT-", "MiniLM-L12", "compiled architectures")
    between = ("MiniLM-L6, stream", "MiniLM-L6, stream, compiled")
    names = [step.name for step in STEPS]
    small = [name for name in names if not name.startswith(large) and name not in between]
    code, results, printed = run(FOLDER, tmp_path, "--steps", *small)
    failed = [step for step in results["steps"] if "error" in step]
    assert not failed, (tmp_path / "run.log").read_text()[-3000:]
    assert code == 0
    assert [step["name"] for step in results["steps"]] == small
    table = (tmp_path / "table.md").read_text()
    assert table in printed
    forms = ["sentence-transformers", "by default", "padded", "float8"]
    for form, rows in itertools.product(forms, ("WikiText-2", "128 tokens")):
        assert f"\n| MiniLM-L6 | {form} | {rows} |" in table


@pytest.fixture
def folder(tmp_path):
    """The script with steps of its own, some of which go wrong."""
    made = tmp_path / "script"
    made.mkdir()
    for name in ("run.py", "table.py"):
        shutil.copy(FOLDER / name, made)
    (made / "steps.py").write_text(OWN_STEPS)
    (made / "bench.py").write_text("Bench = dict\n")
    return made


def test_steps_that_go_wrong(folder, tmp_path):
    """One that raises is a line of the results; one that kills its process or takes too long keeps
    the figures that it had, and costs no others'."""
    code, results, printed = run(folder, tmp_path / "out")
    assert code == 1
    errors = {step["name"]: step.get("error") for step in results["steps"]}
    assert errors == {
        "first": None,
        "raises": "ValueError: no such thing",
        "dies": "its process ended with exit code 3",
        "after": None,
        "hangs": "ended after 0 s, which is all it may take",
        "last": None,
    }
    pids = {step["name"]: step["found"].get("pid") for step in results["steps"]}
    assert None not in pids.values()
    assert pids["first"] == pids["raises"] != pids["after"] != pids["last"] != pids["first"]
    assert "raises: FAILED, ValueError: no such thing" in printed
    assert "no\n such thing" in (tmp_path / "out" / "run.log").read_text()


def test_time_that_is_over(folder, tmp_path):
    code, results, _ = run(folder, tmp_path / "out", "--seconds", "5")
    assert code == 1
    assert {step["error"] for step in results["steps"]} == {"not run: the time was over"}


def test_some_steps(folder, tmp_path):
    code, results, _ = run(folder, tmp_path / "out", "--steps", "last", "first")
    assert code == 0
    assert [step["name"] for step in results["steps"]] == ["first", "last"]


def test_what_was_wanted_stands_beside_what_was_reached():
    def step(name: str, rate: float, share: float) -> dict:
        figures = {"tokens_per_second": rate, "fill": 0.0, "warm_up_seconds": 1.0, "busy": 0.5}
        rows = figures | {"share_of_matrix_rate": share}
        return {
            "name": name,
            "found": {"load_seconds": 1.0, "WikiText-2": rows, "128 tokens": rows},
        }

    def peer(model: str, rate: float) -> dict:
        figures = {"tokens_per_second": rate, "of_texts": 5.0, "attention": "sdpa", "batch_rows": 8}
        name = f"{model}, sentence-transformers"
        return {"name": name, "found": {"WikiText-2": figures}}

    steps = [step("MiniLM-L6, by default", 500.0, 0.3), step("BERT-base, by default", 100.0, 0.63)]
    steps += [peer("MiniLM-L6", 250.0), {"name": "attention", "error": "none", "found": {}}]
    table = as_text({"begun": "today", "steps": steps})
    assert "| 2.00 (wanted: >= 2.50: **not reached**) | 50.0% (wanted: >= 95.0%: **not" in table
    assert "| BERT-base | by default | 128 tokens | 100 | 63% (wanted: >= 62%) |" in table
    assert "- **attention**: none" in table


def test_a_rate_is_that_of_calls_in_flight():
    """Two threads that take 10 ms for 100 tokens each make 20,000 tokens/s, and are busy half of
    the time of a device that computes 2.5 ms for each."""
    call = TokenBatch(np.zeros(100, dtype=np.int32), np.array([0, 100], dtype=np.int32))
    clock = itertools.count(1)
    found = steady_rate(lambda _: time.sleep(0.01), [call], 0.3, 2, lambda: next(clock) * 0.0025)
    assert found["least"] <= found["tokens_per_second"] <= found["most"]
    # A machine that does other things as well is slower.
    assert 2_000 < found["tokens_per_second"] < 21_000
    assert 0.05 < found["busy"] < 0.55


def test_agreement():
    exact = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    found = agreement(np.array([[1.0, 0.0], [0.6, 0.8]], dtype=np.float32), exact)
    assert found["least_cosine"] == pytest.approx(0.8)
    assert found["mean_cosine"] == pytest.approx(0.9)
    assert found["greatest_difference"] == pytest.approx(0.6)


def test_ndcg():
    from sklearn.metrics import ndcg_score

    random = np.random.default_rng(0)
    gains = random.integers(0, 4, (20, 50)) * (random.random((20, 50)) < 0.2)
    gains[3] = 0
    scores = random.normal(size=(20, 50))
    judged = gains.max(axis=1) > 0
    expected = ndcg_score(gains[judged], scores[judged], k=10)
    assert ndcg_at_10(scores, gains.astype(float)) == pytest.approx(expected)
