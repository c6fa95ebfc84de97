"""Neighbours of a sample, found once and known of versions with the same sample."""

import numpy as np
import pytest

from embedkit.dataset.version import Version
from embedkit.flow import neighbours
from embedkit.flow.neighbours import NEIGHBOURS_ARROW, KnownNeighbours
from embedkit.reports.nearest import Neighbours, nearest


@pytest.fixture
def versions(tmp_path):
    return [Version(str(tmp_path), name) for name in ("v1", "v2")]


@pytest.fixture
def units(monkeypatch):
    monkeypatch.setattr(neighbours, "_FEW", 50)
    drawn = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


@pytest.fixture
def counted(monkeypatch):
    calls = []

    def count(units, k):
        calls.append((len(units), k))
        return nearest(units, k)

    monkeypatch.setattr(neighbours, "nearest", count)
    return calls


def same(one: Neighbours, two: Neighbours) -> bool:
    return np.array_equal(one.rows, two.rows) and np.array_equal(one.cosines, two.cosines)


def test_a_version_with_the_same_sample_knows_them(versions, units, counted):
    first = KnownNeighbours(versions[0], None)(units, 5)
    again = KnownNeighbours(versions[1], versions[0])(units, 5)
    assert counted == [(60, 5)]
    assert same(first, again)
    assert same(first, nearest(units, 5))
    # It is a whole version: the next takes them over from it.
    kept = [one.store.read(one.key(NEIGHBOURS_ARROW)) for one in versions]
    assert kept[0] == kept[1]


def test_another_sample_or_number_is_looked_at_anew(versions, units, counted):
    KnownNeighbours(versions[0], None)(units, 5)
    moved = units.copy()
    moved[7, 3] = np.nextafter(moved[7, 3], np.float32(2))
    assert same(KnownNeighbours(versions[1], versions[0])(moved, 5), nearest(moved, 5))
    assert same(KnownNeighbours(versions[1], versions[0])(units, 4), nearest(units, 4))
    assert counted == [(60, 5)] * 2 + [(60, 4)]


@pytest.mark.parametrize("damage", ["cut", "a bit", "other bytes", "empty"])
def test_what_is_damaged_is_found_anew(damage, versions, units, counted):
    first = KnownNeighbours(versions[0], None)(units, 5)
    store, key = versions[0].store, versions[0].key(NEIGHBOURS_ARROW)
    data = store.read(key)
    where = data.index(first.cosines.tobytes()) + 9
    damaged = {
        "cut": data[: len(data) // 2],
        "a bit": data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :],
        "other bytes": b"no such file",
        "empty": b"",
    }[damage]
    store.replace(key, damaged)
    assert same(KnownNeighbours(versions[0], None)(units, 5), first)
    assert len(counted) == 2
    assert store.read(key) == data


def test_few_rows_leave_no_file(versions, units, counted):
    KnownNeighbours(versions[0], None)(units[:50], 5)
    assert versions[0].store.size(versions[0].key(NEIGHBOURS_ARROW)) is None
