"""Senses of words: occurrences clustered by their vectors, shown as a page and as JSON."""

import json
import re

import numpy as np
import pytest
from pages import Page
from running import write_jsonl
from sklearn.metrics import silhouette_score
from typer.testing import CliRunner

from embedkit import word_senses
from embedkit.cli.app import app
from embedkit.config import JobConfig
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.reports.senses_page import senses_page
from embedkit.search import senses
from embedkit.search.senses import cluster, page_of
from pipelines.word_senses import SENSES

MORE = [
    {"id": "script", "text": "A face, <script>alert(1)</script> & a Face."},
    {"id": "none", "text": "Nothing of them."},
]


def job(texts, model, folder, **settings) -> JobConfig:
    write_jsonl(folder / "docs.jsonl", texts)
    given = {"granularity": "word", "words": ("bat", "bank", "face"), "store_text": True}
    return JobConfig(
        inputs=(str(folder / "docs.jsonl"),),
        id_column="id",
        model=model,
        output=str(folder / "out"),
        engine="plain",
        device="cpu",
        backend="torch",
        precision="float32",
        **given | settings,
    )


@pytest.fixture(scope="module")
def root(minilm, tmp_path_factory) -> str:
    """A version of the words' vectors in sentences of known senses, by the last four layers."""
    folder = tmp_path_factory.mktemp("senses")
    texts = [
        {"id": f"{word}/{sense}/{number}", "text": text}
        for word, of_word in SENSES.items()
        for sense, sentences in of_word.items()
        for number, text in enumerate(sentences)
    ]
    run_job(job([*texts, *MORE], minilm, folder, layers="-4..-1:sum"))
    return str(folder / "out")


@pytest.mark.parametrize("word", ["bat", "bank"])
def test_occurrences_part_as_a_person_parts_them(word, root):
    found = word_senses(root, word)
    assert (found.occurrences, len(found.senses)) == (10, 2)
    for sense in found.senses:
        assert sense.occurrences == 5
        assert len({one.id.split("/")[1] for one in sense.examples}) == 1
    assert found.within > found.between + 0.04
    cosines = [sense.similarity for sense in found.senses]
    assert found.within == pytest.approx(np.mean(cosines), abs=1e-9)


def test_other_spellings_and_the_text_around(root):
    found = word_senses(root, "FACE")
    assert found.occurrences == 12
    shown = [one for one in found.shown if one.id == "script"]
    text = MORE[0]["text"]
    assert [one.before + one.word + one.after for one in shown] == [text, text]
    assert [one.word for one in shown] == ["face", "Face"]
    assert all(text[one.char_start : one.char_end] == one.word for one in shown)


def test_the_page_holds_no_markup_of_texts(root):
    found = word_senses(root, "face")
    similar = senses.SimilarWord("<b>mask</b>", 0.5)
    page = page_of(found, "https://me:secret@host/root", "static", [similar])
    assert Page(page).asks_for_nothing and "b" not in Page(page).tags and "secret" not in page
    assert "\\u003cscript>" in page and "&lt;b&gt;mask" in page
    (told,) = re.findall(r'\["told",(\[.*?\])\]', page)
    assert len(json.loads(told)) == 12


@pytest.mark.parametrize(
    ("before", "word", "after", "shown"),
    [
        ("He swung the ", "bat", " well.", "He swung the <mark>bat</mark> well."),
        ("a\t", "bat", "\nflew", "a <mark>bat</mark> flew"),
        ("(", "bat", ")", "(<mark>bat</mark>)"),
        ("\u732b", "\u867e", "", "\u732b<mark>\u867e</mark>"),
    ],
)
def test_blanks_around_a_word_stay_on_the_page(before, word, after, shown):
    one = {"id": "a", "before": before, "word": word, "after": after}
    sense = {"occurrences": 1, "similarity": None, "examples": [one]}
    found = {
        "word": word, "occurrences": 1, "sampled": 1, "within": None, "between": None,
        "silhouette": None, "senses": [sense],
    }  # fmt: skip
    page = senses_page("root", found, np.zeros((1, 2)), np.zeros(1, dtype=np.int64), ["text"])
    assert f"<bdi>{shown}</bdi>" in page


def test_the_command_writes_the_page_and_json(root, tmp_path):
    page = tmp_path / "bank.html"
    done = CliRunner().invoke(app, ["words", "senses", root, "bank", "--output", str(page)])
    assert done.exit_code == 0, done.output
    assert "10 occurrences, 2 senses" in done.stdout
    assert "river" in page.read_text()
    done = CliRunner().invoke(app, ["words", "senses", root, "bank", "--json", "--senses", "3"])
    said = json.loads(done.stdout)
    assert len(said["senses"]) == 3
    assert sum(sense["occurrences"] for sense in said["senses"]) == 10


def test_one_sense_where_nothing_parts_them():
    random = np.random.default_rng(0).normal(size=(200, 64))
    assert cluster(random)[0].max() == 0
    assert cluster(np.ones((5, 3)))[0].tolist() == [0] * 5
    assert cluster(np.zeros((4, 3)))[1] is None


def test_clusters_are_told_by_their_silhouette():
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(3, 32)) * 3
    truth = np.repeat([0, 1, 2], [30, 20, 10])
    vectors = centres[truth] + rng.normal(size=(60, 32))
    labels, silhouette = cluster(vectors)
    assert labels.tolist() == truth.tolist()
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    units -= units.mean(axis=0)
    assert silhouette == pytest.approx(silhouette_score(units, truth, metric="cosine"))


def test_a_sample_of_very_many(root, monkeypatch):
    monkeypatch.setattr(senses, "_MOST_OCCURRENCES", 6)
    found = word_senses(root, "bank")
    assert (found.occurrences, found.sampled) == (10, 6)
    assert word_senses(root, "bank").shown == found.shown


def test_what_cannot_be_told(root, minilm, tmp_path):
    with pytest.raises(ConfigError, match="no vector of the word 'bath'"):
        word_senses(root, "bath")
    with pytest.raises(ConfigError, match="20 senses of 10 occurrences"):
        word_senses(root, "bank", count=20)
    text = [{"id": "a", "text": "On and on, " * 10 + "A bat in the cafe\u0301"}]
    run_job(job(text, minilm, tmp_path, granularity=None, words=()))
    with pytest.raises(ConfigError, match="are not of words; run the job with --granularity word"):
        word_senses(tmp_path / "out", "bat")
    run_job(job(text, minilm, tmp_path, store_text=False))
    with pytest.raises(ConfigError, match="does not tell which words"):
        word_senses(tmp_path / "out", "bat")
    words = {"words": ("bat", "caf\u00e9"), "store_tokens": True}
    run_job(job(text, minilm, tmp_path, store_text=False, **words))
    assert word_senses(tmp_path / "out", "bat").shown[0].line == "bat"
    assert word_senses(tmp_path / "out", "CAF\u00c9").shown[0].line == "cafe\u0301"
