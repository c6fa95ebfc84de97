"""What the host path does, against what it did: no clock, so that a busy machine says the same."""

import threading

import pytest

from embedkit.hashes.digests import text_hash
from tests.benchmarks.counter import TASK_CLOCK, KernelCounter, count_instructions, counted_calls
from tests.benchmarks.host_work import HostWork, measure_host_work

_MARGIN = 1.2
"""Room for other releases of Python and of the libraries, and far from twice the work."""

_MARGIN_BY_RECORD = 1.1
"""Room for what is done of each record, in which a step of several is a share."""

_MARGIN_BY_BLOCK = 1.8
"""Room for what is done of a block once, which is little: something new, but not all of it twice,
and nothing of each record."""

_MARGIN_OF_INSTRUCTIONS = 1.3
"""Room for what libraries choose for a processor as well."""

_CALLS_BY_RECORD = {"corpus": 8_008, "hashes": 14_016, "tokens": 13_699}
_CALLS_BY_BLOCK = {"dataset": 784, "flow": 344, "formats": 1_158, "reports": 664, "vectors": 315}
_ALL_CALLS = 39_223
_ALLOCATIONS = 1_071
_ALLOCATED_BYTES = 15_739_388
_INSTRUCTIONS_PER_TOKEN = 2_065
"""As `python -m tests.benchmarks.host_work` printed them on Python 3.11 with pyarrow 25.0.1. Of
instructions, what `valgrind --tool=cachegrind --cache-sim=no` counted more of `host_work 2` than of
`host_work 1`, by the 227,882 tokens of a run, on an x86-64 without AVX-512."""


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> HostWork:
    with pytest.MonkeyPatch.context() as patch:
        # Other threads of the library may have been there before a counter is made.
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        return measure_host_work(tmp_path_factory.mktemp("host"))


def check(what: str, found: float, measured: float, margin: float) -> None:
    """Fails where more is done than was, and where the figure here is too high to tell."""
    assert found <= margin * measured, (
        f"{what}: {found:,.0f}, {found / measured:.2f} times the {measured:,.0f} that stand in "
        f"{__file__}; if there is more to do now, put in what `python -m "
        "tests.benchmarks.host_work` prints"
    )
    assert found >= measured / 2, (
        f"{what}: {found:,.0f}, less than half of {measured:,.0f}: the figure here guards nothing"
    )


@pytest.mark.parametrize("part", _CALLS_BY_RECORD)
def test_a_record_takes_no_more_calls(work, part):
    check(f"calls of {part}", work.calls[part], _CALLS_BY_RECORD[part], _MARGIN_BY_RECORD)


@pytest.mark.parametrize("part", _CALLS_BY_BLOCK)
def test_a_block_takes_no_more_calls(work, part):
    check(f"calls of {part}", work.calls[part], _CALLS_BY_BLOCK[part], _MARGIN_BY_BLOCK)


def test_all_of_it_calls_no_more_functions(work):
    check("calls", sum(work.calls.values()), _ALL_CALLS, _MARGIN)


def test_arrow_allocates_no_more(work):
    check("blocks of Arrow's memory", work.allocations, _ALLOCATIONS, _MARGIN)
    check("bytes of Arrow's memory", work.allocated_bytes, _ALLOCATED_BYTES, _MARGIN)


def test_a_token_takes_no_more_instructions(work):
    if work.instructions_per_token is None:
        pytest.skip(f"this machine counts no instructions: {work.why_none}")
    found, measured = work.instructions_per_token, _INSTRUCTIONS_PER_TOKEN
    check("instructions per token", found, measured, _MARGIN_OF_INSTRUCTIONS)


def test_calls_are_counted_to_the_part_that_does_them_in_all_threads_and_exactly():
    def hash_some() -> None:
        for number in range(100):
            text_hash(str(number))

    with counted_calls() as here:
        hash_some()
    with counted_calls() as there:
        thread = threading.Thread(target=hash_some)
        thread.start()
        thread.join()
    assert here.by_part["hashes"] >= 100
    assert here.by_part["hashes"] % 100 == 0
    assert there.by_part["hashes"] == here.by_part["hashes"]
    with counted_calls() as nothing:
        pass
    assert not nothing.by_part["hashes"]


def test_a_counter_of_the_kernel_counts_threads_that_were_started_after_it():
    try:
        counter = KernelCounter(TASK_CLOCK)
    except OSError as error:
        pytest.skip(f"this machine lets nobody count: {error}")

    def spin() -> None:
        thread = threading.Thread(target=lambda: sum(range(2_000_000)))
        thread.start()
        thread.join()

    with counter:
        nothing = count_instructions(lambda: None, counter)
        assert count_instructions(spin, counter) > 10 * nothing


def test_a_counter_that_no_kernel_has_is_told():
    with pytest.raises(OSError, match=r"perf_event_open|no counters known"):
        KernelCounter((0, 1 << 40))
