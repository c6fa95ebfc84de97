"""Plans: their JSON form, what changes their digest, and how large they say a corpus is."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reading import COMPRESS, corpus_config, read_corpus, write

from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import CorpusEstimate, FileRange, Plan, Split, estimate, plan_corpus
from embedkit.errors import InputError

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


def number(n: int) -> int:
    return n * n * 0x9E3779B97F4A7C15 % 2**64


TEXTS = [f"Record {n}: {'word ' * (number(n) % 40)}{number(n):x}" for n in range(30_000)]


def as_jsonl(texts: list[str]) -> str:
    return "".join(json.dumps({"text": text, "pad": "x" * 30}) + "\n" for text in texts)


FORMS: dict[str, Callable[[list[str]], str]] = {
    "a.txt": lambda texts: "\n".join(texts),
    "a.jsonl": as_jsonl,
    "a.json": lambda texts: json.dumps([{"text": text} for text in texts]),
    "a.csv": lambda texts: "".join(f"{line}\n" for line in ["text", *texts]),
}


def words(texts: list[str]) -> list[int]:
    return [len(text.split()) for text in texts]


def estimate_of(*inputs: Path, **settings: Any) -> CorpusEstimate:
    config = corpus_config(*inputs, **settings)
    return estimate(plan_corpus(config), config, words)


def check(found: CorpusEstimate, texts: list[str], within: float) -> None:
    assert found.documents == pytest.approx(len(texts), rel=within)
    assert found.text_bytes == pytest.approx(sum(len(text.encode()) for text in texts), rel=within)
    assert found.tokens == pytest.approx(sum(words(texts)), rel=within)


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.few(6)
def test_estimates_are_near(tmp_path: Path, name: str, compression: str) -> None:
    path = write(tmp_path / f"{name}{compression}", FORMS[name](TEXTS))
    found = estimate_of(path, split_bytes=1 << 19)
    assert (found.files, found.bytes) == (1, path.stat().st_size)
    check(found, TEXTS, 0.25 if compression == ".bz2" else 0.1)


def test_an_estimate_reads_an_array_no_further_than_it_says(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.json", FORMS["a.json"](TEXTS))
    check(estimate_of(plain), TEXTS, 0.1)
    # Of elements longer than what is read, the first is whole.
    texts = ["word " * 60_000] * 30
    check(estimate_of(write(tmp_path / "b.json", FORMS["a.json"](texts))), texts, 0.2)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "gb18030", "utf-8-sig"])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.few(6)
def test_an_estimate_of_other_encodings_counts_bytes_as_stored(
    tmp_path: Path, name: str, encoding: str
) -> None:
    texts = [f"漢字 {text}" for text in TEXTS]
    path = tmp_path / name
    path.write_bytes(FORMS[name](texts).encode(encoding))
    given = {} if encoding.startswith("utf") else {"encoding": encoding}
    check(estimate_of(path, **given), texts, 0.1)


def test_an_estimate_of_bz2_sees_a_whole_block(tmp_path: Path) -> None:
    # Such digits compress to half, so that a block takes more than the usual sample.
    texts = [f"{number(n):x} {number(n + 7):x}" for n in range(120_000)]
    path = write(tmp_path / "a.txt.bz2", texts)
    assert path.stat().st_size > 3 << 19
    check(estimate_of(path), texts, 0.5)


def test_estimates_of_parquet_and_of_many_files(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet", 4000)
    check(estimate_of(tmp_path, split_bytes=1 << 18), TEXTS, 0.1)
    for n in range(100):
        write(tmp_path / f"{n:03d}.jsonl", as_jsonl(TEXTS[n * 20 : n * 20 + 20]))
    check(estimate_of(tmp_path), TEXTS + TEXTS[:2000], 0.1)


def test_estimates_of_small_corpora_are_exact(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", as_jsonl(TEXTS[:50]) + "broken\n")
    write(tmp_path / "b.txt.xz", TEXTS[50:60])
    found = estimate_of(tmp_path)
    assert found.documents == 60
    assert found.text_bytes == sum(len(text.encode()) for text in TEXTS[:60])


def test_estimates_of_nothing(tmp_path: Path) -> None:
    found = estimate_of(write(tmp_path / "a.txt", ""))
    assert (found.files, found.documents, found.tokens) == (1, 0, 0)


def test_an_estimate_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.csv"
    path.write_text("text\n" + "a line of words\n" * 1_000_000)
    seen = 0

    def counted(texts: list[str]) -> list[int]:
        nonlocal seen
        seen += len(texts)
        return words(texts)

    config = corpus_config(path)
    found = estimate(plan_corpus(config), config, counted)
    assert found.documents == pytest.approx(1_000_000, rel=0.01)
    assert found.tokens == pytest.approx(4_000_000, rel=0.01)
    assert seen <= 64


def test_an_estimate_of_a_changed_file_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "x")
    config = corpus_config(path)
    plan = plan_corpus(config)
    write(path, "xy")
    with pytest.raises(InputError, match="changed since the plan"):
        estimate(plan, config, words)


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
