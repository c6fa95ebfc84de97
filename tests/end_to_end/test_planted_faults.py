"""Faults planted in a corpus: each is found, named on the page, and can keep a version back."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from costless import WORDS, CostlessEncoder, CostlessEngine, costless_model, make_costless
from numpy.typing import NDArray
from running import write_jsonl

from embedkit.config import JobConfig
from embedkit.engines.run import run_job
from embedkit.reports.account import RunAccount

ROWS, FILES, DIMENSION = 400, 20, 32
SOUND = (
    "reject_share>0.01", "truncated_share>0.2", "duplicate_share>0.1", "norms.non_finite>0",
    "rejects.reasons.non_finite_vector.count?>0", "dimensions.n_dead>0",
    "geometry.equal_share>0.01", "dimensions.spectrum.first_share>0.25", "errors>0",
    "groups.source.worst_reject_share>0.2", "groups.source.worst_truncated_share>0.5",
)  # fmt: skip
"""Gates that a sound corpus passes, and each planted fault fails some of."""

Ids = tuple[int, ...]
Vectors = NDArray[np.float32]
Encode = Callable[[Sequence[Ids]], Vectors]


def model_of(seed: int) -> Encode:
    """Returns a model that means over the words of a text, from a common direction of its own."""
    random = np.random.default_rng(seed)
    words = random.standard_normal((len(WORDS) + 1, DIMENSION)) + random.standard_normal(DIMENSION)

    def encode(rows: Sequence[Ids]) -> Vectors:
        means = np.array([np.arange(1, len(ids) + 1) @ words[list(ids)] for ids in rows])
        return unit(means)

    return encode


def unit(vectors: NDArray[Any]) -> Vectors:
    """Returns vectors of length 1."""
    units: Vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    return units


MODEL, ANOTHER = model_of(0), model_of(1)


class FaultyEncoder(CostlessEncoder):
    """Encodes by a function of what the texts' tokens are."""

    def __init__(self, encode: Encode = MODEL) -> None:
        super().__init__()
        self._encode = encode

    def encode(self, batch: Any) -> Any:
        """Returns the vectors of rows."""
        done = len(self.asked)
        super().encode(batch)
        return self._encode(self.asked[done:])


def without_numbers(rows: Sequence[Ids]) -> Vectors:
    """Makes no number of one text in each file of twenty, as a broken card may."""
    vectors = MODEL(rows)
    # The first word and the second tell which text it is, see ``texts``.
    vectors[[ids[0] <= FILES and ids[1] == 1 for ids in rows]] = np.nan
    return vectors


def with_a_dead_dimension(rows: Sequence[Ids]) -> Vectors:
    """Says nothing in one dimension, as lost weights may."""
    vectors = MODEL(rows)
    vectors[:, 7] = 0
    return unit(vectors)


def of_first_tokens(rows: Sequence[Ids]) -> Vectors:
    """Takes a text's first token for all of it, of a model whose tokens see no others."""
    return MODEL([ids[:1] for ids in rows])


def of_two_models(rows: Sequence[Ids]) -> Vectors:
    """Has a tenth of the vectors from another model, as of a worker with other weights."""
    others = np.array([ids[0] % 10 == 1 for ids in rows])
    return np.where(others[:, None], ANOTHER(rows), MODEL(rows))


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Runs a job over texts by their files."""
    model = costless_model(tmp_path)
    model = replace(model, vectors=replace(model.vectors, dimension=DIMENSION))
    made = []
    make_costless(monkeypatch, lambda: made[-1], reports=True)

    def run(
        texts: list[str], *gates: str, encode: Encode = MODEL, damage: int | None = None
    ) -> RunAccount:
        corpus = tmp_path / "corpus"
        for file in range(FILES):
            lines = [{"text": text} for text in texts[file::FILES]]
            path = write_jsonl(corpus / f"{file:02}.jsonl", lines)
            if file == damage:
                Path(path).write_bytes(b'{"te\x80\x9f\n' * len(lines))
        made.append(CostlessEngine(model))
        made[-1].encoder = FaultyEncoder(encode)
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
    assert report["dimensions"]["spectrum"]["first_share"] < 0.15


def test_one_vector_in_twenty_that_holds_no_number(run):
    report = check(
        run(texts(), *SOUND, encode=without_numbers),
        "reject_share>0.01", "rejects.reasons.non_finite_vector.count?>0",
    )  # fmt: skip
    assert report["rejects"]["share"] == 0.05
    assert [one["reason"] for one in report["rejects"]["reasons"]] == ["non_finite_vector"]


def test_thirty_per_cent_that_the_model_does_not_see_whole(run):
    long = [
        f"{text} {' '.join(WORDS[:9])}" if n // FILES % 10 < 3 else text
        for n, text in enumerate(texts())
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
    result = run(texts(), *SOUND, damage=7)
    report = check(result, "reject_share>0.01", "groups.source.worst_reject_share>0.2")
    assert report["rejects"]["share"] == 0.05
    examples = [one for reason in report["rejects"]["reasons"] for one in reason["examples"]]
    assert {one["source"] for one in examples} == {"07.jsonl"}
    assert "source '07.jsonl' (20 records) is unlike the others: 100 % " in findings(report)
    assert "07.jsonl" in Path(result.report).read_text()


def test_one_file_among_twenty_whose_texts_are_too_long(run):
    """It moves the figure of all rows by no more than 5 %."""
    long = [
        f"{text} {' '.join(WORDS[:9])}" if n % FILES == 7 else text
        for n, text in enumerate(texts())
    ]
    report = check(run(long, *SOUND), "groups.source.worst_truncated_share>0.5")
    assert report["truncation"]["row_share"] == 0.05
    assert "source '07.jsonl' (20 records) is unlike the others: 100 % " in findings(report)


def test_a_dimension_that_collapsed(run):
    report = check(run(texts(), *SOUND, encode=with_a_dead_dimension), "dimensions.n_dead>0")
    assert [one["dimension"] for one in report["dimensions"]["dead"]] == [7]
    assert "(number 7, counted from 0)" in findings(report)


def test_a_wrong_pooling_that_takes_different_texts_for_one(run):
    report = check(run(texts(), *SOUND, encode=of_first_tokens), "geometry.equal_share>0.01")
    assert report["geometry"]["equal_share"] == 1
    assert "400 sampled rows (100 %) have exactly the vector of a row with ano" in findings(report)


def test_a_tenth_of_the_vectors_from_another_model(run):
    first_share = "dimensions.spectrum.first_share>0.25"
    report = check(run(texts(), *SOUND, encode=of_two_models), first_share)
    # Nothing was lost, and nothing but this figure shows it: that of the sound corpus is 0.12.
    assert report["dimensions"]["spectrum"]["first_share"] > 0.4
    assert report["verdict"]["errors"] == report["counts"]["rejected"] == 0


def findings(report: dict[str, Any]) -> str:
    return " ".join(one["text"] for one in report["findings"])
