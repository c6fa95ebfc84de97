"""Blocks with random vectors, and versions made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.commit import commit_block
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import Manifest, seal
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.publication import publish
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.flow.codes import codes_of
from embedkit.hashes.digests import text_hash
from embedkit.quantization import StoredAs
from embedkit.records import DOCUMENT_SCHEMA, TOKEN_FIELDS, Reject, TokenBlock
from embedkit.vectors import EmbeddingBlock, Vectors

MAX_TOKENS = 32
DESCRIPTION = {
    "model": "tiny-model",
    "fingerprint": "f" * 32,
    "dimension": 8,
    "metric": "cosine",
    "normalized": True,
}


def document_columns(
    texts: Sequence[str],
    ids: Sequence[str],
    *,
    doc_ids: Sequence[str] | None = None,
    chunk_index: Sequence[int] | None = None,
    row_index: Sequence[int] | None = None,
    source: str = "a.jsonl",
) -> dict[pa.Field, pa.Array]:
    """The columns of ``DOCUMENT_SCHEMA``; whole documents, in order, unless said otherwise."""
    columns = {
        "id": ids,
        "doc_id": doc_ids or ids,
        "chunk_index": chunk_index or [0] * len(texts),
        "char_start": [0] * len(texts),
        "char_end": [len(text) for text in texts],
        "text_hash": [text_hash(text) for text in texts],
        "source": [source] * len(texts),
        "row_index": row_index or range(len(texts)),
        "text": texts,
    }
    return {field: pa.array(columns[field.name], field.type) for field in DOCUMENT_SCHEMA}


def record_batch(columns: Mapping[pa.Field, pa.Array]) -> pa.RecordBatch:
    return pa.record_batch(list(columns.values()), schema=pa.schema(list(columns)))


def embedding_columns(
    vectors: NDArray[np.floating], n_tokens: NDArray[np.integer], max_tokens: int
) -> dict[pa.Field, pa.Array]:
    embedding = Vectors.from_matrix(vectors).to_arrow()
    _, lengths, truncated = TOKEN_FIELDS
    return {
        pa.field("embedding", embedding.type, nullable=False): embedding,
        lengths: pa.array(n_tokens, lengths.type),
        truncated: pa.array(n_tokens > max_tokens),
    }


def make_block(
    split: int = 0,
    seq: int = 0,
    rows: int = 5,
    *,
    dimension: int = 8,
    rejects: int = 0,
    last: bool = True,
    before: int = 0,
    seed: int = 0,
    normalize: bool = True,
    dtype: str = "float32",
    metadata: dict[str, pa.Array] | None = None,
) -> EmbeddingBlock:
    """Rows ``doc-<split>-<seq>-<n>`` with seeded vectors; the first two texts are equal."""
    random = np.random.default_rng([seed, split, seq])
    vectors = random.standard_normal((rows, dimension)).astype(np.float32)
    if normalize:
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"doc-{split}-{seq}-{n}" for n in range(rows)]
    texts = [f"text {split} {seq} {max(n, 1)} ü" for n in range(rows)]
    n_tokens = np.arange(rows) * 7 % 50 + 3
    seen = np.minimum(n_tokens, MAX_TOKENS)
    source = f"shard-{split}.jsonl"
    columns = {
        **document_columns(texts, ids, source=source),
        **{pa.field(name, values.type): values for name, values in (metadata or {}).items()},
        **embedding_columns(vectors.astype(dtype), n_tokens, MAX_TOKENS),
    }
    return EmbeddingBlock(
        split_id=f"{split:05d}",
        seq=seq,
        documents=rows + rejects,
        last=last,
        rejects=tuple(
            Reject(source, 1000 + n, "empty_text", "no text: leave it out", None)
            for n in range(rejects)
        ),
        rows=record_batch(columns),
        documents_before=before,
        tokens_encoded=int(seen.sum() - seen[1:2].sum()),
    )


def build_block(
    texts: Sequence[str],
    vectors: NDArray[np.floating] | None = None,
    n_tokens: Sequence[int] | None = None,
    max_tokens: int = 256,
    rejects: tuple[Reject, ...] = (),
    seq: int = 0,
    chunks: int = 1,
    ids: Sequence[str] | None = None,
    source: str = "texts.jsonl",
    split: int = 0,
) -> EmbeddingBlock:
    """Rows of the given texts, whose length in tokens is that in words unless given."""
    count = len(texts)
    if vectors is None:
        vectors = np.random.default_rng(seq).normal(size=(count, 8)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths = np.array([len(text.split()) + 2 for text in texts] if n_tokens is None else n_tokens)
    names = list(ids) if ids is not None else [f"{seq}/{place}" for place in range(count)]
    documents = document_columns(
        texts,
        names,
        doc_ids=[f"{seq}/{place // chunks}" for place in range(count)],
        chunk_index=[place % chunks for place in range(count)],
        source=source,
    )
    rows = record_batch({**documents, **embedding_columns(vectors, lengths, max_tokens)})
    whole = -(-count // chunks) + len(rejects)
    return EmbeddingBlock(f"{split:05d}", seq, whole, True, rejects, rows)


def token_block(
    id_lists: list[list[int]], doc_ids: list[str] | None = None, **changes: object
) -> TokenBlock:
    """A block whose texts are equal where their ids are."""
    count = len(id_lists)
    documents = doc_ids or [f"d{n}" for n in range(count)]
    ids, lengths, truncated = TOKEN_FIELDS
    columns = {
        **document_columns(
            [" ".join(map(str, one)) for one in id_lists],
            [f"{doc}:{n}" for n, doc in enumerate(documents)],
            doc_ids=documents,
            row_index=[10 * n for n in range(count)],
        ),
        ids: pa.array(id_lists, ids.type),
        lengths: pa.array(map(len, id_lists), lengths.type),
        truncated: pa.array([False] * count),
    }
    settings = {"split_id": "00000", "seq": 0, "documents": count, "last": True, "rejects": ()}
    return TokenBlock(rows=record_batch(columns), **(settings | changes))


def make_options(dimension: int = 8, **changes: object) -> PartOptions:
    metadata = {"embedkit.fingerprint": "f" * 32, "embedkit.model": "tiny-model"}
    return PartOptions(dimension=dimension, file_metadata=metadata, **changes)


@dataclass
class Job:
    """What a process that builds a version does, from the same blocks each time."""

    blocks: list[EmbeddingBlock]
    options: PartOptions = field(default_factory=make_options)
    description: dict = field(default_factory=lambda: dict(DESCRIPTION))

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(block.split_id for block in self.blocks))

    def write(self, version: Version) -> None:
        create_or_check_plan(version, VersionPlan("f" * 32))
        for block in self.blocks:
            commit_block(version, block, self.options, MAX_TOKENS, b'{"stats": 1}')

    def complete(self, version: Version) -> Manifest:
        manifest = self.seal(version)
        publish(version)
        return manifest

    def seal(self, version: Version) -> Manifest:
        """Completes the version and does not publish it."""
        self.write(version)
        manifest = finalize(version, self.splits, self.description)
        return seal(version, manifest, lambda _: "# card\n")


def small_job(**changes: object) -> Job:
    """Two splits: two blocks, of which one has rejects, and a block without rows."""
    first = make_block(0, 0, 5, last=False, **changes)
    second = make_block(0, 1, 3, rejects=2, before=5, **changes)
    third = make_block(1, 0, 0, rejects=1, **changes)
    fourth = make_block(2, 0, 4, **changes)
    return Job([first, second, third, fourth])


def in_codes(block: EmbeddingBlock, how: StoredAs) -> EmbeddingBlock:
    """The same block as encoding makes it where codes are stored."""
    codes, loss = codes_of(block.vectors, how, None, None)
    column = codes.to_arrow()
    place = block.rows.schema.get_field_index("embedding")
    field = block.rows.schema.field(place).with_type(column.type).with_metadata(how.to_metadata())
    return replace(block, rows=block.rows.set_column(place, field, column), loss=loss)


def nudged(block: EmbeddingBlock) -> EmbeddingBlock:
    """The same block, as other hardware makes it: vectors differ in their last digits."""
    if not block.rows.num_rows:
        return block
    index = block.rows.schema.get_field_index("embedding")
    field = block.rows.schema.field("embedding")
    vectors = pa.array((block.vectors.matrix * np.float32(1 + 1e-6)).reshape(-1))
    column = pa.FixedSizeListArray.from_arrays(vectors, type=field.type)
    return block.with_rows(block.rows.set_column(index, field, column))
