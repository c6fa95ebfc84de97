"""Equal vectors and dead dimensions by file and metadata value, against pandas and brute force."""

import itertools
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from blocks import build_block
from reporting import examined_of

from embedkit.config import Gate
from embedkit.reports.account import RunAccount
from embedkit.reports.facts import Facts
from embedkit.reports.gates import check_gate
from embedkit.reports.render import render_html
from embedkit.reports.repeats import TextRepeats
from embedkit.reports.sample import Sample
from embedkit.reports.section import Nothing
from embedkit.reports.sections import vector_groups
from embedkit.reports.vector_faults import dead_dimensions

WIDTH = 12
PLAIN = {"dimension": WIDTH, "normalized": False}
FIGURES = ("sampled", "equal_share", "dead_dimensions")


def block(texts, vectors, sources, seq=0, **metadata):
    made = build_block(texts, vectors, seq=seq)
    place = made.rows.schema.get_field_index("source")
    rows = made.rows.set_column(place, "source", pa.array(sources, pa.string()))
    for name, values in metadata.items():
        rows = rows.append_column(name, pa.array(values, pa.string()))
    return type(made)(made.split_id, made.seq, made.documents, True, made.rejects, rows)


def vectors_of(count, seed=0):
    drawn = np.random.default_rng(seed).standard_normal((count, WIDTH)) + np.eye(WIDTH)[0]
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def rows_of(count):
    """Rows of which texts repeat, and vectors of texts, and some of which have no direction."""
    chosen = np.random.default_rng(3)
    numbers = chosen.integers(0, count // 2, count)
    vectors = vectors_of(count)[numbers - (numbers < 30) * (numbers % 3)]
    vectors[(numbers % 7 == 0), 2] = 0
    vectors[(numbers % 14 == 0), 2] *= -1
    vectors[numbers % 29 == 0] = 0
    vectors[numbers % 31 == 0, 4] = np.nan
    sources = np.array([f"f{n}.jsonl" for n in chosen.integers(0, 6, count)])
    kinds = np.array([None if n == 3 else f"kind {n}" for n in chosen.integers(0, 4, count)])
    vectors[kinds == "kind 1", 5] = 0.125
    vectors[sources == "f2.jsonl", 6:8] = -0.25
    return [f"text {n}" for n in numbers], vectors, sources.tolist(), kinds.tolist()


def blocks_of(rows, count):
    texts, vectors, sources, kinds = rows
    bounds = itertools.pairwise(np.linspace(0, len(texts), count + 1).astype(int))
    return [
        block(texts[a:b], vectors[a:b], sources[a:b], seq=n, kind=kinds[a:b])
        for n, (a, b) in enumerate(bounds)
    ]


def told(report):
    return [
        [(one["value"], *(one[name] for name in FIGURES)) for one in column["largest"]]
        for column in report["vector_groups"]
    ]


def test_the_figures_are_those_of_pandas(make_report):
    texts, vectors, sources, kinds = rows = rows_of(900)
    frame = pd.DataFrame({"text": texts, "source": sources, "kind": kinds})
    frame["vector"] = [tuple((row + 0).tolist()) for row in vectors]
    usable = np.isfinite(vectors).all(axis=1) & vectors.any(axis=1)
    frame = frame[usable]
    texts_of_vector = frame.groupby("vector")["text"].nunique()
    frame["equal"] = frame["vector"].map(texts_of_vector) > 1
    assert 0.05 < frame["equal"].mean() < 0.95
    report = make_report(blocks_of(rows, 4), PLAIN)
    for name, column in zip(("source", "kind"), report["vector_groups"], strict=True):
        assert (column["column"], column["distinct"]) == (name, frame[name].nunique(dropna=False))
        for one in column["largest"]:
            is_ours = frame[name].isna() if one["value"] is None else frame[name] == one["value"]
            ours = frame[is_ours]
            equal = ours.groupby("text")["equal"].any()
            assert one["sampled"] == len(equal)
            assert one["equal_share"] == equal.mean()
            constant = pd.DataFrame(ours["vector"].tolist()).nunique() == 1
            assert one["dead_dimensions"] == constant.sum()
        found = {one["value"]: one["dead_dimensions"] for one in column["largest"]}
        dead = {"source": {"f2.jsonl": 2}, "kind": {"kind 1": 1}}[name]
        assert {value: number for value, number in found.items() if number} == dead
        assert column["worst_equal_share"] == max(one["equal_share"] for one in column["largest"])
        assert column["most_dead_dimensions"] == max(dead.values())


def test_however_rows_are_in_blocks_the_figures_are_the_same(make_report):
    rows = rows_of(300)
    one, nine = (make_report(blocks_of(rows, count), PLAIN) for count in (1, 9))
    assert told(one) == told(nine)


def corpus(bad=lambda vectors: None, texts=lambda numbers: numbers):
    """Twenty files of 40 rows each, of which one is spoilt."""
    vectors = vectors_of(800)
    bad(vectors[13 * 40 : 14 * 40])
    names = [f"text {n}" for n in texts(np.arange(800))]
    return block(names, vectors, [f"f{n // 40:02d}.jsonl" for n in range(800)])


def dead_one(vectors):
    vectors[:, 4] = 0


def all_but_dead(vectors):
    vectors[:, 4:6] *= 1e-6


def half_equal(vectors):
    vectors[::2] = vectors[0]


def of_another_file(vectors):
    """The vectors of six of its texts are those of rows of the file before it."""
    vectors[:6] = vectors_of(800)[:6]


@pytest.mark.parametrize(
    ("bad", "figure", "said", "gate"),
    [
        (dead_one, "dead_dimensions", "have 1 dimension that the others use and that is the same, "
         "or all but so, in all 40 of its sampled texts", "most_dead_dimensions>0"),
        (all_but_dead, "dead_dimensions", "have 2 dimensions that the others use and that are the "
         "same", "most_dead_dimensions>1"),
        (half_equal, "equal_share", "of 40 sampled texts 50 % have exactly the vector of another "
         "text, 0 % of all others", "worst_equal_share>0.4"),
        (of_another_file, "equal_share", "of 40 sampled texts 15 % have exactly the vector of "
         "another text, ", "worst_equal_share>0.1"),
    ],
)  # fmt: skip
def test_one_rotten_file_among_twenty_is_named(make_report, bad, figure, said, gate):
    report = make_report([corpus(bad)], PLAIN)
    (found,) = report["vector_groups"]
    (worst,) = [one for one in found["worst"] if one["value"] == "f13.jsonl"]
    assert worst["figure"] == figure
    begins = "The vectors of source 'f13.jsonl' (40 rows) "
    (finding,) = [one for one in report["findings"] if one["text"].startswith(begins)]
    assert finding["level"] == "warning"
    assert said in finding["text"]
    assert not check_gate(Gate.parse(f"vector_groups.source.{gate}"), report).passed
    page = render_html(json.loads(json.dumps(report)))
    table = page[page.index("Unlike the rest") : page.index("</table>", page.index("Unlike the"))]
    assert "f13.jsonl" in table
    sound = make_report([corpus()], PLAIN)
    assert check_gate(Gate.parse(f"vector_groups.source.{gate}"), sound).passed
    assert sound["vector_groups"][0]["worst"] == []


def test_the_worst_comes_first(make_report):
    def bad(vectors):
        vectors.base[40:80, :3] = 0
        vectors.base[80:120, :5] = 0
        vectors[:20] = vectors[0]

    (found,) = make_report([corpus(bad)], PLAIN)["vector_groups"]
    assert [one["value"] for one in found["worst"]] == ["f13.jsonl", "f02.jsonl", "f01.jsonl"]
    assert (found["worst_equal_share"], found["most_dead_dimensions"]) == (0.5, 5)


def test_repeated_texts_and_two_pairs_are_no_fault(make_report):
    repeated = make_report([corpus(half_equal, texts=lambda n: np.where(n % 2, n, n // 40))])
    (found,) = repeated["vector_groups"]
    assert (found["worst_equal_share"], found["worst"]) == (0, [])
    assert {one["sampled"] for one in found["largest"]} == {21}

    def pairs(vectors):
        vectors[:2], vectors[2:4] = vectors[0], vectors[2]

    (found,) = make_report([corpus(pairs)])["vector_groups"]
    assert (found["worst_equal_share"], found["worst"]) == (0.1, [])


def test_what_is_dead_in_all_files_is_no_fault_of_one(make_report):
    def everywhere(vectors):
        vectors.base[:, 4] = 0
        # Most rows of all files have none of it.
        vectors.base[np.arange(800) % 10 > 0, 5] = 0
        vectors[:, 5] = 0

    report = make_report([corpus(everywhere)], PLAIN)
    assert report["vector_groups"][0]["most_dead_dimensions"] == 0
    assert report["dimensions"]["n_dead"] == 1


def test_few_texts_say_nothing(make_report):
    vectors = vectors_of(60)
    vectors[:19] = vectors[0] * np.r_[np.zeros(3), np.ones(WIDTH - 3)]
    texts = [f"text {n}" for n in range(60)]
    report = make_report([block(texts, vectors, ["a"] * 19 + ["b"] * 41)], PLAIN)
    (found,) = report["vector_groups"]
    (a,) = [one for one in found["largest"] if one["value"] == "a"]
    assert [a[name] for name in FIGURES] == [19, None, None]
    assert (found["worst_equal_share"], found["most_dead_dimensions"]) == (0, 0)
    few = make_report([block(texts[:30], vectors[:30], ["a"] * 19 + ["b"] * 11)])
    (found,) = few["vector_groups"]
    assert (found["worst_equal_share"], found["most_dead_dimensions"]) == (None, None)
    assert '<td class="number">\u2013</td></tr>' in render_html(json.loads(json.dumps(few)))


def test_dimensions_of_signs_are_not_looked_at(make_report):
    dataset = {**PLAIN, "vector_dtype": "binary"}
    (found,) = make_report([corpus(dead_one)], dataset)["vector_groups"]
    assert (found["most_dead_dimensions"], found["worst_equal_share"]) == (None, 0)
    assert found["worst"] == []


def test_values_that_are_not_read_of_all_rows_say_nothing():
    texts, vectors, sources, kinds = rows_of(200)
    with_kind = block(texts[:100], vectors[:100], sources[:100], kind=kinds[:100])
    without = block(texts[100:], vectors[100:], sources[100:], seq=1)
    examined = examined_of(with_kind, without)
    facts = Facts(PLAIN, RunAccount(), Sample(), TextRepeats(), {}, examined=examined)
    figures, _ = vector_groups.SECTION.say(Nothing(), facts)
    source, kind = figures["vector_groups"]
    assert sum(one["sampled"] for one in source["largest"]) > 100
    assert {one["sampled"] for one in kind["largest"]} == {0}
    assert (kind["worst_equal_share"], kind["most_dead_dimensions"]) == (None, None)


def test_long_values_are_not_taken_for_one_another():
    texts, vectors = [f"text {n}" for n in range(80)], vectors_of(80)
    kinds = [letter * 200 + tail for tail in ("", "tail") for letter in "ab" for _ in range(20)]
    values = examined_of(block(texts, vectors, ["f"] * 80, kind=kinds)).values["kind"]
    keys = [values.keys[code] for code in values.codes]
    assert sorted({*keys}) == sorted(["*", "=" + "a" * 200, "=" + "b" * 200])
    assert keys.count("*") == 40


def dead_of(ours, others):
    places = np.arange(len(ours) + len(others))
    vectors = np.r_[ours, others]
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    return dead_dimensions(vectors, lengths, places[: len(ours)], places[len(ours) :])


def test_vectors_that_are_all_equal_have_no_dead_dimension():
    others = vectors_of(100)
    assert dead_of(np.tile(others[:1], (30, 1)), others) == 0
    ours = vectors_of(30, seed=1)
    ours[:, 1:] = 0.25
    assert dead_of(ours, others) == WIDTH - 1
    assert dead_of(ours, others[:0]) == 0
    others[:60, 3] = 0.25
    # 0.6 ** 30 is 2e-7, 0.6 ** 25 is 3e-6.
    assert dead_of(ours, others) == WIDTH - 1
    assert dead_of(ours[:25], others) == WIDTH - 2


def test_what_others_hardly_use_is_not_dead():
    """As three dimensions of all-MiniLM-L6-v2, which texts of other languages move a little."""
    ours, others = vectors_of(50, seed=1), vectors_of(500)
    others[:, 7] = 1e-4 * others[:, 7]
    ours[:, 7], others[:, 8] = 1e-6 * ours[:, 7], others[:, 8] / 5
    ours[:, 8] = 0
    others *= 1000
    assert dead_of(ours, others) == 1


def test_each_value_is_told_of_by_its_own_rows(make_report):
    """A text of two files is one of each, and most rows may be of the spoilt file."""
    vectors = vectors_of(30)
    vectors[:20, 4] = 0
    texts = [f"text {n}" for n in range(29)] + ["text 0"]
    (found,) = make_report([block(texts, vectors, ["a"] * 20 + ["b"] * 10)], PLAIN)["vector_groups"]
    assert [(one["sampled"], one["dead_dimensions"]) for one in found["largest"]] == [
        (20, 1), (10, None),
    ]  # fmt: skip
    (found,) = make_report([block(["so"] * 2, vectors_of(2), ["a", "b"])], PLAIN)["vector_groups"]
    assert [one["sampled"] for one in found["largest"]] == [1, 1]


def test_values_of_a_sample_may_be_many():
    sources = [f"f{n}" for n in range(200)]
    texts = [f"text {n}" for n in range(200)]
    values = examined_of(block(texts, vectors_of(200), sources)).values["source"]
    assert sorted(values.keys[code] for code in values.codes) == sorted(
        f"={one}" for one in sources
    )
