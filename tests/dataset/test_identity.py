"""Digests of sets of ids, against the same sums in plain integers."""

import hashlib

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from embedkit.dataset.identity import add_digests, digest_of, id_digest, id_hashes

ids = st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=40)


def hashed(value):
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=16).digest(), "little")


@given(ids)
def test_the_digest_is_the_sum_of_the_hashes(values):
    expected = f"{sum(map(hashed, values)) % 2**128:032x}"
    assert id_digest(pa.array(values, pa.string())) == expected


@given(ids, ids)
def test_digests_of_parts_add_up(first, second):
    parts = [id_digest(pa.array(each, pa.string())) for each in (first, second)]
    assert add_digests(parts) == id_digest(pa.array(first + second, pa.string()))


def test_hashes_are_pairs_of_64_bits():
    hashes = id_hashes(pa.array(["a", "b", "ü"]))
    assert hashes.shape == (3, 2)
    assert hashes.dtype == np.uint64
    assert int(hashes[2, 0]) | int(hashes[2, 1]) << 64 == hashed("ü")
    assert digest_of(hashes[:0]) == "0" * 32
    assert digest_of(np.concatenate([hashes[:1], hashes[2:]])) == (id_digest(pa.array(["ü", "a"])))
