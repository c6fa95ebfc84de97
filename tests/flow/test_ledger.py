"""Who works on which split, and which blocks are to blame, without Ray."""

import dataclasses

import pytest

from embedkit.corpus.plan import FileRange, Split
from embedkit.flow.ledger import Ledger, QueueState, Release


def split(number: int, stored: int = 10) -> Split:
    name = f"f{number}.jsonl"
    piece = FileRange(name, f"/in/{name}", stored, "e", "jsonl", "none", 0, stored, stored)
    return Split(f"{number:05d}", (piece,))


@pytest.fixture
def ledger() -> Ledger:
    return Ledger.of([split(0, 10), split(1, 30), split(2, 20)])


def test_large_splits_go_first_and_each_to_one_worker(ledger):
    claims = [ledger.claim(f"w{n}", 0.0) for n in range(3)]
    assert [claim.split.split_id for claim in claims] == ["00001", "00002", "00000"]
    assert not any(claim.careful or claim.quarantined for claim in claims)
    assert ledger.claim("w3", 0.0) is None
    assert (ledger.state(1.0).waiting, ledger.state(1.0).claimed) == (0, 3)


def test_equal_splits_go_in_the_order_of_the_plan():
    ledger = Ledger.of([split(number) for number in range(5)])
    ids = [ledger.claim("w", 0.0).split.split_id for _ in range(5)]
    assert ids == [f"{number:05d}" for number in range(5)]


def test_a_worker_that_asks_again_is_done_with_what_it_had(ledger):
    for _ in range(3):
        ledger.claim("w", 0.0)
    assert ledger.state(1.0).claimed == 1
    assert ledger.claim("w", 1.0) is None
    assert (ledger.state(1.0).waiting, ledger.state(1.0).claimed) == (0, 0)


def test_the_split_of_a_lost_worker_is_the_next_to_be_claimed(ledger):
    ledger.claim("a", 0.0)
    ledger.begin("a", "00001-00004")
    lost = ledger.release("a", at_fault=True)
    assert lost == Release("00001", "00001-00004", 1, ("/in/f1.jsonl",))
    claim = ledger.claim("b", 1.0)
    assert claim.split.split_id == "00001"
    assert claim.careful
    assert claim.quarantined == ()


def test_a_worker_that_was_given_up_and_lives_on_gets_nothing_more(ledger):
    ledger.claim("a", 0.0)
    ledger.release("a", at_fault=True)
    ledger.release("b", at_fault=True)
    before = ledger.state(1.0)
    assert not ledger.begin("a", "00001-00004")
    assert not ledger.begin("a", None)
    assert ledger.claim("a", 1.0) is None
    assert ledger.claim("b", 1.0) is None
    assert ledger.state(1.0) == before
    assert (before.waiting, before.claimed, before.blocks) == (3, 0, 0)


def test_a_block_that_kills_twice_is_quarantined_and_no_other(ledger):
    for worker in ("a", "b"):
        ledger.claim(worker, 0.0)
        ledger.begin(worker, "00001-00000")
        ledger.begin(worker, None)
        ledger.begin(worker, "00001-00001")
        lost = ledger.release(worker, at_fault=True)
    assert lost.crashes == 2
    assert ledger.claim("c", 0.0).quarantined == ("00001-00001",)
    assert ledger.claim("d", 0.0).quarantined == ()
    assert ledger.state(0.0).quarantined == ("00001-00001",)


def test_a_node_that_left_blames_no_block(ledger):
    for worker in ("a", "b", "c"):
        ledger.claim(worker, 0.0)
        ledger.begin(worker, "00001-00000")
        assert ledger.release(worker, at_fault=False).crashes == 0
    claim = ledger.claim("d", 0.0)
    assert not claim.careful
    assert claim.quarantined == ()


def test_a_worker_that_dies_reading_blames_the_split_and_quarantines_no_block(ledger):
    for worker in ("a", "b"):
        ledger.claim(worker, 0.0)
        ledger.begin(worker, "00001-00000")
        ledger.begin(worker, None)
        lost = ledger.release(worker, at_fault=True)
    assert lost == Release("00001", None, 2, ("/in/f1.jsonl",))
    claim = ledger.claim("c", 0.0)
    assert claim.careful
    assert claim.quarantined == ()


def test_a_worker_without_a_split_loses_nothing(ledger):
    assert ledger.release("never seen", at_fault=True) == Release()
    for _ in range(4):
        ledger.claim("a", 0.0)
    assert ledger.release("a", at_fault=True) == Release()


def test_blocks_count_when_they_are_finished(ledger):
    ledger.claim("a", 0.0)
    for seq in range(3):
        ledger.begin("a", f"00001-{seq:05d}")
        ledger.begin("a", None)
    ledger.begin("a", "00001-00003")
    assert ledger.state(0.0).blocks == 3


def test_the_idle_share_against_a_sum_done_by_hand():
    ledger = Ledger.of([split(0), split(1)])
    ledger.claim("a", 0.0)
    ledger.claim("b", 2.0)
    assert ledger.state(4.0).idle_share == 0.0
    # a has nothing from 4 to the end at 10; b works to the end.
    assert ledger.claim("a", 4.0) is None
    assert ledger.claim("b", 10.0) is None
    state = ledger.state(50.0)
    assert state.idle_share == pytest.approx((6 / 10 + 0 / 8) / 2)
    assert dataclasses.replace(state, idle_share=0.0) == QueueState(
        0, 0, 0.0, 0, (), frozenset({"a", "b"})
    )


def test_a_pause_ends_with_the_next_split():
    ledger = Ledger.of([split(0)])
    ledger.claim("a", 0.0)
    assert ledger.claim("b", 0.0) is None
    ledger.release("a", at_fault=False)
    assert ledger.claim("b", 5.0).split.split_id == "00000"
    assert ledger.claim("b", 10.0) is None
    assert ledger.state(10.0).idle_share == pytest.approx(0.5)


def test_a_worker_that_is_to_leave_gives_its_split_back_at_the_next_block(ledger):
    ledger.claim("a", 0.0)
    assert ledger.begin("a", "00001-00000")
    ledger.retire("a")
    assert ledger.begin("a", None)
    assert not ledger.begin("a", "00001-00001")
    assert ledger.claim("a", 1.0) is None
    state = ledger.state(1.0)
    assert (state.waiting, state.claimed, state.blocks) == (3, 0, 1)
    claim = ledger.claim("b", 2.0)
    assert (claim.split.split_id, claim.careful) == ("00001", False)
    ledger.retire("never seen")


def test_the_state_tells_documents_of_all_tries_and_of_this_one():
    ledger = Ledger.of([split(0), split(1)], {"00000": 4, "00009": 30})
    ledger.tally.count("00000", 4, 6, 1)
    state = ledger.state(1.0)
    assert (state.documents, state.documents_of_run, state.rejects) == (40, 6, 1)
