"""Checksums of what stands as canonical JSON, against the library that writes it."""

import json
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.formats.canonical import CHECKSUM, canonical_json, checksum_in_holds, with_checksum

TEXTS = st.text() | st.sampled_from(['"', "\\", "\x7f", "\u2028", "\ud800", "é", "𝄞"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=30
)


@given(st.dictionaries(TEXTS.filter(lambda name: name != CHECKSUM), VALUES))
def test_the_checksum_is_that_of_what_the_library_writes(record):
    written = (json.dumps(record, sort_keys=True, indent=2) + "\n").encode()
    assert with_checksum(record)[CHECKSUM] == sha256(written).hexdigest()
    assert checksum_in_holds(canonical_json(with_checksum(record)))


@pytest.mark.parametrize("rows", [0, 1, 9_999, 10_000, 10_001])
@pytest.mark.parametrize("last", [["a", 1], [], [[1]], {"a": []}, None, "],\n    ["])
def test_lists_of_many_lists(rows, last):
    many = {"rows": [[f"],\n      [{number}", number, None] for number in range(rows)] + [last]}
    assert with_checksum(many)[CHECKSUM] == sha256(canonical_json(many)).hexdigest()


def test_tuples_are_lists():
    nested = {"a": ((1, "x", None), (), ((2,), {"b": ()}))}
    lists = json.loads(json.dumps(nested))
    assert with_checksum(nested)[CHECKSUM] == with_checksum(lists)[CHECKSUM]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1.0, float("nan")], object()])
def test_what_json_has_not_is_refused(value):
    with pytest.raises((ValueError, TypeError)):
        with_checksum({"a": value})
