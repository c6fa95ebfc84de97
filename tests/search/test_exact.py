"""Search against scikit-learn and DuckDB, ties, and bounds."""

import dataclasses
import json

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from blocks import Job, make_options
from damaged_parquet import without_page
from sklearn.neighbors import NearestNeighbors

from embedkit.dataset import rows as rows_module
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.search import exact
from embedkit.search.exact import search

DIMENSION = 24


@pytest.fixture
def build(tmp_path, job):
    """Builds a version of the given blocks."""

    def make(blocks, metric="cosine", name="v1", root=None, **options):
        dimension = blocks[0].vectors.matrix.shape[1]
        description = {**job.description, "dimension": dimension, "metric": metric}
        version = Version(root or str(tmp_path / "root"), name)
        Job(blocks, options=make_options(dimension, **options), description=description).complete(
            version
        )
        return version

    return make


def blocks_of(make_block, count=4, rows=300, **changes):
    return [make_block(split, 0, rows, dimension=DIMENSION, **changes) for split in range(count)]


def queries_of(count=7, dimension=DIMENSION):
    return np.random.default_rng(5).standard_normal((count, dimension)).astype(np.float32)


def all_rows(blocks):
    ids = [value for block in blocks for value in block.rows.column("id").to_pylist()]
    return np.array(ids), np.concatenate([block.vectors.matrix for block in blocks]).astype(
        np.float64
    )


@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_against_scikit_learn(build, make_block, monkeypatch, metric, normalize, dtype):
    monkeypatch.setattr(exact, "ROWS_AT_ONCE", 77)
    monkeypatch.setattr(exact, "QUERIES_AT_ONCE", 3)
    blocks = blocks_of(make_block, normalize=normalize, dtype=dtype)
    version = build(blocks, metric, vector_dtype=dtype)
    queries = queries_of()
    ids, vectors = all_rows(blocks)
    kind = (lambda a, b: -(a @ b)) if metric == "dot" else metric
    oracle = NearestNeighbors(n_neighbors=10, metric=kind, algorithm="brute").fit(vectors)
    distances, rows = oracle.kneighbors(queries.astype(np.float64))
    for hits, far, near in zip(search(version, queries, 10), distances, rows, strict=True):
        assert [hit.id for hit in hits] == ids[near].tolist()
        scores = 1 - far if metric == "cosine" else -far
        assert np.allclose([hit.score for hit in hits], scores, atol=1e-12, rtol=1e-12)


def test_against_duckdb(build, make_block):
    blocks = blocks_of(make_block)
    version = build(blocks)
    for query, hits in zip(queries_of(), search(version, queries_of(), 5), strict=True):
        literal = f"{[float(x) for x in query]}::FLOAT[{DIMENSION}]"
        found = duckdb.sql(
            f"SELECT id, array_cosine_similarity(embedding::FLOAT[{DIMENSION}], {literal}) AS s "
            f"FROM '{version.url}/data/*.parquet' ORDER BY s DESC LIMIT 5"
        ).fetchall()
        assert [hit.id for hit in hits] == [row[0] for row in found]
        assert np.allclose([hit.score for hit in hits], [row[1] for row in found], atol=1e-6)


def test_equal_scores_come_in_the_order_of_their_ids(build, make_block, monkeypatch):
    """Equal vectors in every place of several parts: scores must be equal to the last bit."""
    monkeypatch.setattr(exact, "ROWS_AT_ONCE", 13)
    monkeypatch.setattr(exact, "usable_cores", lambda: 4)
    one = make_block(rows=1, dimension=DIMENSION).vectors.matrix[0]
    blocks = []
    for split in range(3):
        block = make_block(split, 0, 50, dimension=DIMENSION)
        vectors = np.tile(one, (50, 1))
        field = block.rows.schema.field("embedding")
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=field.type)
        index = block.rows.schema.get_field_index("embedding")
        blocks.append(block.with_rows(block.rows.set_column(index, field, column)))
    version = build(blocks)
    ids = sorted(all_rows(blocks)[0].tolist())
    for k in (1, 7, 60, 150):
        (hits,) = search(version, queries_of(1), k)
        assert [hit.id for hit in hits] == ids[:k]
        assert len({hit.score for hit in hits}) == 1


