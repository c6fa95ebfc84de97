"""Files for other systems, loaded by these where their packages are there."""

import base64
import datetime
import importlib.util
import itertools
import json
import math
import os
import subprocess
import sysconfig
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from calling import call
from exporting import HARD_IDS, clusters, embedding_block, hard_metadata, in_blocks

from embedkit.search.export import opensearch_bulk, source
from embedkit.search.export.export import export_version

ROWS = 300
HARD = hard_metadata()


def needs(package: str, name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(
        importlib.util.find_spec(package) is None,
        reason=f"{name} is not installed; 'pip install -c constraints.txt {name}' and run it again",
    )


def nearest_ids(vectors: np.ndarray, query: np.ndarray, metric: str, k: int = 10) -> list[str]:
    a, b = query.astype(np.float64), vectors.astype(np.float64)
    if metric == "cosine":
        scores = b @ a / np.linalg.norm(b, axis=1)
    elif metric == "dot":
        scores = b @ a
    else:
        scores = -np.linalg.norm(b - a, axis=1, ord=2 if metric == "euclidean" else 1)
    return [f"doc-{row}" for row in np.argsort(-scores, kind="stable")[:k]]


def json_of(value: Any) -> Any:
    """What JSON has of a metadata value."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, datetime.timedelta):
        return value // datetime.timedelta(microseconds=1)
    if isinstance(value, (datetime.date, datetime.time)):
        return value
    return value if isinstance(value, (int, str, list, type(None))) else str(value)


def moment_of(name: str, text: str) -> Any:
    kinds = {"when": datetime.datetime, "day": datetime.date, "at": datetime.time}
    return kinds[name].fromisoformat(text) if name in kinds and text else text


def check_document(found: dict[str, Any], place: int) -> None:
    assert found["id"] == found["doc_id"] == HARD_IDS[place]
    assert found["text"] == f"text {HARD_IDS[place]}"
    assert (found["source"], found["row_index"]) == ("shard-0.jsonl", place)
    assert found["metadata"].keys() == HARD.keys()
    for name, values in HARD.items():
        value = moment_of(name, found["metadata"][name])
        assert value == json_of(values[place].as_py()), name
        assert isinstance(value, bool) == isinstance(json_of(values[place].as_py()), bool)


def lines_of(path: Path) -> list[dict[str, Any]]:
    # Not splitlines, which takes what a text may hold for the end of a line.
    lines = path.read_bytes().split(b"\n")
    assert lines.pop() == b""
    return [json.loads(line) for line in lines]


# --- Qdrant ---


def test_points_are_all_that_is_known_of_the_rows(hard_version, tmp_path):
    export_version(hard_version.url, "qdrant", tmp_path / "q")
    points = lines_of(tmp_path / "q" / "points.jsonl")
    vectors = clusters(len(HARD_IDS))
    for place, point in enumerate(points):
        check_document(point["payload"], place)
        assert uuid.UUID(point["id"]).version == 5
        assert np.array_equal(np.array(point["vector"], np.float32), vectors[place])
    assert len({point["id"] for point in points}) == len(HARD_IDS) == len(points)
    said = json.loads((tmp_path / "q" / "collection.json").read_text())
    assert said == {"vectors": {"size": 24, "distance": "Cosine"}}


@needs("qdrant_client", "qdrant-client")
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean", "manhattan"])
def test_qdrant_takes_the_points_and_finds_what_is_near(build, hard_version, tmp_path, metric):
    from qdrant_client import QdrantClient, models

    vectors = clusters(ROWS)
    version = build(in_blocks(vectors), metric, name="more")
    for name, url in (("hard", hard_version.url), ("more", version.url)):
        export_version(url, "qdrant", tmp_path / name)
    client = QdrantClient(":memory:")
    for name in ("hard", "more"):
        settings = json.loads((tmp_path / name / "collection.json").read_text())
        client.create_collection(name, models.VectorParams(**settings["vectors"]))
        points = lines_of(tmp_path / name / "points.jsonl")
        client.upsert(name, [models.PointStruct(**point) for point in points])
    query = clusters(1, seed=4)[0]
    hits = client.query_points("more", query.tolist(), limit=10).points
    assert [hit.payload["id"] for hit in hits] == nearest_ids(vectors, query, metric)
    stored = client.scroll("hard", limit=100)[0]
    places = {name: place for place, name in enumerate(HARD_IDS)}
    for point in stored:
        check_document(point.payload, places[point.payload["id"]])
    assert len(stored) == len(HARD_IDS)


# --- OpenSearch ---


def test_bulk_requests_are_all_that_is_known_of_the_rows(hard_version, tmp_path, monkeypatch):
    monkeypatch.setattr(opensearch_bulk, "_MOST_BYTES", 4000)
    done = export_version(hard_version.url, "opensearch", tmp_path / "o")
    files = sorted((tmp_path / "o").glob("bulk-*.ndjson"))
    assert len(files) == done.record.settings["files"] > 2
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) <= 4000 < min(a + b for a, b in itertools.pairwise(sizes))
    lines = [line for file in files for line in lines_of(file)]
    assert [line["index"]["_id"] for line in lines[::2]] == HARD_IDS
    vectors = clusters(len(HARD_IDS))
    index = json.loads((tmp_path / "o" / "index.json").read_text())
    known = index["mappings"]["properties"]
    for place, document in enumerate(lines[1::2]):
        vector = document.pop("embedding")
        assert np.array_equal(np.array(vector, np.float32), vectors[place])
        check_document(document, place)
        # The mapping is strict: what it lacks would be refused.
        assert document.keys() <= known.keys()
        assert document["metadata"]["when"][10] == "T"
        assert document["metadata"].keys() <= known["metadata"]["properties"].keys()
    assert index["settings"] == {"index": {"knn": True}}
    assert known["embedding"] == {
        "type": "knn_vector",
        "dimension": 24,
        "method": {
            "name": "hnsw", "engine": "faiss", "space_type": "cosinesimil", "parameters": {},
        },
    }  # fmt: skip
    of_user = {name: one["type"] for name, one in known["metadata"]["properties"].items()}
    assert of_user == {
        "title": "keyword", "big": "long", "share": "double", "flag": "boolean", "when": "date",
        "day": "date", "tags": "keyword", "price": "keyword", "raw": "binary",
        "huge": "unsigned_long", "took": "long", "at": "keyword",
    }  # fmt: skip


def refusal(version, target: str, tmp_path) -> str:
    answer = call("export", version.url, "--to", target, "--output", str(tmp_path / "x"))
    assert answer.code == 2
    assert not (tmp_path / "x").exists()
    return answer.error


@pytest.fixture
def one(build):
    """Builds versions of one row."""
    made = []

    def make(name: str = "a", vector=None, metric: str = "cosine", metadata=None):
        vectors = clusters(1) if vector is None else np.array([vector], np.float32)
        columns = {column: pa.array([value]) for column, value in (metadata or {}).items()}
        made.append(name)
        block = embedding_block(vectors, [name], metadata=columns)
        return build([block], metric, name=f"w{len(made)}")

    return make


def test_what_opensearch_cannot_hold_is_refused_by_name(one, tmp_path):
    assert "its metric is manhattan" in refusal(one(metric="manhattan"), "opensearch", tmp_path)
    said = refusal(one("ü" * 257), "opensearch", tmp_path)
    assert "more than 512 bytes; give the records shorter ids" in said
    said = refusal(one("zero", [0.0] * 24), "opensearch", tmp_path)
    assert "the vector of 'zero'" in said
    for names in (["a", "a.b"], [".a"], ["a..b"]):
        said = refusal(one(metadata=dict.fromkeys(names, "x")), "opensearch", tmp_path)
        assert "OpenSearch cannot hold the column" in said


# --- PostgreSQL ---


@pytest.fixture(scope="module")
def postgres(tmp_path_factory) -> Iterator[Any]:
    """Runs files and queries of psql in a PostgreSQL of its own, each in an empty database."""
    pgserver = pytest.importorskip(
        "pgserver", reason="pgserver is not installed; 'pip install pgserver' and run it again"
    )
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    psql = Path(sysconfig.get_path("purelib"), "pgserver", "pginstall", "bin", "psql")

    def run(*arguments: str, folder: Path | None = None) -> str:
        done = subprocess.run(
            [psql, server.get_uri(), "-v", "ON_ERROR_STOP=1", "-AtqX", *arguments],
            cwd=folder, capture_output=True, text=True, env={**os.environ, "TZ": "UTC"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    yield run
    server.cleanup()


def loaded(postgres, folder: Path) -> None:
    postgres("-c", "DROP TABLE IF EXISTS embeddings")
    for file in ("schema.sql", "load.sql"):
        postgres("-f", file, folder=folder)


def test_postgresql_reads_back_what_was_written(hard_version, tmp_path, postgres):
    export_version(hard_version.url, "pgvector", tmp_path / "p")
    loaded(postgres, tmp_path / "p")
    said = postgres(
        "-c",
        "SELECT row_to_json(t) FROM (SELECT *, embedding::text AS v, raw::text AS r, "
        "extract(epoch FROM took) AS s, share::text AS f, price::text AS p, huge::text AS h "
        "FROM embeddings ORDER BY row_index) t",
    )
    rows = [json.loads(line) for line in said.split("\n")[:-1]]
    vectors = clusters(len(HARD_IDS))
    assert [row["id"] for row in rows] == [row["doc_id"] for row in rows] == HARD_IDS
    for place, row in enumerate(rows):
        assert np.array_equal(np.array(json.loads(row["v"]), np.float32), vectors[place])
        assert row["text"] == f"text {HARD_IDS[place]}"
        expected = {name: values[place].as_py() for name, values in HARD.items()}
        for name in ("title", "big", "flag", "tags"):
            assert row[name] == expected[name], name
        for name in ("when", "day", "at"):
            assert moment_of(name, row[name]) == expected[name], name
        if expected["share"] is None:
            assert row["f"] is None
        else:
            assert repr(float(row["f"])) == repr(expected["share"])
        for name, short in (("price", "p"), ("huge", "h")):
            assert row[short] == (None if expected[name] is None else str(expected[name]))
        assert row["r"] == (None if expected["raw"] is None else "\\x" + expected["raw"].hex())
        took = expected["took"]
        assert row["s"] == (None if took is None else took.total_seconds())


@pytest.mark.parametrize(
    ("metric", "operator"), [("cosine", "<=>"), ("dot", "<#>"), ("euclidean", "<->")]
)
def test_postgresql_finds_what_is_near(build, tmp_path, postgres, metric, operator):
    vectors = clusters(ROWS)
    version = build(in_blocks(vectors), metric)
    export_version(version.url, "pgvector", tmp_path / "p")
    loaded(postgres, tmp_path / "p")
    query = clusters(1, seed=4)[0]
    asked = f"SELECT id FROM embeddings ORDER BY embedding {operator} '{query.tolist()}' LIMIT 10"
    expected = nearest_ids(vectors, query, metric)
    assert postgres("-c", asked).split() == expected
    with_index = "SET enable_seqscan = off; SET hnsw.ef_search = 200; "
    assert "Index Scan using embeddings_embedding_idx" in postgres(
        "-c", f"{with_index} EXPLAIN {asked}"
    )
    assert len(set(postgres("-c", f"{with_index} {asked}").split()) & set(expected)) >= 9


def test_half_precision_has_a_type_of_its_own(build, tmp_path):
    vectors = clusters(ROWS, dtype="float16")
    version = build(in_blocks(vectors), "manhattan", vector_dtype="float16")
    export_version(version.url, "pgvector", tmp_path / "p")
    assert '"embedding" halfvec(24) NOT NULL' in (tmp_path / "p" / "schema.sql").read_text()
    load = (tmp_path / "p" / "load.sql").read_text()
    assert "CREATE INDEX ON embeddings USING hnsw (embedding halfvec_l1_ops);" in load
    lines = (tmp_path / "p" / "rows.copy").read_text().splitlines()
    read = np.array([json.loads(line.split("\t")[1]) for line in lines], np.float16)
    assert np.array_equal(read, vectors)


@pytest.mark.parametrize(
    ("dimension", "expected"),
    [
        (2000, "(embedding vector_cosine_ops)"),
        (2001, "((embedding::halfvec(2001)) halfvec_cosine_ops)"),
        (4001, "-- Vectors of more than 4000 components have no index in pgvector."),
    ],
)
def test_wide_vectors_are_indexed_as_far_as_pgvector_can(one, tmp_path, dimension, expected):
    version = one(vector=[1.0] * dimension)
    export_version(version.url, "pgvector", tmp_path / "p")
    assert expected in (tmp_path / "p" / "load.sql").read_text()


def test_what_postgresql_cannot_hold_is_refused_by_name(one, tmp_path):
    for name in ("xmin", "n" * 64):
        said = refusal(one(metadata={name: "x"}), "pgvector", tmp_path)
        assert f"PostgreSQL cannot hold a column named {name!r}" in said
    said = refusal(one("row", metadata={"title": "a\0b"}), "pgvector", tmp_path)
    assert "the character NUL, which is in the row 'row'" in said
    assert "as a key" in refusal(one("i" * 2601), "pgvector", tmp_path)
    assert "16,000 are the most" in refusal(one(vector=[1.0] * 16_001), "pgvector", tmp_path)


# --- Lance ---


@needs("lance", "pylance")
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_lance_reads_back_what_was_written(build, tmp_path, dtype):
    import lance

    vectors = clusters(len(HARD_IDS), dtype=dtype)
    block = embedding_block(vectors, HARD_IDS, metadata=hard_metadata())
    version = build([block], store_text=True, vector_dtype=dtype)
    done = export_version(version.url, "lance", tmp_path / "l")
    table = lance.dataset(str(tmp_path / "l" / "rows.lance")).to_table()
    assert table["id"].to_pylist() == HARD_IDS
    stored = np.array(table["embedding"].to_pylist(), dtype)
    assert np.array_equal(stored, vectors)
    for name, values in HARD.items():
        assert repr(table[name].to_pylist()) == repr(values.to_pylist()), name
    assert done.record.measured.recall == 1.0


def found_with(searched, effort: int, queries: np.ndarray) -> np.ndarray:
    searched.effort = effort
    return searched.search(queries, 10)[0]


@needs("lance", "pylance")
@pytest.mark.parametrize("metric", ["cosine", "dot", "euclidean"])
def test_lance_finds_what_is_near(build, tmp_path, monkeypatch, metric):
    import lance

    from embedkit.search.export import lance_dataset

    monkeypatch.setattr(source, "ROWS_AT_ONCE", 64)
    if metric != "dot":
        monkeypatch.setattr(lance_dataset, "_EXACT_BELOW", 100)
        monkeypatch.setattr(lance_dataset, "_ROWS_PER_LIST", 30)
    vectors = clusters(ROWS)
    version = build(in_blocks(vectors), metric)
    done = export_version(version.url, "lance", tmp_path / "l")
    assert done.record.measured.recall >= 0.9
    if metric != "dot":
        dataset = lance.dataset(str(tmp_path / "l" / "rows.lance"))
        searched = lance_dataset._Searched(dataset, metric, 10)
        queries = np.random.default_rng(2).standard_normal((40, 24)).astype(np.float32)
        one, all_lists = (found_with(searched, effort, queries) for effort in (1, 10))
        assert not np.array_equal(one, all_lists)
    settings = done.record.settings
    assert settings["index"] == (None if metric == "dot" else "IVF_FLAT")
    query = clusters(1, seed=4)[0]
    asked = {"column": "embedding", "q": query, "k": 10, "metric": settings["metric"]}
    if settings["nprobes"]:
        asked["nprobes"] = settings["num_partitions"]
    dataset = lance.dataset(str(tmp_path / "l" / "rows.lance"))
    found = dataset.to_table(columns=["id", "_distance"], nearest=asked)["id"].to_pylist()
    assert found == nearest_ids(vectors, query, metric)
