"""Languages of texts, by file and metadata value, against what they are known to be and pandas."""

import csv
import hashlib
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from blocks import build_block
from public_data import NO_PUBLIC_DATA, PUBLIC_DATA
from texts import FOREIGN, paragraphs

from embedkit.config import Gate
from embedkit.reports import languages
from embedkit.reports.gates import check_gate
from embedkit.reports.measured import Measured
from embedkit.reports.render import render_html
from embedkit.reports.sections import languages as section
from embedkit.reports.sections.languages import Languages

ENGLISH = [text for text in paragraphs() if len(text) > 80][:600]
NUMBERS = [f"{n} + {n * n} = {n + n * n}" for n in range(40)]


def block(texts, sources, seq=0, **metadata):
    made = build_block(texts, seq=seq)
    place = made.rows.schema.get_field_index("source")
    rows = made.rows.set_column(place, "source", pa.array(sources, pa.string()))
    for name, values in metadata.items():
        rows = rows.append_column(name, pa.array(values, pa.string()))
    return type(made)(made.split_id, made.seq, made.documents, True, made.rejects, rows)


def german(count):
    return [f"{FOREIGN['de'][n % 4]} {FOREIGN['de'][n // 4 % 4]} {n}" for n in range(count)]


def corpus(bad):
    """Twelve files of 40 texts each, of which one is as given."""
    texts = ENGLISH[: 12 * 40]
    texts[7 * 40 : 8 * 40] = bad
    return block(texts, [f"f{n // 40:02d}.jsonl" for n in range(len(texts))])


def said_of(report):
    return [one["text"] for one in report["findings"] if "unlike the others" in one["text"]]


@pytest.mark.parametrize("language", FOREIGN)
def test_sentences_that_people_wrote(language):
    assert languages.languages_of(FOREIGN[language]) == [language] * len(FOREIGN[language])


def test_what_is_no_language_is_not_told():
    told = languages.languages_of(["", " ", "12 + 30 = 42", "😀", "x = f(y)", "\ud800", "a\x00b"])
    assert {*told} <= {"und", "zxx"}
    assert languages.languages_of([]) == []


def test_no_more_than_the_beginning_counts():
    text = FOREIGN["ja"][0] * 20
    assert languages.languages_of([text[: languages.CHARACTERS] + ENGLISH[0] * 99]) == ["ja"]


@pytest.mark.skipif(not PUBLIC_DATA.exists(), reason=NO_PUBLIC_DATA)
@pytest.mark.parametrize("language", ["de", "ja", "ru", "zh"])
def test_sentences_of_a_corpus(language):
    path = PUBLIC_DATA / "multilingual" / f"stsb-{language}-dev.csv"
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row[0] for row in csv.reader(file)][::5]
    told = pd.Series(languages.languages_of(texts))
    assert (told == language).mean() > 0.85
    assert (told[told != "und"] == language).mean() > 0.97


def test_the_figures_are_those_of_pandas(make_report):
    chosen = np.random.default_rng(0)
    drawn = chosen.choice(len(ENGLISH), 500, p=np.arange(1, 601) / np.arange(1, 601).sum())
    texts = [ENGLISH[n] for n in drawn]
    known = np.array(["en"] * 500, object)
    for place, language in enumerate(("de", "ru", "ja")):
        for n in range(place, 300, 3 + place):
            texts[n] = f"{FOREIGN[language][n % 4]} {FOREIGN[language][n // 4 % 4]}"
            known[n] = language
    sources = [f"f{n}.jsonl" for n in chosen.integers(0, 12, 500)]
    kinds = [None if n == 2 else f"kind {n}" for n in chosen.integers(0, 4, 500)]
    blocks = [
        block(texts[:200], sources[:200], kind=kinds[:200]),
        block(texts[200:], sources[200:], seq=1, kind=kinds[200:]),
    ]
    frame = pd.DataFrame({"source": sources, "kind": kinds, "language": known})
    report = make_report(blocks)
    told = {code: one["rows"] for code, one in report["languages"].items() if code in {*known}}
    # Some paragraphs of Python's help are code.
    assert {code: told[code] for code in ("de", "ru", "ja")} == {
        code: int((known == code).sum()) for code in ("de", "ru", "ja")
    }
    assert 0.9 < told["en"] / (known == "en").sum() <= 1
    assert report["language_rows"] == 500
    assert sum(one["rows"] for one in report["languages"].values()) == 500
    assert sum(one["share"] for one in report["languages"].values()) == pytest.approx(1)
    frame["language"] = languages.languages_of(texts)
    for name, column in zip(("source", "kind"), report["language_groups"], strict=True):
        assert (column["column"], column["distinct"]) == (name, frame[name].nunique(dropna=False))
        worst = []
        for _, rows in frame.groupby(name, dropna=False):
            worst.append(float((rows["language"] != "en").mean()))
        assert column["worst_other_share"] == pytest.approx(max(worst))
        for one in column["largest"]:
            ours = frame[name].isna() if one["value"] is None else frame[name] == one["value"]
            has_it = frame["language"] == one["language"]
            assert one["language"] == frame[ours]["language"].value_counts().idxmax()
            assert one["rows"] == ours.sum()
            assert one["share"] == pytest.approx(has_it[ours].mean())
            assert one["rest"] == pytest.approx(has_it[~ours].mean())


