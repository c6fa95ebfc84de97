"""Near duplicates in whole runs."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from near_rows import brute_force, ids_of, read_groups
from running import Dataset, tiny_job, write_jsonl

from embedkit.dataset.validate import validate
from embedkit.dataset.version import latest
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.flow import complete, near_duplicates
from embedkit.reports.near import cells

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

    def make(to="out", **changes):
        changes = {"id_column": "id", "store_text": True, "near_duplicates": "1"} | changes
        return tiny_job(tiny_model, tmp_path / "in.jsonl", tmp_path / to, **changes)

    return make


def by_workers(monkeypatch):
    """Has the workers look for them in small versions, and returns how each look was asked for."""
    looked = []
    monkeypatch.setattr(near_duplicates, "FEW_ROWS", 20)
    sizes = near_duplicates.Sizes(few_rows=20)
    monkeypatch.setattr(near_duplicates, "Sizes", lambda: sizes)
    real = near_duplicates.find_near_duplicates
    monkeypatch.setattr(
        near_duplicates,
        "find_near_duplicates",
        lambda *given: looked.append(len(given)) or real(*given),
    )
    return looked


def report_of(account):
    return json.loads(Path(account.report).with_suffix(".json").read_text())


@pytest.mark.parametrize("workers", [False, True])
def test_a_run_says_which_rows_could_go(job, monkeypatch, workers):
    looked = by_workers(monkeypatch) if workers else []
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
    assert looked == ([6] if workers else [])
    assert not list(version.store.list(version.key("_meta/near/")))
    assert validate(version).ok
    Dataset.latest(Path(account.dataset).parent).check_accounts(len(RECORDS))


def test_the_figures_are_those_of_brute_force(job, monkeypatch):
    monkeypatch.setattr(cells, "_faiss", lambda: pytest.fail("faiss is loaded for few rows"))
    account = run_job(job(near_duplicates="auto"))
    near = report_of(account)["near_duplicates"]
    table = Dataset.latest(Path(account.dataset).parent).table
    ids = table.column("id").to_pylist()
    vectors = np.stack(table.column("embedding").to_pylist()).astype(np.float32)
    cosines = (vectors @ vectors.T)[np.triu_indices(len(ids), 1)]
    assert near["floor"] == pytest.approx(cosines.mean(), abs=1e-5)
    low = min(max(near["floor"], 0), 0.8)
    assert near["threshold"] == pytest.approx(low + 0.95 * (1 - low), abs=2e-6)
    # Products of other blocks differ in their last bits.
    fewer, more = (
        ids_of(brute_force(vectors, near["threshold"] + by), ids) for by in (1e-5, -1e-5)
    )
    groups = read_groups(latest(Path(account.dataset).parent))
    assert all(any(one <= group for group in groups) for one in fewer)
    assert all(any(group <= one for one in more) for group in groups)
    assert near["groups"] == len(groups)
    assert near["rows"] == sum(map(len, groups))
    assert near["share"] == (near["rows"] - near["groups"]) / len(ids)
    assert near["largest"][0]["size"] == max(map(len, groups))


def test_a_run_that_is_killed_behind_the_look_ends_in_the_same_bytes(job, monkeypatch, tmp_path):
    looked = by_workers(monkeypatch)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(complete, "complete_version", killed)
        run_job(job())
    (root,) = (tmp_path / "out").glob("*/_meta/near")
    assert list(root.iterdir())
    assert len(looked) == 1
    account = run_job(job())
    assert len(looked) == 1
    assert not root.exists()
    again = run_job(job("again"))
    assert len(looked) == 2
    names = ("near_duplicates.arrow", "near_duplicates.json")
    first, second = (Path(one.report).parent for one in (account, again))
    assert all((first / name).read_bytes() == (second / name).read_bytes() for name in names)


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
    with pytest.raises(ConfigError, match="expected auto, on, off, or a cosine above 0"):
        job(near_duplicates=wrong)


def test_the_night_after_looks_only_where_a_gate_needs_it(job, monkeypatch, tmp_path):
    looked = by_workers(monkeypatch)
    settings = {"near_duplicates": "auto"}
    first = report_of(run_job(job(**settings)))["near_duplicates"]
    assert (first["measured"], looked) == (True, [6])
    changed = [RECORDS[0] | {"text": "another text"}, *RECORDS[1:]]
    write_jsonl(tmp_path / "in.jsonl", changed)
    second = report_of(run_job(job(**settings)))["near_duplicates"]
    assert second["why"].startswith("70 of 71 rows were taken over from an earlier version")
    assert (second["measured"], looked) == (False, [6])
    write_jsonl(tmp_path / "in.jsonl", [*changed, {"id": "new", "text": "a new text"}])
    gated = report_of(run_job(job(fail_on=("near_duplicate_share>0.9",), **settings)))
    assert gated["near_duplicates"]["measured"]
    assert gated["gates"][0]["figure"] == gated["near_duplicates"]["share"]
    # By the workers again, before the version is completed.
    assert looked == [6, 6]
