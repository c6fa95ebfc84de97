"""Near duplicates in whole runs."""

import importlib.util
import json
from pathlib import Path

import pytest
from near_rows import read_groups
from running import tiny_job, write_jsonl

from embedkit.dataset.validate import validate
from embedkit.dataset.version import latest
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.flow import near_duplicates

TEXTS = [f"text number {n} of the corpus, {'vectors ' * (n % 7)}" for n in range(60)]
RECORDS = [
    {"id": f"doc-{n:02}", "text": text} for n, text in enumerate([*TEXTS, *TEXTS[:10], TEXTS[0]])
]
EQUAL = {
    frozenset({"doc-00", "doc-60", "doc-70"}),
    *(frozenset({f"doc-{n:02}", f"doc-{n + 60}"}) for n in range(1, 10)),
}


@pytest.fixture
def job(tiny_model, tmp_path):
    write_jsonl(tmp_path / "in.jsonl", RECORDS)

    def make(**changes):
        changes = {"id_column": "id", "store_text": True, "near_duplicates": "1"} | changes
        return tiny_job(tiny_model, tmp_path / "in.jsonl", tmp_path / "out", **changes)

    return make


def report_of(account):
    return json.loads(Path(account.report).with_suffix(".json").read_text())


@pytest.mark.parametrize("by_workers", [False, True])
def test_a_run_says_which_rows_could_go(job, monkeypatch, by_workers):
    looked = []
    if by_workers:
        monkeypatch.setattr(near_duplicates, "_FEW_ROWS", 20)
        real = near_duplicates.find_near_duplicates
        monkeypatch.setattr(
            near_duplicates,
            "find_near_duplicates",
            lambda *given: looked.append(len(given)) or real(*given),
        )
    account = run_job(job())
    near = report_of(account)["near_duplicates"]
    assert near["measured"]
    version = latest(Path(account.dataset).parent)
    groups = read_groups(version)
    # A cosine that rounds to 1 may join more rows than equal texts do.
    assert all(any(equal <= group for group in groups) for equal in EQUAL)
    assert near["equal_texts"] == 11
    assert near["removable"] >= 11
    assert near["share"] == near["removable"] / len(RECORDS)
    assert near["largest"][0]["shown"][0]["text"].startswith("text number")
    assert near["largest"][0]["shown"][0]["place"].startswith("line ")
    # By the workers, with a place for what they leave each other; then it is known.
    assert looked == ([6] if by_workers else [])
    assert not list(version.store.list(version.key("_meta/near/")))
    assert validate(version).ok


def test_off_looks_for_none_and_is_the_same_version(job):
    off = run_job(job(near_duplicates="off"))
    near = report_of(off)["near_duplicates"]
    assert (near["measured"], near["why"]) == (False, "near_duplicates is off")
    assert run_job(job()).version == off.version


def test_without_excerpts_no_text_is_kept(job):
    account = run_job(job(excerpts=False))
    folder = Path(account.report).parent
    assert "text number" not in (folder / "near_duplicates.json").read_text()
    assert report_of(account)["near_duplicates"]["largest"][0]["shown"][0]["text"] is None


def test_words_have_many_vectors_and_are_not_compared(job):
    account = run_job(job(granularity="word", normalize=None))
    assert "several vectors each" in report_of(account)["near_duplicates"]["why"]


def test_asked_for_without_faiss_it_is_refused_at_once(job, monkeypatch, tmp_path):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name == "faiss" else real(name, *more),
    )
    with pytest.raises(ConfigError, match="near_duplicates: on, but faiss is not installed"):
        run_job(job(near_duplicates="on"))
    assert not (tmp_path / "out").exists()
    assert report_of(run_job(job(near_duplicates="auto")))["near_duplicates"]["measured"]


@pytest.mark.parametrize(
    ("given", "settled"),
    [(True, "on"), (False, "off"), (0.9, "0.9"), ("0.90", "0.9"), (1, "1.0"), ("auto", "auto")],
)
def test_the_setting_as_it_may_be_written(job, given, settled):
    assert job(near_duplicates=given).near_duplicates == settled


@pytest.mark.parametrize("wrong", ["yes", 0, 1.5, -1, "nan", "", None])
def test_a_setting_that_is_neither(job, wrong):
    with pytest.raises(ValueError, match="expected auto, on, off, or a cosine above 0"):
        job(near_duplicates=wrong)
