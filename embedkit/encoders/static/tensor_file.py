"""Tensors of a safetensors file: mapped into memory, and written row by row."""

import json
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.weights import tensor_shapes
from embedkit.errors import ConfigError

_TYPES: dict[str, type[np.generic]] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    # The upper half of a float32.
    "BF16": np.uint16,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
}
_LENGTH_BYTES = 8
_HEADER_BYTES = 512
"""Room for the header of a file with one tensor, whose rows are written before they are counted."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a safetensors file.

    Attributes:
        file: The file.
        name: The tensor's name.
        dtype: How its components are stored, by the name that safetensors has for it.
        shape: Its shape.
        start: Byte of the file at which it begins.
    """

    file: Path
    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    def mapped(self) -> NDArray[Any]:
        """Maps it into memory, read-only; every process of a machine shares its pages.

        Raises:
            ConfigError: Its components are of a type that is not known.
        """
        kind = _TYPES.get(self.dtype)
        if kind is None:
            raise ConfigError(
                f"{self.file}: {self.name} is of type {self.dtype}; expected one of "
                f"{', '.join(_TYPES)}"
            )
        if 0 in self.shape:
            return np.empty(self.shape, kind)
        return np.memmap(self.file, kind, "r", self.start, self.shape)


def stored_tensors(file: Path) -> dict[str, StoredTensor]:
    """Finds the tensors of a safetensors file and reads none of their values.

    Raises:
        ConfigError: The file is damaged or no safetensors file.
    """
    shapes = tensor_shapes(file)
    with file.open("rb") as data:
        length = int.from_bytes(data.read(_LENGTH_BYTES), "little")
        header = json.loads(data.read(length))
    return {
        name: StoredTensor(
            file=file,
            name=name,
            dtype=header[name]["dtype"],
            shape=shape,
            start=_LENGTH_BYTES + length + header[name]["data_offsets"][0],
        )
        for name, shape in shapes.items()
    }


class MatrixFile:
    """Writes a safetensors file that holds one float32 matrix, some rows at a time.

    Args:
        file: The file to write.
        name: The tensor's name.
        width: Components of a row.
    """

    def __init__(self, file: Path, name: str, width: int) -> None:
        self._name = name
        self._width = width
        self._rows = 0
        self._data = file.open("wb")
        self._data.write(bytes(_LENGTH_BYTES + _HEADER_BYTES))

    def append(self, rows: NDArray[Any]) -> None:
        """Writes rows, shape (rows, width)."""
        self._data.write(np.ascontiguousarray(rows, dtype="<f4").data)
        self._rows += len(rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Writes the header, now that the rows are counted, and closes the file."""
        end = self._rows * self._width * np.dtype(np.float32).itemsize
        tensor = {"dtype": "F32", "shape": [self._rows, self._width], "data_offsets": [0, end]}
        # Blanks behind it are part of the format.
        header = json.dumps({self._name: tensor}).encode().ljust(_HEADER_BYTES)
        with self._data:
            self._data.seek(0)
            self._data.write(_HEADER_BYTES.to_bytes(_LENGTH_BYTES, "little") + header)
