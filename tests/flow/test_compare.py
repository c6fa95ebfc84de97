"""Versions held against each other: by their parts, by command, and in the report of a run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from blocks import DESCRIPTION, Job, make_block, make_options
from calling import call
from costless import WORDS, CostlessEncoder, CostlessEngine, costless_model, make_costless
from running import write_jsonl
from span_blocks import OF_WORDS, span_block, span_options

from embedkit.config import JobConfig
from embedkit.dataset.publication import number_of, published_before
from embedkit.dataset.rows import opened_part
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, GatesFailedError
from embedkit.flow import compare, examine
from embedkit.flow.compare import compare_versions
from embedkit.flow.examine import examine_both, examine_rows
from embedkit.flow.publish import raise_where_refused
from embedkit.flow.publish_by_hand import publish_version
from embedkit.reports import vector_sample
from embedkit.reports.map import clusters

pytestmark = pytest.mark.usefixtures("logging_restored")

RECIPE = {"ingredients": {"weights": "a" * 32, "prompt": ""}}


def made(root: Path, name: str, *blocks, **changes) -> Version:
    version = Version(str(root), name)
    Job(list(blocks), make_options(), DESCRIPTION | RECIPE | changes).complete(version)
    return version


def same_sums(one, two):
    drawn = [found.sample.drawn() for found in (one, two)]
    assert (one.blocks, one.of_blocks) == (two.blocks, two.of_blocks)
    for name in ("count", "constant"):
        assert getattr(one.moments, name) == getattr(two.moments, name)
    for name in ("total", "products", "low", "high"):
        assert np.array_equal(getattr(one.moments, name), getattr(two.moments, name))
    for name in ("keys", "texts", "vectors", "sources", "beginnings"):
        assert np.array_equal(getattr(drawn[0], name), getattr(drawn[1], name)), name


@pytest.mark.parametrize("most", [1000, 12])
@pytest.mark.parametrize("blocks", [2048, 2])
def test_what_both_have_is_read_once_and_counts_for_both(tmp_path, monkeypatch, most, blocks):
    monkeypatch.setattr(vector_sample, "MOST_SAMPLED", most)
    monkeypatch.setattr(examine, "MOST_BLOCKS", blocks)
    few = [make_block(split, 0, 12) for split in range(3)]
    earlier = made(tmp_path, "v1", *few)
    later = made(
        tmp_path, "v2", *few[:2], make_block(2, 0, 30, seed=1), make_block(3, 0, 20, seed=2)
    )
    sides = [(version, Job([]).options and parts(version)) for version in (earlier, later)]
    opened = []

    def counted(version, part, *args, **kwargs):
        opened.append((version.name, part.path))
        return opened_part(version, part, *args, **kwargs)

    monkeypatch.setattr(examine, "opened_part", counted)
    found = examine_both(*sides)
    if blocks > 4:
        assert sorted(name for name, _ in opened) == ["v1", "v2", "v2", "v2", "v2"]
    assert len(opened) == len(set(opened))
    for one, (version, listed) in zip(found, sides, strict=True):
        same_sums(one, examine_rows(version, listed))


def parts(version):
    from embedkit.dataset.manifest import read_manifest

    return read_manifest(version).parts


def rows_of(version: Version) -> dict[str, np.ndarray]:
    tables = [pq.read_table(path) for path in sorted(Path(version.url).glob("data/*.parquet"))]
    found = {}
    for table in tables:
        vectors = np.stack(table.column("embedding").to_numpy(zero_copy_only=False))
        found |= dict(zip(table.column("id").to_pylist(), vectors, strict=True))
    return found


def test_the_command_says_what_a_reader_of_the_parts_finds(tmp_path):
    common = make_block(0, 0, 60)
    one = made(tmp_path, "v1", common, make_block(1, 0, 30))
    two = made(tmp_path, "v2", common, make_block(2, 0, 50, seed=3))
    said = call("compare", one.url, two.url, "--json").json
    rows = [rows_of(version) for version in (one, two)]
    assert said["earlier"]["version"] == "v1"
    assert said["later"]["rows"] == 110
    assert said["rows"] == {
        "added": 50, "removed": 30, "changed": 0, "unchanged": 60, "moved": 0, "re_encoded": 0,
        "metadata": 0,
    }  # fmt: skip
    means = [np.mean(list(side.values()), axis=0) for side in rows]
    cosine = means[0] @ means[1] / np.prod([np.linalg.norm(mean) for mean in means])
    assert said["centroid_cosine"] == pytest.approx(cosine, abs=1e-4)
    assert (said["same_recipe"], said["why"], said["recipe_changes"]) == (True, None, [])
    assert (said["common"], said["unchanged"], said["unchanged_least_cosine"]) == (60, 60, 1)
    text = call("compare", one.url, two.url).out
    assert f"cosine of means      {said['centroid_cosine']}" in text
    assert "not parted into clusters: too few rows" in text
    # Either way, and of a root as well.
    assert compare_versions(one.url, tmp_path).drift.frechet == said["frechet"]
    assert compare_versions(two.url, one.url).drift.rows.added == 30


def test_another_recipe_is_refused_with_what_differs(tmp_path):
    block = make_block(0, 0, 60)
    one = made(tmp_path, "v1", block)
    two = made(tmp_path, "v2", make_block(0, 0, 60, seed=1),
               ingredients=RECIPE["ingredients"] | {"prompt": "passage: "})  # fmt: skip
    said = call("compare", one.url, two.url, "--json").json
    assert said["why"] == ("their vectors are of two recipes: prompt was '' and is 'passage: '")
    assert said["centroid_cosine"] is said["mmd_p"] is said["unchanged"] is None
    assert 0 < said["neighbour_overlap"] < 1
    text = call("compare", one.url, two.url).out
    assert "not compared further, as their vectors are of two recipes: prompt was" in text
    assert "embedkit evaluate" in text
    assert "cosine of means" not in text


def test_what_cannot_be_compared_is_refused_in_a_line(tmp_path):
    one = made(tmp_path, "v1", make_block(0, 0, 9))
    words = Version(str(tmp_path), "words")
    Job([span_block()], span_options(), dict(OF_WORDS)).complete(words)
    answer = call("compare", one.url, words.url)
    assert (answer.code, "words: its rows have not one vector each" in answer.error) == (2, True)
    half = Version(str(tmp_path), "half")
    Job([make_block(0, 0, 9)]).write(half)
    with pytest.raises(ConfigError, match="half: not complete; run its job to the end"):
        compare_versions(one.url, half.url)
    assert call("compare", one.url, str(tmp_path / "none")).code == 2


def test_half_precision_is_compared_with_single(tmp_path):
    single = made(tmp_path, "v1", make_block(0, 0, 60))
    half = Version(str(tmp_path), "v2")
    Job(
        [make_block(0, 0, 60, dtype="float16")],
        make_options(vector_dtype="float16"),
        DESCRIPTION | RECIPE,
    ).complete(half)
    found = compare_versions(single.url, half.url).drift
    assert (found.unchanged, found.unchanged_below) == (60, 0)
    assert 0.9999 < found.unchanged_least_cosine <= 1
    assert found.centroid_cosine > 0.9999


def test_the_version_before_is_the_one_published_before(tmp_path):
    versions = [made(tmp_path, f"v{n}", make_block(0, 0, 3, seed=n)) for n in range(3)]
    assert [published_before(version) for version in versions] == [None, "v0", "v1"]
    new = Version(str(tmp_path), "new")
    assert published_before(new) == "v2"
    Job([make_block()]).seal(new)
    assert published_before(new) == "v2"
    publish_version(versions[0].url)
    assert number_of(versions[0]) == 4
    assert [published_before(version) for version in versions] == ["v2", None, "v1"]
    assert published_before(new) == "v0"


SUBJECTS = tuple(WORDS[first : first + 8] for first in range(0, 40, 8))
WIDTH = 24


class TopicEncoder(CostlessEncoder):
    """Means over the words of a text."""

    def encode(self, batch):
        done = len(self.asked)
        super().encode(batch)
        words = np.random.default_rng(0).standard_normal((len(WORDS) + 1, WIDTH))
        means = np.array([words[list(ids)].mean(axis=0) for ids in self.asked[done:]])
        return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Runs a job over so many texts of each subject."""
    model = costless_model(tmp_path)
    model = replace(model, vectors=replace(model.vectors, dimension=WIDTH))
    models = [model, replace(model, identity=replace(model.identity, weights_hash="b"))]
    asked = {"model": 0}

    def engine():
        made = CostlessEngine(models[asked["model"]])
        made.encoder = TopicEncoder()
        return made

    make_costless(monkeypatch, engine, reports=True)
    monkeypatch.setattr(clusters, "LEAST_ROWS", 100)

    def run(counts, *gates, of_model=0, **changes):
        asked["model"] = of_model
        for subject, count in counts.items():
            draw = np.random.default_rng(subject)
            lines = [
                {
                    "id": f"{subject}-{n}",
                    "text": f"{' '.join(draw.permutation(SUBJECTS[subject])[:5])}",
                }
                for n in range(count)
            ]
            write_jsonl(tmp_path / "corpus" / f"{subject}.jsonl", lines)
        settings = {"model": "costless", "output": str(tmp_path / "out"), "engine": "plain",
                    "id_column": "id", "store_text": True}  # fmt: skip
        return run_job(
            JobConfig(inputs=(str(tmp_path / "corpus"),), fail_on=gates, **(settings | changes))
        )

    return run


