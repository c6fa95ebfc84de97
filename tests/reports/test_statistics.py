import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reporting import sample_of
from sklearn.metrics.pairwise import cosine_similarity
from texts import MESSY

from embedkit.records import Nulled, Reject
from embedkit.reports.packed import pack_texts
from embedkit.reports.sample import excerpt
from embedkit.reports.sections import lengths, records, similarity, vectors
from embedkit.reports.statistics import Sidecar, Statistics

SECTIONS = (records.SECTION, lengths.SECTION, vectors.SECTION, similarity.SECTION)
WORDS = ["alpha", "beta", "gamma delta", "epsilon zeta eta"]


def added(statistics):
    return sum(statistics, Statistics.empty())


def reject(number, reason="empty_text"):
    return Reject("in.jsonl", number, reason, "the text is empty; drop the record")


@pytest.fixture(scope="module")
def blocks(make_block):
    generator = np.random.default_rng(5)
    blocks = []
    for seq, count in enumerate([40, 0, 1, 700, 25]):
        texts = [f"{WORDS[place % 4]} {place // 2}" for place in range(count)]
        lengths = generator.integers(2, 900, count)
        vectors = generator.normal(size=(count, 16)).astype(np.float32)
        rejects = tuple(reject(n, ["empty_text", "too_long"][n % 2]) for n in range(2 * seq))
        blocks.append(make_block(texts, vectors, lengths, rejects=rejects, seq=seq))
    return blocks


@pytest.fixture(scope="module")
def statistics(blocks):
    return [Statistics.of(block, 256) for block in blocks]


def of(block):
    """The statistic of each section that measures blocks."""
    return tuple(map(Statistics.of(block, 256).get, SECTIONS))


def test_counts_are_those_of_the_rows(blocks, statistics):
    total = added(statistics)
    tokens = np.concatenate([block.rows.column("n_tokens").to_numpy() for block in blocks])
    counted = total.get(records.SECTION)
    assert counted.documents == sum(block.documents for block in blocks)
    assert counted.rows == counted.embedded == 766
    assert counted.documents == counted.embedded + sum(counted.rejects.values())
    expected = Counter(reject.reason for block in blocks for reject in block.rejects)
    assert counted.rejects == expected
    measured = total.get(lengths.SECTION)
    assert measured.tokens == np.minimum(tokens, 256).sum()
    assert measured.n_tokens == tokens.sum()
    assert measured.tokens_lost == (tokens[tokens > 256] - 256).sum()
    assert measured.truncated == (tokens > 256).sum()
    assert measured.longest == tokens.max()
    assert measured.lengths.total == 766


def test_norms_are_those_of_numpy(blocks, statistics):
    every = np.concatenate([block.vectors.matrix for block in blocks if block.rows.num_rows])
    norms = np.linalg.norm(every.astype(np.float64), axis=1)
    total = added(statistics).get(vectors.SECTION)
    assert total.norms.count == len(norms)
    assert abs(total.norms.mean - norms.mean()) < 1e-12
    assert abs(total.norms.deviation - norms.std()) < 1e-12
    assert abs(total.norms.low - norms.min()) < 1e-12
    assert total.histogram.total == len(norms)


def test_mean_cosine_is_that_of_scikit_learn(blocks, statistics):
    every = np.concatenate([block.vectors.matrix for block in blocks if block.rows.num_rows])
    cosines = cosine_similarity(every.astype(np.float64))
    expected = cosines[np.triu_indices(len(every), 1)].mean()
    assert abs(added(statistics).get(similarity.SECTION).mean_cosine - expected) < 1e-12


def test_the_first_examples_of_each_reason_are_read(blocks, statistics):
    rejects = {block.block_id: block.rejects for block in blocks}
    read = []

    def read_rejects(block_id):
        read.append(block_id)
        return rejects[block_id]

    found = added(statistics).get(records.SECTION).examples(read_rejects)
    for reason in ("empty_text", "too_long"):
        all_of_them = [r for block in blocks for r in block.rejects if r.reason == reason]
        assert found[reason] == tuple(all_of_them[:5])
    # The last of the blocks has none of the first five.
    assert read == ["00000-00001", "00000-00002", "00000-00003"]


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), max_size=4).map(sorted), st.integers(0, 4))
def test_any_grouping_gives_the_same_bits(statistics, cuts, pivot):
    bounds = [0, *cuts, 5]
    groups = [added(statistics[start:stop]) for start, stop in pairwise(bounds)]
    split = min(pivot, len(groups))
    grouped = added(groups[:split]) + added(groups[split:])
    assert grouped.to_dict() == added(statistics).to_dict()


