"""What the benchmarks of raylets and of a driver reckon with, and the cards that are not there."""

import json
import os
import threading
import time
from collections import Counter

import pytest

from embedkit.dataset.growing import Growth
from embedkit.dataset.version import Version
from tests.benchmarks.fleet import Case
from tests.benchmarks.fleet_machine import ROW_TOKENS, Cards, record_of
from tests.benchmarks.raylets import Commit, Samples, between, bottleneck, commits_below, grown


def test_what_grew_is_told_between_the_samples_around_two_moments():
    samples = [(float(at), Counter({"driver": 0.1 * at, "queue": 5.0})) for at in (0, 10, 20, 40)]
    assert grown(samples, 12.0, 19.0) == pytest.approx({"driver": 0.1, "queue": 0.0})
    samples[1][1]["driver"] = 0.0
    assert grown(samples, 12.0, 19.0)["driver"] == pytest.approx(0.2)
    # Whoever was not there yet used nothing.
    late = [(0.0, Counter()), (4.0, Counter({"workers": 2.0}))]
    assert grown(late, 0.0, 9.0) == {"workers": 0.5}


def test_the_drivers_memory_is_that_of_the_time_that_counts():
    samples = Samples(memory=[(1.0, 700.0), (2.0, 100.0), (3.0, 300.0), (9.0, 900.0)])
    assert samples.driver_memory(1.5, 3.0) == (100.0, 300.0)


def test_only_the_cores_of_raylets_count_as_idle():
    idle = [(0.0, Counter({"0": 0.0, "1": 0.0, "2": 0.0}))]
    idle.append((2.0, Counter({"0": 1.0, "1": 0.0, "2": 2.0})))
    assert Samples(idle=idle).idle_share(2, 0.0, 2.0) == 0.25


def test_the_rate_begins_when_each_worker_has_committed(tmp_path):
    folder = tmp_path / "v1" / "_meta" / "commits"
    folder.mkdir(parents=True)
    for number, (at, documents) in enumerate([(50, 9), (10, 1), (20, 2), (40, 8)]):
        path = folder / f"0000{number}-00000.json"
        path.write_text(json.dumps({"documents": documents}))
        os.utime(path, (at, at))
    commits = commits_below(tmp_path)
    assert commits == [Commit(10, 1), Commit(20, 2), Commit(40, 8), Commit(50, 9)]
    assert between(commits, 2) == (20, 50, 17)


@pytest.mark.parametrize(
    ("cores", "idle", "said"),
    [
        ({"workers": 1.5, "encoders": 0.3, "driver": 0.2}, 0.02, "cores, of which workers use 75%"),
        ({"workers": 0.5, "driver": 0.95}, 0.0, "the driver, which uses 0.95 of a core"),
        ({"workers": 0.5, "queue": 0.97, "driver": 0.1}, 0.5, "the queue, which uses 0.97"),
        ({"workers": 0.5, "driver": 0.1}, 0.6, "waiting: the raylets' cores are idle for 60%"),
    ],
)
def test_the_bottleneck_is_named(cores, idle, said):
    assert bottleneck(cores, idle).startswith(said)


def test_cards_take_one_block_at_a_time_each():
    cards = Cards(["one", "two"], 0.05)
    threads = [threading.Thread(target=cards.encode, args=(10,)) for _ in range(4)]
    began = time.time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Four blocks on two cards take two turns; a busy machine only makes it longer.
    assert time.time() - began >= 0.1
    loads = [cards.load(name) for name in ("one", "two")]
    assert [load.calls for load in loads] == [2, 2]
    assert sum(load.tokens for load in loads) == 40 * ROW_TOKENS
    assert sum(load.busy_seconds for load in loads) == pytest.approx(0.2)


def test_a_driver_takes_the_commits_of_cards_that_are_not_there(tmp_path):
    version = Version(str(tmp_path), "v1")
    for block in ("00000-00000", "00001-00000"):
        version.store.create(version.commit_key(block), record_of(block, 7).to_json())
    growth = Growth(version, {}, 2)
    growth.look()
    assert (growth.listing.blocks, growth.listing.documents) == (2, 14)


def test_a_block_has_its_share_of_the_documents():
    assert Case(64, 1_000_000, 320).rows == 781
    assert Case(64, 10, 320).rows == 1
