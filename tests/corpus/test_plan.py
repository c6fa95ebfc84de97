"""Plans: their JSON form, what changes their digest, and how large they say a corpus is."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import corpus_config, read_corpus, write

from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import FileRange, Plan, Split, plan_corpus

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
sizes = st.integers(0, 2**50)
ranges = st.builds(
    FileRange,
    source=names,
    url=names,
    size=sizes,
    etag=names,
    format=st.sampled_from(["text", "parquet"]),
    compression=st.sampled_from(["none", "gzip"]),
    start=sizes,
    end=sizes,
    stored=sizes,
    rows=st.none() | sizes,
)
splits = st.builds(
    Split,
    split_id=names,
    ranges=st.lists(ranges, max_size=4).map(tuple),
    duplicates=st.lists(st.tuples(names, sizes), max_size=3).map(tuple),
)
plans = st.builds(
    Plan,
    base=names,
    metadata=st.just((("n", "int64"), ("when", "timestamp[us, tz=UTC]"))),
    splits=st.lists(splits, max_size=5).map(tuple),
    files=sizes,
    total_bytes=sizes,
    inputs_digest=names,
    skipped=st.lists(names, max_size=3).map(tuple),
    skipped_files=sizes,
)


@given(plans)
def test_a_plan_survives_its_json(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.without_splits().with_splits(plan.splits) == plan


def corpus_of(folder: Path) -> Path:
    write(folder / "a.jsonl", [json.dumps({"id": n % 90, "text": f"t {n}"}) for n in range(100)])
    write(folder / "b.csv.gz", ["id,text", "x,one", "y,two"])
    table = pa.table({"id": ["p", "q"], "text": ["three", "four"]})
    pq.write_table(table, folder / "c.parquet", 1)
    return folder


def test_a_real_plan_and_its_json(tmp_path: Path) -> None:
    plan = plan_corpus(corpus_config(corpus_of(tmp_path), id_column="id", split_bytes=300))
    assert Plan.from_json(plan.to_json()) == plan
    assert plan.duplicates == 10
    assert plan.files == 3
    assert plan.total_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert [split.split_id for split in plan.splits] == [
        f"{n:05d}" for n in range(len(plan.splits))
    ]
    # Each file stands in it once, however many ranges it has.
    assert plan.to_json().count(str(tmp_path / "a.jsonl")) == 1


def test_the_same_inputs_give_the_same_plan(tmp_path: Path) -> None:
    config = corpus_config(corpus_of(tmp_path), id_column="id", split_bytes=300)
    assert plan_corpus(config).to_json() == plan_corpus(config).to_json()


def test_the_digest_follows_content_and_not_the_root(tmp_path: Path) -> None:
    one = corpus_of(tmp_path / "one")
    other = tmp_path / "other"
    shutil.copytree(one, other)  # keeps the times
    digest = plan_corpus(corpus_config(one)).inputs_digest
    assert plan_corpus(corpus_config(other)).inputs_digest == digest
    assert plan_corpus(corpus_config(one, split_bytes=100)).inputs_digest == digest
    os.utime(other / "a.jsonl", ns=(0, 1))
    assert plan_corpus(corpus_config(other)).inputs_digest != digest
    write(one / "d.txt", "more")
    assert plan_corpus(corpus_config(one)).inputs_digest != digest


def test_blocks_of_a_split_do_not_depend_on_the_others(tmp_path: Path) -> None:
    config = corpus_config(corpus_of(tmp_path), id_column="id", split_bytes=300, block_rows=7)
    plan = plan_corpus(config)
    forward = {
        split.split_id: [block.to_ipc() for block in read_split(split, plan, config)]
        for split in plan.splits
    }
    for split in reversed(plan.splits):
        alone = replace(plan, splits=())
        again = [block.to_ipc() for block in read_split(split, alone, config)]
        assert again == forward[split.split_id]


def test_a_million_short_files_make_few_splits() -> None:
    one = FileRange("a", "/a", 30, "e", "text", "none", 0, 30, 30)
    from embedkit.corpus.plan import _packed

    packed = list(_packed((one for _ in range(1_000_000)), 32 << 20))
    assert len(packed) == -(-1_000_000 // 4096)
    assert sum(len(split.ranges) for split in packed) == 1_000_000


def test_reading_a_plan_of_another_process(tmp_path: Path) -> None:
    corpus = read_corpus(corpus_of(tmp_path), id_column="id")
    assert len(corpus.rejects) == 10
    assert len(corpus.texts) == 94


def test_a_plan_of_another_release_lacks_fields_and_has_others(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    plan = plan_corpus(corpus_config(tmp_path))
    stored = plan.to_dict()
    for name in ("skipped", "skipped_files", "ids_checked"):
        del stored[name]
    for name in ("duplicates", "documents"):
        del stored["splits"][0][name]
    assert Plan.of_dict(stored) == plan
    stored["splits"][0]["tokens"] = 3
    assert Plan.of_dict(stored | {"budget": None}) == plan


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"splits": None}, "wrong or missing fields splits"),
        ({"input_files": [["a", "b"]]}, "wrong or missing fields input_files"),
        ({"input_files": []}, "a range of a file that the plan does not have"),
        ({"input_files": [["a", "/a", 1, "", "avro", "none"]]}, "no format of files is called"),
        ({"input_files": [["a", "/a", 1, "", "text", "lz4"]]}, "no compression is called 'lz4'"),
        ({"metadata": [["a", "map<string>"]]}, "map<string> is not a type that a metadata column"),
    ],
)
def test_what_is_wrong_with_a_plan_is_said(tmp_path, change, fault):
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    stored = plan_corpus(corpus_config(tmp_path)).to_dict() | change
    with pytest.raises(ValueError, match=fault):
        Plan.of_dict(stored)
