"""Converts Arrow arrays to text, to Python's values and to other types, exactly."""

from itertools import accumulate, pairwise
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.corpus.json_values import as_text

_OUT_OF_RANGE = "<value out of range"


def is_string(kind: pa.DataType) -> bool:
    """Tells whether a type is one of Arrow's string types."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_binary(kind: pa.DataType) -> bool:
    """Tells whether a type is one of Arrow's types of bytes."""
    return bool(
        pa.types.is_binary(kind)
        or pa.types.is_large_binary(kind)
        or pa.types.is_binary_view(kind)
        or pa.types.is_fixed_size_binary(kind)
    )


def is_list(kind: pa.DataType) -> bool:
    """Tells whether a type is one of Arrow's list types."""
    return bool(
        pa.types.is_list(kind)
        or pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def is_uuid(kind: pa.DataType) -> bool:
    """Tells whether a type is Arrow's UUID."""
    return isinstance(kind, pa.UuidType)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Returns what a dictionary or an extension type stands for; a UUID stands for itself."""
    if pa.types.is_dictionary(kind):
        return plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and not is_uuid(kind):
        return plain_type(kind.storage_type)
    return kind


def plain_array(array: pa.Array) -> pa.Array:
    """Returns an array of its ``plain_type``."""
    if pa.types.is_dictionary(array.type):
        return plain_array(array.dictionary_decode())
    if isinstance(array.type, pa.BaseExtensionType) and not is_uuid(array.type):
        return plain_array(array.storage)
    return array


def to_texts(array: pa.Array) -> list[str | None]:
    """Writes each value as text: bytes as the UTF-8 they are, lists and structs as JSON.

    Raises:
        ValueError: A value has no text: bytes that are not UTF-8, a date that no calendar has.
        RecursionError: One is nested too deeply.
    """
    array = plain_array(array)
    kind = array.type
    if is_uuid(kind):
        return [None if data is None else str(UUID(bytes=data)) for data in _bytes(array.storage)]
    if is_string(kind):
        strings: list[str | None] = array.to_pylist()
        return strings
    if is_binary(kind):
        return [None if data is None else data.decode() for data in _bytes(array)]
    if pa.types.is_nested(kind):
        return [None if value is None else as_text(value) for value in to_values(array)]
    texts: list[str | None] = array.cast(pa.string()).to_pylist()
    if pa.types.is_temporal(kind) and any(text and text[0] == "<" for text in texts):
        raise ValueError(_OUT_OF_RANGE)
    return texts


def to_values(array: pa.Array) -> list[Any]:
    """Returns Python's values, of which JSON knows all: what is no number becomes text.

    A float of 32 bits becomes that of 64 that is written with the same digits.

    Raises:
        ValueError: As ``to_texts``.
        RecursionError: One is nested too deeply.
    """
    array = plain_array(array)
    kind = array.type
    if pa.types.is_map(kind):
        pairs = array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        found = to_values(pairs)
        return [None if one is None else [list(pair.values()) for pair in one] for one in found]
    if is_list(kind):
        values, lengths = list_parts(array)
        members = to_values(values)
        ends = pairwise(accumulate((length or 0 for length in lengths), initial=0))
        return [
            None if length is None else members[start:end]
            for length, (start, end) in zip(lengths, ends, strict=True)
        ]
    if pa.types.is_struct(kind):
        names = [field.name for field in kind]
        columns = [to_values(pc.struct_field(array, [place])) for place in range(len(names))]
        rows = zip(*columns, strict=True) if columns else iter([()] * len(array))
        return [
            dict(zip(names, row, strict=True)) if valid else None
            for row, valid in zip(rows, array.is_valid().to_pylist(), strict=True)
        ]
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):
        return [None if text is None else float(text) for text in to_texts(array)]
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind):
        numbers: list[Any] = array.to_pylist()
        return numbers
    return list(to_texts(array))


def list_parts(array: pa.Array) -> tuple[pa.Array, list[int | None]]:
    """Returns the values of all lists of an array, one after the other, and each one's length."""
    lengths: list[int | None] = pc.list_value_length(array).to_pylist()
    return array.flatten(), lengths


def row_bytes(array: pa.Array) -> NDArray[np.int64]:
    """Returns what each value takes, were it not shared with others, int64, shape (rows,)."""
    kind = array.type
    if isinstance(kind, pa.BaseExtensionType):
        return row_bytes(array.storage)
    if pa.types.is_dictionary(kind):
        sizes = np.append(row_bytes(array.dictionary), 0)
        places = array.indices.cast(pa.int64()).fill_null(len(sizes) - 1)
        shared: NDArray[np.int64] = sizes[places.to_numpy(zero_copy_only=False)]
        return shared
    if pa.types.is_map(kind):
        pairs = pa.struct([("key", kind.key_type), ("value", kind.item_type)])
        return row_bytes(array.cast(pa.list_(pairs)))
    if is_list(kind):
        values, lengths = list_parts(array)
        ends = np.cumsum([0, *(one or 0 for one in lengths)])
        members: NDArray[np.int64] = np.diff(
            np.concatenate([[0], np.cumsum(row_bytes(values))])[ends]
        )
        return members
    if pa.types.is_struct(kind):
        fields = [row_bytes(pc.struct_field(array, [place])) for place in range(len(kind))]
        total: NDArray[np.int64] = np.sum([np.zeros(len(array), np.int64), *fields], axis=0)
        return total
    if is_string(kind) or (is_binary(kind) and not pa.types.is_fixed_size_binary(kind)):
        if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
            array = array.cast(pa.large_binary())
        lengths = pc.binary_length(array).fill_null(0)
        found: NDArray[np.int64] = lengths.to_numpy(zero_copy_only=False).astype(np.int64)
        return found
    if pa.types.is_null(kind):
        return np.ones(len(array), np.int64)
    return np.full(len(array), -(-kind.bit_width // 8), np.int64)


def spread(array: pa.Array) -> pa.Array:
    """Returns an array without dictionaries, in lists and structs neither."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return spread(array.dictionary_decode())
    if not _has_dictionary(kind):
        return array
    if is_list(kind):
        values, lengths = list_parts(array)
        offsets = pa.array(list(accumulate((one or 0 for one in lengths), initial=0)), pa.int32())
        return pa.ListArray.from_arrays(offsets, spread(values), mask=array.is_null())
    if pa.types.is_struct(kind):
        fields = [spread(pc.struct_field(array, [place])) for place in range(len(kind))]
        names = [field.name for field in kind]
        return pa.StructArray.from_arrays(fields, names, mask=array.is_null())
    return array


def _has_dictionary(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return True
    return pa.types.is_nested(kind) and any(
        _has_dictionary(kind.field(place).type) for place in range(kind.num_fields)
    )


def conform(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """Returns an array of another type that has the same values.

    Raises:
        pa.ArrowException: A value is none of that type.
        ValueError: As ``to_texts``.
    """
    if array.type == kind:
        return array
    array = plain_array(array)
    if is_uuid(array.type) and pa.types.is_string(kind):
        return pa.array(to_texts(array), kind)
    if is_list(array.type) and pa.types.is_list(kind):
        values, lengths = list_parts(array)
        offsets = pa.array(list(accumulate((one or 0 for one in lengths), initial=0)), pa.int32())
        inner = conform(values, kind.value_type)
        return pa.ListArray.from_arrays(offsets, inner, type=kind, mask=array.is_null())
    return array.cast(kind)


def _bytes(array: pa.Array) -> list[bytes | None]:
    found: list[bytes | None] = array.to_pylist()
    return found
