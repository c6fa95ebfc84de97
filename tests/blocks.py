"""Blocks with random vectors, and versions made of them."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from embedkit.dataset.commit import commit_block
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import Manifest, seal
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.publication import publish
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.hashes.digests import text_hash
from embedkit.records import DOCUMENT_SCHEMA, TOKEN_FIELDS, Reject
from embedkit.vectors import EmbeddingBlock, Vectors

MAX_TOKENS = 32
DESCRIPTION = {
    "model": "tiny-model",
    "fingerprint": "f" * 32,
    "dimension": 8,
    "metric": "cosine",
    "normalized": True,
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
    embedding = Vectors.from_matrix(vectors.astype(dtype)).to_arrow()
    ids = [f"doc-{split}-{seq}-{n}" for n in range(rows)]
    texts = [f"text {split} {seq} {max(n, 1)} ü" for n in range(rows)]
    n_tokens = (np.arange(rows) * 7 % 50 + 3).astype(np.int32)
    seen = np.minimum(n_tokens, MAX_TOKENS)
    columns = {
        "id": ids,
        "doc_id": ids,
        "chunk_index": [0] * rows,
        "char_start": [0] * rows,
        "char_end": [len(text) for text in texts],
        "text_hash": [text_hash(text) for text in texts],
        "source": [f"shard-{split}.jsonl"] * rows,
        "row_index": list(range(rows)),
        "text": texts,
    }
    arrays = [pa.array(columns[name.name], name.type) for name in DOCUMENT_SCHEMA]
    fields = list(DOCUMENT_SCHEMA)
    for name, values in (metadata or {}).items():
        arrays.append(values)
        fields.append(pa.field(name, values.type))
    arrays += [
        embedding,
        pa.array(n_tokens),
        pa.array(n_tokens > MAX_TOKENS),
    ]
    fields += [pa.field("embedding", embedding.type, nullable=False), *TOKEN_FIELDS[1:]]
    return EmbeddingBlock(
        split_id=f"{split:05d}",
        seq=seq,
        documents=rows + rejects,
        last=last,
        rejects=tuple(
            Reject(f"shard-{split}.jsonl", 1000 + n, "empty_text", "no text: leave it out", None)
            for n in range(rejects)
        ),
        rows=pa.record_batch(arrays, schema=pa.schema(fields)),
        documents_before=before,
        tokens_encoded=int(seen.sum() - seen[1:2].sum()),
    )


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
        return seal(version, manifest, "# card\n")


def small_job(**changes: object) -> Job:
    """Two splits: two blocks, of which one has rejects, and a block without rows."""
    first = make_block(0, 0, 5, last=False, **changes)
    second = make_block(0, 1, 3, rejects=2, before=5, **changes)
    third = make_block(1, 0, 0, rejects=1, **changes)
    fourth = make_block(2, 0, 4, **changes)
    return Job([first, second, third, fourth])
