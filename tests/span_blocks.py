"""Blocks whose rows have a list of vectors each, of words of their texts."""

import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from blocks import document_columns, record_batch

from embedkit.dataset.schema import PartOptions
from embedkit.records import TOKEN_FIELDS, TOKENS_FIELD
from embedkit.vectors import PART_SPANS_FIELD, EmbeddingBlock, Vectors

TEXTS = ["the cat sat", "", "a b  c 日本 x😀y", "the bat", "  é word"]
"""One of them without words."""

OF_WORDS = {
    "model": "tiny-model",
    "fingerprint": "f" * 32,
    "dimension": 8,
    "metric": "cosine",
    "normalized": False,
    "column": "embeddings",
    "granularity": "word",
}
"""What a manifest says of them."""


def words_of(text: str) -> list[tuple[int, int]]:
    """Where the words of a text are."""
    return [found.span() for found in re.finditer(r"\S+", text)]


def span_block(
    texts: Sequence[str] = TEXTS,
    *,
    split: int = 0,
    seq: int = 0,
    dtype: str = "float32",
    tokens: bool = False,
    starts: Sequence[int] | None = None,
    metadata: dict[str, pa.Array] | None = None,
) -> EmbeddingBlock:
    """Rows of the given texts with a seeded vector of eight components per word."""
    words = [words_of(text) for text in texts]
    random = np.random.default_rng([split, seq])
    rows = [random.standard_normal((len(one), 8)).astype(dtype) for one in words]
    vectors = Vectors.from_rows(rows, 8, dtype)
    ids = [f"doc-{split}-{seq}-{n}" for n in range(len(texts))]
    begins = list(starts or [0] * len(texts))
    columns = document_columns(texts, ids, source=f"shard-{split}.jsonl")
    for field, values in list(columns.items()):
        if field.name == "char_start":
            columns[field] = pa.array(begins, pa.int32())
        if field.name == "char_end":
            ends = [begin + len(text) for begin, text in zip(begins, texts, strict=True)]
            columns[field] = pa.array(ends, values.type)
    _, lengths, truncated = TOKEN_FIELDS
    spans = [
        [{"char_start": begin + a, "char_end": begin + b} for a, b in one]
        for begin, one in zip(begins, words, strict=True)
    ]
    columns |= {pa.field(name, values.type): values for name, values in (metadata or {}).items()}
    embeddings = vectors.to_arrow()
    columns[pa.field("embeddings", embeddings.type, nullable=False)] = embeddings
    columns[lengths] = pa.array([len(one) + 2 for one in words], lengths.type)
    columns[truncated] = pa.array([False] * len(texts))
    columns[PART_SPANS_FIELD] = pa.array(spans, PART_SPANS_FIELD.type)
    if tokens:
        pieces = [
            [text[a:b].upper() for a, b in one] for text, one in zip(texts, words, strict=True)
        ]
        columns[TOKENS_FIELD] = pa.array(pieces, TOKENS_FIELD.type)
    return EmbeddingBlock(f"{split:05d}", seq, len(texts), True, (), record_batch(columns))


def span_options(**changes: object) -> PartOptions:
    metadata = {"embedkit.fingerprint": "f" * 32, "embedkit.model": "tiny-model"}
    return PartOptions(8, column="embeddings", file_metadata=metadata, **changes)
