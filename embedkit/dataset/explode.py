"""One row per word or token, out of a version whose rows have lists of their vectors."""

import io
import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embedkit.dataset.manifest import Manifest, Part, read_manifest
from embedkit.dataset.rows import read_columns, schema_of
from embedkit.dataset.schema import metadata_columns
from embedkit.dataset.stores import Store, create, open_store, read_if_there, refused
from embedkit.dataset.version import EXPLODED, Version
from embedkit.errors import ConfigError
from embedkit.formats.canonical import load_json
from embedkit.records import SPANS_FIELD, TOKENS_FIELD
from embedkit.vectors import flat_list

DONE: Final = "_SUCCESS"
_OF_ROWS = ("doc_id", "source", "row_index")


@dataclass(frozen=True)
class Exploded:
    """What was written.

    Attributes:
        version: The version's name.
        output: Where the rows are.
        files: Parquet files, one for each part of the version.
        rows: Rows, one for each word or token.
        size: Bytes of the files.
    """

    version: str
    output: str
    files: int
    rows: int
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return asdict(self)


def explode(version: Version, output: str) -> Exploded:
    """Writes a Parquet file for each part of a version, with a row per word or token.

    A file is there whole or not at all; what was stopped goes on where it was, with the same
    output. No more is in memory than one part and its file.

    Args:
        version: A complete version of words or tokens.
        output: Directory or URL; it must not exist, be empty, or hold what a try before this one
            has written.

    Raises:
        ConfigError: The version has one vector per row, or the output is in it or holds other
            files.
        IntegrityError: A part is gone or damaged.
        StoreError: A store failed.
    """
    manifest = read_manifest(version)
    if manifest.description.get("column") != "embeddings":
        raise ConfigError(
            f"{manifest.version} has no lists of vectors, of which explode makes rows; its rows "
            "are what they are"
        )
    store = open_store(output)
    _begin(store, version, manifest)
    written = dict(store.sizes(""))
    rows = 0
    sizes: list[int] = []
    for part in manifest.parts:
        name = part.path.rpartition("/")[2]
        if name not in written:
            data = _exploded(version, part, manifest)
            create(store, name, data)
            written[name] = len(data)
        with store.open(name) as file:
            rows += pq.ParquetFile(file).metadata.num_rows
        sizes.append(written[name])
    found = Exploded(manifest.version, store.url, len(sizes), rows, sum(sizes))
    create(store, DONE, json.dumps(found.to_dict()).encode())
    return found


def _begin(store: Store, version: Version, manifest: Manifest) -> None:
    """Makes the output this version's own.

    Raises:
        ConfigError: It is another's.
    """
    if f"{store.url}/".startswith((f"{version.url}/", f"{version.root}/{version.name}/")):
        raise ConfigError(f"{store.url}: is in the version itself; write elsewhere")
    ours = {"version": manifest.version, "fingerprint": manifest.description["fingerprint"]}
    with refused("cannot write the output"):
        stands = read_if_there(store, EXPLODED)
        if stands is None and next(iter(store.list("")), None) is not None:
            raise ConfigError(f"{store.url}: is not empty; write into a new directory")
        if stands is None:
            create(store, EXPLODED, json.dumps(ours).encode())
            return
    found = None
    with suppress(ValueError):
        found = load_json(stands)
    if found != ours:
        raise ConfigError(f"{store.url}: holds rows of another version; write elsewhere")
    if store.size(DONE) is not None:
        raise ConfigError(f"{store.url}: holds all rows of {manifest.version} already")


def _exploded(version: Version, part: Part, manifest: Manifest) -> bytes:
    """Returns the rows of a part as a file."""
    columns = schema_of(version, [part])
    of = str(manifest.description.get("granularity", "token"))
    kept = _free_names(metadata_columns(columns), of)
    wanted = ["id", "embeddings", SPANS_FIELD.name, "char_start", *_OF_ROWS, *kept]
    wanted += [name for name in ("text", TOKENS_FIELD.name) if name in columns.names]
    sink = io.BytesIO()
    writer = None
    for batch in read_columns(version, [part], wanted):
        table = _rows(batch, of, kept)
        if writer is None:
            dictionary = [
                field.name
                for field in table.schema
                if pa.types.is_string(field.type) and field.name != "id"
            ]
            writer = pq.ParquetWriter(
                sink,
                table.schema.with_metadata(columns.metadata),
                compression="zstd",
                use_dictionary=dictionary,
                write_statistics=[name for name in table.schema.names if name != "embedding"],
            )
        writer.write_table(table)
    if writer is not None:
        writer.close()
    return sink.getvalue()


def _rows(batch: pa.RecordBatch, of: str, kept: dict[str, str]) -> pa.Table:
    """Returns a row for each vector of some rows."""
    vectors, offsets = flat_list(batch.column("embeddings"))
    spans, _ = flat_list(batch.column(SPANS_FIELD.name))
    counts = np.diff(offsets)
    rows = np.repeat(np.arange(len(counts)), counts)
    numbers = np.arange(len(rows)) - np.repeat(offsets[:-1], counts)
    places = pa.array(rows)
    row_ids = batch.column("id").take(places)
    columns = {
        "id": pc.binary_join_element_wise(row_ids, pc.cast(pa.array(numbers), pa.string()), ":"),
        "row_id": row_ids,
        "doc_id": batch.column("doc_id").take(places),
    }
    words = words_of(batch, spans, rows)
    if words is not None:
        columns[of] = words
    columns |= {name: spans.field(name) for name in ("char_start", "char_end")}
    columns["embedding"] = vectors
    columns |= {name: batch.column(name).take(places) for name in _OF_ROWS[1:]}
    columns |= {new: batch.column(name).take(places) for name, new in kept.items()}
    return pa.table(columns)


def words_of(batch: pa.RecordBatch, spans: pa.Array, rows: np.ndarray) -> pa.Array | None:
    """Returns the words or tokens themselves, where the version has them or the text.

    Args:
        batch: Rows of a part.
        spans: Where each word of all rows is in its document.
        rows: The row of each.
    """
    if TOKENS_FIELD.name in batch.schema.names:
        return flat_list(batch.column(TOKENS_FIELD.name))[0]
    if "text" not in batch.schema.names:
        return None
    begins = batch.column("char_start").to_numpy()[rows]
    starts, ends = (spans.field(name).to_numpy() - begins for name in ("char_start", "char_end"))
    texts = batch.column("text").to_pylist()
    found = zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True)
    return pa.array((texts[row][start:end] for row, start, end in found), pa.string())


def _free_names(names: list[str], of: str) -> dict[str, str]:
    """Returns what metadata columns are called beside the columns of exploded rows."""
    free: dict[str, str] = {}
    for name in names:
        new = name
        while new in ("row_id", of) or (new != name and new in names):
            new = f"metadata_{new}"
        free[name] = new
    return free
