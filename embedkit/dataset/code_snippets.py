"""What a dataset card says of codes that are stored in the place of vectors."""

from collections.abc import Iterator, Mapping
from typing import Any

from embedkit.quantization import QUANTIZED

_BITS = """`embedding` holds the sign of each component as a bit, eight in a byte, the first in the
highest bit. One that is set stands for 1 / sqrt({dimension}), another for -1 / sqrt({dimension}).

```python
import numpy, pyarrow.dataset
table = pyarrow.dataset.dataset("data", format="parquet").to_table()
codes = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, {width})
signs = 2 * numpy.unpackbits(codes, axis=1).astype(numpy.float32) - 1
vectors = signs / numpy.sqrt(numpy.float32({dimension}))
```
"""

_CODES = """`embedding` holds a code of 8 bits for each component, by the ranges in
`_meta/calibration.json`: in float32, x = low + (code + {half}) * step, step = (high - low) / 255.

```python
import json, numpy, pyarrow.dataset
calibration = json.load(open("_meta/calibration.json"))
low, high = (numpy.array(calibration[name], numpy.float32) for name in ("low", "high"))
table = pyarrow.dataset.dataset("data", format="parquet").to_table()
codes = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, {dimension})
step = (high - low) / numpy.float32(255)
vectors = low + (codes.astype(numpy.float32) + numpy.float32({half})) * step
```
"""

_ALSO = """
`embedkit.open_version(".").vectors()` does the same, and so does `embedkit.vectors_of` for rows
that pyarrow has read from a part. Other readers give the codes as they are:

```python
import polars
frame = polars.read_parquet("data/*.parquet")
```

```python
import pandas
frame = pandas.read_parquet("data")
```

```python
import datasets
dataset = datasets.load_dataset("parquet", data_files="data/*.parquet", split="train")
```

```sql
SELECT id, embedding FROM 'data/*.parquet';
```
"""


def snippets_of_codes(described: Mapping[str, Any]) -> str | None:
    """Returns how codes are read and become vectors again; None of a version that has none.

    Args:
        described: What the manifest says of the vectors.
    """
    dtype, dimension = described.get("vector_dtype"), described["dimension"]
    if dtype not in QUANTIZED:
        return None
    if dtype == "binary":
        return _BITS.format(dimension=dimension, width=dimension // 8) + _ALSO
    return _CODES.format(dimension=dimension, half=128.5 if dtype == "int8" else 0.5) + _ALSO


def facts_of_codes(described: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields how codes are stored and what that costs: a name, a value and what it means."""
    dtype = described.get("vector_dtype")
    if dtype not in QUANTIZED:
        return
    loss, calibration = described.get("quantization") or {}, described.get("calibration") or {}
    yield "stored as", str(dtype), "codes in the place of floats"
    if calibration:
        yield "calibrated with", f"{calibration['rows']:,} vectors", str(calibration["method"])
        yield "clipped", f"{loss.get('clipped_share', 0):.3%}", "components outside of the ranges"
    if loss.get("mean_cosine") is not None:
        meaning = (
            f"mean, between vectors and what codes stand for; at least {loss['least_cosine']:.6f}, "
            f"of {loss['rows_measured']:,} rows"
        )
        yield "cosine", f"{loss['mean_cosine']:.6f}", meaning


def facts_of_int8(described: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yields what a model in int8 costs: a name, a value and what it means."""
    loss = described.get("int8") or {}
    if loss.get("mean_cosine") is not None:
        meaning = (
            f"mean, between vectors in int8 and float32; at least {loss['least_cosine']:.6f}, of "
            f"{loss['compared']:,} that were computed both ways"
        )
        yield "computed in int8", f"{loss['mean_cosine']:.6f}", meaning
