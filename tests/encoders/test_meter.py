"""What a meter counts, against sums done by hand."""

import contextlib
import re
import threading

import pytest

from embedkit.encoders import meter as meter_module
from embedkit.encoders.meter import EncoderLoad, LoadMeter, busy_share, padding_share
from embedkit.flow.account import work_by_encoder
from embedkit.reports.account import EncoderWork


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(meter_module, "time", clock)
    return clock


def test_calls_and_the_pauses_between_them(clock):
    meter = LoadMeter("encoder-0", "p")
    assert meter.read() == EncoderLoad("encoder-0", "p")
    for pause, seconds, rows, tokens in [(5, 2, 10, 100), (1, 3, 20, 250), (4, 1, 1, 3)]:
        clock.now += pause
        with meter.call(rows, tokens):
            clock.now += seconds
    clock.now += 50
    # Begun at 1005; busy for 2 + 3 + 1; the last call ended 2 + 1 + 3 + 4 + 1 seconds later.
    assert meter.read() == EncoderLoad("encoder-0", "p", 6.0, 1005.0, 1016.0, 3, 31, 353, 353)
    assert busy_share([meter.read()]) == pytest.approx(6 / 11)


def test_a_call_under_way_counts_as_busy_and_not_yet_as_done(clock):
    meter = LoadMeter("encoder-0", "p")
    with meter.call(10, 100):
        clock.now += 4
        assert meter.read() == EncoderLoad("encoder-0", "p", 4.0, 1000.0, 1004.0, 0, 0, 0)
        clock.now += 1
    clock.now += 5
    with meter.call(1, 7):
        clock.now += 2
        assert meter.read() == EncoderLoad("encoder-0", "p", 7.0, 1000.0, 1012.0, 1, 10, 100, 100)


def test_a_call_that_fails_is_not_counted(clock):
    meter = LoadMeter("encoder-0", "p")
    with meter.call(2, 20):
        clock.now += 1
    before = meter.read()
    with pytest.raises(RuntimeError, match="no memory"), meter.call(1, 10):
        clock.now += 3
        raise RuntimeError("no memory")
    clock.now += 3
    assert meter.read() == before


class Calls:
    """Calls of a meter under a clock, told as times at which they begin and end."""

    def __init__(self, meter: LoadMeter, clock: Clock, **totals: object) -> None:
        self.meter, self.clock, self.totals = meter, clock, totals
        self.under_way: dict[str, contextlib.AbstractContextManager] = {}

    def begin(self, name: str, at: float) -> None:
        self.clock.now = 1000.0 + at
        self.under_way[name] = self.meter.call(1, 10, **self.totals)
        self.under_way[name].__enter__()

    def end(self, name: str, at: float) -> None:
        self.clock.now = 1000.0 + at
        self.under_way.pop(name).__exit__(None, None, None)

    def fail(self, name: str, at: float) -> None:
        self.clock.now = 1000.0 + at
        error = RuntimeError("no memory")
        assert not self.under_way.pop(name).__exit__(RuntimeError, error, None)

    def follow(self, told: str) -> None:
        """Carries out a story such as ``+a0 +b5 -a7 !b9``."""
        for sign, name, at in re.findall(r"([-+!])([a-z])([0-9.]+)", told):
            {"+": self.begin, "-": self.end, "!": self.fail}[sign](name, float(at))


@pytest.mark.parametrize(
    ("told", "busy", "first", "last", "calls"),
    [
        ("+a0 +b5 -a7 -b9", 9, 0, 9, 2),
        ("+a0 +b5 -b7 -a9", 9, 0, 9, 2),
        ("+a0 -a4 +b4 -b9", 9, 0, 9, 2),
        ("+a0 +b1 -a2 +c2 -b3 +d3 -c4 -d6 +e8 -e9", 7, 0, 9, 5),
        ("+a0 +b1 -b2 -a4 +c9 -c10 +d10 +e11 -d12 -e13", 8, 0, 13, 5),
        # A call that fails counts nothing where it was alone.
        ("+a0 +b5 !a7 -b9", 4, 5, 9, 1),
        ("+a0 +b5 +c2 -c6 !a7 -b9", 7, 2, 9, 2),
        ("+a0 +b1 -b2 !a9 +c9 -c10", 2, 1, 10, 2),
    ],
)
def test_time_in_several_calls_at_once_counts_once(told, busy, first, last, calls, clock):
    meter = LoadMeter("encoder-0", "p")
    Calls(meter, clock).follow(told)
    clock.now += 100
    load = meter.read()
    assert (load.busy_seconds, load.last_end, load.calls) == (busy, 1000 + last, calls)
    assert load.tokens == load.computed == 10 * calls
    assert load.busy_seconds <= load.last_end - load.first_start
    assert load.first_start == 1000 + first


def test_calls_under_way_at_once_are_read_as_one_time(clock):
    meter = LoadMeter("encoder-0", "p")
    calls = Calls(meter, clock)
    calls.follow("+a1 -a2 +b3 +c5 -b6")
    clock.now = 1010.0
    assert meter.read() == EncoderLoad("encoder-0", "p", 8.0, 1001.0, 1010.0, 2, 2, 20, 20)
    calls.follow("+d10 -c11")
    clock.now = 1012.0
    assert meter.read() == EncoderLoad("encoder-0", "p", 10.0, 1001.0, 1012.0, 3, 3, 30, 30)


