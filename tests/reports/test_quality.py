import json
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_similarity
from texts import MESSY

from embedkit.records import Reject, text_hash
from embedkit.reports.quality import BlockStatistics, hash64

WORDS = ["alpha", "beta", "gamma delta", "epsilon zeta eta"]


def added(statistics):
    return sum(statistics, BlockStatistics.empty())


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
    return [BlockStatistics.of(block, 256) for block in blocks]


def exact(statistics):
    """All that must not depend on grouping."""
    data = json.loads(statistics.to_json())
    del data["norms"]["mean"], data["norms"]["m2"], data["direction_sum"]
    return data


def test_counts_are_those_of_the_rows(blocks, statistics):
    total = added(statistics)
    lengths = np.concatenate([block.rows.column("n_tokens").to_numpy() for block in blocks])
    assert total.documents == sum(block.documents for block in blocks)
    assert total.rows == total.embedded == 766
    assert total.documents == total.embedded + sum(total.rejects.values())
    assert total.tokens == np.minimum(lengths, 256).sum()
    assert total.n_tokens == lengths.sum()
    assert total.tokens_lost == (lengths[lengths > 256] - 256).sum()
    assert total.truncated == (lengths > 256).sum()
    assert total.longest == lengths.max()
    assert total.lengths.total == 766
    expected = Counter(reject.reason for block in blocks for reject in block.rejects)
    assert total.rejects == expected


def test_norms_are_those_of_numpy(blocks, statistics):
    vectors = np.concatenate([block.vectors.matrix for block in blocks if block.rows.num_rows])
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    total = added(statistics)
    assert total.norms.count == len(norms)
    assert abs(total.norms.mean - norms.mean()) < 1e-12
    assert abs(total.norms.deviation - norms.std()) < 1e-12
    assert abs(total.norms.low - norms.min()) < 1e-12
    assert total.norm_histogram.total == len(norms)


def test_mean_cosine_is_that_of_scikit_learn(blocks, statistics):
    vectors = np.concatenate([block.vectors.matrix for block in blocks if block.rows.num_rows])
    cosines = cosine_similarity(vectors.astype(np.float64))
    expected = cosines[np.triu_indices(len(vectors), 1)].mean()
    assert abs(added(statistics).mean_cosine - expected) < 1e-12


def test_the_first_examples_of_each_reason_are_kept(blocks, statistics):
    total = added(statistics)
    for reason in ("empty_text", "too_long"):
        all_of_them = [r for block in blocks for r in block.rejects if r.reason == reason]
        assert total.examples[reason] == tuple(all_of_them[:5])


@settings(max_examples=40)
@given(st.lists(st.integers(0, 5), max_size=4).map(sorted), st.integers(0, 4))
def test_any_grouping_gives_the_same(statistics, cuts, pivot):
    bounds = [0, *cuts, 5]
    groups = [added(statistics[start:stop]) for start, stop in pairwise(bounds)]
    split = min(pivot, len(groups))
    grouped = added(groups[:split]) + added(groups[split:])
    total = added(statistics)
    assert exact(grouped) == exact(total)
    assert abs(grouped.norms.mean - total.norms.mean) < 1e-12
    assert abs(grouped.norms.m2 - total.norms.m2) < 1e-12 * total.norms.m2
    assert np.abs(grouped.direction_sum - total.direction_sum).max() < 1e-12


def test_nothing_is_neutral(statistics):
    for one in statistics:
        assert (one + BlockStatistics.empty()).to_json() == one.to_json()
        assert (BlockStatistics.empty() + one).to_json() == one.to_json()


def test_bytes_come_back_and_are_the_same_twice(blocks, statistics):
    for block, one in zip(blocks, statistics, strict=True):
        data = one.to_json()
        assert BlockStatistics.of(block, 256).to_json() == data
        assert BlockStatistics.from_json(data).to_json() == data


def test_adding_what_was_read_back_is_adding_what_was_measured(statistics):
    read = [BlockStatistics.from_json(one.to_json()) for one in statistics]
    assert added(read).to_json() == added(statistics).to_json()


