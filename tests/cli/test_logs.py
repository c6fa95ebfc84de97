"""What is printed, as a person and as a program read it."""

import json
import logging
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import datetime

import pytest

from embedkit.cli.logs import (
    display_named,
    hits_text,
    say,
    say_error,
    set_up_logs,
    summary,
    table,
    visible,
)
from embedkit.engines.display import Bar, Lines, Nothing
from embedkit.formats.reused import ReusedRows
from embedkit.reports.account import RunAccount
from embedkit.search.exact import Hit

pytestmark = pytest.mark.usefixtures("logging_restored")


def emit() -> None:
    """A line of every kind that a run may log, its own and other people's."""
    logging.getLogger("embedkit").info("%d of %d splits", 3, 4)
    logging.getLogger("embedkit.corpus.plan").info("a file")
    logging.getLogger("somebody.else").info("nobody wants to know")
    logging.getLogger("somebody.else").warning("first line\nsecond line")
    logging.getLogger("apache_beam.runners").warning("install an optional package")
    logging.getLogger("apache_beam.runners").error("a step failed")
    warnings.warn("a library is old", UserWarning, stacklevel=1)
    logging.getLogger("embedkit").info("now", extra={"progress": {"documents": 7, "left": None}})
    try:
        raise ValueError("the cause")
    except ValueError:
        logging.getLogger("embedkit").exception("it failed")


def test_json_logs_are_one_object_a_line(capsys):
    set_up_logs("json")
    emit()
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [json.loads(line) for line in captured.err.splitlines()]
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("info", "embedkit"),
        ("info", "embedkit.corpus.plan"),
        ("warning", "somebody.else"),
        ("error", "apache_beam.runners"),
        ("warning", "py.warnings"),
        ("info", "embedkit"),
        ("error", "embedkit"),
    ]
    messages = [line["message"] for line in lines]
    assert messages[0] == "3 of 4 splits"
    assert messages[2] == "first line\nsecond line"
    assert "a library is old" in messages[4]
    assert lines[5]["progress"] == {"documents": 7, "left": None}
    assert "ValueError: the cause" in lines[6]["traceback"]
    for line in lines:
        assert datetime.fromisoformat(line["time"]).utcoffset().total_seconds() == 0
    assert all("progress" not in line for line in lines[:5])


def test_text_logs(capsys):
    set_up_logs("text")
    logging.getLogger("embedkit").info("%d of %d splits", 3, 4)
    logging.getLogger("somebody.else").info("nobody wants to know")
    line = capsys.readouterr().err
    datetime.strptime(line[:8], "%H:%M:%S")
    assert line[8:] == " INFO 3 of 4 splits\n"


def test_setting_up_twice_does_not_say_things_twice(capsys):
    set_up_logs("text")
    set_up_logs("json")
    logging.getLogger("embedkit").info("once")
    assert json.loads(capsys.readouterr().err)["message"] == "once"


def test_an_error_is_one_line_in_the_form_of_the_log(capsys):
    set_up_logs("text")
    say_error("a.jsonl: broken;\nmend it")
    assert capsys.readouterr().err == "embedkit: a.jsonl: broken; mend it\n"
    set_up_logs("json")
    say_error("a.jsonl: broken;\nmend it")
    line = json.loads(capsys.readouterr().err)
    assert (line["level"], line["message"]) == ("error", "a.jsonl: broken; mend it")


