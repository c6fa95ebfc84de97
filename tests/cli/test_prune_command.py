"""``embedkit prune`` and ``embedkit status`` as a person and a program use them."""

import time
from datetime import datetime

import pytest
from blocks import small_job
from calling import call

from embedkit.cli.prune import moment
from embedkit.dataset.heartbeat import Heartbeat, beat
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError

pytestmark = pytest.mark.usefixtures("logging_restored")

NOW = datetime(2026, 3, 1, 12).timestamp()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30d", NOW - 30 * 86400),
        ("12h", NOW - 12 * 3600),
        ("90m", NOW - 5400),
        ("2w", NOW - 14 * 86400),
        (" 0s ", NOW),
        ("2026-01-31", datetime(2026, 1, 31).timestamp()),
        ("2026-02-28T06:30", datetime(2026, 2, 28, 6, 30).timestamp()),
        ("2026-01-31T00:00:00+00:00", 1769817600.0),
        ("20260131", datetime(2026, 1, 31).timestamp()),
    ],
)
def test_ages_and_dates(text, expected):
    assert moment("--older-than", text, NOW) == expected


@pytest.mark.parametrize("text", ["30", "d", "-3d", "3 d", "1.5d", "31.1.2026", "yesterday", ""])
def test_what_is_neither(text):
    with pytest.raises(ConfigError, match=r"--older-than: .* is no age or date; expected one such"):
        moment("--older-than", text, NOW)


def test_a_date_that_is_to_come():
    with pytest.raises(ConfigError, match="in the future"):
        moment("--alive", "2026-03-02", NOW)


@pytest.fixture
def root(tmp_path):
    root = str(tmp_path / "root")
    for name in ("v1", "v2", "v3"):
        small_job().complete(Version(root, name))
    return root


def test_it_says_what_it_would_do_and_does_it_when_told(root):
    said = call("prune", root, "--keep", "2").out
    first, second, third, last = said.splitlines()
    assert first.startswith("would remove  v1  published, and written ")
    assert second == "stays         v2  one of the newest 2 published"
    assert third == "stays         v3  LATEST names it"
    assert last.startswith("would remove 1 of 3, ")
    assert last.endswith("; --yes removes them")
    assert Version(root, "v1").is_complete()

    told = call("prune", root, "--keep", "2", "--older-than", "1h", "--yes", "--json").json
    assert (told["dry_run"], told["removed"], told["size"]) == (False, [], 0)

    told = call("prune", root, "--keep", "2", "--yes", "--json").json
    assert [one["version"] for one in told["removed"]] == ["v1"]
    assert [one["version"] for one in told["kept"]] == ["v2", "v3"]
    assert told["size"] == told["removed"][0]["size"] > 0
    assert not Version(root, "v1").is_begun()
    assert (
        call("prune", root, "--keep", "2", "--yes").out.splitlines()[-1]
        == "removed 0 of 2, 0 bytes"
    )


def test_status_of_a_root_and_of_a_version(root):
    half = Version(root, "half")
    small_job().write(half)
    beat(half, "v3")
    growing, newest = call("status", root, "--json").json["versions"]
    assert (growing["version"], growing["state"], growing["reuses"]) == ("half", "running", "v3")
    assert (newest["version"], newest["state"], newest["rows"]) == ("v3", "complete", 12)
    one = call("status", half.url, "--json").json
    assert (one["rows"], one["rejects"], one["blocks"], one["splits_ended"]) == (12, 3, 4, 3)
    assert 0 <= one["heartbeat_seconds"] < 60
    said = call("status", root).out.splitlines()
    assert said[0].startswith("version half: being written by host ")
    assert said[1] == "  3 splits, 4 blocks"
    assert said[2].startswith("  15 documents -> 12 rows, 3 rejects, ")
    assert "version v3: complete" in said
    assert call("status", f"{root}/v1").out.splitlines()[0] == "version v1: complete"


def test_the_heartbeat_of_a_machine_whose_clock_is_ahead(root):
    half = Version(root, "half")
    small_job().write(half)
    ahead = Heartbeat(time.time() + 900, "there", "0", 30.0)
    half.store.replace(half.heartbeat_key, ahead.to_json())
    said = call("status", half.url, "--json").json
    assert (said["state"], said["heartbeat_seconds"], said["host"]) == ("running", 0.0, "there")


def test_bad_roots(tmp_path):
    for command in ("prune", "status"):
        answer = call(command, str(tmp_path / "none"))
        assert (answer.code, "no such directory" in answer.error) == (2, True)
    assert call("prune", str(tmp_path), "--older-than", "soon").code == 2
