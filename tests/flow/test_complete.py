"""The figures of a run, by hand."""

import json
from dataclasses import replace

import pytest

from embedkit.config import OutputConfig
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.version import Version
from embedkit.encoders.meter import EncoderLoad
from embedkit.flow.account import with_loads
from embedkit.flow.publish import why_not_published
from embedkit.formats.reused import ReusedRows
from embedkit.reports.account import RunAccount

ACCOUNT = RunAccount(
    version="v1",
    documents=1000,
    rows=990,
    rejects=10,
    tokens=9000,
    tokens_encoded=8000,
    rows_resumed=90,
    truncated=495,
    encode_seconds=2.0,
    encoder_busy_share=0.9,
    report="/out/v1/report/report.html",
    dataset="/out/v1",
)


def test_json_is_one_line_of_what_was_promised():
    line = ACCOUNT.to_json()
    assert "\n" not in line
    assert json.loads(line) == {
        "version": "v1",
        "documents": 1000,
        "rows": 990,
        "rejects": 10,
        "tokens": 9000,
        "tokens_encoded": 8000,
        "rows_resumed": 90,
        "truncated_share": 0.5,
        "encode_seconds": 2.0,
        "encoder_busy_share": 0.9,
        "tokens_per_second": 4000.0,
        "report": "/out/v1/report/report.html",
        "nulled": 0,
        "published": True,
        "reject_reasons": {},
        "rows_reused": 0,
        "rows_encoded": 990,
        "rows_added": None,
        "rows_removed": None,
        "rows_changed": None,
        "tokens_saved": 0,
    }
    reused = ReusedRows({"v0": 900}, 990, 900, 7000, added=50, changed=40, removed=30)
    said = json.loads(replace(ACCOUNT, reused=reused).to_json())
    assert [said[name] for name in said if name.startswith("rows_")] == [90, 900, 90, 50, 30, 40]
    assert said["tokens_saved"] == 7000
    assert json.loads(replace(ACCOUNT, trial=7).to_json())["trial"] == 7


@pytest.mark.parametrize(
    ("documents", "rejects", "share", "said"),
    [
        (1000, 10, 0.01, None),
        (1000, 11, 0.01, "11 of 1,000 documents were rejected, more than --max-reject-share 0.01"),
        (1000, 0, 0.0, None),
        (1000, 1, 0.0, "1 of 1,000 documents was rejected, more than --max-reject-share 0 allows"),
        (10, 10, 0.99, "all 10 documents were rejected"),
        (1, 1, 0.99, "the one document was rejected"),
        (10, 10, 1.0, None),
        (0, 0, 0.0, "the inputs hold no document"),
    ],
)
def test_what_keeps_a_version_from_being_published(documents, rejects, share, said):
    rows = documents - rejects
    counts = dict.fromkeys(("tokens", "n_tokens", "tokens_encoded", "truncated", "size"), 0)
    manifest = Manifest("v1", {}, documents, rows, rejects, **counts, id_digest="", splits=1,
                        blocks=1, parts=())  # fmt: skip
    version = Version("/out", "v1")
    output = OutputConfig(output="/out", max_reject_share=share)
    found = why_not_published(version, manifest, output)
    anyway = why_not_published(
        version, manifest, output.model_copy(update={"publish_anyway": True})
    )
    if said is None:
        assert found is anyway is None
    else:
        assert found.startswith(said)
        assert "version v1 is complete, but not published" in found
        # Without rows there is nothing to publish.
        assert anyway == (None if rows else found)


def test_a_damaged_input_keeps_a_version_from_being_published_whatever_the_share():
    counts = dict.fromkeys(("tokens", "n_tokens", "tokens_encoded", "truncated", "size"), 0)
    manifest = Manifest("v1", {}, 1000, 999, 1, **counts, id_digest="", splits=1, blocks=1,
                        parts=(), reject_reasons={"damaged_file": 1})  # fmt: skip
    version = Version("/out", "v1")
    output = OutputConfig(output="/out", max_reject_share=0.01)
    found = why_not_published(version, manifest, output)
    assert "the rest of each such file is missing, a loss of unknown size" in found
    assert "rejects, which says where only garbage follows" in found
    assert "version v1 is complete, but not published" in found
    for name in ("allow_damaged_files", "publish_anyway"):
        allowed = output.model_copy(update={name: True})
        assert why_not_published(version, manifest, allowed) is None
    strict = output.model_copy(update={"allow_damaged_files": True, "max_reject_share": 0.0})
    assert why_not_published(version, manifest, strict).startswith("1 of 1,000 documents")


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
    assert with_loads(RunAccount(), loads).encode_seconds == seconds
