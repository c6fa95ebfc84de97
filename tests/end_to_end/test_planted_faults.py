"""Faults planted in a corpus: each is found, named on the page, and can keep a version back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from costless import WORDS, CostlessEncoder, CostlessEngine, costless_model, make_costless
from running import write_jsonl

from embedkit.config import JobConfig
from embedkit.engines.run import run_job
from embedkit.reports.account import RunAccount

ROWS, FILES = 400, 20
SOUND = (
    "reject_share>0.01", "truncated_share>0.2", "duplicate_share>0.1", "norms.non_finite>0",
    "rejects.reasons.non_finite_vector.count?>0", "errors>0",
)  # fmt: skip
"""Gates that a sound corpus passes, and each planted fault fails some of."""


class FaultyEncoder(CostlessEncoder):
    """Makes no number of one text in twenty, as a broken card may."""

    def encode(self, batch: Any) -> Any:
        vectors = super().encode(batch)
        for row, start in enumerate(batch.offsets[:-1]):
            # The number that each text begins with.
            if int(batch.input_ids[start]) % 20 == 1:
                vectors[row] = np.nan
        return vectors


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a job over texts by their files."""
    model = costless_model(tmp_path)
    made = []
    make_costless(monkeypatch, lambda: made[-1], reports=True)

    def run(texts: list[str], *gates: str, encoder: CostlessEncoder | None = None,
            damage: int | None = None) -> RunAccount:  # fmt: skip
        corpus = tmp_path / "corpus"
        for file in range(FILES):
            lines = [{"text": text} for text in texts[file::FILES]]
            path = write_jsonl(corpus / f"{file:02}.jsonl", lines)
            if file == damage:
                Path(path).write_bytes(b'{"te\x80\x9f\n' * len(lines))
        made.append(CostlessEngine(model))
        made[-1].encoder = encoder or CostlessEncoder()
        settings = {"model": "costless", "output": str(tmp_path / "out"), "engine": "plain"}
        return run_job(
            JobConfig(inputs=(str(corpus),), max_reject_share=1, fail_on=gates, **settings)
        )

    return run


def texts() -> list[str]:
    """Different texts of three words."""
    size = len(WORDS)
    return [f"{WORDS[n % size]} {WORDS[n // size]} {WORDS[n * 7 % size]}" for n in range(ROWS)]


def check(result: RunAccount, *failed: str) -> dict[str, Any]:
    """Checks which gates failed, and that the page says so first; returns the report."""
    assert [one["expression"] for one in result.gates if not one["passed"]] == list(failed)
    report = json.loads(Path(result.report).with_suffix(".json").read_text())
    page = Path(result.report).read_text()
    assert report["verdict"]["may_go_live"] is result.published is not bool(failed)
    for one in failed:
        assert one in report["verdict"]["sentence"]
        assert one.replace(">", "&gt;") in page.partition("<dl")[0]
    assert (Path(result.dataset) / "_SUCCESS").exists()
    return report


def test_a_sound_corpus_passes(run):
    report = check(run(texts(), *SOUND))
    assert report["counts"]["rows"] == ROWS


def test_one_vector_in_twenty_that_holds_no_number(run):
    report = check(
        run(texts(), *SOUND, encoder=FaultyEncoder()),
        "reject_share>0.01", "rejects.reasons.non_finite_vector.count?>0",
    )  # fmt: skip
    assert report["rejects"]["share"] == 0.05
    assert [one["reason"] for one in report["rejects"]["reasons"]] == ["non_finite_vector"]


def test_thirty_per_cent_that_the_model_does_not_see_whole(run):
    long = [
        f"{text} {' '.join(WORDS[:9])}" if n % 10 < 3 else text for n, text in enumerate(texts())
    ]
    result = run(long, *SOUND)
    check(result, "truncated_share>0.2")
    (gate,) = [one for one in result.gates if not one["passed"]]
    assert (gate["figure"], gate["by"]) == (0.3, pytest.approx(0.1))
    assert not (Path(result.dataset).parent / "LATEST").exists()


def test_twenty_per_cent_that_repeat_a_text(run):
    same = texts()
    same[320:] = same[:80]
    result = run(same, *SOUND)
    report = check(result, "duplicate_share>0.1")
    assert report["duplicates"]["share"] == 0.2
    assert not (Path(result.dataset).parent / "LATEST").exists()


def test_one_rotten_file_among_twenty(run):
    report = check(run(texts(), *SOUND, damage=7), "reject_share>0.01")
    assert report["rejects"]["share"] == 0.05
    examples = [one for reason in report["rejects"]["reasons"] for one in reason["examples"]]
    assert {one["source"] for one in examples} == {"07.jsonl"}
