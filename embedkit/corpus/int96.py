"""Converts dates of 96 bits (INT96 of Parquet), also those beyond the range of 64 bits.

Arrow reads them as microseconds, which lack digits, or as nanoseconds, which wrap around. Together
the two tell what is written.
"""

from collections.abc import Iterator
from itertools import accumulate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.corpus.arrow_values import is_list, list_parts


def exact_dates(
    batches: Iterator[pa.RecordBatch], again: Iterator[pa.RecordBatch]
) -> Iterator[pa.RecordBatch]:
    """Corrects the dates of batches of rows, where a microsecond does not hold them.

    Args:
        batches: Rows with dates as microseconds.
        again: The columns of the same rows that have such dates, as nanoseconds.

    Yields:
        The batches. A column in which a date has more digits than microseconds has is one of
        strings, all digits written out.
    """
    held: list[pa.RecordBatch] = []
    for batch in batches:
        while sum(one.num_rows for one in held) < batch.num_rows:
            held.append(next(again))
        whole = pa.Table.from_batches(held).combine_chunks().to_batches()
        nanos = whole[0] if whole else held[0]
        arrays = list(batch.columns)
        for name in nanos.schema.names:
            place = batch.schema.names.index(name)
            arrays[place] = _exact(arrays[place], nanos.column(name).slice(0, batch.num_rows))
        held = [nanos.slice(batch.num_rows)]
        yield pa.RecordBatch.from_arrays(arrays, names=batch.schema.names)


def _exact(micros: pa.Array, nanos: pa.Array) -> pa.Array:
    kind = micros.type
    if pa.types.is_timestamp(kind) and nanos.type != kind:
        return _written_out(micros, nanos)
    if is_list(kind):
        values, lengths = list_parts(micros)
        inner = _exact(values, list_parts(nanos)[0])
        offsets = pa.array(list(accumulate((one or 0 for one in lengths), initial=0)), pa.int32())
        return pa.ListArray.from_arrays(offsets, inner, mask=micros.is_null())
    if pa.types.is_struct(kind):
        fields = [
            _exact(pc.struct_field(micros, [place]), pc.struct_field(nanos, [place]))
            for place in range(len(kind))
        ]
        names = [field.name for field in kind]
        return pa.StructArray.from_arrays(fields, names, mask=micros.is_null())
    return micros


def _written_out(micros: pa.Array, nanos: pa.Array) -> pa.Array:
    # What wraps around does so in both, so that the difference is right for any date.
    below = _counts(nanos) - _counts(micros) * np.uint64(1000)
    below[micros.is_null().to_numpy(zero_copy_only=False)] = 0
    if not below.any():
        return micros
    texts = micros.cast(pa.string()).to_pylist()
    return pa.array(
        [
            f"{text}{digits:03d}" if digits else text
            for text, digits in zip(texts, below, strict=True)
        ],
        pa.string(),
    )


def _counts(dates: pa.Array) -> NDArray[np.uint64]:
    counts: NDArray[np.int64] = dates.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    return counts.view(np.uint64)
