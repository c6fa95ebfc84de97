"""The report of a real run against what pandas and NumPy make of the dataset itself."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from pages import Page

from embedkit.dataset.validate import validate
from embedkit.dataset.version import find_version

pytestmark = pytest.mark.timeout(900)

QUANTILES = {"p1": 0.01, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
SAMPLE = 512


@pytest.fixture(scope="module")
def report(prose_run) -> dict:
    return json.loads((prose_run.dataset.folder / "report" / "report.json").read_text())


@pytest.fixture(scope="module")
def frame(prose_run) -> pd.DataFrame:
    return pd.read_parquet(prose_run.dataset.folder / "data")


@pytest.fixture(scope="module")
def vectors(frame) -> np.ndarray:
    return np.stack(frame["embedding"]).astype(np.float64)


def test_everything_is_accounted_for(report, frame, prose_run):
    counts = report["counts"]
    assert counts["reconciled"]
    assert len(counts["checks"]) == 5
    lines = "lines in = records + blanks + headers + continued"
    assert {"name": lines, "expected": 600, "found": 600, "ok": True} in counts["checks"]
    assert (counts["documents"], counts["rows"], counts["rejected"]) == (600, len(frame), 2)
    assert report["inputs"]["files"] == 1
    (reason,) = report["rejects"]["reasons"]
    assert (reason["reason"], reason["count"]) == ("empty_text", 2)
    assert {one["doc_id"] for one in reason["examples"]} == {"470", "594"}
    assert report["rejects"]["share"] == pytest.approx(2 / 600)
    assert validate(find_version(str(prose_run.dataset.folder))).problems == ()


def test_tokens_and_truncation(report, frame, prose_run):
    lengths = frame["n_tokens"]
    tokens = report["tokens"]
    seen = lengths.clip(upper=256)
    assert tokens["total"] == lengths.sum()
    assert tokens["seen"] == seen.sum() == prose_run.result.tokens
    assert tokens["mean"] == pytest.approx(lengths.mean())
    assert (tokens["shortest"], tokens["longest"]) == (lengths.min(), lengths.max())
    assert tokens["quantiles"] == {
        name: int(np.quantile(lengths, share, method="inverted_cdf"))
        for name, share in QUANTILES.items()
    }
    edges = tokens["bars"]["edges"]
    assert tokens["bars"]["counts"] == np.histogram(lengths, edges)[0].tolist()
    cut = lengths[frame["truncated"]]
    assert tokens["bars"]["truncated"] == np.histogram(cut, edges)[0].tolist()
    truncation = report["truncation"]
    assert (truncation["max_tokens"], truncation["rows"]) == (256, (lengths > 256).sum())
    assert frame["truncated"].equals(lengths > 256)
    assert truncation["tokens_lost"] == (lengths - seen).sum()
    assert truncation["row_share"] == pytest.approx((lengths > 256).mean())
    assert truncation["token_share"] == pytest.approx(1 - seen.sum() / lengths.sum())
    assert prose_run.result.truncated_share == pytest.approx((lengths > 256).mean())


def test_norms(report, vectors):
    norms = np.linalg.norm(vectors, axis=1)
    found = report["norms"]
    assert found["mean"] == pytest.approx(norms.mean(), rel=1e-12)
    assert found["deviation"] == pytest.approx(norms.std(), rel=1e-6)
    assert found["low"] == pytest.approx(norms.min(), rel=1e-12)
    assert found["high"] == pytest.approx(norms.max(), rel=1e-12)
    assert (found["non_finite"], found["zero"]) == (0, 0)
    for name, share in QUANTILES.items():
        assert found["quantiles"][name] == pytest.approx(np.quantile(norms, share), rel=1.1e-3)


def test_duplicates_of_text(report, frame):
    found = report["duplicates"]
    counts = frame["text"].value_counts()
    assert found["exact"]
    assert found["texts"] == (counts > 1).sum()
    assert found["rows"] == frame["text"].duplicated().sum()
    assert [one["count"] for one in found["top"]] == counts[counts > 1].head(10).tolist()


def sampled(frame: pd.DataFrame) -> np.ndarray:
    """Places of the rows whose ids have the smallest hashes."""
    keys = [
        int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
        for name in frame["id"]
    ]
    return np.argsort(keys, kind="stable")[:SAMPLE]


def test_similarity_of_the_sample(report, frame, vectors):
    found = report["similarity"]
    rows = sampled(frame)
    chosen = frame.iloc[rows]
    keep = ~chosen["text"].duplicated().to_numpy()
    units = vectors[rows][keep]
    units /= np.linalg.norm(units, axis=1)[:, None]
    cosines = units @ units.T
    pairs = cosines[np.triu_indices(len(units), 1)]
    assert (found["sampled"], found["compared"]) == (SAMPLE, keep.sum())
    assert found["copies"] == SAMPLE - keep.sum()
    for name, share in QUANTILES.items():
        expected = np.quantile(pairs, share)
        assert found["pairs"]["quantiles"][name] == pytest.approx(expected, abs=2e-6)
    np.fill_diagonal(cosines, -1)
    nearest = cosines.max(axis=1)
    for name, share in QUANTILES.items():
        expected = np.quantile(nearest, share)
        assert found["nearest"]["quantiles"][name] == pytest.approx(expected, abs=2e-6)
    assert found["near_copies"] == pytest.approx((nearest >= 0.95).mean())
    counts = np.histogram(np.round(pairs, 6), found["edges"])[0]
    assert np.abs(counts - found["pairs"]["counts"]).sum() <= 2
    assert sum(found["pairs"]["counts"]) == len(pairs)
    first = found["closest"][0]
    assert first["cosine"] == pytest.approx(pairs.max(), abs=2e-6)
    texts = frame.set_index("id")["text"]
    for pair in found["closest"]:
        left, right = (pair[side]["id"] for side in ("left", "right"))
        places = [int(np.flatnonzero(frame["id"] == name)[0]) for name in (left, right)]
        a, b = vectors[places]
        expected = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
        assert pair["cosine"] == pytest.approx(expected, abs=2e-6)
        assert texts[left].startswith(pair["left"]["text"].removesuffix("…"))
    units = vectors / np.linalg.norm(vectors, axis=1)[:, None]
    every = units @ units.T
    mean = every[np.triu_indices(len(units), 1)].mean()
    assert found["mean_cosine"] == pytest.approx(mean, abs=1e-9)


def test_figures_of_the_run(report, prose_run):
    run, result = report["run"], prose_run.result
    for name in ("tokens_encoded", "rows_resumed", "encode_seconds", "encoder_busy_share"):
        assert run[name] == getattr(result, name)
    assert 0 < run["encode_seconds"] <= run["wall_seconds"]
    assert 0 < run["encoder_busy_share"] <= 1
    assert run["tokens_per_second"] == pytest.approx(run["tokens_encoded"] / run["encode_seconds"])
    assert run["tokens_encoded"] <= result.tokens
    assert run["encoders"] == 1


def test_the_page_shows_the_same_and_asks_nothing_of_the_network(report, prose_run):
    page = (prose_run.dataset.folder / "report" / "report.html").read_text()
    for number in (report["counts"]["documents"], report["counts"]["rows"]):
        assert f"{number:,}" in page
    assert Page(page).asks_for_nothing