@pytest.mark.parametrize(
    ("bad", "language", "said"),
    [
        (german(40), "de", "100 % of it is in German, 0 % of all others. Does the model know"),
        (NUMBERS[:37] + german(3), "und", "92 % of it is in no language that can be told, "),
    ],
)
def test_one_file_in_another_language_is_named(make_report, bad, language, said):
    report = make_report([corpus(bad)])
    assert report["main_language"] == "en"
    (found,) = report["language_groups"]
    assert [(one["value"], one["language"]) for one in found["worst"]] == [("f07.jsonl", language)]
    (text,) = [one for one in said_of(report) if said in one]
    assert text.startswith("source 'f07.jsonl' (40 rows) is unlike the others: ")
    for gate in ("language_groups.source.worst_other_share>0.9", "languages.en.share<0.95"):
        assert not check_gate(Gate.parse(gate), report).passed
    page = render_html(json.loads(json.dumps(report)))
    page = page[page.index("<h2>Languages</h2>") :]
    assert "characters of 480 rows, up to" in page
    assert page.index("unlike the rest") < page.index("f07.jsonl") < page.index("By input file")


def test_texts_that_are_not_told_do_not_hide_a_file(make_report):
    made = corpus(german(40))
    texts = made.rows.column("text").to_pylist()
    texts[::4] = NUMBERS * 3
    report = make_report([block(texts, made.rows.column("source").to_pylist())])
    assert report["languages"]["en"]["share"] < 0.75
    assert [text for text in said_of(report) if "75 % of it is in German" in text]


def test_a_sound_corpus_and_one_of_many_languages_say_nothing(make_report):
    sound = make_report([corpus(ENGLISH[480:520])])
    assert sound["language_groups"][0]["worst"] == []
    assert sound["language_groups"][0]["worst_other_share"] < 0.2
    many = make_report([block(german(80) + ENGLISH[:80], ["a"] * 80 + ["b"] * 80)])
    assert [one["value"] for one in many["language_groups"][0]["worst"]] == ["a", "b"]
    assert [one for one in said_of(many) if "German" in one or "English" in one] == []


def test_the_main_language_is_one_that_is_told(make_report):
    numbers = [f"{n} {n}" for n in range(100)]
    report = make_report([block(numbers + ENGLISH[:50], ["a"] * 100 + ["b"] * 50)])
    assert report["main_language"] == "en"
    assert next(iter(report["languages"])) == "und"
    assert report["language_groups"][0]["worst_other_share"] == 1


def test_few_rows_of_a_value_are_not_compared(make_report):
    report = make_report([block(german(19) + ENGLISH[:81], ["a"] * 19 + ["b"] * 81)])
    (found,) = report["language_groups"]
    assert [one["value"] for one in found["worst"]] == ["b"]
    assert found["worst_other_share"] < 0.2
    assert make_report([block(ENGLISH[:100], ["a"] * 100)])["language_groups"] == []


def test_texts_of_which_none_can_be_told(make_report):
    texts = [f"{n} {n}" for n in range(120)]
    report = make_report([block(texts, ["a"] * 60 + ["b"] * 60)])
    assert (report["main_language"], {*report["languages"]}) == (None, {"und"})
    (found,) = report["language_groups"]
    assert (found["worst"], found["worst_other_share"]) == ([], 0)
    assert said_of(report) == []


def test_it_is_left_out_where_it_cannot_be_told(make_report, monkeypatch):
    few = make_report([block(ENGLISH[:99], ["a"] * 99)])
    made = block(ENGLISH[:120], ["a"] * 120)
    rows = made.rows.drop_columns(["text"])
    bare = make_report([type(made)(made.split_id, made.seq, made.documents, True, (), rows)])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    without = make_report([made])
    for report in (few, bare, without):
        assert (report["languages"], report["main_language"]) == ({}, None)
        assert report["language_groups"] == []
        assert "<h2>Languages</h2>" not in render_html(json.loads(json.dumps(report)))


def statistic_of(*blocks):
    return sum((Languages.of(Measured(one, 256)) for one in blocks), Languages())


def test_however_blocks_are_added_the_json_is_the_same():
    texts = [text for pair in zip(german(360), ENGLISH[:360], strict=True) for text in pair]
    sources = [f"f{n % 7}.jsonl" for n in range(720)]
    blocks = [block(texts[n : n + 120], sources[n : n + 120], n) for n in range(0, 720, 120)]
    whole = asdict(statistic_of(*blocks))
    assert asdict(statistic_of(*blocks[::-1])) == whole
    assert asdict(statistic_of(*blocks[:2]) + statistic_of(*blocks[2:])) == whole
    assert sum(whole["rows"].values()) == 720


def test_of_a_block_the_rows_with_the_smallest_hashes_are_read(monkeypatch):
    monkeypatch.setattr(section, "MOST_TEXTS", 110)
    texts = german(100) + ENGLISH[:100]
    made = block(texts, ["a"] * 100 + ["b"] * 100)
    ids = made.rows.column("id").to_pylist()
    first = sorted(range(200), key=lambda place: key(ids[place]))[:110]
    told = pd.Series(languages.languages_of([texts[place] for place in first]))
    found = statistic_of(made)
    assert found.rows == told.value_counts().to_dict()
    rows = {name: sum(counts.values()) for name, counts in found.by_column["source"].items()}
    assert rows == {"=a": sum(n < 100 for n in first), "=b": sum(n >= 100 for n in first)}


def key(name):
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
