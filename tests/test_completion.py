"""The figures of a run, by hand."""

import json
from dataclasses import asdict, replace

import pytest

from embedkit.completion import Figures, RunResult
from embedkit.encoders.meter import EncoderLoad

RESULT = RunResult(
    version="v1",
    documents=1000,
    rows=990,
    rejects=10,
    tokens=9000,
    tokens_encoded=8000,
    rows_reused=90,
    truncated_share=0.5,
    encode_seconds=2.0,
    encoder_busy_share=0.9,
    tokens_per_second=4000.0,
    report="/out/v1/report/report.html",
    dataset="/out/v1",
)


def test_json_is_one_line_of_what_was_promised():
    line = RESULT.to_json()
    assert "\n" not in line
    assert json.loads(line) == {
        name: value
        for name, value in asdict(RESULT).items()
        if name not in ("dataset", "already_complete")
    }


@pytest.mark.parametrize(
    ("documents", "rejects", "share", "exceeds"),
    [
        (1000, 10, 0.01, False),
        (1000, 11, 0.01, True),
        (1000, 0, 0.0, False),
        (1000, 1, 0.0, True),
        (10, 10, 1.0, False),
        (0, 0, 0.0, False),
    ],
)
def test_more_rejects_than_allowed(documents, rejects, share, exceeds):
    result = replace(RESULT, documents=documents, rejects=rejects)
    assert result.exceeds(share) is exceeds


def load(first: float, last: float) -> EncoderLoad:
    return EncoderLoad("encoder-0", "p", 1.0, first, last, 1, 1, 1)


@pytest.mark.parametrize(
    ("loads", "seconds"),
    [
        ((), 0.0),
        ((EncoderLoad("encoder-0", "p"),), 0.0),
        ((load(100, 130),), 30.0),
        ((load(120, 150), load(100, 130)), 50.0),
        # One that has never been called began nowhere.
        ((load(120, 150), EncoderLoad("encoder-1", "q")), 30.0),
    ],
)
def test_the_time_of_encoding_is_from_the_first_call_to_the_last_end(loads, seconds):
    assert Figures(loads, "cpu", 0.0).encode_seconds == seconds
