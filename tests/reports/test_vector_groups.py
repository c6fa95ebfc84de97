"""Vectors by file and metadata value, against NumPy and pandas."""

import itertools
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from blocks import build_block

from embedkit.config import Gate
from embedkit.reports.gates import check_gate
from embedkit.reports.render import render_html
from embedkit.reports.values import coded
from embedkit.reports.vector_groups import VectorGroups, VectorSums
from embedkit.vectors import vectors_of

WIDTH = 12


def block(vectors, sources, seq=0, **metadata):
    """A block with a row for each vector."""
    made = build_block([f"text number {n}" for n in range(len(vectors))], vectors, seq=seq)
    place = made.rows.schema.get_field_index("source")
    rows = made.rows.set_column(place, "source", pa.array(sources, pa.string()))
    for name, values in metadata.items():
        rows = rows.append_column(name, pa.array(values, pa.string()))
    return type(made)(made.split_id, made.seq, made.documents, True, made.rejects, rows)


def of(*blocks) -> VectorGroups:
    tables = [pa.Table.from_batches([one.rows]) for one in blocks]
    return sum((VectorGroups.of(one, vectors_of(one).matrix) for one in tables), VectorGroups())


def plain(groups: VectorGroups) -> str:
    """All of it as JSON."""
    return json.dumps(
        {
            name: {key: {**vars(one), "total": one.total.tolist()} for key, one in sums.items()}
            for name, sums in groups.by_column.items()
        },
        sort_keys=True,
    )


def vectors_about(centre, count: int, spread: float = 1.0, seed: int = 0):
    drawn = np.random.default_rng(seed).standard_normal((count, WIDTH)) * spread + centre
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def rows_of(count: int):
    chosen = np.random.default_rng(1)
    vectors = (vectors_about(np.eye(WIDTH)[0] * 3, count) * 1.5).astype(np.float32)
    vectors[::11] = 0
    vectors[5::17, 3] = np.nan
    vectors[7::5] /= 1.5
    return (
        vectors,
        [f"f{n}.jsonl" for n in chosen.integers(0, 12, count)],
        [None if n == 3 else f"kind {n}" for n in chosen.integers(0, 4, count)],
    )


def test_the_figures_are_those_of_numpy(make_report):
    vectors, sources, kinds = rows_of(600)
    blocks = [
        block(vectors[:250], sources[:250], kind=kinds[:250]),
        block(vectors[250:], sources[250:], seq=1, kind=kinds[250:]),
    ]
    report = make_report(blocks)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    directed = lengths > 0
    units = np.where(directed, lengths, 1)
    units = np.where(directed[:, None], vectors / units[:, None], 0)
    centre = units.sum(axis=0) / np.linalg.norm(units.sum(axis=0))
    frame = pd.DataFrame({"source": sources, "kind": kinds})
    source, kind = report["vector_groups"]
    assert (source["column"], source["distinct"], kind["distinct"]) == ("source", 12, 4)
    for column, found in (("source", source), ("kind", kind)):
        for one in found["largest"]:
            rows = frame[column].isna() if one["value"] is None else frame[column] == one["value"]
            of_group = rows.to_numpy()
            ours = of_group & directed
            off = np.abs(lengths[ours] - 1) > 1e-3
            n = int(ours.sum())
            assert one["rows"] == of_group.sum()
            assert one["unusable_share"] == (of_group.sum() - n + off.sum()) / of_group.sum()
            assert one["mean_norm"] == pytest.approx(lengths[ours].mean(), abs=1e-5)
            cosines = units[ours] @ units[ours].T
            between = (cosines.sum() - np.trace(cosines)) / (n * (n - 1))
            assert one["mean_cosine"] == pytest.approx(between, abs=1e-5)
            to_centre = (units[ours] @ centre).mean()
            assert one["centroid_cosine"] == pytest.approx(to_centre, abs=1e-5)
    worst = max(one["unusable_share"] for one in source["largest"])
    assert source["worst_unusable_share"] >= worst
    assert source["least_centroid_cosine"] <= min(o["centroid_cosine"] for o in source["largest"])


@pytest.mark.parametrize("count", [1, 7, 100])
def test_however_blocks_are_added_the_json_is_the_same(count):
    vectors, sources, kinds = rows_of(300)
    bounds = np.linspace(0, 300, count + 1).astype(int)
    blocks = [
        block(vectors[a:b], sources[a:b], kind=kinds[a:b]) for a, b in itertools.pairwise(bounds)
    ]
    expected = plain(of(block(vectors, sources, kind=kinds)))
    assert plain(of(*blocks)) == expected
    assert (
        plain(of(*(blocks[n] for n in np.random.default_rng(count).permutation(count)))) == expected
    )
    half = count // 2
    assert plain(of(*blocks[:half]) + of(*blocks[half:])) == expected


