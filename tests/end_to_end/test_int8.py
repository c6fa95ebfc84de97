"""A model in int8 through whole runs: measured once with the corpus, rounded alike ever after."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from running import Dataset, killed_after_blocks, records, tiny_job, write_jsonl

from embedkit.config import EvaluationConfig, ModelConfig, OutputConfig
from embedkit.dataset.layer_ranges import RangesRecord
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.flow import layer_ranges
from embedkit.flow.map_splits import map_in_threads
from embedkit.flow.prepare import prepare
from embedkit.search.evaluate.evaluate import evaluate_version
from embedkit.search.reader import open_version
from embedkit.transforms.embed_corpus import EmbedCorpus

ROWS = 140
SETTINGS = {"precision": "int8", "backend": "auto", "id_column": "id", "max_tokens": 16}


def never(*_, **__):
    raise AssertionError("measured once more")


def run(model, inputs, folder, **settings) -> Dataset:
    config = tiny_job(model, inputs, folder / "out", **SETTINGS | settings)
    result = run_job(config)
    assert validate(Version(config.output, result.version)).problems == ()
    return Dataset(folder / "out" / result.version)


def ranges(dataset: Dataset) -> bytes:
    return (dataset.folder / "_meta" / "ranges.json").read_bytes()


def numerics(dataset: Dataset) -> list[dict]:
    return [
        json.loads(pq.read_schema(part).metadata[b"embedkit.numerics"]) for part in dataset.parts
    ]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_jsonl(tmp_path_factory.mktemp("in") / "a.jsonl", records(ROWS))


@pytest.fixture(scope="module")
def whole(tiny_model, corpus, tmp_path_factory):
    return run(tiny_model, corpus, tmp_path_factory.mktemp("whole"), version="first")


def test_what_it_costs_is_measured_and_said(tiny_model, corpus, whole, tmp_path):
    exact = tiny_job(tiny_model, corpus, tmp_path / "exact", **SETTINGS | {"precision": "float32"})
    ours, theirs = (
        dict(zip(*open_version(folder).vectors(), strict=True))
        for folder in (whole.folder, tmp_path / "exact" / run_job(exact).version)
    )
    cosines = np.array([ours[name] @ theirs[name] for name in ours])
    assert 0.99 < cosines.min() < 0.999999
    said = whole.manifest["description"]["int8"]
    assert (said["rows"], said["compared"]) == (105, 35)
    # Others of the same texts, so no other figures by much.
    assert said["mean_cosine"] == pytest.approx(cosines.mean(), abs=2e-4)
    assert cosines.min() - 1e-4 < said["least_cosine"] <= said["mean_cosine"]
    card = (whole.folder / "README.md").read_text()
    assert f"| computed in int8 | {said['mean_cosine']:.6f} | mean, between vectors in" in card
    assert f"at least {said['least_cosine']:.6f}, of 35 that were computed both ways" in card
    (one,) = {json.dumps(each, sort_keys=True) for each in numerics(whole)}
    assert json.loads(one)["precision"] == "int8" and len(json.loads(one)["ranges"]) == 32
    assert whole.manifest["description"]["numerics"] == json.loads(one)


def test_a_run_that_is_resumed_measures_nothing_anew(
    tiny_model, corpus, whole, tmp_path, monkeypatch
):
    with killed_after_blocks(monkeypatch, 3):
        run(tiny_model, corpus, tmp_path, version="first")
    monkeypatch.setattr(layer_ranges, "MeasureRanges", never)
    resumed = run(tiny_model, corpus, tmp_path, version="first")
    assert ranges(resumed) == ranges(whole)
    assert resumed.part_hashes == whole.part_hashes


def test_the_next_version_rounds_as_the_one_before(tiny_model, whole, monkeypatch):
    monkeypatch.setattr(layer_ranges, "MeasureRanges", never)
    tonight = records(ROWS)
    for row in tonight[::10]:
        row["text"] = "one one one one " + row["text"]
    folder = whole.folder.parent.parent
    inputs = write_jsonl(folder / "tonight" / "a.jsonl", tonight)
    second = run(tiny_model, inputs, folder, version="second", reuse_numerics="same")
    assert ranges(second) == ranges(whole)
    assert second.manifest["reused"]["versions"] == {"first": ROWS - len(tonight[::10])}
    assert {json.dumps(one) for one in numerics(second)} == {
        json.dumps(one) for one in numerics(whole)
    }


@pytest.mark.soak
def test_few_texts_are_measured_and_compared_by_themselves(tiny_model, tmp_path):
    inputs = write_jsonl(tmp_path / "in" / "a.jsonl", records(1))
    said = run(tiny_model, inputs, tmp_path).manifest["description"]["int8"]
    assert (said["rows"], said["compared"]) == (1, 1)


@pytest.mark.parametrize(
    ("mean", "level", "ends"),
    [
        (0.98, "INFO", "0.9800 on average and 0.9100 at least, of 100 vectors"),
        (0.9799, "WARNING", "100 vectors; that is much, --precision float32 loses nothing"),
    ],
)
def test_what_it_costs_is_said_and_much_is_a_warning(
    mean, level, ends, tiny_model, tmp_path, monkeypatch, caplog
):
    caplog.set_level("INFO", logger="embedkit")
    found = RangesRecord((("0.query", 0.0, 1.0, "8" * 32),), 300, 100, mean, 0.91)
    monkeypatch.setattr(layer_ranges, "MeasureRanges", lambda *_: lambda _: found)
    inputs = write_jsonl(tmp_path / "in" / "a.jsonl", records(3))
    config = tiny_job(tiny_model, inputs, tmp_path / "out", **SETTINGS)
    job = prepare(config)
    layer_ranges.measure_ranges(job, {"0" * 32: "a text"}, map_in_threads, 100)
    (line,) = [one for one in caplog.records if one.getMessage().startswith("int8: cosine with")]
    assert line.levelname == level and line.getMessage().endswith(ends)
    # What stands is what the same job goes on with.
    assert prepare(config).model.placement.ranges == found.ranges
    assert job.version == prepare(config).version and not job.model.placement.ranges


def test_inputs_without_a_text_are_refused(tiny_model, tmp_path):
    inputs = write_jsonl(tmp_path / "in" / "a.jsonl", [{"id": 1, "text": None}])
    with pytest.raises(ConfigError, match="precision is int8, but the inputs have no text"):
        run(tiny_model, inputs, tmp_path, max_reject_share=1)


def test_a_pipeline_of_ones_own_is_refused(tiny_model, tmp_path):
    model = ModelConfig(model=tiny_model, pooling="mean", device="cpu", precision="int8")
    output = OutputConfig(output=str(tmp_path / "out"), version="v1")
    with pytest.raises(ConfigError, match="precision is int8, for which embedkit run measures"):
        EmbedCorpus(model, output)._draft(None)
    assert not (tmp_path / "out").exists()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_minilm_finds_as_much_in_int8(minilm, public_data, tmp_path):
    """The corpus of Cranfield, against the figure of sentence-transformers in float32."""
    from judged_corpora import CRANFIELD_NDCG

    folder = public_data / "cranfield"
    settings = {"pooling": None, "normalize": None, "encoder_threads": None, "block_rows": 512}
    settings |= {"max_reject_share": 1, "max_tokens": None}
    found = run(minilm, folder / "corpus.jsonl", tmp_path, **settings)
    said = found.manifest["description"]["int8"]
    assert (said["rows"], said["compared"]) == (300, 100)
    assert said["mean_cosine"] > 0.99 and said["least_cosine"] > 0.97
    judged = evaluate_version(found.folder, EvaluationConfig(retrieval=(folder,))).to_dict()
    ndcg = judged["evaluation"]["retrieval"]["cranfield"]["ndcg@10"]
    print(f"nDCG@10 {ndcg:.4f}, {said}")
    assert ndcg == pytest.approx(CRANFIELD_NDCG, abs=0.005)
