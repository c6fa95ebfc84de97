"""Versions that earlier releases wrote: finished, validated and described by this one."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from releases import FIXTURES, MODEL, copy_of_root, inputs_in_memory, job, releases, version_of
from running import Dataset

from embedkit import __version__
from embedkit.dataset.describe import describe
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version
from embedkit.engines.run import run_job
from embedkit.search.exact import search
from embedkit.search.query import search_text

JOBS = [
    (release, name)
    for release in releases()
    for name in json.loads((FIXTURES / release / "jobs.json").read_text())
]
HALF_DONE = [one for one in JOBS if "half-done" in one[1]]
COMPLETE = [one for one in JOBS if "half-done" not in one[1]]


@pytest.fixture(autouse=True)
def inputs() -> Iterator[None]:
    with inputs_in_memory():
        yield


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_every_release_keeps_its_own():
    assert __version__ in releases(), "write them, as tests/fixtures/README.md says"


def test_there_is_one_of_each_kind():
    assert HALF_DONE and COMPLETE
    assert any(job(*one, Path("out")).version is None for one in HALF_DONE)
    assert any(job(*one, Path("out")).version for one in HALF_DONE)


@pytest.mark.parametrize(("release", "name"), COMPLETE)
def test_a_complete_version_is_found_and_left_as_it_is(release, name, tmp_path):
    root = copy_of_root(release, tmp_path / "root")
    before = contents(root)
    done = run_job(job(release, name, root))
    assert (done.already_complete, done.version) == (True, version_of(release, name))
    assert contents(root) == before
    version = find_version(str(root))
    assert version.url == done.dataset
    assert validate(version).problems == ()
    described = describe(version)
    dataset = Dataset(Path(done.dataset))
    assert described["complete"] and described["published"]
    assert described["rows"] == dataset.table.num_rows == done.rows
    assert described["rejects"] == len(dataset.rejects) == done.rejects


def alike(found: Any, expected: Any) -> bool:
    """Whether figures are the same, but for the last digits of another machine's products."""
    if isinstance(found, dict) and isinstance(expected, dict):
        # Later releases may say more.
        return found.keys() >= expected.keys() and all(
            alike(found[name], one) for name, one in expected.items()
        )
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    if isinstance(found, float) and isinstance(expected, float):
        return found == pytest.approx(expected, rel=1e-6, abs=1e-9)
    return bool(found == expected)


@pytest.mark.parametrize(("release", "name"), COMPLETE)
def test_a_report_that_is_gone_says_again_what_its_release_said(release, name, tmp_path):
    root = copy_of_root(release, tmp_path / "root")
    path = root / version_of(release, name) / "report" / "report.json"
    expected = json.loads(path.read_text())
    path.unlink()
    run_job(job(release, name, root))
    found = json.loads(path.read_text())
    cosines = [report["similarity"].pop("mean_cosine") for report in (found, expected)]
    assert cosines[0] == pytest.approx(cosines[1], abs=1e-9)
    for report in (found, expected):
        norms = report["norms"]
        report["norms"] = {name: norms[name] for name in norms if name not in ("mean", "deviation")}
        # Nobody looked for near duplicates then.
        said = (one["text"] for one in report["findings"] if "near duplicates" not in one["text"])
        report["findings"] = sorted(said)
    for entry in expected.keys() - {"run"}:
        assert alike(found[entry], expected[entry]), entry


@pytest.mark.parametrize(("release", "name"), HALF_DONE)
def test_a_half_done_version_is_finished(release, name, tmp_path):
    root = copy_of_root(release, tmp_path / "root")
    before = contents(root)
    fresh = run_job(job(release, name, tmp_path / "fresh"))
    done = run_job(job(release, name, root))
    assert (done.already_complete, done.version) == (False, version_of(release, name))
    after = contents(root)
    mutable = {"LATEST", *(key for key in before if key.startswith(".numbers/"))}
    assert {key: after[key] for key in before if key not in mutable} == {
        key: data for key, data in before.items() if key not in mutable
    }
    version = Version(str(root), done.version)
    assert validate(version).problems == ()
    ours, theirs = Dataset(Path(done.dataset)), Dataset(Path(fresh.dataset))
    committed = [
        json.loads(data)["rows"]
        for key, data in before.items()
        if key.startswith(f"{done.version}/_meta/commits/")
    ]
    assert 0 < sum(committed) < done.rows == fresh.rows
    assert ours.table.drop_columns("embedding").equals(theirs.table.drop_columns("embedding"))
    assert ours.rejects == theirs.rejects
    for part in ours.manifest["parts"]:
        block = Path(part["path"]).stem.removeprefix("part-")
        before_sources = f"{done.version}/_meta/commits/{block}.json" in before
        found = Counter(pq.read_table(ours.folder / part["path"])["source"].to_pylist())
        assert part["sources"] == ({} if before_sources and release == "0.1.0" else found)
    vectors = ours.table["embedding"]
    # The codes of another machine's calibration may be the next ones.
    apart = 1 if pa.types.is_integer(vectors.type.value_type) else 2e-3
    for mine, other in zip(vectors, theirs.table["embedding"], strict=True):
        np.testing.assert_allclose(
            mine.values.cast("float32"), other.values.cast("float32"), atol=apart
        )


@pytest.mark.parametrize(("release", "name"), COMPLETE)
def test_a_complete_version_is_searched(release, name):
    version = Version(str(FIXTURES / release / "root"), version_of(release, name))
    table = Dataset(Path(version.url)).table
    vectors = np.stack([one.values.to_numpy() for one in table["embedding"]]).astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    for hits, scores in zip(search(version, vectors, k=3), vectors @ vectors.T, strict=True):
        best = np.argsort(-scores)[:3]
        assert [hit.score for hit in hits] == pytest.approx(scores[best], abs=1e-6)
        assert {hit.id for hit in hits[:1]} <= set(table["id"].to_pylist())
    row = table.slice(3, 1).to_pylist()[0]
    (hit,) = search_text(version.url, row["text"], k=1, model=str(MODEL))
    assert (hit.id, hit.text, hit.source) == (row["id"], row["text"], row["source"])
    assert hit.place.startswith("line ")
    assert hit.score == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("release", "name"), HALF_DONE)
def test_a_half_done_version_is_described(release, name):
    root, version = FIXTURES / release / "root", version_of(release, name)
    described = describe(Version(str(root), version))
    parts = sorted((root / version / "data").glob("*.parquet"))
    committed = len(list((root / version / "_meta" / "commits").iterdir()))
    assert not described["complete"]
    assert described["blocks"] == committed
    assert described["splits_ended"] < described["splits"]
    assert 0 < described["rows"] < sum(pq.read_metadata(part).num_rows for part in parts)