def test_scores_that_float32_cannot_rank(build, make_block):
    """Large components that cancel: float32 products are off by more than scores differ."""
    random = np.random.default_rng(1)
    vectors = random.standard_normal((400, DIMENSION)).astype(np.float32) * 1e-4
    vectors[:, 0] += 1000
    vectors[:, 1] = vectors[:, 0] + random.standard_normal(400).astype(np.float32) * 1e-3
    block = make_block(rows=400, dimension=DIMENSION, normalize=False)
    field = block.rows.schema.field("embedding")
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), type=field.type)
    index = block.rows.schema.get_field_index("embedding")
    block = block.with_rows(block.rows.set_column(index, field, column))
    version = build([block], "dot")
    query = queries_of(1)
    query[0, 1] = -query[0, 0]
    exact = (vectors.astype(np.float64) * query.astype(np.float64)).sum(axis=1)
    fast = vectors @ query[0]
    ids = block.rows.column("id").to_pylist()
    expected = sorted(zip((-exact).tolist(), ids, strict=True))[:25]
    naive = {ids[row] for row in np.argsort(-fast)[:25]}
    assert naive != {row[1] for row in expected}
    (hits,) = search(version, query, 25)
    assert [hit.id for hit in hits] == [row[1] for row in expected]


def test_a_row_s_own_vector_finds_it(build, make_block):
    blocks = blocks_of(make_block)
    version = build(blocks)
    hits = search(version, blocks[2].vectors.matrix[10:13], 1)
    assert [hit[0].id for hit in hits] == ["doc-2-0-10", "doc-2-0-11", "doc-2-0-12"]
    assert [hit[0].score for hit in hits] == pytest.approx([1, 1, 1], abs=1e-12)


def test_a_hit_has_its_row_s_columns(build, make_block):
    metadata = {
        "title": pa.array([f"t{n}" for n in range(300)]),
        "when": pa.array(range(300), pa.timestamp("s")),
    }
    blocks = blocks_of(make_block, metadata=metadata)
    version = build(blocks, store_text=True)
    hit = search(version, blocks[1].vectors.matrix[123], 1)[0][0]
    row = blocks[1].rows.slice(123, 1).to_pylist()[0]
    for name in ("id", "doc_id", "source", "row_index", "char_start", "char_end", "text"):
        assert getattr(hit, name) == row[name]
    assert hit.metadata == {"title": "t123", "when": row["when"]}
    assert json.loads(json.dumps(hit.to_dict()))["metadata"]["when"] == "1970-01-01 00:02:03"


def test_text_is_none_where_it_is_not_stored(build, make_block):
    hit = search(build(blocks_of(make_block, 1)), queries_of(1), 1)[0][0]
    assert hit.text is None
    assert hit.metadata == {}


def test_rows_of_several_row_groups(build, make_block, monkeypatch):
    from embedkit.dataset import parquet

    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 4096)
    blocks = blocks_of(make_block, 2)
    version = build(blocks)
    ids, vectors = all_rows(blocks)
    hits = search(version, vectors[[0, 150, 299, 300, 599]].astype(np.float32), 1)
    assert [hit[0].id for hit in hits] == ids[[0, 150, 299, 300, 599]].tolist()
    assert [hit[0].row_index for hit in hits] == [0, 150, 299, 0, 299]


def test_fewer_rows_than_asked_for(build, make_block):
    version = build(blocks_of(make_block, 2, rows=3))
    hits = search(version, queries_of(2), 100)
    assert [len(each) for each in hits] == [6, 6]
    assert [hit.score for hit in hits[0]] == sorted((hit.score for hit in hits[0]), reverse=True)


def test_a_version_without_rows(build, make_block):
    assert search(build([make_block(rows=0, rejects=1)]), queries_of(2, 8), 3) == [[], []]


def test_no_queries(build, make_block):
    version = build(blocks_of(make_block, 1))
    assert search(version, np.empty((0, DIMENSION), dtype=np.float32), 3) == []