def test_beam_s_missing_bigquery_is_silent_and_nothing_else_is():
    code = (
        "import logging\n"
        "from embedkit.cli.logs import set_up_logs\n"
        "set_up_logs('text')\n"
        "import apache_beam.io.gcp.internal.clients.bigquery\n"
        "logging.warning('somebody else, through the same root logger')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert line.endswith("WARNING somebody else, through the same root logger")


@pytest.mark.parametrize(
    "module",
    ["engines.local", "engines.dataflow", "transforms.embed_corpus", "actors.beam_runner"],
)
@pytest.mark.few(2)
def test_whatever_imports_beam_does_so_in_silence(module):
    """As a program of somebody else's does, and a worker, which set up no logs of ours."""
    code = f"import embedkit.{module}, logging\nlogging.warning('somebody else')\n"
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "WARNING:root:somebody else\n"


def test_displays_by_name(monkeypatch):
    assert isinstance(display_named("bar"), Bar)
    assert isinstance(display_named("lines"), Lines)
    assert isinstance(display_named("none"), Nothing)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    assert isinstance(display_named("auto"), Lines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(display_named("auto"), Bar)


def result(**changes: object) -> RunAccount:
    settings: dict = {
        "version": "v1",
        "documents": 1500,
        "rows": 1490,
        "rejects": 10,
        "tokens": 90_000,
        "tokens_encoded": 80_000,
        "rows_resumed": 0,
        "truncated": 186,
        "encode_seconds": 64.2,
        "encoder_busy_share": 0.973,
        "report": "/out/v1/report/report.html",
        "dataset": "/out/v1",
    }
    return RunAccount(**(settings | changes))


def test_the_summary_of_a_run():
    assert summary(result()).splitlines() == [
        "version v1: encoded 80,000 tokens in 1:04 (1,246 tokens/s, encoders 97% busy)",
        "  1,500 documents -> 1,490 rows, 10 rejects",
        "  12.5% of rows were longer than the model sees",
        "  dataset /out/v1",
        "  report  /out/v1/report/report.html",
    ]


def test_the_summary_of_a_resumed_and_of_a_finished_run():
    assert "1,490 rows, 300 of them resumed, 10 rejects" in summary(result(rows_resumed=300))
    finished = summary(result(already_complete=True, rows_resumed=1490))
    assert finished.splitlines()[0] == "version v1 is complete already, nothing to encode"


def test_the_summary_of_rows_that_were_taken_over():
    reused = ReusedRows({"v0": 1400}, 1490, 1400, 75_000, added=50, changed=40, removed=7)
    assert summary(result(reused=reused)).splitlines()[2] == (
        "  1,400 rows as in version v0 (75,000 tokens saved), 90 encoded; 50 added, 40 changed, "
        "7 removed"
    )
    unknown = result(reused=replace(reused, removed=None))
    assert summary(unknown).splitlines()[2].endswith("50 added, 40 changed")
    refused = "nothing is taken over from version v0: prompt was '' and is 'passage: '"
    assert summary(result(not_reused=refused)).splitlines()[2] == f"  {refused}"


def test_the_summary_of_a_run_whose_encoders_nobody_measured():
    unknown = result(encode_seconds=None, encoder_busy_share=None)
    assert summary(unknown).splitlines()[0] == "version v1: encoded 80,000 tokens"


def test_a_table():
    described = {"rows": 12345, "complete": True, "share": 0.5, "prompt": "", "revision": None}
    nested = {"libraries": {"pyarrow": "25.0.1", "torch": "2.13.0"}}
    assert table({"version": "v1"} | nested | described).splitlines() == [
        "version   v1",
        "rows      12,345",
        "complete  yes",
        "share     0.5",
        "prompt    -",
        "revision  -",
        "libraries:",
        "  pyarrow  25.0.1",
        "  torch    2.13.0",
    ]
    assert table({}) == ""


def hit(number: int, text: str | None) -> Hit:
    return Hit(f"doc-{number}", f"doc-{number}", 0.5 / number, "a.jsonl", number, 0, 9, text)


def test_hits():
    hits = [hit(1, "two\nlines  and spaces"), hit(2, None), hit(3, "x" * 500)]
    lines = hits_text(hits).splitlines()
    assert lines[:3] == [
        "  1  0.5000  doc-1  (a.jsonl, row_index 1)",
        "     two lines and spaces",
        "  2  0.2500  doc-2  (a.jsonl, row_index 2)",
    ]
    assert lines[4] == "     " + "x" * 160 + "…"
    assert hits_text([]) == "no rows"


def test_beam_prints_no_tracebacks_beside_the_log(capsys):
    set_up_logs("text")
    beam_s = (
        "Traceback (most recent call last):\n"
        '  File "/lib/apache_beam/runners/worker/sdk_worker.py", line 310, in _execute\n'
        "ValueError: x\n"
    )
    print(beam_s, file=sys.stderr)
    print("kept", file=sys.stderr)
    print("Traceback (most recent call last):\nValueError: of a user's own\n", file=sys.stderr)
    logging.getLogger("apache_beam.runners.worker").error(
        "Error processing\nTraceback ...\nembedkit.errors.StoreError: no space; free some"
    )
    logging.getLogger("apache_beam.runners.worker").error("Error processing\nValueError: x")
    said = capsys.readouterr().err
    assert said.count("ValueError") == 2
    assert said.startswith("kept\n")
    assert "StoreError" not in said


COMMANDS = (
    "\x1b]0;owned\x07",
    "\x1b[31mred",
    "\x9b2J",
    "back\b\b\b\bhidden",
    "\r over",
    "\u202eleft",
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("form", ["text", "json"])
def test_no_command_reaches_a_terminal(command, form, capsys):
    """Neither by a log line, an error, a warning, a traceback nor a result."""
    set_up_logs(form)
    logging.getLogger("embedkit").warning("skipped %s", command)
    warnings.warn(command, UserWarning, stacklevel=1)
    try:
        raise ValueError(command)
    except ValueError:
        logging.getLogger("embedkit").exception("it failed")
    say_error(f"{command}: no such file")
    say(hits_text([Hit(command, command, 0.5, command, 3, 0, 1, command)]))
    say(table({"name": command, "inner": {command: command}}))
    said = "".join(capsys.readouterr())
    assert not [char for char in said if not char.isprintable() and char != "\n"]
    assert "no such file" in said


def test_text_of_people_stays_as_it_is():
    text = (
        "naïve 日本\u3000👩\u200d👩\u200d👧 \u0645\u06cc\u200c\u062e\ttab\nline e\u0301\xa0no-break"
    )
    assert visible(text) == text


def test_an_id_of_several_lines_is_one_hit():
    hit = Hit("a\n  2  0.9999  b", "a", 0.5, "x\n.jsonl", 3, 0, 1)
    (line,) = hits_text([hit]).splitlines()
    assert line.startswith("  1  0.5000  a")