@settings(max_examples=20)
@given(st.permutations(range(5)))
def test_sums_are_the_same_bits_in_any_order(statistics, order):
    shuffled = added([statistics[place] for place in order])
    for section in (lengths.SECTION, vectors.SECTION, similarity.SECTION):
        found, expected = (
            section.codec.dump_python(one.get(section), mode="json")
            for one in (shuffled, added(statistics))
        )
        assert found == expected


def test_nothing_is_neutral(statistics):
    for one in statistics:
        assert (one + Statistics.empty()).to_dict() == one.to_dict()
        assert (Statistics.empty() + one).to_dict() == one.to_dict()


def test_bytes_come_back_and_are_the_same_twice(blocks):
    for block in blocks:
        data = Sidecar.of(block, 256).to_json()
        assert Sidecar.of(block, 256).to_json() == data
        assert Sidecar.from_json(data, block.block_id).to_json() == data


def test_adding_what_was_read_back_is_adding_what_was_measured(statistics):
    read = [Statistics.from_dict(json.loads(json.dumps(one.to_dict()))) for one in statistics]
    assert added(read).to_dict() == added(statistics).to_dict()
    assert Statistics.from_dict(added(read).to_dict()).to_dict() == added(read).to_dict()


def test_a_field_that_is_not_there_has_its_default_and_another_stays_out(blocks):
    data = Statistics.of(blocks[0], 256).to_dict()
    del data["sections"]["records"]["nulled"], data["sections"]["lengths"]["longest"]
    data["sections"]["vectors"]["entropy"] = 0.5
    data["sections"]["topics"] = {"count": 3}
    found = Statistics.from_dict(data)
    assert found.get(records.SECTION).nulled == ()
    assert found.get(lengths.SECTION).longest == 0
    assert "topics" not in found.by_section


def test_a_section_that_a_block_was_not_measured_for_is_left_out(blocks, statistics):
    data = statistics[0].to_dict()
    del data["sections"]["lengths"]
    total = Statistics.from_dict(data) + statistics[1]
    assert total.get(lengths.SECTION) is None
    assert total.get(records.SECTION).rows == 40


@pytest.mark.parametrize("dimension", [384, 1024])
@pytest.mark.parametrize("shape", ["narrow", "any"])
def test_a_sidecar_is_small_whatever_is_in_its_block(make_block, dimension, shape):
    """Random vectors, so that nothing in it can be made smaller."""
    random = np.random.default_rng(dimension)
    rows = random.normal(size=(8192, dimension)).astype(np.float32)
    rows += 0.7 if shape == "narrow" else 0
    tokens = random.integers(2, 8192, 8192)
    rejects = tuple(
        Reject("a/long/path/" * 9 + "in.jsonl", n, f"reason_{n % 9}", "d" * 200, excerpt="e" * 200)
        for n in range(900)
    )
    ids = [f"{n:x}" for n in random.integers(0, 2**62, 8192)]
    texts = [f"a secret text {n}" for n in range(8192)]
    block = make_block(texts, rows, tokens, 256, rejects, ids=ids)
    data = Sidecar.of(block, 256).to_json()
    assert len(data) <= 16 << 10
    assert len(data) < rows.nbytes / 1000
    assert b"secret" not in data
    assert not any(name.encode() in data for name in ids)


@pytest.mark.parametrize("count", [0, 1, 256, 257])
def test_text_hashes_of_small_blocks_stand_in_the_sidecar(make_block, count):
    block = make_block([f"text {n}" for n in range(count)], np.ones((count, 3), np.float32))
    sidecar = Sidecar.from_json(Sidecar.of(block, 256).to_json(), block.block_id)
    assert sidecar.rows == count
    if count > 256:
        assert sidecar.text_hashes is None
    else:
        starts = [int(one[:16], 16) for one in block.rows.column("text_hash").to_pylist()]
        assert sidecar.text_hashes.tolist() == starts


def test_another_process_writes_the_same_bytes(blocks, tmp_path):
    path = tmp_path / "block.arrow"
    path.write_bytes(blocks[4].to_ipc())
    program = (
        "import sys; from pathlib import Path\n"
        "from embedkit.vectors import EmbeddingBlock\n"
        "from embedkit.reports.statistics import Sidecar\n"
        "block = EmbeddingBlock.from_ipc(Path(sys.argv[1]).read_bytes())\n"
        "sys.stdout.buffer.write(Sidecar.of(block, 256).to_json())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={"PYTHONHASHSEED": "7"},
        cwd=path.parents[0],
        capture_output=True,
        check=True,
    )
    assert found.stdout == Sidecar.of(blocks[4], 256).to_json()


