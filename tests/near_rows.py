"""Vectors with near copies among them, versions of them, and their groups by brute force."""

from collections.abc import Collection, Sequence
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from embedkit.dataset.manifest import Part
from embedkit.dataset.version import Version
from embedkit.formats.canonical import sha256
from embedkit.hashes.digests import text_hash
from embedkit.vectors import Vectors


def unit(vectors):
    vectors = np.asarray(vectors, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clustered(rows, dimension=48, seed=0, copies=0.3):
    """Topics with some rows that are near copies of others."""
    random = np.random.default_rng(seed)
    topics = random.standard_normal((40, dimension))
    vectors = topics[random.integers(0, 40, rows)] + random.standard_normal((rows, dimension))
    chosen = random.permutation(rows)[: int(copies * rows)]
    near = 0.2 * random.random((len(chosen), 1)) * random.standard_normal((len(chosen), dimension))
    vectors[chosen] = vectors[random.integers(0, rows, len(chosen))] + near
    return unit(vectors)


def brute_force(vectors, threshold):
    """Groups by faiss's flat index and SciPy, of rows that are in any."""
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    limits, _, right = index.range_search(vectors, np.float32(threshold))
    left = np.repeat(np.arange(len(vectors)), np.diff(limits).astype(int))
    ones = np.ones(len(left))
    graph = coo_array((ones, (left, right)), shape=[len(vectors)] * 2)
    labels = connected_components(graph, directed=False)[1]
    return groups(np.arange(len(vectors)), labels)


def groups(places, labels):
    found = {}
    for place, label in zip(places.tolist(), labels.tolist(), strict=True):
        found.setdefault(label, set()).add(place)
    return {frozenset(one) for one in found.values() if len(one) > 1}


def pairs_in(of_groups):
    return sum(len(one) * (len(one) - 1) // 2 for one in of_groups)


def shared_pairs(ours, theirs):
    return sum(
        pairs_in([one & other]) for one in ours for other in theirs if not one.isdisjoint(other)
    )


def write_parts(
    version: Version,
    vectors: np.ndarray,
    cuts: Sequence[Sequence[int]],
    *,
    ids: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
    documents: Sequence[str] | None = None,
) -> tuple[Part, ...]:
    """Writes parts of rows, given by their numbers; no more than what is read of them."""
    ids = ids or [f"row-{number}" for number in range(len(vectors))]
    texts = texts or [f"text of {one}" for one in ids]
    documents = documents or ids
    version.store.create(version.plan_key, b"{}")
    parts = []
    for number, cut in enumerate(cuts):
        embedding = Vectors.from_matrix(np.ascontiguousarray(vectors[list(cut)])).to_arrow()
        table = pa.table(
            {
                "id": [ids[row] for row in cut],
                "doc_id": [documents[row] for row in cut],
                "text_hash": [text_hash(texts[row]) for row in cut],
                "source": pa.array(["a.jsonl"] * len(cut), "str"),
                "row_index": pa.array(list(cut), pa.int64()),
                "text": [texts[row] for row in cut],
                "embedding": embedding,
            }
        )
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        data = sink.getvalue().to_pybytes()
        path = f"data/part-00000-{number:05d}.parquet"
        version.store.replace(version.key(path), data)
        parts.append(Part(path, len(data), sha256(data), len(cut)))
    return tuple(parts)


def read_groups(version: Version) -> set[frozenset[str]]:
    """The groups of ids in the file beside a version's report, each held against its rules."""
    with pa.ipc.open_file(Path(version.url) / "report" / "near_duplicates.arrow") as file:
        rows = file.read_all().to_pylist()
    found: dict[int, list[dict]] = {}
    for row in rows:
        found.setdefault(row["group"], []).append(row)
    assert list(found) == list(range(len(found)))
    sizes = [len(one) for one in found.values()]
    assert sizes == sorted(sizes, reverse=True)
    for group in found.values():
        assert [row["id"] for row in group if row["keep"]] == [min(row["id"] for row in group)]
        assert group[0]["keep"]
    return {frozenset(row["id"] for row in group) for group in found.values()}


def ids_of(of_groups: Collection[frozenset[int]], ids: Sequence[str]) -> set[frozenset[str]]:
    return {frozenset(ids[row] for row in one) for one in of_groups}