def test_a_long_run_of_calls_that_overlap_keeps_little(clock):
    meter = LoadMeter("encoder-0", "p")
    calls = Calls(meter, clock)
    calls.begin("a", 0)
    for number in range(500):
        calls.begin("ba"[number % 2], number + 0.5)
        calls.end("ab"[number % 2], number + 1)
    assert meter.read().busy_seconds == 500
    assert len(meter._spans._spans) == 1


def test_what_the_device_says_counts_and_not_the_time_of_the_call(clock):
    meter, device = LoadMeter("encoder-0", "p"), [70.0]
    calls = Calls(meter, clock, device_seconds=lambda: device[0])
    calls.begin("a", 1)
    device[0] += 2
    clock.now = 1004.0
    assert meter.read() == EncoderLoad("encoder-0", "p", 2.0, 1001.0, 1004.0, 0, 0, 0)
    calls.begin("b", 5)
    device[0] += 1
    calls.end("a", 6)
    device[0] += 3
    calls.end("b", 11)
    assert meter.read() == EncoderLoad("encoder-0", "p", 6.0, 1001.0, 1011.0, 2, 2, 20, 20)
    assert busy_share([meter.read()]) == pytest.approx(0.6)
    # Another meter's calls, and one that fails, leave this one alone.
    device[0] += 9
    calls.begin("c", 20)
    device[0] += 5
    calls.fail("c", 21)
    device[0] += 9
    calls.begin("d", 30)
    device[0] += 0.5
    calls.end("d", 31)
    assert meter.read().busy_seconds == pytest.approx(6.5)


def test_a_device_without_a_clock_is_timed_by_this_processs(clock):
    meter = LoadMeter("encoder-0", "p")
    Calls(meter, clock, device_seconds=lambda: None).follow("+a0 +b5 -a7 -b9")
    assert meter.read().busy_seconds == 9


def test_the_fill_of_calls_at_once_is_counted_once(clock):
    meter, computed = LoadMeter("encoder-0", "p"), [100]
    calls = Calls(meter, clock, computed_so_far=lambda: computed[0])
    calls.follow("+a0 +b1")
    computed[0] += 12
    calls.end("a", 2)
    computed[0] += 12
    calls.end("b", 3)
    computed[0] += 50
    calls.begin("c", 4)
    computed[0] += 11
    calls.end("c", 5)
    assert (meter.read().tokens, meter.read().computed) == (30, 35)


def test_it_is_read_from_another_thread_during_a_call():
    meter = LoadMeter("encoder-0", "p")
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        with meter.call(3, 30):
            begun.set()
            go_on.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(30)
    during = meter.read()
    go_on.set()
    thread.join()
    assert (during.calls, during.tokens) == (0, 0)
    assert during.first_start == meter.read().first_start > 0
    assert (meter.read().calls, meter.read().tokens) == (1, 30)


def load(encoder: str, process: str, busy: float, first: float, last: float) -> EncoderLoad:
    return EncoderLoad(encoder, process, busy, first, last, 1, 1, 1)


@pytest.mark.parametrize(
    ("loads", "share"),
    [
        ([], 0.0),
        ([EncoderLoad("a", "p")], 0.0),
        ([load("a", "p", 30, 100, 140)], 0.75),
        # Two encoders: (30/40 + 10/40) / 2.
        ([load("a", "p", 30, 100, 140), load("b", "q", 10, 120, 160)], 0.5),
        # One that has not been asked yet does not count.
        ([load("a", "p", 30, 100, 140), EncoderLoad("b", "q")], 0.75),
        # Restarted between 140 and 180: 30 + 15 of the 100 seconds from 100 to 200.
        ([load("a", "p", 30, 100, 140), load("a", "q", 15, 180, 200)], 0.45),
        ([load("a", "q", 15, 180, 200), load("a", "p", 30, 100, 140)], 0.45),
        # A restarted one, (30 + 15) / 100, beside one that was always busy.
        (
            [
                load("a", "p", 30, 100, 140),
                load("b", "r", 50, 100, 150),
                load("a", "q", 15, 180, 200),
            ],
            0.725,
        ),
        # Clocks that are set while an encoder works do not make more than all of the time.
        ([load("a", "p", 41, 100, 140)], 1.0),
        ([load("a", "p", 0, 100, 100)], 0.0),
    ],
)
def test_busy_share(loads, share):
    assert busy_share(loads) == pytest.approx(share)


def test_the_work_of_an_encoder_is_that_of_all_its_processes():
    loads = [
        EncoderLoad("encoder-10", "a", 1.0, 1.0, 2.0, 1, 5, 50, 60),
        EncoderLoad("encoder-2", "b", 2.0, 1.0, 3.0, 1, 7, 70, 80),
        EncoderLoad("encoder-10", "c", 4.0, 5.0, 9.0, 2, 11, 110, 130),
    ]
    assert work_by_encoder(loads) == (
        EncoderWork("encoder-2", 1, 7, 70, 2.0),
        EncoderWork("encoder-10", 2, 16, 160, 5.0),
    )
    assert padding_share(loads) == pytest.approx(1 - 230 / 270)
    assert padding_share([]) == 0.0


def test_the_fill_of_a_call_is_counted_where_it_is_known(clock):
    meter = LoadMeter("encoder-0", "p")
    computed = 100
    with meter.call(2, 10, lambda: computed):
        computed = 116
    assert (meter.read().tokens, meter.read().computed) == (10, 16)
    with meter.call(1, 5):
        clock.now += 1
    assert (meter.read().tokens, meter.read().computed) == (15, 21)