def report_of(result):
    path = Path(result.dataset, "report", "report.json")
    return json.loads(path.read_text()), path.with_suffix(".html").read_text()


NIGHT = {0: 60, 1: 50, 2: 40}


def test_a_subject_that_is_added_is_named_and_keeps_a_version_back(night):
    first = night(NIGHT)
    report, page = report_of(first)
    assert (report["drift"]["version"], report["drift"]["auc"]) == (None, None)
    assert "Not compared: no version was published before it." in page
    second = night({3: 60}, "drift.centroid_cosine<0.98")
    report, page = report_of(second)
    drift = report["drift"]
    assert drift["version"] == first.version
    assert drift["rows"] == {
        "added": 60, "removed": 0, "changed": 0, "unchanged": 150, "why": None
    }  # fmt: skip
    assert drift["unchanged_least_cosine"] == drift["neighbour_overlap"] == 1
    assert drift["centroid_cosine"] < 0.98
    (grown,) = [one for one in drift["clusters"]["changed"] if "grew" in one["changes"]]
    assert set(grown["terms"]) <= set(SUBJECTS[3])
    assert grown["share_before"] == 0
    assert grown["share"] == pytest.approx(60 / 210, abs=1e-6)
    assert all(set(text.split()) <= set(SUBJECTS[3]) for text in grown["examples"])
    assert "Against the version before" in page
    assert ", ".join(grown["terms"]) in page
    with pytest.raises(GatesFailedError, match=r"drift\.centroid_cosine<0\.98: the figure is 0\."):
        raise_where_refused(second)
    assert (second.published, GatesFailedError("").exit_code) == (False, 5)
    # Told in the same words of the two versions.
    found = compare_versions(first.dataset, second.dataset)
    said = found.to_dict()
    del said["earlier"], said["later"], said["rows"]
    assert said == {name: drift[name] for name in said}


