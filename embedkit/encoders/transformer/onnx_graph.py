"""What an ONNX file refers to, read without running, building or trusting any of it."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from embedkit.errors import ConfigError

_MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {4: "operator", 5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""The messages of onnx.proto that tensors can lie in, by the numbers of their fields."""

_DATA_TYPE = 2
"""Field of a tensor with the type of its elements."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 10_000_000
_MOST_DEPTH = 64
_MOST_NAME = 4_096


@dataclass
class OnnxGraph:
    """What was found in a file.

    Attributes:
        locations: Files beside it that hold values of tensors, as it names them.
        operators: Types of the operators.
        types: Numbers of the types of tensors' elements, as ``TensorProto.DataType`` has them.
    """

    locations: set[str] = field(default_factory=set)
    operators: set[str] = field(default_factory=set)
    types: set[int] = field(default_factory=set)


def read_graph(file: Path) -> OnnxGraph:
    """Walks through an ONNX file, over the values of its tensors.

    Args:
        file: The file.

    Raises:
        ConfigError: It is damaged, or no ONNX file.
    """
    found = OnnxGraph()
    try:
        with _mapped(file) as data:
            _walk(data, found)
    except (_Damaged, IndexError, OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{file}: not a whole ONNX file ({error}); download the model again"
        ) from error
    return found


class _Damaged(Exception):
    """The bytes are no messages of onnx.proto."""


@contextmanager
def _mapped(file: Path) -> Iterator[memoryview]:
    if not file.stat().st_size:
        raise _Damaged("it is empty")
    with (
        file.open("rb") as opened,
        mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as data,
    ):
        yield data


def _walk(data: memoryview, found: OnnxGraph) -> None:
    waiting = [("model", 0, len(data), 0)]
    left = iter(range(_MOST_FIELDS))
    while waiting:
        kind, start, end, depth = waiting.pop()
        if depth > _MOST_DEPTH:
            raise _Damaged(f"graphs within graphs, more than {_MOST_DEPTH} deep")
        fields = _fields(data, start, end, left)
        if kind == "entry":
            texts = [
                (number, _text(data, *place)) for number, wire, *place in fields if wire == _BYTES
            ]
            if (1, "location") in texts:
                # Whichever of several would count.
                found.locations |= {text for number, text in texts if number == 2}
            continue
        for number, wire, first, last in fields:
            inner = _MESSAGES[kind].get(number) if wire == _BYTES else None
            if kind == "tensor" and number == _DATA_TYPE and wire == _VARINT:
                found.types.add(_varint(data, first)[0])
            elif inner == "operator":
                found.operators.add(_text(data, first, last))
            elif inner is not None:
                waiting.append((inner, first, last, depth + 1))


def _fields(
    data: memoryview, place: int, end: int, left: Iterator[int]
) -> Iterator[tuple[int, int, int, int]]:
    """Yields each field's number and wire type, and where its value starts and ends."""
    while place < end:
        if next(left, None) is None:
            raise _Damaged(f"more than {_MOST_FIELDS:,} fields")
        number, wire, place = _tag(data, place)
        start, place = _value(data, place, wire)
        if place > end:
            raise _Damaged("a field is longer than what holds it")
        yield number, wire, start, place


def _tag(data: memoryview, place: int) -> tuple[int, int, int]:
    tag, place = _varint(data, place)
    return tag >> 3, tag & 7, place


def _value(data: memoryview, place: int, wire: int) -> tuple[int, int]:
    """Returns where a field's value starts, its length left out, and where it ends."""
    if wire == _VARINT:
        return place, _varint(data, place)[1]
    if wire == _BYTES:
        length, start = _varint(data, place)
        return start, start + length
    if wire in (_FIXED32, _FIXED64):
        return place, place + (4 if wire == _FIXED32 else 8)
    raise _Damaged(f"a field of wire type {wire}")


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
    raise _Damaged("a number of more than ten bytes")


def _text(data: memoryview, start: int, end: int) -> str:
    if end - start > _MOST_NAME:
        raise _Damaged(f"a name of {end - start:,} bytes")
    return bytes(data[start:end]).decode()
