"""What a run shows: figures by hand, a bar on a real terminal, lines elsewhere."""

import logging
import os
import pty
import re
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from embedkit.encoders.meter import EncoderLoad
from embedkit.engines import progress
from embedkit.engines.display import Bar, Display, Lines, Nothing, Snapshot, clock
from embedkit.engines.progress import Expected, Watch, phases_shown, shown
from embedkit.engines.run import run_job
from embedkit.errors import EncoderError, StoreError

MOMENT = Snapshot(
    documents=1500,
    documents_expected=6000,
    tokens=200_000,
    tokens_expected=800_000,
    tokens_per_second=12_345.6,
    busy=0.954,
    seconds_left=3671.4,
)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-:--"),
        (0, "0:00"),
        (0.5, "0:00"),
        (59.4, "0:59"),
        (59.6, "1:00"),
        (600, "10:00"),
        (3599.4, "59:59"),
        (3600, "1:00:00"),
        (90_061, "25:01:01"),
    ],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


class Run:
    """Loads and documents as a run would have them, at times of the test's choosing."""

    def __init__(self, monkeypatch) -> None:
        self.now = 5000.0
        self.tokens = self.documents = self.calls = 0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)

    def loads(self) -> list[EncoderLoad]:
        return [
            EncoderLoad("a", "p", 3.0, 100.0, 104.0, self.calls, 1, self.tokens // 2),
            EncoderLoad("b", "q", 1.0, 100.0, 104.0, 1, 1, self.tokens - self.tokens // 2),
        ]

    def watch(self, expected: Expected) -> Watch:
        return Watch(self.loads, lambda: self.documents, expected)


def test_rate_and_time_left_by_hand(monkeypatch):
    run = Run(monkeypatch)
    watch = run.watch(Expected(documents=1000, tokens=10_000))
    first = watch.snapshot()
    assert (first.tokens_per_second, first.seconds_left) == (0.0, None)
    run.now, run.tokens, run.documents = 5010.0, 2000, 150
    second = watch.snapshot()
    assert second == Snapshot(150, 1000, 2000, 10_000, 200.0, pytest.approx(0.5), 40.0)
    run.now, run.tokens = 5020.0, 6000
    third = watch.snapshot()
    assert (third.tokens_per_second, third.seconds_left) == (300.0, pytest.approx(4000 / 300))


def test_the_rate_is_that_of_the_last_minute(monkeypatch):
    run = Run(monkeypatch)
    watch = run.watch(Expected(1000, 1_000_000))
    for second in range(0, 301, 10):
        run.now, run.tokens, run.calls = 5000.0 + second, 1000 * second, 10 * second
        watch.snapshot()
    for second in range(310, 401, 10):
        run.now, run.tokens = 5000.0 + second, 300_000 + 10 * (second - 300)
        run.calls = 10 * second
        late = watch.snapshot()
    assert late.tokens_per_second == pytest.approx(10.0)


@pytest.mark.parametrize("every", [20, 50, 90])
def test_between_answers_that_take_long_the_rate_is_steady(monkeypatch, every):
    run = Run(monkeypatch)
    watch = run.watch(Expected(1000, 1_000_000))
    rates = []
    # A line every 30 s, an answer at times that do not meet them, and then none any more.
    for second in range(0, 3601, 30):
        run.calls = min(second, 1800) // every
        run.now, run.tokens = 5000.0 + second, 100 * every * run.calls
        rates.append(watch.snapshot().tokens_per_second)
    assert rates[8:61] == pytest.approx([100.0] * 53, abs=26)
    assert rates[30:61] == pytest.approx([100.0] * 31, abs=13)
    assert rates[64:] == sorted(rates[64:], reverse=True)
    assert 0 < rates[-1] < 40
    assert len(watch._past) < 20


def test_more_work_than_was_expected_leaves_no_time(monkeypatch):
    run = Run(monkeypatch)
    watch = run.watch(Expected(10, 100))
    run.now, run.tokens, run.documents = 5010.0, 500, 30
    late = watch.snapshot()
    assert (late.seconds_left, late.documents) == (0.0, 30)


def test_the_last_moment_needs_no_estimate():
    last = MOMENT.finished()
    assert (last.documents, last.documents_expected, last.seconds_left) == (1500, 1500, 0.0)
    assert (last.tokens, last.tokens_expected, last.busy) == (200_000, 200_000, 0.954)


def test_lines(caplog):
    with caplog.at_level(logging.INFO, "embedkit"), Lines() as lines:
        lines.show(MOMENT)
    (record,) = caplog.records
    assert record.getMessage() == (
        "25 % encoded, 1500 of about 6000 documents written, 12346 tokens/s, "
        "encoders 95 % busy, 1:01:11 left"
    )
    assert record.progress == vars(MOMENT)
    assert Lines().interval == Nothing().interval == 30.0


class Recorder:
    """A display that remembers what it was shown."""

    interval = 0.01

    def __init__(self) -> None:
        self.shown: list[Snapshot] = []
        self.events: list[str] = []
        self.enough = threading.Event()

    def __enter__(self) -> "Recorder":
        self.events.append("begin")
        return self

    def __exit__(self, *error: object) -> None:
        self.events.append("end")

    def phase(self, name: str) -> None:
        self.events.append(name)

    def show(self, snapshot: Snapshot) -> None:
        self.shown.append(snapshot)
        if len(self.shown) >= 3:
            self.enough.set()


def watch_of(loads: Callable[[], list[EncoderLoad]] = list) -> Watch:
    return Watch(loads, lambda: 7, Expected(9, 100))


def test_snapshots_are_shown_at_every_interval_and_once_at_the_end():
    display: Display = Recorder()
    with shown(watch_of(), display):
        assert display.enough.wait(30)
        assert {one.documents_expected for one in display.shown} == {9}
    assert display.shown[-1].documents_expected == 7
    count = len(display.shown)
    threading.Event().wait(0.1)
    assert len(display.shown) == count, "it goes on after its end"


def test_a_run_that_fails_ends_its_display_without_a_last_moment():
    display = Recorder()
    display.interval = 60
    with pytest.raises(EncoderError), shown(watch_of(), display):
        raise EncoderError("lost")
    assert display.shown == []


def test_a_store_that_fails_while_progress_is_read_does_not_fail_the_run(caplog):
    display = Recorder()
    asked = threading.Event()

    def loads() -> list[EncoderLoad]:
        if not asked.is_set():
            asked.set()
            raise StoreError("s3://bucket: cannot be read")
        return []

    with caplog.at_level(logging.WARNING, "embedkit"), shown(watch_of(loads), display):
        assert asked.wait(30)
        assert display.enough.wait(30)
    (record,) = caplog.records
    assert record.getMessage() == "progress is not shown for now: s3://bucket: cannot be read"


# --- the bar, on a pseudo-terminal ---

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def drawn(moments: list[Snapshot | str], columns: int) -> list[str]:
    """The frames that a terminal of so many columns gets."""
    leader, follower = pty.openpty()
    output = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(leader, 65_536)
            except OSError:
                return
            if not data:
                return
            output.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    with open(follower, "w", encoding="utf-8") as terminal:
        assert terminal.isatty()
        console = Console(file=terminal, width=columns, force_terminal=None)
        with Bar(console) as bar:
            for moment in moments:
                bar.phase(moment) if isinstance(moment, str) else bar.show(moment)
                # Else the terminal would get the last frame alone.
                bar._progress.refresh()
    reader.join(30)
    os.close(leader)
    text = _ESCAPES.sub("", output.decode())
    return [frame.strip() for frame in re.split(r"[\r\n]+", text) if frame.strip()]


def test_the_bar_on_a_terminal():
    last = drawn([MOMENT], 120)[-1]
    assert "━" in last
    assert last.endswith(" 25% 1500/6000 docs  12,346 tokens/s  encoders 95% busy  1:01:11 left")
    last = drawn([MOMENT, MOMENT.finished()], 120)[-1]
    assert last.endswith("100% 1500/1500 docs  12,346 tokens/s  encoders 95% busy  0:00 left")


def test_the_bar_says_phases_and_ends_with_figures():
    frames = drawn(["starting Ray", "[compiling]", MOMENT.finished(), "completing"], 100)
    text = "\n".join(frames)
    for phase in ("starting Ray", "[compiling]", "completing"):
        assert phase in text
    assert frames[-1].endswith("100% 1500/1500 docs  12,346 tokens/s  encoders 95% busy  0:00 left")


def test_the_bar_moves_with_calls_while_no_block_is_written():
    calls = [replace(MOMENT, documents=0, tokens=200_000 * n) for n in range(4)]
    frames = [frame for frame in drawn(calls, 120) if "docs" in frame]
    shares = sorted({int(re.search(r"(\d+)% 0/6000 docs", frame)[1]) for frame in frames})
    assert shares == [0, 25, 50, 75]


def test_the_share_counts_what_earlier_runs_encoded():
    resumed = replace(MOMENT, tokens_before=800_000)
    assert resumed.share == pytest.approx(1_000_000 / 1_600_000)
    assert resumed.finished().share == 1
    assert replace(MOMENT, tokens=0, tokens_expected=0).share == 1


def test_a_phase_is_shown_when_it_changes():
    display = Recorder()
    seen = threading.Event()
    phases = iter([None, "a", "a", "b", None, "b"])

    def current() -> str | None:
        phase = next(phases, "last")
        if phase == "last" and "last" in display.events:
            seen.set()
        return phase

    with phases_shown(current, display):
        assert seen.wait(30)
    assert display.events == ["a", "b", "last"]


def test_a_phase_that_ends_before_anybody_looks_is_shown():
    display = Recorder()
    with phases_shown(lambda: "a", display):
        pass
    assert display.events == ["a"]


def test_a_run_says_what_it_is_at(make_job):
    """OpenVINO compiles, torch does not."""
    for backend, compiles in (("openvino", ["compiling the model"]), ("torch", [])):
        display = Recorder()
        run_job(make_job(backend=backend, version=backend, reuse="off"), display)
        assert display.events == [
            "begin", "looking for repeated ids", "loading the model", *compiles,
            "completing the version", "end",
        ]  # fmt: skip
        assert display.shown[-1].share == 1


def test_a_large_run_s_bar_fits_into_eighty_columns():
    large = replace(
        MOMENT, documents=1_500_000, documents_expected=6_000_000, tokens_per_second=98765.0
    )
    frames = drawn([large], 80)
    assert max(map(len, frames)) <= 80
    assert "━" in frames[-1]
    assert frames[-1].endswith(
        " 25% 1500000/6000000 docs  98,765 tokens/s  encoders 95% busy  1:01:11 left"
    )
