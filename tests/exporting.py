"""Versions to be exported: random vectors, and ids and metadata that are hard to write down."""

import decimal

import numpy as np
import pyarrow as pa
from blocks import document_columns, embedding_columns, record_batch

from embedkit.vectors import EmbeddingBlock

DIMENSION = 24
HARD_IDS = [
    "plain", 'double " quote', "single ' quote", "tab\there", "line\nfeed", "carriage\rreturn",
    "back\\slash \\N \\n", "comma,semicolon;", "ümlaut 漢字 🙂", "{brace} $1 %s", " blanks ", "\\.",
    "nul-like \\0", "\u2028 separator", "NULL", "null",
]  # fmt: skip


def embedding_block(
    vectors: np.ndarray,
    ids: list[str],
    split: int = 0,
    metadata: dict[str, pa.Array] | None = None,
) -> EmbeddingBlock:
    count = len(ids)
    columns = {
        **document_columns([f"text {name}" for name in ids], ids, source=f"shard-{split}.jsonl"),
        **{pa.field(name, values.type): values for name, values in (metadata or {}).items()},
        **embedding_columns(vectors, np.full(count, 5), 32),
    }
    return EmbeddingBlock(f"{split:05d}", 0, count, True, (), record_batch(columns))


def hard_metadata() -> dict[str, pa.Array]:
    count = len(HARD_IDS)
    return {
        "title": pa.array([*HARD_IDS[1:], None]),
        "big": pa.array([2**53 + 1 + n for n in range(count - 1)] + [None], pa.int64()),
        "share": pa.array([0.1, None, float("inf"), float("nan"), -0.0, *range(5, count)]),
        "flag": pa.array([True, False, None] * 5 + [True]),
        "when": pa.array(range(count), pa.timestamp("us", "UTC")),
        "day": pa.array([0, None, *range(2, count)], pa.date32()),
        "price": pa.array([decimal.Decimal("12345678901234567890.123"), None] * 8),
        "raw": pa.array([b"\\x00\t\n", None] * 8),
        "huge": pa.array([2**64 - 1, None] * 8, pa.uint64()),
        "took": pa.array([90_000_000, None] * 8, pa.duration("us")),
        "at": pa.array([45_296_000_001, None] * 8, pa.time64("us")),
        "tags": pa.array([["a", 'b"c'], [], None, ["tab\t", "x,y"], *[["z"]] * (count - 4)]),
    }


def clusters(rows: int, seed: int = 0, dtype: str = "float32") -> np.ndarray:
    """Vectors around a few centres, of different lengths, some of them equal to others."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).standard_normal((12, DIMENSION)) * 2
    vectors = centres[random.integers(0, 12, rows)] + random.standard_normal((rows, DIMENSION))
    vectors[rows // 2 : rows // 2 + 3] = vectors[0]
    return vectors.astype(dtype)


def in_blocks(vectors: np.ndarray, count: int = 3, name: str = "doc") -> list[EmbeddingBlock]:
    ids = np.array([f"{name}-{number}" for number in range(len(vectors))])
    return [
        embedding_block(vectors[some], ids[some].tolist(), split)
        for split, some in enumerate(np.array_split(np.arange(len(vectors)), count))
    ]
