"""Rows and rejects by file and metadata value, against pandas."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from blocks import build_block
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.records import Reject
from embedkit.reports import sections
from embedkit.reports import values as values_module
from embedkit.reports.measured import Measured
from embedkit.reports.render import render_html
from embedkit.reports.sections.groups import Groups, Tally
from embedkit.reports.statistics import Statistics

SECTION = sections.groups.SECTION
MODEL_SEES = 16


def block(sources, seq=0, rejects=(), texts=None, n_tokens=None, **metadata):
    """A block with a row for each source."""
    count = len(sources)
    made = build_block(
        texts or [f"text number {n}" for n in range(count)],
        n_tokens=n_tokens,
        max_tokens=MODEL_SEES,
        rejects=tuple(rejects),
        seq=seq,
    )
    place = made.rows.schema.get_field_index("source")
    rows = made.rows.set_column(place, "source", pa.array(sources, pa.string()))
    for name, values in metadata.items():
        rows = rows.append_column(name, pa.array(values))
    return type(made)(made.split_id, made.seq, made.documents, True, made.rejects, rows)


def rejects_of(source, count):
    return [Reject(source, n, "empty_text", "no text; drop it") for n in range(count)]


def of(*blocks):
    return sum((Groups.of(Measured(one, MODEL_SEES)) for one in blocks), Groups())


def report_of(make_report, *blocks):
    return make_report(blocks, dataset={"max_tokens": MODEL_SEES})


def test_the_figures_are_those_of_pandas(make_report):
    chosen = np.random.default_rng(0)
    count = 600
    sources = [f"f{n}.jsonl" for n in chosen.integers(0, 15, count)]
    kinds = [None if n == 3 else f"kind {n}" for n in chosen.integers(0, 4, count)]
    lengths = chosen.integers(3, 30, count)
    texts = ["ab" if n == 0 else f"text {n}" for n in chosen.integers(0, 9, count)]
    rejects = [one for n in range(5) for one in rejects_of(f"f{n}.jsonl", n)]
    blocks = [
        block(
            sources[start:end],
            seq=seq,
            rejects=rejects if seq else (),
            texts=texts[start:end],
            n_tokens=lengths[start:end],
            kind=kinds[start:end],
        )
        for seq, (start, end) in enumerate([(0, 250), (250, 600)])
    ]
    source, kind = report_of(make_report, *blocks)["groups"]
    frame = pd.DataFrame(
        {
            "source": sources,
            "kind": kinds,
            "truncated": lengths > MODEL_SEES,
            "tokens": np.minimum(lengths, MODEL_SEES),
            "short": [len(text) <= 3 for text in texts],
        }
    )
    assert (source["column"], source["distinct"], source["others"]) == ("source", 15, 0)
    sizes = frame.groupby("source").size().sort_index().sort_values(ascending=False, kind="stable")
    assert [one["value"] for one in source["largest"]] == sizes.index[:10].tolist()
    for column, found in (("source", source), ("kind", kind)):
        by_value = frame.fillna({"kind": ""}).groupby(column)
        means = by_value[["truncated", "short", "tokens"]].mean()
        for one in found["largest"]:
            expected = means.loc[one["value"] or ""]
            assert one["truncated_share"] == pytest.approx(expected["truncated"])
            assert one["short_share"] == pytest.approx(expected["short"])
            assert one["mean_tokens"] == pytest.approx(expected["tokens"])
            assert one["rows"] == by_value.size()[one["value"] or ""]
    for one in source["largest"]:
        number = int(one["value"][1:].removesuffix(".jsonl"))
        lost = number if number < 5 else 0
        assert one["rejects"] == lost
        assert one["reject_share"] == pytest.approx(lost / (lost + one["rows"]))
    assert {one["value"] for one in kind["largest"]} == {"kind 0", "kind 1", "kind 2", None}
    assert all(one["rejects"] is one["reject_share"] is None for one in kind["largest"])
    assert kind["worst_reject_share"] is None
    large = [one for one in sizes.index if sizes[one] >= 20]
    assert source["worst_truncated_share"] == pytest.approx(
        frame.groupby("source")["truncated"].mean()[large].max()
    )


@pytest.mark.parametrize(
    ("changes", "share", "said"),
    [
        ({"rejects": 40}, "reject_share", "44 % of its records could not be embedded"),
        ({"n_tokens": 99}, "truncated_share", "100 % of its rows are longer than the model sees"),
        ({"text": "?"}, "short_share", "100 % of its rows have at most 3 characters"),
    ],
)
def test_one_rotten_file_among_twenty_is_named(make_report, changes, share, said):
    blocks = []
    for number in range(20):
        name, bad = f"f{number:02d}.jsonl", number == 13
        blocks.append(
            block(
                [name] * 50,
                seq=number,
                rejects=rejects_of(name, changes.get("rejects", 0) if bad else 0),
                texts=[changes["text"]] * 50 if bad and "text" in changes else None,
                n_tokens=[changes.get("n_tokens", 9) if bad else 9] * 50,
            )
        )
    report = report_of(make_report, *blocks)
    (found,) = report["groups"]
    assert [one["value"] for one in found["worst"]] == ["f13.jsonl"]
    assert found[f"worst_{share}"] == found["worst"][0][share] >= 0.4
    (finding,) = [one for one in report["findings"] if f"{said}," in one["text"]]
    assert finding["level"] == "warning"
    assert finding["text"].startswith("source 'f13.jsonl' (")
    assert f"{said}, 0 % of all others." in finding["text"]
    assert (found["worst"][0]["figure"], found["worst"][0]["rest"]) == (share, 0)
    assert "f13.jsonl" in render_html(json.loads(json.dumps(report)))


def test_a_corpus_of_one_kind_says_nothing(make_report):
    blocks = [block([f"f{n}.jsonl"] * 50, seq=n) for n in range(3)]
    report = report_of(make_report, *blocks)
    assert report["groups"][0]["worst"] == []
    assert not [one for one in report["findings"] if "unlike" in one["text"]]
    assert report_of(make_report, block(["f.jsonl"] * 9))["groups"] == []
    assert "By file and metadata" not in render_html(report_of(make_report, block(["f"] * 9)))


def test_small_files_are_not_held_to_shares(make_report):
    sources = [*["a"] * 60, *["b"] * 60, *["c"] * 19]
    report = report_of(make_report, block(sources, n_tokens=[*[9] * 120, *[99] * 19]))
    assert report["groups"][0]["worst"] == []
    assert report["groups"][0]["worst_truncated_share"] == 0


def test_a_source_of_nothing_but_rejects_is_there(make_report):
    lost = type(block(["x"]))("00000", 1, 30, True, tuple(rejects_of("bad", 30)), block([]).rows)
    report = report_of(make_report, block(["good"] * 30), lost)
    (found,) = report["groups"]
    assert [(one["value"], one["reject_share"]) for one in found["worst"]] == [("bad", 1)]
    whole = Statistics.of_rejects("00000-00000", 1, rejects_of("bad", 1))
    assert whole.by_section["groups"].by_column == {"source": {"=bad": Tally(rejects=1)}}


def test_values_of_which_there_are_too_many_are_one():
    found = of(block(["a"] * 65, name=[f"n{n}" for n in range(65)]), block(["b"], name=["x" * 999]))
    assert {key: one.rows for key, one in found.by_column["name"].items()} == {"*": 66}
    assert found.by_column["source"].keys() == {"=a", "=b"}


def test_kinds_of_metadata():
    made = of(
        block(
            ["a"] * 3,
            year=[2001, None, 2001],
            sure=[True, False, None],
            price=[1.5, 2.5, 3.5],
            odd=["*", "0", "=x"],
        )
    )
    assert made.by_column.keys() == {"source", "year", "sure", "odd"}
    assert {key: one.rows for key, one in made.by_column["year"].items()} == {"=2001": 2, "0": 1}
    assert made.by_column["sure"].keys() == {"=true", "=false", "0"}
    assert made.by_column["odd"].keys() == {"=*", "=0", "==x"}


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    cut=st.integers(0, 6),
    most=st.integers(1, 6),
)
def test_any_grouping_gives_the_same_and_a_value_that_is_kept_has_all_of_its_rows(
    counts, cut, most
):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(values_module, "_MOST_VALUES", most)
        blocks = [
            block([f"f{(n * 5 + seq) % 8}" for n in range(count)], seq=seq)
            for seq, count in enumerate(counts)
        ]
        whole = of(*blocks)
        assert whole == of(*blocks[:cut]) + of(*blocks[cut:]) == of(*blocks[::-1])
        sources = pd.Series([s for one in blocks for s in one.rows.column("source").to_pylist()])
        tallies = dict(whole.by_column.get("source", {}))
        others = tallies.pop("*", Tally()).rows
        assert len(tallies) == min(most, sources.nunique())
        for key, tally in tallies.items():
            assert tally.rows == (sources == key[1:]).sum()
        assert others + sum(one.rows for one in tallies.values()) == len(sources)


def test_it_is_read_back_from_sidecars_as_it_was():
    made = Statistics.of(block(["a", "ü", "<b>"], kind=["x", None, "\u202e"]), MODEL_SEES)
    told = json.loads(json.dumps(made.to_dict()))
    assert Statistics.from_dict(told).get(SECTION) == made.get(SECTION)


def test_hostile_names_stay_text(make_report):
    bad = "<img src=x onerror=alert(1)>"
    blocks = [
        block([bad] * 30, n_tokens=[99] * 30, kind=[bad] * 30),
        block(["good"] * 90, seq=1, kind=["k"] * 90),
    ]
    page = render_html(report_of(make_report, *blocks))
    assert bad not in page
    assert "&lt;img src=x" in page
