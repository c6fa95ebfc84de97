"""Vectors as a NumPy file, which can be mapped into memory, and their ids."""

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.lib import format as npy

from embedkit.search.export.bulk import Written
from embedkit.search.export.ids import IdsWriter, digests_of
from embedkit.search.export.source import Source

FILE: Final = "vectors.npy"


class NpyFiles:
    """Target ``npy``."""

    metrics = ("cosine", "dot", "euclidean", "manhattan")

    def write(self, source: Source, folder: Path, recall: float) -> Written:
        """Writes ``vectors.npy``, shape (rows, dimension), and ``ids.arrow``."""
        kind = source.dtype.newbyteorder("<")
        header = {
            "descr": npy.dtype_to_descr(kind),
            "fortran_order": False,
            "shape": (source.rows, source.dimension),
        }
        ids = IdsWriter(folder)
        with (folder / FILE).open("wb") as file:
            npy.write_array_header_1_0(file, header)
            for rows in source.batches():
                file.write(np.ascontiguousarray(rows.vectors, kind).data)
                numbers = pa.array(np.arange(rows.first, rows.first + len(rows.ids)))
                ids.add(rows.ids, numbers, digests_of(rows.vectors))
        ids.close()
        return Written({"file": FILE, "dtype": source.dtype.name})


WRITER: Final = NpyFiles()
