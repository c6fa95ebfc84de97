"""Scripts of texts, by file and metadata value, against the package regex and pandas."""

import itertools
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import regex
import script_table
from blocks import build_block
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.config import Gate
from embedkit.reports.gates import check_gate
from embedkit.reports.measured import Measured
from embedkit.reports.render import render_html
from embedkit.reports.sections import scripts
from embedkit.reports.statistics import Statistics
from embedkit.reports.unicode_scripts import CHARACTERS, written_in

ENGLISH = "The rain in Spain stays mainly in the plain, 7 days of 10."
RUSSIAN = "Дождь идёт семь дней из десяти."
SAMPLES = {
    "Latn": [ENGLISH, "Füße und Käse", "a", "e\u0301te\u0301"],
    "Cyrl": [RUSSIAN, "ЁЖ"],
    "Grek": ["Βρέχει συνέχεια"],
    "Arab": ["المطر ينزل كل يوم"],
    "Hani": ["今天下雨了。", "雨"],
    "Jpan": ["今日は雨が降っています。", "カタカナ"],
    "Kore": ["오늘은 비가 옵니다.", "大韓民國의 비가 옵니다"],
    "Thai": ["วันนี้ฝนตก"],
    "mixed": ["rain дождь", "雨が降る rain", "αβγ abc"],
    "none": ["12 + 30 = 42", "…!?", "😀 😀", " "],
}
MOJIBAKE = RUSSIAN.encode().decode("latin-1")


def block(texts, sources=None, seq=0, **metadata):
    """A block with a row for each text."""
    made = build_block(texts, seq=seq)
    place = made.rows.schema.get_field_index("source")
    sources = sources or ["f.jsonl"] * len(texts)
    rows = made.rows.set_column(place, "source", pa.array(sources, pa.string()))
    for name, values in metadata.items():
        rows = rows.append_column(name, pa.array(values, pa.string()))
    return type(made)(made.split_id, made.seq, made.documents, True, made.rejects, rows)


def reference(text: str) -> str:
    """The script of one text, by the package regex."""
    start = text[:CHARACTERS]
    table = {"Jpan": "[\\p{Script=Hira}\\p{Script=Kana}]", "Kore": "\\p{Script=Hang}"}
    counts = {
        name: len(regex.findall(table.get(name, f"\\p{{Script={name}}}"), start))
        for name in (*table, "Hani", "Latn", "Cyrl", "Grek", "Arab", "Thai", "Hebr", "Deva")
    }
    for name in table:
        if counts[name] and counts[name] >= 0.1 * (counts[name] + counts["Hani"]):
            counts[name] += counts["Hani"]
            counts["Hani"] = 0
    letters = sum(counts.values())
    if not letters:
        return "none"
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] >= 0.7 * letters else "mixed"


def names_of(texts) -> list[str]:
    found = written_in(pa.array(texts, pa.string()))
    return [found.names[code] for code in found.codes.tolist()]


def test_the_table_is_that_of_the_package_regex():
    table = json.loads(script_table.TABLE.read_text())
    made = {
        name: ranges for name in script_table.scripts() if (ranges := script_table.ranges_of(name))
    }
    assert table == made


@pytest.mark.parametrize("name", SAMPLES)
def test_texts_that_people_wrote(name):
    assert names_of(SAMPLES[name]) == [name] * len(SAMPLES[name])
    assert [reference(text) for text in SAMPLES[name]] == [name] * len(SAMPLES[name])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([*"abz éДЖβω雨下の語カ비옵אبवไ1.,!😀\u0301"]), max_size=40).map(
            "".join
        ),
        max_size=6,
    )
)
def test_they_are_those_of_the_package_regex(texts):
    assert names_of(texts) == [reference(text) for text in texts]


def test_no_more_than_the_beginning_counts():
    assert names_of(["д" * CHARACTERS + "a" * 9999]) == ["Cyrl"]
    assert names_of([]) == []


@pytest.mark.parametrize("text", [MOJIBAKE, "caf\ufffd", "a\ue000", "\x92t was", "\U000f0001"])
def test_characters_that_no_text_has(text):
    assert written_in(pa.array([text, "a\x85b", "plain"])).faulty.tolist() == [True, False, False]


def rows_of(count: int, seed: int = 0):
    chosen = np.random.default_rng(seed)
    texts = [one for several in SAMPLES.values() for one in several] + [MOJIBAKE]
    return (
        [texts[n] for n in chosen.integers(0, len(texts), count)],
        [f"f{n}.jsonl" for n in chosen.integers(0, 12, count)],
        [None if n == 3 else f"kind {n}" for n in chosen.integers(0, 4, count)],
    )


