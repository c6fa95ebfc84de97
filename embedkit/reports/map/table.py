"""The map as a file, ``map.parquet``, for the page and for other viewers."""

import base64
import io
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embedkit.errors.foreign import one_line
from embedkit.formats.json_record import JsonRecord
from embedkit.reports.map.components import Places
from embedkit.reports.map.placed import Method
from embedkit.reports.sample import excerpt
from embedkit.reports.vector_sample import SampledVectors

_ORIGIN = b"embedkit.map"
_TEXTS = b"embedkit.map.texts"
"""Hashes of the rows' texts, as a text that changed has another place."""

_OWN = ("id", "x", "y", "cluster", "source", "text")


@dataclass(frozen=True)
class MapOrigin(JsonRecord):
    """How a map came about, as the file says it.

    Attributes:
        method: How rows were placed.
        recipe: Hash of all that defines their vectors.
        explained: Shares of the variance that the first two principal components have.
        start: Name of the version whose map it began with; None where it began by itself.
        moved: How far rows moved since that, see ``Placed``.
        beside: Share of rows that were put beside others, see there.
    """

    method: Method
    recipe: str
    explained: tuple[float, float]
    start: str | None = None
    moved: float | None = None
    beside: float = 0.0


@dataclass(frozen=True, eq=False)
class EarlierMap:
    """A map that was written before.

    Attributes:
        origin: How it came about.
        texts: Hashes of its rows' texts, uint64, shape (n,).
        places: Where they are.
    """

    origin: MapOrigin
    texts: NDArray[np.uint64]
    places: Places

    def places_of(self, texts: NDArray[np.uint64]) -> Places:
        """Returns where different texts are, given their hashes; NaN of those that it lacks."""
        found = np.full((len(texts), 2), np.nan)
        _, ours, theirs = np.intersect1d(texts, self.texts, return_indices=True)
        found[ours] = self.places[theirs]
        return found


@dataclass(frozen=True)
class DrawnMap:
    """A map that was drawn of a version's sample.

    Attributes:
        origin: How it came about.
        rows: How many rows it has.
    """

    origin: MapOrigin
    rows: int


def write_map(
    rows: SampledVectors, places: Places, clusters: NDArray[np.int32], origin: MapOrigin
) -> bytes:
    """Returns the file; the same rows in the same places are the same bytes.

    Metadata columns whose names are taken are called ``metadata_`` and their name.

    Args:
        rows: Its n rows.
        places: Where they are.
        clusters: The cluster of each, -1 of those in none, shape (n,).
        origin: How that came about.
    """
    labels = [name for name in rows.columns.column_names if name != "id"]
    texts = [None if text is None else excerpt(text) for text in rows.beginnings.tolist()]
    columns = {
        "id": rows.columns.column("id").combine_chunks(),
        "x": pa.array(places[:, 0], pa.float32()),
        "y": pa.array(places[:, 1], pa.float32()),
        "cluster": pa.array(clusters, pa.int32()),
        "source": pa.array(rows.sources.tolist(), pa.string()),
        "text": pa.array(texts, pa.string()),
    }
    for name, free in _free_names(labels).items():
        columns[free] = rows.columns.column(name).combine_chunks()
    table = pa.table(columns)
    hashes = base64.b64encode(rows.texts.astype("<u8").tobytes())
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        compression="zstd",
        use_dictionary=["source", *_free_names(labels).values()],
        write_statistics=False,
        data_page_version="1.0",
    ) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_ORIGIN: origin.to_json(), _TEXTS: hashes})
    return sink.getvalue()


def _free_names(names: list[str]) -> dict[str, str]:
    free: dict[str, str] = {}
    taken = {name.lower() for name in names}
    for name in names:
        new = name
        # For some readers, such as DuckDB and Spark, large and small letters are the same.
        while new.lower() in _OWN or (new != name and new.lower() in taken):
            new = f"metadata_{new}"
        free[name] = new
    return free


def read_map(data: bytes) -> EarlierMap:
    """Reads the file.

    Raises:
        ValueError: It is damaged, or no map.
    """
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        said = file.metadata.metadata or {}
        if not {_ORIGIN, _TEXTS} <= said.keys():
            raise ValueError("it does not say how it came about")
        origin = MapOrigin.parse(said[_ORIGIN])
        texts = np.frombuffer(base64.b64decode(said[_TEXTS], validate=True), "<u8")
        table = file.read(["x", "y"])
        if table.schema.types != [pa.float32(), pa.float32()]:
            raise ValueError(f"places of {', '.join(map(str, table.schema.types)) or 'nothing'}")
        places = np.stack([one.to_numpy() for one in table.columns], axis=1).astype(np.float64)
        if places.shape != (len(texts), 2):
            raise ValueError(f"{len(texts)} texts of {len(places)} rows")
    # Arrow takes names of a footer for UTF-8.
    except (pa.ArrowException, OSError, EOFError, ValueError) as error:
        raise ValueError(f"no map ({one_line(error)})") from error
    return EarlierMap(origin, texts.astype(np.uint64), places)
