"""What a pipeline that fails says: one line, with the kind of what a step raised."""

import re

import apache_beam as beam
import pytest
from beam_running import results

from embedkit.errors import ConfigError, EmbedkitError, ResumableError
from embedkit.transforms.errors import one_line_errors

TRACEBACK = """Traceback (most recent call last):
  File "a.py", line 1, in run
    step()
    ^^^^^^
  File "b.py", line 7, in step
    raise error
"""


def said(error: Exception) -> EmbedkitError:
    with pytest.raises(EmbedkitError) as found, one_line_errors():
        raise error
    assert "\n" not in str(found.value)
    assert found.value.__cause__ is error
    return found.value


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("bad value\nsecond line"), "ValueError: bad value second line"),
        (KeyError("name"), "KeyError: 'name'"),
        (TypeError(), "TypeError"),
        (RuntimeError("the runner is gone"), "the runner is gone"),
        (
            RuntimeError(f"{TRACEBACK}ValueError: bad value\n  in detail\nand more [while 'X']"),
            "ValueError: bad value in detail and more [while 'X']",
        ),
        (
            RuntimeError(f"{TRACEBACK}\nDuring handling:\n\n{TRACEBACK}KeyError: 'name'"),
            "KeyError: 'name'",
        ),
        (RuntimeError(TRACEBACK), 'Traceback (most recent call last): File "a.py"'),
    ],
)
def test_a_step_s_own_error_is_one_line_with_its_kind(error, line):
    found = said(error)
    assert type(found) is ResumableError
    assert str(found).startswith(f"the pipeline stopped: {line}")
    assert str(found).endswith("; run it again to resume")


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("shards: give one [while running 'Map(f)']"),
        RuntimeError(
            f"{TRACEBACK}embedkit.errors.ConfigError: shards: give one [while running 'X']"
        ),
    ],
)
def test_an_error_of_embedkit_s_is_itself_without_the_step(error):
    found = said(error)
    assert type(found) is ConfigError
    assert str(found) == "shards: give one"


def test_what_stops_the_process_is_no_error_of_the_pipeline():
    with pytest.raises(KeyboardInterrupt), one_line_errors():
        raise KeyboardInterrupt


def wrong(number: int) -> str:
    return [][number]


def test_a_mistake_in_a_pipeline_names_its_step():
    with pytest.raises(ResumableError, match=re.escape("IndexError: list index out of range")) as e:
        results(lambda p: p | beam.Create([1]) | "Mine" >> beam.Map(wrong))
    assert "Mine" in str(e.value)