def test_the_figures_are_those_of_pandas(make_report):
    texts, sources, kinds = rows_of(500)
    blocks = [
        block(texts[:200], sources[:200], kind=kinds[:200]),
        block(texts[200:], sources[200:], seq=1, kind=kinds[200:]),
    ]
    report = make_report(blocks)
    frame = pd.DataFrame({"source": sources, "kind": kinds, "script": map(reference, texts)})
    frame["faulty"] = [text == MOJIBAKE for text in texts]
    counts = frame["script"].value_counts()
    faulty = int(frame["faulty"].sum())
    assert {name: one["rows"] for name, one in report["scripts"].items()} == {
        **counts.to_dict(), "faulty": faulty,
    }  # fmt: skip
    assert report["scripts"]["Latn"]["share"] == counts["Latn"] / 500
    assert report["main_script"] == counts.index[0]
    source, kind = report["script_groups"]
    assert (source["column"], source["distinct"], kind["column"]) == ("source", 12, "kind")
    by_source = frame.groupby("source")
    for one in source["largest"]:
        group = by_source.get_group(one["value"])
        rest = frame[frame["source"] != one["value"]]
        assert one["rows"] == len(group)
        assert one["script"] in group["script"].mode().tolist()
        assert one["share"] == pytest.approx((group["script"] == one["script"]).mean())
        assert one["rest"] == pytest.approx((rest["script"] == one["script"]).mean())
        assert one["faulty_share"] == pytest.approx(group["faulty"].mean())
    large = [name for name, group in by_source if len(group) >= 20]
    assert source["worst_faulty_share"] == pytest.approx(by_source["faulty"].mean()[large].max())
    other = by_source["script"].agg(lambda of: (of != report["main_script"]).mean())
    assert source["worst_other_share"] == pytest.approx(other[large].max())


@pytest.mark.parametrize("count", [1, 7, 100])
def test_however_blocks_are_added_the_json_is_the_same(count):
    texts, sources, kinds = rows_of(300, seed=1)
    bounds = np.linspace(0, 300, count + 1).astype(int)
    made = [
        scripts.Scripts.of(Measured(block(texts[a:b], sources[a:b], kind=kinds[a:b]), 16))
        for a, b in itertools.pairwise(bounds)
    ]
    expected = scripts.Scripts.of(Measured(block(texts, sources, kind=kinds), 16))
    for order in (range(count), np.random.default_rng(count).permutation(count)):
        total = sum((made[n] for n in order), scripts.Scripts())
        of_sidecars = [
            json.dumps(scripts.SECTION.codec.dump_python(one), sort_keys=True)
            for one in (total, expected)
        ]
        assert of_sidecars[0] == of_sidecars[1]
        told = [json.dumps(asdict(scripts.SECTION.figures(one, None))) for one in (total, expected)]
        assert told[0] == told[1]


def corpus(bad: str, files: int = 20):
    texts = [bad if n // 25 == 13 else f"{ENGLISH} {n}" for n in range(25 * files)]
    return texts, [f"f{n // 25:02d}.jsonl" for n in range(25 * files)]


@pytest.mark.parametrize(
    ("bad", "said", "gate"),
    [
        (RUSSIAN, "source 'f13.jsonl' (25 rows) is unlike the others: 100 % of it is in Cyrillic, "
         "0 % of all others.", "script_groups.source.worst_other_share>0.5"),
        (MOJIBAKE, "100 % of source 'f13.jsonl' (25 rows) have characters that no text has",
         "script_groups.source.worst_faulty_share>0.1"),
        ("1 2 3", "100 % of it is in no letters", "script_groups.source.worst_other_share>0.5"),
    ],
)  # fmt: skip
def test_one_file_among_twenty_is_named(make_report, bad, said, gate):
    report = make_report([block(*corpus(bad))])
    found = report["script_groups"][0]
    assert [one["value"] for one in found["worst"]] == ["f13.jsonl"]
    assert any(said in one["text"] and one["level"] == "warning" for one in report["findings"])
    assert not check_gate(Gate.parse(gate), report).passed
    assert check_gate(Gate.parse("scripts.Latn.share<0.9"), report).passed
    assert "f13.jsonl" in render_html(json.loads(json.dumps(report)))


def test_a_sound_corpus_and_one_of_many_scripts_say_nothing(make_report):
    texts = [
        one for name in ("Latn", "Cyrl", "Grek", "Arab", "Thai") for one in SAMPLES[name][:1] * 30
    ]
    many = make_report([block(texts, [f"{n // 30}" for n in range(len(texts))])])
    assert len(many["script_groups"][0]["worst"]) == 5
    sound = make_report([block(*corpus(f"{ENGLISH} 13"))])
    assert sound["script_groups"][0]["worst"] == []
    for report in (many, sound):
        assert not [one for one in report["findings"] if "unlike" in one["text"]]
    assert make_report([block([])])["scripts"] == {}


def test_it_is_read_back_from_sidecars_as_it_was():
    texts, sources, kinds = rows_of(60)
    made = Statistics.of(block(texts, sources, kind=kinds), 16)
    told = json.loads(json.dumps(made.to_dict()))
    assert Statistics.from_dict(told).get(scripts.SECTION) == made.get(scripts.SECTION)