def test_another_process_writes_the_same_bytes(blocks, statistics, tmp_path):
    path = tmp_path / "block.arrow"
    path.write_bytes(blocks[4].to_ipc())
    program = (
        "import sys; from pathlib import Path\n"
        "from embedkit.records import EmbeddingBlock\n"
        "from embedkit.reports.quality import BlockStatistics\n"
        "block = EmbeddingBlock.from_ipc(Path(sys.argv[1]).read_bytes())\n"
        "sys.stdout.buffer.write(BlockStatistics.of(block, 256).to_json())"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env={"PYTHONHASHSEED": "7"},
        cwd=path.parents[0],
        capture_output=True,
        check=True,
    )
    assert found.stdout == statistics[4].to_json()


def test_vectors_that_should_not_be_are_counted(make_block):
    vectors = np.ones((6, 4), np.float32)
    vectors[0, 1], vectors[1, 2], vectors[2, 3], vectors[3] = np.nan, np.inf, -np.inf, 0
    found = BlockStatistics.of(make_block(list("abcdef"), vectors), 256)
    assert (found.non_finite, found.zero) == (3, 1)
    assert found.norms.count == 3
    assert found.norms.high == 2
    assert found.mean_cosine == pytest.approx(1)
    assert BlockStatistics.from_json(found.to_json()).to_json() == found.to_json()


def test_the_largest_float32_does_not_overflow(make_block):
    vectors = np.full((2, 4), np.finfo(np.float32).max, np.float32)
    found = BlockStatistics.of(make_block(["a", "b"], vectors), 256)
    assert found.non_finite == 0
    assert np.isfinite(found.norm_histogram.quantile(1))


def test_half_precision_vectors_are_measured_as_stored(make_block):
    vectors = np.random.default_rng(3).normal(size=(50, 16)).astype(np.float16)
    found = BlockStatistics.of(make_block(["a"] * 50, vectors), 256)
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    assert abs(found.norms.mean - norms.mean()) < 1e-12
    assert found.sample.vectors.dtype == np.float32


def test_a_block_of_rejects_alone(make_block):
    block = make_block([], np.empty((0, 1), np.float32), rejects=(reject(1), reject(2)))
    found = BlockStatistics.of(block, 256)
    assert (found.documents, found.embedded, found.rows) == (2, 0, 0)
    assert found.mean_cosine is None
    some = BlockStatistics.of(make_block(["a"]), 256)
    assert (found + some).sample.vectors.shape == (1, 8)
    assert len((some + found).direction_sum) == 8


def test_chunks_of_a_document_are_one_document(make_block):
    found = BlockStatistics.of(make_block(["a", "b", "c", "d"], chunks=2), 256)
    assert (found.documents, found.embedded, found.rows) == (2, 2, 4)


def test_distinct_texts_are_estimated_across_blocks(make_block):
    few = [make_block([f"text {n % 500}" for n in range(900)], seq=seq) for seq in range(3)]
    assert added(BlockStatistics.of(block, 256) for block in few).distinct_texts == 500
    many = [
        make_block([f"text {n}" for n in range(5000 * seq, 5000 * seq + 7000)], seq=seq)
        for seq in range(3)
    ]
    one, two, three = (BlockStatistics.of(block, 256) for block in many)
    assert abs(added([one, two, three]).distinct_texts / 17000 - 1) < 0.07
    assert ((one + two) + three).distinct == (three + (two + one)).distinct


def test_the_sketch_of_texts_does_not_depend_on_their_order(make_block):
    texts = [f"text {n}" for n in range(6000)]
    one, two = (BlockStatistics.of(make_block(order), 256) for order in (texts, texts[::-1]))
    assert one.distinct == two.distinct


def test_any_text_survives(make_block):
    texts = [text for text in MESSY if text]
    bad = Reject(
        "in\udcff.txt", 3, "invalid_utf8", "not UTF-8; convert the file", None, "\x00\ud800"
    )
    block = make_block(texts, rejects=(bad,), ids=texts, source="\u202e.txt\x00")
    found = BlockStatistics.of(block, 256)
    back = BlockStatistics.from_json(found.to_json())
    assert back.examples == {"invalid_utf8": (bad,)}
    assert back.sample.rows == found.sample.rows


def test_hash64_is_the_start_of_the_hash(make_block):
    texts = ["a", "b", "", "\U0001f600"]
    column = make_block(texts).rows.column("text_hash")
    assert hash64(column).tolist() == [int(text_hash(text)[:16], 16) for text in texts]
    assert hash64(column.slice(1, 2)).tolist() == hash64(column).tolist()[1:3]
    assert hash64(column.slice(0, 0)).tolist() == []
