"""Records of other releases: what they lack and what they have more, and how damage is named."""

import hashlib
import json
from dataclasses import dataclass, field, replace

import pytest

from embedkit.formats.canonical import canonical_json, checksum_in_holds, with_checksum
from embedkit.formats.json_record import Count, JsonRecord


@dataclass(frozen=True)
class Piece(JsonRecord):
    path: str
    rows: Count = 0


@dataclass(frozen=True)
class Whole(JsonRecord):
    name: str
    pieces: tuple[Piece, ...] = ()
    counts: dict[str, Count] = field(default_factory=dict)
    share: float = 0.5


LATER = {
    "name": "a",
    "pieces": [{"path": "p", "rows": 3, "origin": {"version": "v0"}}],
    "counts": {"x": 1},
    "share": 1,
    "layers": ["later", None],
}


def test_what_a_record_lacks_has_its_default():
    assert Whole.parse(b'{"name": "a"}') == Whole("a", (), {}, 0.5)


def test_unknown_fields_are_kept_wherever_they_stand():
    record = Whole.parse(canonical_json(with_checksum(LATER)))
    assert record == Whole("a", (Piece("p", 3),), {"x": 1}, 1.0)
    changed = replace(record, name="b", pieces=(*record.pieces, Piece("q")))
    written = json.loads(changed.to_json())
    assert written.pop("checksum")
    assert written == LATER | {
        "name": "b",
        "pieces": [*LATER["pieces"], {"path": "q", "rows": 0}],
        "share": 1.0,
    }
    assert Whole.parse(changed.to_json()).to_json() == changed.to_json()
    assert Whole("b").to_dict() == {"name": "b", "pieces": [], "counts": {}, "share": 0.5}


def test_a_checksum_is_that_of_all_else():
    data = Whole.parse(canonical_json(LATER)).to_json()
    written = json.loads(data)
    rest = {name: value for name, value in written.items() if name != "checksum"}
    expected = json.dumps(rest, sort_keys=True, indent=2) + "\n"
    assert written["checksum"] == hashlib.sha256(expected.encode()).hexdigest()


@pytest.mark.parametrize("layout", [None, 1, 2, 4])
def test_a_checksum_holds_in_whatever_layout(layout):
    record = json.loads(canonical_json(with_checksum(LATER)))
    turned = dict(reversed(record.items()))
    assert checksum_in_holds(json.dumps(turned, indent=layout).encode())
    turned["layers"] = ["other", None]
    assert not checksum_in_holds(json.dumps(turned, indent=layout).encode())


def test_a_checksum_in_what_a_record_holds_is_not_its_own():
    inner = with_checksum({"a": 1})
    assert checksum_in_holds(canonical_json(with_checksum({"inner": inner, "name": "x"})))
    assert checksum_in_holds(canonical_json({"inner": inner, "name": "x"}))
    forged = canonical_json({"checksum": inner["checksum"], "name": 'x\n  "checksum": "0"'})
    assert not checksum_in_holds(forged)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "not valid JSON"),
        (b'{"name": "a"', "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "wrong or missing fields name"),
        (b'{"name": 3, "share": "x"}', "wrong or missing fields name, share"),
        (b'{"name": "a", "counts": {"x": -1}}', "wrong or missing fields counts"),
        (b'{"name": "a", "counts": {"x": true}}', "wrong or missing fields counts"),
        (b'{"name": "a", "pieces": [{"rows": 1}]}', "wrong or missing fields pieces"),
        (b'{"name": "a", "share": NaN}', "not valid JSON"),
        (b'{"name": "a", "layers": [-Infinity]}', "not valid JSON"),
        (b'{"name": "a", "layers": [1e999]}', "not valid JSON"),
        (canonical_json(with_checksum(LATER)).replace(b"later", b"Later"), "changed after"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(data, fault):
    with pytest.raises(ValueError) as caught:
        Whole.parse(data)
    said = str(caught.value)
    assert said.startswith(fault)
    assert "\n" not in said and len(said) < 200