def test_of_long_vectors_fewer_values_are_told_apart(monkeypatch):
    monkeypatch.setattr("embedkit.reports.vector_groups._MOST_COMPONENTS", 4 * WIDTH)
    vectors, sources, _ = rows_of(300)
    blocks = [block(vectors[a : a + 30], sources[a : a + 30]) for a in range(0, 300, 30)]
    whole = of(*blocks)
    assert plain(whole) == plain(of(*blocks[::-1]))
    told = whole.by_column["source"]
    assert len(told) == 5 and "*" in told
    for key in told.keys() - {"*"}:
        assert told[key].rows == sources.count(key.removeprefix("="))
    assert sum(one.rows for one in told.values()) == 300


def corpus(bad):
    """Twenty files of 30 rows each, of which one is as given."""
    centre = np.eye(WIDTH)[0] * 3
    vectors = vectors_about(centre, 600)
    vectors[13 * 30 : 14 * 30] = bad
    return block(vectors, [f"f{n // 30:02d}.jsonl" for n in range(600)])


@pytest.mark.parametrize(
    ("bad", "figure", "said", "gate"),
    [
        (vectors_about(np.eye(WIDTH)[5] * 3, 30, seed=2), "centroid_cosine",
         "lie elsewhere than the others", "least_centroid_cosine<0.3"),
        (vectors_about(np.zeros(WIDTH), 30, seed=3), "centroid_cosine",
         "lie elsewhere than the others", "least_centroid_cosine<0.3"),
        (vectors_about(np.eye(WIDTH)[0] * 3, 1, seed=4), "mean_cosine",
         "are all but equal: their mean cosine is 1", "highest_mean_cosine>0.95"),
        (vectors_about(np.eye(WIDTH)[0] * 3, 30, seed=5) * 2, "unusable_share",
         "100 % are not finite, zero or of another length than 1, 0 % of all others",
         "worst_unusable_share>0.1"),
        (np.zeros((30, WIDTH), np.float32), "unusable_share", "100 % are not finite, zero",
         "worst_unusable_share>0.1"),
    ],
)  # fmt: skip
def test_one_rotten_file_among_twenty_is_named(make_report, bad, figure, said, gate):
    report = make_report([corpus(bad)])
    (found,) = report["vector_groups"]
    assert [(one["value"], one["figure"]) for one in found["worst"]] == [("f13.jsonl", figure)]
    (finding,) = [one for one in report["findings"] if said in one["text"]]
    assert finding["level"] == "warning"
    assert finding["text"].startswith("The vectors of source 'f13.jsonl' (30 rows) ")
    assert not check_gate(Gate.parse(f"vector_groups.source.{gate}"), report).passed
    assert "f13.jsonl" in render_html(json.loads(json.dumps(report)))


def test_a_sound_corpus_and_few_rows_say_nothing(make_report):
    sound = make_report([corpus(vectors_about(np.eye(WIDTH)[0] * 3, 30, seed=6))])
    assert sound["vector_groups"][0]["worst"] == []
    few = make_report([block(vectors_about(np.ones(WIDTH), 9), ["a"] * 8 + ["b"])])
    (found,) = few["vector_groups"]
    assert (found["worst"], found["worst_unusable_share"]) == ([], None)
    assert make_report([block(vectors_about(np.ones(WIDTH), 9), ["a"] * 9)])["vector_groups"] == []
    assert not [one for one in few["findings"] if "The vectors of" in one["text"]]


def test_of_nothing_there_is_no_mean():
    none = VectorSums(1, 1, 0, 0, 0, np.zeros(3, np.int64))
    assert (none.mean_length, none.mean_cosine, none.cosine_to(none)) == (None, None, None)
    assert coded(pa.array([], pa.string())).codes.tolist() == []
    assert (
        VectorGroups.of(pa.table({"source": pa.array([], pa.string())}), np.empty((0, 3)))
        is not None
    )


def test_lengths_that_int64_does_not_tell():
    vectors = np.full((40, WIDTH), 1e30, np.float32)
    (sums,) = of(block(vectors, ["a"] * 40)).by_column["source"].values()
    expected = np.linalg.norm(vectors.astype(np.float64), axis=1).mean()
    assert sums.mean_length == pytest.approx(expected)


def test_codes_are_not_held_against_a_length_of_one(make_report):
    vectors = vectors_about(np.eye(WIDTH)[0], 60)
    vectors[:30] *= 1.01
    made = block(vectors, ["a"] * 30 + ["b"] * 30)
    for dtype, most in (("float32", 1), ("int8", 0), ("binary", 0)):
        report = make_report([made], {"dimension": WIDTH, "vector_dtype": dtype})
        (column,) = report["vector_groups"]
        assert (column["worst_unusable_share"], len(column["worst"])) == (most, most)


def test_cosines_of_equal_vectors_are_no_more_than_one():
    for seed in range(9):
        direction = np.random.default_rng(seed).normal(size=WIDTH).astype(np.float32)
        groups = of(block(np.tile(direction, (30, 1)), ["a"] * 30))
        (sums,) = groups.by_column["source"].values()
        assert sums.mean_cosine == pytest.approx(1, abs=1e-4)
        assert sums.mean_cosine <= 1
        assert sums.cosine_to(sums) <= 1
