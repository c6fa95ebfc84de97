"""The benchmark of start-up: what it starts, and the version that is searched."""

import pytest

from embedkit import open_version
from tests.benchmarks.corpus import MODEL
from tests.benchmarks.history import START
from tests.benchmarks.start import Command, commands_in, measure, report, write_version


@pytest.mark.soak
def test_the_version_that_is_searched_names_the_model_and_has_random_unit_vectors(tmp_path):
    rows = open_version(write_version(tmp_path, 50))
    assert (len(rows), rows.dimension, rows.model) == (50, 384, MODEL)
    ids, vectors = rows.vectors()
    (hits,) = rows.search(vectors[7:8], k=2)
    assert hits[0].id == ids[7]
    assert hits[0].score == pytest.approx(1)
    assert abs(hits[1].score) < 0.5


def test_a_command_that_fails_is_no_measurement(tmp_path):
    command = Command("wrong", ["no-such-command"], tmp_path / "cache")
    with pytest.raises(RuntimeError, match=r"embedkit no-such-command ended with 2:\n.*No such"):
        command.run()


def test_the_table_has_medians_and_the_first_run_apart(tmp_path):
    one = Command("search", [], tmp_path, first=9.0, seconds=[3.0, 2.0, 4.0], others=[0.1])
    assert "| search | 3.00 (2.00 to 4.00) | 9.00 |" in report([one])


@pytest.mark.soak
def test_each_command_runs_with_an_empty_cache_and_once_more(tmp_path):
    commands = commands_in(tmp_path, rows=50)
    measure(commands, rounds=1, wait=0.0)
    assert all(one.first and len(one.seconds) == 1 for one in commands)
    assert [START + one.name for one in commands] == [
        "start-up, s: --help",
        "start-up, s: search",
        "start-up, s: run, plain",
        "start-up, s: run, local",
        "start-up, s: run, finished",
    ]
    # What was kept is of use, and what was written is gone.
    assert {path.name for path in (tmp_path / "caches").iterdir()} == {
        one.name for one in commands[1:]
    }
    assert not list((tmp_path / "outputs").iterdir())
    assert len(open_version(tmp_path / "finished")) == 10
