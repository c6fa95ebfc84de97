"""The history of benchmarks: what is worse than before, on which machines, and damaged lines."""

import argparse
import json
import sys

import pytest
from running import one_line

from tests.benchmarks import __main__ as command
from tests.benchmarks import history
from tests.benchmarks.history import (
    HOST_RATE,
    LIMIT_SHARE,
    START,
    HistoryError,
    Machine,
    Measured,
    Row,
    append,
    changes,
    guard,
    margin_of,
    read_history,
    row_of,
    verdict,
)

_HERE = Machine(processor="Some CPU", cores=2, abilities=["avx2"])
_SEARCH = f"{START}search"


def row(machine: Machine = _HERE, versions: dict[str, str] | None = None, **figures: float) -> Row:
    named = {LIMIT_SHARE: 0.7, HOST_RATE: 4e6, _SEARCH: 3.0}
    named |= {{"limit": LIMIT_SHARE, "host": HOST_RATE, "search": _SEARCH}[one]: value
              for one, value in figures.items()}  # fmt: skip
    return Row(
        date="2026-01-01T00:00:00+00:00",
        machine=machine,
        versions=versions or {"torch": "2"},
        figures=named,
        others=0.02,
    )


def worse(now: Row, earlier: list[Row]) -> list[str]:
    return [one.name for one in changes(now, earlier) if one.loss > one.margin]


def test_a_time_is_worse_when_it_is_longer_and_a_rate_when_it_is_less():
    earlier = [row() for _ in range(5)]
    assert worse(row(search=3.6), earlier) == [_SEARCH]
    assert worse(row(search=2.0, host=6e6, limit=0.9), earlier) == []
    assert worse(row(host=3.2e6), earlier) == [HOST_RATE]
    assert worse(row(limit=0.6), earlier) == [LIMIT_SHARE]


def test_the_lines_name_what_is_worse_and_what_is_better_by_how_much():
    lines = verdict(row(search=3.6, host=6e6), [row() for _ in range(5)])
    assert lines[0].startswith("compared with the median of 5 earlier rows of this kind")
    assert lines[1] == "  WORSE   start-up, s: search: 3.6, before 3, +20% (margin 10%)"
    assert lines[2].startswith("  better  host side, tokens/s of a core: 6e+06")
    assert lines[3].startswith("  1 worse, 1 within their margins; others used up to 2%")


def test_nothing_is_worse_within_the_margins():
    (_, said) = verdict(row(search=3.2), [row()])
    assert said.startswith("  nothing worse, 3 within")


def test_a_figure_may_be_as_far_from_the_median_as_those_before_it_were():
    noisy = [row(search=seconds) for seconds in (2.0, 2.6, 3.0, 3.4, 4.0)]
    # Distances to the median are 0, 0.4, 0.4, 1 and 1: three deviations of 1.4826 times 0.4.
    assert margin_of([2.0, 2.6, 3.0, 3.4, 4.0]) == pytest.approx(3 * 1.4826 * 0.4 / 3)
    assert worse(row(search=4.7), noisy) == []
    assert worse(row(search=4.8), noisy) == [_SEARCH]


def test_one_outlier_does_not_widen_a_margin():
    assert margin_of([3.0, 3.01, 2.99, 3.0, 30.0]) == 0.1


@pytest.mark.parametrize("count", [1, 2])
def test_few_rows_tell_no_spread_and_have_a_wide_margin(count):
    earlier = [row() for _ in range(count)]
    assert worse(row(search=3.7), earlier) == []
    assert worse(row(search=3.8), earlier) == [_SEARCH]


def test_only_the_latest_twenty_rows_count():
    earlier = [row(search=30.0) for _ in range(40)] + [row() for _ in range(20)]
    assert worse(row(search=3.6), earlier) == [_SEARCH]


@pytest.mark.parametrize(
    "other",
    [
        Machine(processor="Another CPU", cores=2, abilities=["avx2"]),
        Machine(processor="Some CPU", cores=4, abilities=["avx2"]),
        Machine(processor="Some CPU", cores=2, abilities=["avx2", "avx512f"]),
    ],
)
def test_rows_of_another_kind_of_machine_say_nothing(other):
    (line,) = verdict(row(search=9.0), [row(machine=other) for _ in range(5)])
    assert line.startswith("no earlier row of this kind of machine")
    assert "Some CPU, 2 cores, avx2" in line
    mixed = [row(machine=other, search=1.0), row(), row(machine=other, search=1.0)]
    assert "the median of 1 earlier row of" in verdict(row(), mixed)[0]
    assert "nothing worse" in verdict(row(), mixed)[1]


def test_a_figure_that_no_earlier_row_has_is_new():
    bare = row().model_copy(update={"figures": {LIMIT_SHARE: 0.7, HOST_RATE: 4e6}})
    assert "  new     start-up, s: search: 3" in verdict(row(), [bare])


def test_versions_that_changed_since_the_row_before_are_named():
    earlier = [row(versions={"torch": "1"}), row(versions={"torch": "2"})]
    now = row(versions={"torch": "3", "ray": "2"})
    assert verdict(now, earlier)[-1] == (
        "  since the row before: torch 2 -> 3, ray absent -> 2"
    )  # fmt: skip
    assert len(verdict(row(), earlier)) == 2


