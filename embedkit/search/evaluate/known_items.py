"""Queries made from the corpus itself, each with the one document that it must find.

Nobody judged anything: a query and its document come from one text. What the measures tell is
whether a text is found by another part of itself, which compares models and settings on one corpus.
"""

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.rows import read_columns, schema_of
from embedkit.dataset.schema import metadata_columns
from embedkit.errors import ConfigError
from embedkit.flow.embed_texts import TextEmbedder
from embedkit.hashes.digests import hash_of
from embedkit.search.evaluate.documents import VersionDocuments
from embedkit.tokens.text_units import sentence_ends

SENTENCE = "sentence"
_LEAST_WORDS = 5
_LEAST_REST = 5
_SPARE = 4


@dataclass(frozen=True)
class KnownItem:
    """A query, and the document that it must find.

    Attributes:
        document: The document's id.
        query: The query's text.
        rest: The text without the query, which takes the place of the row's own; None where the
            query is no part of the text.
    """

    document: str
    query: str
    rest: str | None = None


@dataclass(frozen=True)
class KnownItems:
    """Known items of a version.

    Attributes:
        items: They, by the hashes of their documents' ids.
        about: What they are, for a person.
        held_out: Whether the query was taken out of its document.
    """

    items: tuple[KnownItem, ...]
    about: str
    held_out: bool


def known_items(documents: VersionDocuments, made_of: str, count: int) -> KnownItems:
    """Makes known items of some documents, chosen by the hashes of their ids.

    Args:
        documents: The documents of a version.
        made_of: ``sentence``, or the name of a metadata column, such as ``title``, with ``:text``
            behind it or not.
        count: How many.

    Raises:
        ConfigError: The version lacks the column or the texts, or its documents are too short.
    """
    column = made_of.removesuffix(":text")
    if column == SENTENCE:
        found = _held_out(documents, count)
        about = (
            f"known items, no judgments: a sentence of each of {len(found):,} documents is the "
            f"query, and {_what_is_left(documents)} without it, encoded anew, is what must be found"
        )
    else:
        found, inside = _by_column(documents, column, count)
        about = (
            f"known items, no judgments: the {column} of each of {len(found):,} documents is the "
            "query, and the document is what must be found"
        )
        if inside is not None:
            about += f"; the {column} stands in {inside:.0%} of the texts, where it is easy to find"
    if not found:
        what = "a sentence of five words or more beside another" if column == SENTENCE else column
        raise ConfigError(
            f"known_items: no document of {documents.version.name} has {what}; take another column"
        )
    return KnownItems(tuple(found), about, column == SENTENCE)


def _what_is_left(documents: VersionDocuments) -> str:
    chunking = documents.manifest.description.get("ingredients", {}).get("chunk", "none")
    return "the document" if chunking == "none" else "its first chunk alone"


def _by_column(
    documents: VersionDocuments, column: str, count: int
) -> tuple[list[KnownItem], float | None]:
    """Returns items by a column that is unique, and in which share of texts the query stands."""
    parts = documents.manifest.parts
    names = metadata_columns(schema_of(documents.version, parts))
    if column not in names:
        others = f"take one of {', '.join(names)}" if names else f"take {SENTENCE}"
        raise ConfigError(
            f"known_items: {documents.version.name} has no metadata column {column!r}; run its job "
            f"with --metadata-columns {column}, or {others}"
        )
    unique = _unique(documents, column)
    found = heapq.nsmallest(count, unique, key=lambda one: _hash(one.document))
    if not found or not documents.stores_text:
        return found, None
    inside = [_text(one.query) in " ".join((one.rest or "").split()) for one in found]
    plain = [KnownItem(one.document, one.query) for one in found]
    return plain, sum(inside) / len(inside)


def _unique(documents: VersionDocuments, column: str) -> Iterator[KnownItem]:
    """Yields an item of each document whose value no other one has, with its text if stored."""
    wanted = ["doc_id", "chunk_index", column, *(["text"] if documents.stores_text else [])]

    def firsts(columns: list[str]) -> Iterator[dict[str, Any]]:
        for batch in read_columns(documents.version, documents.manifest.parts, columns):
            yield from (row for row in batch.to_pylist() if not row["chunk_index"])

    counts = Counter(_hash(_text(row[column])) for row in firsts(["chunk_index", column]))
    for row in firsts(wanted):
        query = _text(row[column])
        if query and counts[_hash(query)] == 1:
            yield KnownItem(row["doc_id"], query, row.get("text"))


def _text(value: Any) -> str:
    return "" if value is None else " ".join(str(value).split())


def _held_out(documents: VersionDocuments, count: int) -> list[KnownItem]:
    if not documents.stores_text:
        raise ConfigError(
            f"known_items: {documents.version.name} stores no texts, of which a sentence could be "
            "held out; run its job with --store-text, or name a metadata column, such as title"
        )
    if documents.manifest.description.get("ingredients", {}).get("late_chunking"):
        raise ConfigError(
            f"known_items: the chunks of {documents.version.name} were read in their documents "
            "(late chunking), so one without its sentence cannot be encoded alone; name a metadata "
            "column, such as title"
        )

    # Some have too few sentences, but to look for them in all texts takes long.
    found = _sentences_of(documents, heapq.nsmallest(_SPARE * count, documents.names, key=_hash))
    if len(found) < count:
        found = _sentences_of(documents, documents.names)
    return found[:count]


def _sentences_of(documents: VersionDocuments, names: Sequence[str]) -> list[KnownItem]:
    """Holds a sentence out of each of some documents that has several, by their hashes."""
    chosen = set(names)
    wanted = ["doc_id", "chunk_index", "text"]
    found = []
    for batch in read_columns(documents.version, documents.manifest.parts, wanted):
        ids, chunks = (batch.column(name).to_pylist() for name in wanted[:2])
        for row, (name, chunk) in enumerate(zip(ids, chunks, strict=True)):
            # One item of a document, so that each counts once.
            if not chunk and name in chosen:
                found.append(_without_a_sentence(name, batch.column("text")[row].as_py() or ""))
    return sorted((one for one in found if one is not None), key=lambda one: _hash(one.document))


def _hash(text: str) -> bytes:
    return hash_of(text.encode("utf-8", "surrogatepass"))


def _without_a_sentence(document: str, text: str) -> KnownItem | None:
    ends = sentence_ends(text).tolist()
    spans = list(zip([0, *ends], ends, strict=False))
    long = [span for span in spans if len(text[slice(*span)].split()) >= _LEAST_WORDS]
    if not long:
        return None
    start, end = long[int.from_bytes(_hash(text)[:4], "little") % len(long)]
    query, rest = text[start:end].strip(), f"{text[:start]} {text[end:]}".strip()
    if len(rest.split()) < _LEAST_REST or query in rest:
        return None
    return KnownItem(document, query, rest)


def vectors_of_rests(items: tuple[KnownItem, ...], embedder: TextEmbedder) -> NDArray[np.float32]:
    """Encodes what is left of documents as the version's were.

    Returns:
        Vectors, shape (items, dimension), NaN where what is left has none.
    """
    vectors: NDArray[np.float32] = embedder.embed([one.rest for one in items]).vectors
    return vectors