def test_vectors_that_should_not_be_are_counted(make_block):
    bad = np.ones((6, 4), np.float32)
    bad[0, 1], bad[1, 2], bad[2, 3], bad[3] = np.nan, np.inf, -np.inf, 0
    _, _, norms, directions = of(make_block(list("abcdef"), bad))
    assert (norms.non_finite, norms.zero) == (3, 1)
    assert norms.norms.count == 3
    assert norms.norms.high == 2
    assert directions.mean_cosine == pytest.approx(1)


def test_the_largest_float32_does_not_overflow(make_block):
    large = np.full((2, 4), np.finfo(np.float32).max, np.float32)
    _, _, norms, _ = of(make_block(["a", "b"], large))
    assert norms.non_finite == 0
    assert np.isfinite(norms.histogram.quantile(1))
    assert np.isfinite(norms.norms.deviation)


def test_half_precision_vectors_are_measured_as_stored(make_block):
    half = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float16)
    block = make_block(["a"] * 50, half)
    norms = np.linalg.norm(half.astype(np.float64), axis=1)
    assert abs(of(block)[2].norms.mean - norms.mean()) < 1e-12
    assert sample_of(block).vectors.dtype == np.float32


def test_a_block_of_rejects_alone(make_block):
    rejects = (reject(1), reject(2))
    block = make_block([], np.empty((0, 1), np.float32), rejects=rejects)
    found = Statistics.of(block, 256)
    counted, _, _, directions = map(found.get, SECTIONS)
    assert (counted.documents, counted.embedded, counted.rows) == (2, 0, 0)
    assert directions.mean_cosine is None
    some = Statistics.of(make_block(["a"]), 256)
    for both in (found + some, some + found):
        assert len(both.get(similarity.SECTION).total.values) == 8
        assert len(both.keys) == 1
    assert Statistics.of_rejects(block.block_id, 2, rejects).to_dict() == found.to_dict()


def test_chunks_of_a_document_are_one_document(make_block):
    counted = of(make_block(["a", "b", "c", "d"], chunks=2))[0]
    assert (counted.documents, counted.embedded, counted.rows) == (2, 2, 4)


def test_any_text_survives(make_block):
    texts = [text for text in MESSY if text]
    nulled = Nulled("prix\udcff", 1, "'\x00\ud800' in in\udcff.txt, expected int64")
    block = make_block(texts, ids=texts, source="\u202e.txt\x00")
    block = replace(block, nulled=(nulled,))
    back = Sidecar.from_json(Sidecar.of(block, 256, keep_texts=True).to_json(), block.block_id)
    assert back.statistics.get(records.SECTION).nulled == (nulled,)
    assert set(back.statistics.keys.texts) == {excerpt(text) for text in texts}


@pytest.mark.parametrize(
    "data",
    [
        [],
        {},
        {"sections": []},
        {"sections": {"lengths": {}}},
        {"sections": {"records": {"rows": "x"}}},
        {"sections": {"records": {}}, "keys": {"keys": "??"}},
        {"sections": {"records": {}}, "keys": {"texts": pack_texts(("a",))}},
        {"sections": {"records": {}}, "text_hashes": "ab"},
    ],
)
def test_what_is_no_sidecar_is_a_value_error(data):
    said = {"documents": 1, "rows": 1, "keys": {}, **data} if isinstance(data, dict) else data
    with pytest.raises(ValueError, match=r".+"):
        Sidecar.from_json(json.dumps(said).encode(), "00000-00000")


def test_a_sidecar_of_another_release_lacks_fields_and_has_others(make_block):
    sidecar = Sidecar.of(make_block(["one", "two"], seq=3), 256)
    stored = json.loads(sidecar.to_json())
    del stored["text_hashes"]
    for statistic in stored["sections"].values():
        statistic["later"] = {"counts": [1]}
    del stored["sections"]["records"]["nulled"]
    stored["sections"]["drift"] = {"count": 2}
    read = Sidecar.from_json(json.dumps(stored | {"later": None}).encode(), "00000-00003")
    assert read.text_hashes is None
    expected = replace(sidecar, text_hashes=None)
    assert read.to_json() == expected.to_json()
