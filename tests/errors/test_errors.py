"""Errors say what a scheduler should do, and survive a process border as text."""

import traceback

import pytest

from embedkit import errors
from embedkit.errors import (
    ConfigError,
    EmbedkitError,
    EncoderError,
    GatesFailedError,
    InputError,
    IntegrityError,
    RejectsExceededError,
    ResumableError,
    StoreError,
    error_in_traceback,
)

CODES = {
    ConfigError: 2,
    InputError: 2,
    RejectsExceededError: 3,
    ResumableError: 4,
    StoreError: 4,
    EncoderError: 4,
    IntegrityError: 4,
    GatesFailedError: 5,
}


@pytest.mark.parametrize(("kind", "code"), CODES.items())
def test_exit_codes(kind, code):
    assert kind("x").exit_code == code
    assert issubclass(kind, EmbedkitError)


@pytest.mark.parametrize(
    ("quoted", "said"),
    [
        ("a\nb", r"a\nb"),
        ("a\r\n", r"a\r\n"),
        ("a\x0b\x0c\x1c\x1d\x1eb", r"a\x0b\x0c\x1c\x1d\x1eb"),
        ("a\x85b", r"a\x85b"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("a\tb\0", r"a\tb\x00"),
        (r"C:\new\table", r"C:\new\table"),
        ("日本 é 👩‍👩‍👧", "日本 é 👩‍👩‍👧"),
    ],
)
def test_an_error_is_one_line_whatever_it_quotes(quoted, said):
    error = ConfigError(f"text: {quoted}; give another")
    assert str(error) == f"text: {said}; give another"
    assert len(str(error).splitlines()) == 1
    # As when it comes from another process.
    assert str(ConfigError(str(error))) == str(error)


def test_what_a_retry_can_help_is_resumable():
    resumable = {kind for kind in CODES if issubclass(kind, ResumableError)}
    assert resumable == {ResumableError, StoreError, EncoderError}


def as_text(error: Exception) -> str:
    try:
        raise error
    except Exception as raised:  # noqa: BLE001
        return "".join(traceback.format_exception(raised))


@pytest.mark.parametrize("kind", [EmbedkitError, *CODES])
def test_an_error_is_found_again_in_a_traceback(kind):
    text = "[while running 'X']\n" + as_text(kind("/a/b.jsonl: broken; mend it"))
    found = error_in_traceback(text)
    assert type(found) is kind
    assert str(found) == "/a/b.jsonl: broken; mend it"


def test_the_last_error_of_a_chain_is_the_one_that_was_raised():
    try:
        try:
            raise StoreError("first")
        except StoreError as error:
            raise EncoderError("second") from error
    except EncoderError as error:
        text = "".join(traceback.format_exception(error))
    found = error_in_traceback(text)
    assert type(found) is EncoderError
    assert str(found) == "second"


def test_other_errors_are_not_taken_for_ours():
    assert error_in_traceback(as_text(ValueError("embedkit broke"))) is None
    assert error_in_traceback(f"{errors.__name__}.NoSuchError: x") is None
    assert error_in_traceback("") is None