def test_a_zero_query_and_zero_rows_score_0(build, make_block):
    version = build(blocks_of(make_block, 1))
    (hits,) = search(version, np.zeros(DIMENSION, dtype=np.float32), 3)
    assert [hit.score for hit in hits] == [0, 0, 0]
    assert [hit.id for hit in hits] == ["doc-0-0-0", "doc-0-0-1", "doc-0-0-10"]


def test_first_only_ids_and_vectors_are_read(build, make_block, monkeypatch):
    version = build(blocks_of(make_block), store_text=True)
    asked = []
    original = rows_module.pq.ParquetFile

    class Watched:
        def __init__(self, file, **options):
            self._file = original(file, **options)

        def __getattr__(self, name):
            return getattr(self._file, name)

        def iter_batches(self, size, columns, row_groups):
            asked.append(("scan", tuple(columns)))
            return self._file.iter_batches(size, columns=columns, row_groups=row_groups)

        def read_row_group(self, group, columns):
            asked.append(("take", "embedding" in columns))
            return self._file.read_row_group(group, columns=columns)

    monkeypatch.setattr(rows_module.pq, "ParquetFile", Watched)
    search(version, queries_of(1), 1)
    assert asked == [("scan", ("id", "embedding"))] * 4 + [("take", False)]


@pytest.mark.parametrize(
    ("queries", "k", "fault"),
    [
        (np.zeros((2, 5), np.float32), 3, r"queries of shape \(2, 5\).* have 24 components"),
        (np.zeros((1, 2, DIMENSION), np.float32), 3, "queries of shape"),
        (np.full((1, DIMENSION), np.nan, np.float32), 3, "not finite"),
        (np.zeros((1, DIMENSION), np.float32), 0, "k is 0"),
    ],
)
def test_queries_that_cannot_be_answered(build, make_block, queries, k, fault):
    with pytest.raises(ConfigError, match=fault):
        search(build(blocks_of(make_block, 1, rows=3)), queries, k)


def test_a_metric_that_nobody_knows(build, make_block):
    version = build(blocks_of(make_block, 1, rows=3), "hamming")
    with pytest.raises(ConfigError, match="metric 'hamming' cannot be searched"):
        search(version, queries_of(1), 1)


def test_a_version_that_is_not_complete(version, job):
    job.write(version)
    with pytest.raises(ConfigError, match="not complete yet"):
        search(version, queries_of(1, 8), 1)


def test_a_damaged_or_missing_part_is_named(build, make_block):
    version = build(blocks_of(make_block))
    key = "v1/data/part-00001-00000.parquet"
    data = bytearray(version.store.read(key))
    data[len(data) // 2 : len(data) // 2 + 400] = bytes(400)
    version.store.replace(key, bytes(data[:-50]))
    with pytest.raises(IntegrityError, match=r"part-00001-00000\.parquet: not a readable part"):
        search(version, queries_of(1), 1)
    version.store.remove(key)
    with pytest.raises(IntegrityError, match=r"part-00001-00000\.parquet: in the manifest, but"):
        search(version, queries_of(1), 1)


@pytest.mark.parametrize("column", ["id", "embedding.list.element", "source"])
def test_a_part_of_which_a_page_is_passed_over_is_named(build, make_block, column):
    version = build(blocks_of(make_block))
    key = "v1/data/part-00001-00000.parquet"
    version.store.replace(key, without_page(version.store.read(key), column))
    with pytest.raises(IntegrityError, match=r"part-00001-00000\.parquet: not a readable part"):
        search(version, queries_of(1), 1200)


@pytest.mark.parametrize("kind", ["memory", "s3"])
def test_in_other_stores(build, make_block, kind, request, tmp_path):
    blocks = blocks_of(make_block)
    expected = search(build(blocks), queries_of(), 4)
    if kind == "s3":
        root = f"s3://{request.getfixturevalue('bucket')}/root"
    else:
        root = f"memory://{tmp_path.name}"
    assert search(build(blocks, root=root), queries_of(), 4) == expected


def test_the_order_of_the_parts_does_not_matter(build, make_block):
    blocks = blocks_of(make_block)
    turned = [
        dataclasses.replace(block, split_id=f"{9 - number:05d}")
        for number, block in enumerate(blocks)
    ]
    assert search(build(blocks), queries_of(), 9) == (
        search(build(turned, name="v2"), queries_of(), 9)
    )
