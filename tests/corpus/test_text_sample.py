"""Samples of texts against sorting all of their hashes."""

import json
import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reading import corpus_config, read_corpus, write

from embedkit.corpus.plan import plan_inputs
from embedkit.corpus.text_sample import TextSample, sample_split
from embedkit.hashes.digests import text_hash

TEXTS = [f"text {number}" for number in range(500)]


def expected(texts, most):
    by_hash = {text_hash(text): text for text in texts}
    return {key: by_hash[key] for key in sorted(by_hash)[:most]}


@pytest.mark.parametrize("most", [1, 7, 499, 500, 600])
@pytest.mark.parametrize("parts", [1, 7, 40])
def test_a_sample_is_the_same_however_texts_are_parted(most, parts):
    texts = [*TEXTS, *TEXTS[:90]]
    random.Random(parts).shuffle(texts)
    samples = []
    for part in range(parts):
        sample = TextSample(most)
        for text in texts[part::parts]:
            sample.add([text])
        samples.append(sample)
    total = TextSample(most)
    for sample in samples[::-1]:
        total += sample
    assert total.texts == expected(TEXTS, most)
    assert list(total.texts) == sorted(total.texts)


def test_with_a_bound_only_texts_are_held_that_may_be_nearer():
    first, rest = TextSample(9), TextSample(9)
    first.add(TEXTS[:400])
    rest.add(TEXTS[400:])
    bounded = TextSample(9, first.bound)
    bounded.add(TEXTS[400:])
    assert set(bounded.texts) == {key for key in rest.texts if key < first.bound}
    assert 0 < len(bounded.texts) < 9
    first += bounded
    assert first.texts == expected(TEXTS, 9)
    few = TextSample(9)
    few.add(TEXTS[:9])
    assert few.bound > "f"


def test_long_texts_are_cut_and_still_chosen_by_the_hash_of_all():
    sample = TextSample()
    sample.add(["x" * 100_000, "x" * 100_001])
    assert sample.texts == {text_hash("x" * size): "x" * 8192 for size in (100_000, 100_001)}


def sampled(*paths, **settings):
    config = corpus_config(*paths, **settings)
    total = TextSample()
    for split in plan_inputs(config).splits:
        total += sample_split(split, config)
    return set(total.texts.values())


def test_what_becomes_no_row_is_not_sampled(tmp_path):
    lines = [
        {"id": 1, "title": "a", "body": "one"},
        {"id": 1, "title": "b", "body": "two"},
        {"id": 3, "title": "c", "body": ""},
        {"id": 4, "title": "d", "body": "n\0l"},
        {"id": 5, "title": "e"},
        {"id": 6, "title": 7, "body": ["list"]},
    ]
    path = write(tmp_path / "in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write(path, path.read_text() + "no json\n")
    assert sampled(path, text_column="body", id_column="id") == {"one", "two"}
    settings = {"text_template": "{title}: {body?}", "metadata_columns": ("title",)}
    found = sampled(path, **settings)
    assert found == {"a: one", "b: two", "c: ", "e: "}
    assert found == set(read_corpus(path, **settings).texts)


def test_of_a_trial_the_first_records_are_sampled(tmp_path):
    path = write(tmp_path / "in.txt", "".join(f"{text}\n" for text in TEXTS))
    assert sampled(path, limit=30) == set(TEXTS[:30])
    assert sampled(path) == set(TEXTS)


def test_other_columns_of_parquet_are_not_read(tmp_path):
    table = pa.table({"text": TEXTS[:9], "other": list(range(9))})
    pq.write_table(table, tmp_path / "in.parquet")
    assert sampled(tmp_path / "in.parquet", metadata_columns=("other",)) == set(TEXTS[:9])
