"""A complete version, opened for scripts and notebooks."""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.describe import describe
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.rows import checked_columns, read_columns, schema_of
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError, RemovedError
from embedkit.lazy import lazy_property
from embedkit.search.exact import Hit, check_one_vector_per_row, search
from embedkit.search.query import QueryEncoder, with_places
from embedkit.vectors import vectors_of


def open_version(
    path: str | os.PathLike[str], model: str | os.PathLike[str] | None = None
) -> "VersionReader":
    """Opens a complete version for reading.

        >>> from embedkit import open_version
        >>> open_version("embeddings", model="model")
        VersionReader('...embeddings/v...': 15 rows of 8 components, metric cosine, model 'model')

    Args:
        path: The dataset's root, for its newest version, or one version of it; a path or URL.
        model: The directory of the dataset's model, where it is no longer where the run found it;
            only a search for a text needs it.

    Raises:
        ConfigError: There is no complete version.
        IntegrityError: Its manifest is damaged.
    """
    return VersionReader(find_version(path), model)


class VersionReader:
    """The rows of a complete version, and what its manifest says of them.

        >>> from embedkit import open_version
        >>> rows = open_version("embeddings", model="model")
        >>> len(rows), rows.dimension, rows.metric
        (15, 8, 'cosine')
        >>> rows.metadata["rejects"], rows.metadata["precision"]
        (3, 'float32')

    What it reads does not change, as complete versions do not: one that is published while it is
    open is another version.

    Args:
        version: The version.
        model: The directory of its model, where that is no longer where the run found it.

    Raises:
        ConfigError: The version is not complete.
        IntegrityError: Its manifest is damaged.
    """

    def __init__(self, version: Version, model: str | os.PathLike[str] | None = None) -> None:
        self._version = version
        self._model = model
        self._manifest = read_manifest(version)
        self._encoder = lru_cache(maxsize=1)(
            lambda *prompts: QueryEncoder(version, self._manifest, model, *prompts)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # Without what is loaded; another process reads the manifest anew.
        return type(self), (self._version, self._model)

    @property
    def name(self) -> str:
        """The version's name."""
        return self._version.name

    @property
    def url(self) -> str:
        """The version's own folder, as a path or URL."""
        return self._version.url

    @property
    def model(self) -> str:
        """The model, as the job named it."""
        return str(self._manifest.description["model"])

    @property
    def dimension(self) -> int:
        """Components of a vector."""
        return int(self._manifest.description["dimension"])

    @property
    def metric(self) -> str:
        """How vectors are compared: cosine, dot, euclidean or manhattan."""
        return str(self._manifest.description["metric"])

    @lazy_property
    def metadata(self) -> dict[str, Any]:
        """Everything that the manifest says, as ``embedkit info --json`` prints it.

        Raises:
            RemovedError: The version was removed.
        """
        described = describe(self._version)
        if not described["complete"]:
            raise RemovedError(f"{self.url}: removed since it was opened; read the newest version")
        return described

    @lazy_property
    def schema(self) -> pa.Schema:
        """The columns of the rows with their types."""
        return schema_of(self._version, self._manifest.parts)

    def __len__(self) -> int:
        return self._manifest.rows

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.url!r}: {len(self):,} rows of {self.dimension} "
            f"components, metric {self.metric}, model {self.model!r})"
        )

    def to_batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Reads the rows in their order, a bounded number at a time.

            >>> from embedkit import open_version
            >>> rows = open_version("embeddings")
            >>> sum(batch.num_rows for batch in rows.to_batches(columns=["id", "title"]))
            15

        Args:
            columns: Names of the columns to read; all of them unless given.

        Raises:
            ConfigError: There is no such column.
            IntegrityError: A part is gone, damaged, or not what the manifest says.
        """
        chosen = checked_columns(self.schema, columns) if self._manifest.parts else None
        return read_columns(self._version, self._manifest.parts, chosen)

    def vectors(self) -> tuple[list[str], NDArray[np.float32]]:
        """Reads all ids and vectors into memory.

            >>> from embedkit import open_version
            >>> ids, vectors = open_version("embeddings").vectors()
            >>> ids[:2], vectors.shape, vectors.dtype
            (['doc-00000', 'doc-00001'], (15, 8), dtype('float32'))

        Returns:
            The ids, and their vectors of shape (rows, dimension), also where they are stored as
            float16.

        Raises:
            ConfigError: Rows have lists of vectors, which ``to_batches`` reads.
            IntegrityError: A part is gone, damaged, or not what the manifest says.
        """
        check_one_vector_per_row(self._manifest, "vectors()")
        ids: list[str] = []
        vectors = np.empty((len(self), self.dimension), dtype=np.float32)
        for batch in read_columns(self._version, self._manifest.parts, ["id", "embedding"]):
            here = vectors_of(batch).matrix
            vectors[len(ids) : len(ids) + batch.num_rows] = here
            ids += batch.column("id").to_pylist()
        return ids, vectors

    @overload
    def search(
        self, query: str, k: int = 10, *, prompt_name: str | None = None, prompt: str | None = None
    ) -> list[Hit]: ...

    @overload
    def search(self, query: NDArray[Any], k: int = 10) -> list[list[Hit]]: ...

    def search(
        self,
        query: str | NDArray[Any],
        k: int = 10,
        *,
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """Finds the rows nearest to a text or to vectors, exactly.

            >>> from embedkit import open_version
            >>> rows = open_version("embeddings", model="model")
            >>> for hit in rows.search("0 one", k=2):
            ...     print(f"{hit.score:.2f} {hit.id} {hit.place}")
            1.00 doc-00000 line 1
            0.86 doc-00007 line 4
            >>> ids, vectors = rows.vectors()
            >>> [hits[0].id for hits in rows.search(vectors[:3], k=1)]
            ['doc-00000', 'doc-00001', 'doc-00002']

        Args:
            query: A text, which the dataset's model encodes; or vectors of that model, shape
                (queries, dimension), of which one may be given as shape (dimension,).
            k: Most hits per query.
            prompt_name: Name of the model's prompt for the text; ``query`` where it has one.
            prompt: The prompt itself.

        Returns:
            The hits of a text, best first; of vectors the hits of each of them.

        Raises:
            ConfigError: The query is empty or none of this dataset, or its model is not there.
            IntegrityError: A part is gone or damaged.
        """
        if isinstance(query, str):
            vectors = self._encoder(prompt_name, prompt).encode(query)
        elif prompt_name is None and prompt is None:
            vectors = query
        else:
            raise ConfigError("a prompt goes before a text, but the query is vectors; leave it out")
        found = [with_places(hits, self._manifest) for hits in search(self._version, vectors, k)]
        return found[0] if isinstance(query, str) else found