def test_rows_are_read_as_they_were_appended(tmp_path):
    path = tmp_path / "history.jsonl"
    assert read_history(path) == []
    rows = [row(), row(search=3.3)]
    for one in rows:
        append(one, path)
    assert read_history(path) == rows
    # A last line whose end an editor took away.
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    append(row(), path)
    assert read_history(path) == [*rows, row()]


def test_the_row_of_this_machine_can_be_written_and_read(tmp_path):
    here = row_of({LIMIT_SHARE: 0.7}, 0.1)
    append(here, tmp_path / "history.jsonl")
    assert read_history(tmp_path / "history.jsonl") == [here]
    assert here.machine == Machine.here()
    assert here.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"embedkit", "commit", "torch", "openvino", "tokenizers"} <= here.versions.keys()


_DAMAGED = {
    "half a line": lambda one: json.dumps(one)[:-9],
    "no object": lambda _: "7",
    "empty": lambda _: "",
    "no figures": lambda one: json.dumps(
        {name: value for name, value in one.items() if name != "figures"}
    ),
    "a figure of zero": lambda one: json.dumps({**one, "figures": {_SEARCH: 0}}),
    "no number": lambda one: json.dumps({**one, "figures": {_SEARCH: float("nan")}}),
    "text for a figure": lambda one: json.dumps({**one, "figures": {_SEARCH: "3"}}),
    "a field of nobody": lambda one: json.dumps({**one, "more": 1}),
    "no UTF-8": lambda _: b"\xff",
    "conflict": lambda _: "<<<<<<< HEAD",
}


@pytest.mark.parametrize("damage", _DAMAGED.values(), ids=_DAMAGED)
def test_a_damaged_line_is_named_with_the_remedy(tmp_path, damage):
    path = tmp_path / "history.jsonl"
    append(row(), path)
    line = damage(json.loads(path.read_text()))
    with path.open("ab") as file:
        file.write((line if isinstance(line, bytes) else line.encode()) + b"\n")
    with pytest.raises(HistoryError) as error:
        read_history(path)
    said = one_line(str(error.value))
    assert said.startswith(f"{path}, line 2: no row of the history (")
    assert said.endswith("restore or remove the line")


def test_all_guarded_benchmarks_make_a_row_and_some_are_only_compared(tmp_path):
    path = tmp_path / "history.jsonl"
    first = [Measured({LIMIT_SHARE: 0.7, HOST_RATE: 4e6}, 0.01), Measured({_SEARCH: 3.0}, 0.2)]
    said = guard(first, path, record=True)
    assert said[0].startswith("no earlier row of this kind of machine")
    assert said[-1] == f"appended to {path}"
    (kept,) = read_history(path)
    assert (kept.figures[_SEARCH], kept.others) == (3.0, 0.2)
    said = guard([Measured({_SEARCH: 4.0}, 0.0)], path, record=False)
    assert said[1] == "  WORSE   start-up, s: search: 4, before 3, +33% (margin 25%)"
    assert said[-1].startswith("not appended")
    assert len(read_history(path)) == 1


class _Benchmark:
    """Stands in the place of a benchmark."""

    def __init__(self, found: Measured | None) -> None:
        self.found, self.ran = found, 0

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        pass

    def main(self, options: argparse.Namespace) -> Measured | None:
        self.ran += 1
        return self.found


@pytest.fixture
def benchmarks(monkeypatch, tmp_path) -> dict[str, _Benchmark]:
    made = {
        "speed": _Benchmark(Measured({LIMIT_SHARE: 0.7}, 0.0)),
        "start": _Benchmark(Measured({_SEARCH: 3.0}, 0.0)),
        "host": _Benchmark(Measured({HOST_RATE: 4e6}, 0.0)),
        "ids": _Benchmark(None),
    }
    monkeypatch.setattr(command, "_ALL", made)
    monkeypatch.setattr(command, "_NAMED", {})
    monkeypatch.setattr(history, "HISTORY", tmp_path / "history.jsonl")
    return made


def run(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *names])
    command.main()


def test_make_bench_appends_a_row_and_a_single_benchmark_does_not(benchmarks, monkeypatch, capsys):
    run(monkeypatch)
    run(monkeypatch, "start", "ids")
    (kept,) = read_history(history.HISTORY)
    assert kept.figures == {LIMIT_SHARE: 0.7, HOST_RATE: 4e6, _SEARCH: 3.0}
    assert [one.ran for one in benchmarks.values()] == [1, 2, 1, 2]
    said = capsys.readouterr().out
    assert "nothing worse, 1 within" in said
    run(monkeypatch, "ids")
    assert capsys.readouterr().out == ""


def test_a_damaged_history_is_said_before_anything_is_measured(benchmarks, monkeypatch, capsys):
    history.HISTORY.write_text("nothing\n")
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch)
    assert ended.value.code == 1
    assert "line 1: no row of the history" in one_line(capsys.readouterr().err)
    assert not any(one.ran for one in benchmarks.values())
