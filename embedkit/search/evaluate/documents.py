"""The documents among which queries look: a version's own, or a benchmark's, encoded anew."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.manifest import Manifest
from embedkit.dataset.rows import read_columns, schema_of
from embedkit.dataset.version import Version
from embedkit.errors import InputError
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.flow.rejected import list_rejects
from embedkit.lazy import lazy_property
from embedkit.search.evaluate.benchmark import Document, read_documents
from embedkit.vectors import vectors_of

ROWS_AT_ONCE = 4096
_EXCERPT = 300

Rows = Iterator[tuple[NDArray[np.int64], NDArray[np.floating[Any]]]]
"""Batches of rows: the number of each row's document, and the vectors, shape (rows, dimension)."""


class Documents(Protocol):
    """Documents with one vector or, cut into chunks, several."""

    @property
    def names(self) -> Sequence[str]:
        """Their ids; a document's number is its place here."""
        ...

    @property
    def known(self) -> set[str]:
        """The ids of all documents that there are, also of those without a vector."""
        ...

    @property
    def origin(self) -> str:
        """Where their vectors come from, for a person."""
        ...

    def rows(self) -> Rows:
        """Reads the vectors, a batch at a time."""
        ...

    def excerpts(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the beginnings of the texts of some documents, as far as these are known."""
        ...


@dataclass(frozen=True)
class VersionDocuments:
    """The documents of a version; their ids are held in memory, their vectors are not.

    Attributes:
        version: The version.
        manifest: Its manifest.
    """

    version: Version
    manifest: Manifest

    @lazy_property
    def names(self) -> Sequence[str]:
        """Their ids in order."""
        found: set[str] = set()
        for batch in read_columns(self.version, self.manifest.parts, ["doc_id"]):
            found.update(batch.column("doc_id").to_pylist())
        return sorted(found)

    @lazy_property
    def known(self) -> set[str]:
        """Their ids, and those of rejects."""
        if not self.manifest.rejects:
            return set(self.names)
        rejected = (one.reject.doc_id for one in list_rejects(self.version.url).records())
        return {*self.names, *(name for name in rejected if name is not None)}

    @property
    def origin(self) -> str:
        """Where their vectors come from."""
        return "version"

    @property
    def stores_text(self) -> bool:
        """Whether texts are stored."""
        parts = self.manifest.parts
        return bool(parts) and "text" in schema_of(self.version, parts).names

    def rows(self) -> Rows:
        """Reads the vectors, a batch at a time."""
        names = pa.array(self.names, pa.string())
        wanted = ["doc_id", "embedding"]
        for batch in read_columns(self.version, self.manifest.parts, wanted, ROWS_AT_ONCE):
            found = pa.compute.index_in(batch.column("doc_id").cast(pa.string()), names)
            yield (
                found.to_numpy().astype(np.int64),
                vectors_of(batch).matrix,
            )

    def excerpts(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the beginnings of the first chunk of some documents, where texts are stored."""
        wanted, texts = set(names), dict[str, str]()
        if not self.stores_text or not wanted:
            return texts
        for batch in read_columns(self.version, self.manifest.parts, ["doc_id", "text"]):
            for row, name in enumerate(batch.column("doc_id").to_pylist()):
                if name in wanted and name not in texts:
                    texts[name] = excerpt(batch.column("text")[row].as_py())
            if len(texts) == len(wanted):
                break
        return texts


@dataclass(frozen=True)
class EncodedDocuments:
    """The documents of a benchmark's own corpus, encoded whole by the model of a version.

    Attributes:
        path: Their file.
        embedder: Encodes them.
        template: Makes the text of ``title`` and ``text``.
    """

    path: Path
    embedder: TextEmbedder
    template: str

    @lazy_property
    def _documents(self) -> list[Document]:
        return sorted(read_documents(self.path), key=lambda one: one.id)

    @lazy_property
    def _vectors(self) -> NDArray[np.float32]:
        texts = [text_by(self.template, one) for one in self._documents]
        embedded = self.embedder.embed(texts)
        if len(embedded.rejects) == len(texts):
            raise InputError(f"{self.path}: no document could be encoded; give texts")
        return embedded.vectors

    @property
    def _usable(self) -> NDArray[np.bool_]:
        usable: NDArray[np.bool_] = np.isfinite(self._vectors.sum(axis=1))
        return usable

    @property
    def names(self) -> Sequence[str]:
        """Their ids in order."""
        return [one.id for one in self._documents]

    @property
    def known(self) -> set[str]:
        """Their ids."""
        return set(self.names)

    @property
    def origin(self) -> str:
        """Where their vectors come from."""
        return "corpus"

    def rows(self) -> Rows:
        """Yields the vectors of those that have a text, a batch at a time."""
        places = np.flatnonzero(self._usable)
        for start in range(0, len(places), ROWS_AT_ONCE):
            some = places[start : start + ROWS_AT_ONCE]
            yield some.astype(np.int64), self._vectors[some]

    def excerpts(self, names: Iterable[str]) -> dict[str, str]:
        """Returns the beginnings of the texts of some documents."""
        wanted = set(names)
        return {
            one.id: excerpt(text_by(self.template, one))
            for one in self._documents
            if one.id in wanted
        }


def text_by(template: str, document: Document) -> str:
    """Returns the text that a template makes of a document.

    Args:
        template: Such as ``{title} {text}``; what stands around is kept, blanks at the ends go.
        document: The document.
    """
    filled = template.replace("{text}", "\0").replace("{title}", document.title)
    return filled.replace("\0", document.text).strip()


def excerpt(text: str | None) -> str:
    """Returns the beginning of a text on one line."""
    shown = " ".join((text or "")[: 2 * _EXCERPT].split())
    return shown if len(shown) <= _EXCERPT else shown[:_EXCERPT] + "…"
