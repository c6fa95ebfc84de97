"""Words on a plane, as a page and as pictures."""

import logging
import warnings
from xml.etree import ElementTree

import numpy as np
import pytest
from calling import call
from pages import Page

from embedkit.encoders.static.directory import write_directory
from embedkit.errors import ConfigError
from embedkit.reports.plots.label_places import label_places
from embedkit.reports.word_picture import words_page, words_plot

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "{{ 7 * 7 }}",
    "a\x00b\x1b[31m",
    "שלום",
    "日本語",
    "$\\frac{1}{0}$",
    "&amp;",
    "x" * 500,
    "\N{GRINNING FACE}",
    "half \ud800",
    "50 % $",
    "$$\\frac{1}{0}$$",
]


def drawn(words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(5)
    vectors = draw.normal(size=(len(words), 4))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    return draw.normal(size=(len(words), 2)), vectors @ vectors.T


def page_of(words: list[str], source: str = "model") -> str:
    points, similarities = drawn(words)
    return words_page(source, words, points, (0.6, 0.3), similarities, 4)


def names_of(page: Page) -> list[str]:
    """Returns the names that the plot of a page has."""
    (plot,) = page.data["plots"]["document"]["roots"]
    parts = [one["attributes"] for one in plot["attributes"]["center"]]
    return [one["text"]["attributes"]["text"] for one in parts if "text" in one]


def test_a_page_holds_every_word_and_says_which_are_most_alike():
    words = ["king", "queen", "man", "woman"]
    _, similarities = drawn(words)
    found = Page(page_of(words))
    assert names_of(found) == words
    texts = [text.strip() for text in found.text]
    for word in words:
        assert word in texts
    assert "They hold 90 % of the variance" in found.words
    rows = similarities - 2 * np.eye(4)
    assert f"{rows[0].max():.4f}" in texts
    assert f"{similarities[0].min():.4f}" in texts


def test_a_page_of_hostile_words_has_no_element_of_theirs_and_asks_for_nothing():
    page = page_of(HOSTILE, source="<b>&</b>")
    found = Page(page)
    assert {"img", "b", "link", "iframe"}.isdisjoint(found.tags)
    assert not [name for _, name, _ in found.attributes if name.startswith("on")]
    assert found.asks_for_nothing
    assert names_of(found)[0] == HOSTILE[0]
    assert "49" not in [text.strip() for text in found.text]
    assert page.encode("utf-8")
    assert "\x00" not in page
    assert "\x1b" not in page
    assert "שלום" in names_of(found)


def test_a_page_is_the_same_whenever_it_is_made():
    assert page_of(["a", "b", "c"]) == page_of(["a", "b", "c"])


def test_names_stand_where_they_overlap_no_other():
    points = np.array([[0.0, 0.0], [0.02, 0.01], [1.0, 1.0], [-1.0, -1.0]])
    places = label_places(["berlin", "italy", "furthermore", "away"], points)
    assert places[0] != places[1]
    # At the right edge a name stands to the left.
    assert places[2][2] == "end"


@pytest.mark.parametrize("form", ["png", "svg"])
def test_a_picture_is_drawn_without_a_display_a_warning_or_a_date(form, monkeypatch, recwarn):
    monkeypatch.delenv("DISPLAY", raising=False)
    points, _ = drawn(HOSTILE)
    one, other = (words_plot(HOSTILE, points, (0.6, 0.3), form) for _ in range(2))
    assert one == other
    assert not recwarn.list
    if form == "png":
        assert one.startswith(b"\x89PNG")
        return
    texts = [node.text for node in ElementTree.fromstring(one).iter() if node.text]
    assert {"שלום", "日本語", "$\\frac{1}{0}$", "&amp;", "50 % $"} <= set(texts)


def test_characters_without_a_font_are_told_of_in_one_line(caplog):
    words = ["king", "\U000f0000\U000f0001"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with caplog.at_level(logging.WARNING):
            words_plot(words, drawn(words)[0], (0.6, 0.3), "png")
    (line,) = caplog.messages
    assert line.startswith("2 characters are boxes in the picture")
    caplog.clear()
    words_plot(["king", "queen"], drawn(words)[0], (0.6, 0.3), "png")
    assert not caplog.messages


def test_settings_of_the_working_directory_decide_nothing(tmp_path, monkeypatch):
    import matplotlib

    points, _ = drawn(["a", "b"])
    wanted = words_plot(["a", "b"], points, (0.6, 0.3), "png")
    with matplotlib.rc_context({"text.usetex": True, "font.size": 40}):
        assert words_plot(["a", "b"], points, (0.6, 0.3), "png") == wanted
        assert matplotlib.rcParams["font.size"] == 40


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="install the extra words of embedkit-batch, or"):
        words_plot(["a", "b"], drawn(["a", "b"])[0], (0.6, 0.3), "png")


def test_the_command_line_writes_each_kind_of_file_whole(tmp_path):
    matrix = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    write_directory(tmp_path / "model", matrix, ["king", "queen", "man", "woman"])
    model, words = str(tmp_path / "model"), ["king", "queen", "man"]
    for name in ("a.html", "a.PNG", "a.svg"):
        file = tmp_path / name
        file.write_text("before")
        answer = call("words", "project", model, *words, f"--output={file}")
        assert answer.out == f"wrote {file}\n"
        assert file.stat().st_size > 5000
    assert "queen" in (tmp_path / "a.html").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.PNG", "a.html", "a.svg", "model"]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("a.gif", "expected a name that ends with .html, .png, .svg"),
        ("none/a.html", "there is no folder"),
        ("words.html", "is a folder; name a file"),
    ],
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_read(tmp_path, output, said):
    (tmp_path / "words.html").mkdir()
    answer = call("words", "project", "none", "a", "b", f"--output={tmp_path / output}")
    assert answer.code == 2
    assert said in answer.error