def test_another_model_is_told_by_its_neighbours_alone(night):
    night(NIGHT)
    report, page = report_of(night(NIGHT, "drift.auc>0.6", of_model=1))
    drift = report["drift"]
    assert drift["why"].startswith("their vectors are of two recipes: weights was 'a'")
    assert drift["neighbour_overlap"] == 1
    assert "two recipes: weights was" in report["gates"][0]["why"]
    assert "Vectors are not held against each other: their vectors are of two recipes" in page


def test_made_anew_it_is_compared_with_the_same_version_or_what_was_said_of_it_stands(night):
    first, second = night(NIGHT), night({3: 60})
    third = night({}, store_text=False)
    assert report_of(third)[0]["drift"]["version"] == second.version
    path = Path(second.dataset, "report", "report.json")
    before = path.read_bytes()
    said = json.dumps(json.loads(before)["drift"])
    path.unlink()
    assert night({}).version == second.version
    assert json.dumps(report_of(second)[0]["drift"]) == said
    path.write_bytes(before)
    shutil.rmtree(first.dataset)
    assert call("report", second.dataset).code == 0
    assert path.read_bytes() == before
    assert call("report", second.dataset, "--no-report-text").code == 0
    report, page = report_of(second)
    assert report["drift"]["auc"] == json.loads(said)["auc"]
    assert all(not one["examples"] + one["terms"] for one in report["drift"]["clusters"]["changed"])
    assert WORDS[30] not in page


def test_why_a_run_compares_nothing(night, caplog):
    first = night(NIGHT, "drift.auc>0.6", "drift.auc?>0.6")
    report, page = report_of(first)
    assert [one["passed"] for one in report["gates"]] == [False, True]
    assert report["drift"]["version"] is None
    assert "no version was published before it" in report["gates"][0]["why"]
    assert "Not compared: no version was published before it" in page
    publish_version(first.dataset)
    report, _ = report_of(night({0: 61}, limit=30))
    assert report["drift"]["why"] == "it is a trial, which is compared with no version"
    report, page = report_of(night({2: 41}, "drift.rows.added>5", reuse="off"))
    assert report["drift"]["version"] == first.version
    assert report["drift"]["rows"]["added"] is None
    assert "embedkit diff counts them" in report["gates"][0]["why"]
    assert "embedkit diff counts them" in page
    part = sorted(Path(first.dataset, "data").glob("*.parquet"))[0]
    part.write_bytes(b"torn" * 9)
    report, _ = report_of(night({2: 42}, reuse="off"))
    assert report["drift"]["why"].startswith("the version before it cannot be read: ")
    assert part.name in report["drift"]["why"]
    assert report["geometry"]["sampled"] == 153
    assert "not compared with the one before it" in caplog.text


def test_why_a_version_was_not_compared_stands_when_its_report_is_made_anew(night):
    first = night(NIGHT)
    plan = Path(first.dataset, "_meta", "plan.json")
    plan.write_text("[]")
    second = night({3: 20}, reuse="off")
    path = Path(second.dataset, "report", "report.json")
    before = path.read_bytes()
    assert json.loads(before)["drift"]["why"].startswith("the version before it cannot be read: ")
    assert call("report", second.dataset).code == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("asked_first", "said"), [(True, "not complete yet"), (False, "is not complete any more")]
)
def test_a_version_that_is_half_removed_is_not_compared(night, monkeypatch, asked_first, said):
    first = night(NIGHT)
    complete = Version.is_complete

    def removed_now(version):
        found = complete(version)
        if version.name == first.version:
            Path(first.dataset, "_SUCCESS").unlink(missing_ok=True)
        return found if asked_first else complete(version)

    def named(version):
        found = published_before(version)
        patch.setattr(Version, "is_complete", removed_now)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(compare, "published_before", named)
        drift = report_of(night({3: 20}, reuse="off"))[0]["drift"]
    assert (drift["version"], drift["auc"]) == (None, None)
    assert first.version in drift["why"]
    assert said in drift["why"]
