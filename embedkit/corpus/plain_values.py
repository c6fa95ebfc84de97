"""Values of other libraries as Python's own."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

_MISSING = frozenset({"NAType", "NaTType", "MaskedConstant"})


def plain_value(value: Any) -> Any:
    """Returns a scalar of NumPy, Arrow or pandas as Python's, and None for one that is missing.

    A string of a class of its own is a string, and a named tuple or ``beam.Row`` a mapping.
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, pa.Scalar):
        return value.as_py()
    if isinstance(value, str) and type(value) is not str:
        return str.__str__(value)
    if hasattr(value, "_asdict") and not isinstance(value, Mapping):
        return value._asdict()
    # pandas is not needed for this, and need not be there.
    return None if type(value).__name__ in _MISSING else value


def without_nan(value: Any) -> Any:
    """Returns None for a NaN, which stands for a missing text where there is no other null."""
    return None if isinstance(value, float) and value != value else value
