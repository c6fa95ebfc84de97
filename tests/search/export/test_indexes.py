"""Indexes read by the libraries that they are of, against brute force."""

import json
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pytest
from blocks import Job
from calling import call
from exporting import DIMENSION, HARD_IDS, clusters, embedding_block, in_blocks
from span_blocks import OF_WORDS, span_block, span_options
from usearch.index import Index

from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.search.export import faiss_index, measure, source, targets
from embedkit.search.export.export import export_version
from embedkit.search.export.ids import Ids

ROWS = 500


def nearest(vectors: np.ndarray, queries: np.ndarray, metric: str, k: int = 10) -> np.ndarray:
    """The scores of the k nearest rows, by NumPy alone."""
    a, b = queries.astype(np.float64), vectors.astype(np.float64)
    if metric == "cosine":
        a /= np.linalg.norm(a, axis=1, keepdims=True)
        b /= np.linalg.norm(b, axis=1, keepdims=True)
    if metric in ("cosine", "dot"):
        scores = a @ b.T
    else:
        order = 2 if metric == "euclidean" else 1
        scores = -np.linalg.norm(a[:, None] - b, ord=order, axis=2)
    return scores, -np.sort(-scores, axis=1)[:, :k]


def ids_of(folder) -> list[str]:
    return pa.ipc.open_file(str(Path(folder) / "ids.arrow")).read_all()["id"].to_pylist()


def share_found(labels: np.ndarray, vectors, queries, metric) -> float:
    """Share of the found that are as near as the tenth, each found once."""
    scores, best = nearest(vectors, queries, metric)
    right = 0
    for row, found in enumerate(labels):
        assert len(set(found.tolist())) == len(found)
        right += int((scores[row, found] >= best[row, -1] - 1e-5 * abs(best[row, -1])).sum())
    return right / labels.size


@pytest.mark.parametrize(
    ("target", "exact", "metric"),
    [
        ("faiss", True, "dot"),
        ("faiss", True, "manhattan"),
        ("faiss", False, "cosine"),
        ("faiss", False, "euclidean"),
        ("hnsw", False, "cosine"),
        ("hnsw", False, "manhattan"),
    ],
)
def test_faiss_reads_it_and_finds_what_is_near(build, tmp_path, monkeypatch, metric, target, exact):
    if not exact:
        monkeypatch.setattr(faiss_index, "_EXACT_BELOW", 100)
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 77)
    vectors = clusters(ROWS)
    version = build(in_blocks(vectors), metric)
    done = export_version(version.url, target, tmp_path / "index")
    index = faiss.read_index(str(tmp_path / "index" / "index.faiss"))
    settings = done.record.settings
    queries = clusters(40, seed=3)
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    asked = (asked if settings["unit_vectors"] else queries).astype(np.float32)
    assert settings["unit_vectors"] == (metric == "cosine")
    if settings.get("lists"):
        index.nprobe = settings["nprobe"]
        assert settings["lists"] == 64
    elif target == "hnsw":
        faiss.downcast_index(index.index).hnsw.efSearch = settings["ef_search"]
    _, labels = index.search(asked, 10)
    assert ids_of(tmp_path / "index") == [f"doc-{number}" for number in range(ROWS)]
    found = share_found(labels, vectors, queries, metric)
    measured = done.record.measured
    assert measured.reached
    assert min(found, measured.recall) >= (1.0 if exact else 0.88)
    assert abs(found - measured.recall) < 0.1
    assert index.ntotal == done.record.rows == done.record.entries == ROWS


@pytest.mark.parametrize(
    ("metric", "dtype"), [("cosine", "float16"), ("dot", "float32"), ("euclidean", "float32")]
)
def test_usearch_reads_it_and_finds_what_is_near(build, tmp_path, metric, dtype):
    vectors = clusters(ROWS, dtype=dtype)
    version = build(in_blocks(vectors), metric, vector_dtype=dtype)
    done = export_version(version.url, "usearch", tmp_path / "index")
    index = Index.restore(str(tmp_path / "index" / "index.usearch"))
    assert index.dtype.name == {"float32": "F32", "float16": "F16"}[dtype]
    assert done.record.settings["dtype"] == index.dtype.name.lower()
    index.expansion_search = done.record.settings["expansion_search"]
    queries = clusters(40, seed=3)
    labels = np.stack([found.keys for found in index.search(queries, 10)]).astype(np.int64)
    assert share_found(labels, vectors.astype(np.float32), queries, metric) >= 0.88
    assert done.record.measured.recall >= 0.88


def test_arrays_are_the_vectors_and_ids(build, tmp_path):
    for dtype in ("float32", "float16"):
        vectors = clusters(ROWS, dtype=dtype)
        version = build(in_blocks(vectors), name=dtype, vector_dtype=dtype)
        done = export_version(version.url, "npy", tmp_path / dtype)
        mapped = np.load(tmp_path / dtype / "vectors.npy", mmap_mode="r", allow_pickle=False)
        assert isinstance(mapped, np.memmap)
        assert mapped.dtype == dtype
        assert np.array_equal(mapped, vectors)
        assert ids_of(tmp_path / dtype) == [f"doc-{number}" for number in range(ROWS)]
        assert done.record.measured is None
        assert done.files.keys() == {"vectors.npy", "ids.arrow"}


def test_what_is_measured_falls_where_labels_are_wrong_or_lists_are_few(build, tmp_path):
    vectors = clusters(ROWS)
    version = build(in_blocks(vectors))
    rows = source.Source.of(version)
    index = faiss_index.LISTS.new(rows)
    index.add(np.arange(ROWS), vectors)
    right = measure.measure(index, np.arange(ROWS), rows, 0.95)
    wrong = measure.measure(index, np.roll(np.arange(ROWS), 1), rows, 0.95)
    assert (right.recall, right.queries) == (1.0, 200)
    assert wrong.recall < 0.2


def test_hundreds_of_equal_vectors_do_not_pass_for_loss(build, tmp_path):
    vectors = clusters(ROWS)
    vectors[100:130] = vectors[100]
    version = build(in_blocks(vectors))
    assert export_version(version.url, "faiss", tmp_path / "i").record.measured.recall == 1.0


def test_of_the_same_version_the_same_rows_are_asked_however_it_is_parted(build, monkeypatch):
    vectors = clusters(ROWS)
    found = []
    for count, at_once in ((1, 4096), (7, 50)):
        monkeypatch.setattr(source, "ROWS_AT_ONCE", at_once)
        version = build(in_blocks(vectors, count), name=f"v{count}")
        sample = source.HashSample(60)
        for rows in source.Source.of(version).batches():
            sample.add(rows)
        found.append(sample.rows())
    assert np.array_equal(found[0][0], found[1][0])
    assert np.array_equal(found[0][1], vectors[found[0][0]])
    assert len(set(found[0][0].tolist())) == 60


def test_ids_that_are_hard_to_write_down_come_back(hard_version, tmp_path):
    export_version(hard_version.url, "usearch", tmp_path / "i")
    assert ids_of(tmp_path / "i") == HARD_IDS
    ids = Ids(tmp_path / "i")
    assert ids.rows_of(np.array([3, 0])) == [(HARD_IDS[3], 3), (HARD_IDS[0], 0)]
    with pytest.raises(IntegrityError, match="no entry 99"):
        ids.rows_of(np.array([99]))


@pytest.mark.parametrize("rows", [1, 2, 11])
@pytest.mark.parametrize("target", ["faiss", "hnsw", "usearch"])
def test_few_rows_have_an_index_too(build, tmp_path, rows, target):
    version = build([embedding_block(clusters(20)[:rows], HARD_IDS[:rows])])
    done = export_version(version.url, target, tmp_path / "i")
    assert done.record.measured.recall == 1.0
    assert done.record.rows == rows


def test_an_index_stands_in_its_version_and_validate_and_prune_know_it(build, tmp_path):
    version = build(in_blocks(clusters(ROWS)))
    build(in_blocks(clusters(ROWS, 1)), name="v2")
    answer = call("export", version.root, "--version", "v1", "--to", "usearch", "--json")
    assert answer.json["output"] == f"{version.url}/_index/usearch"
    assert answer.json["version"] == "v1"
    assert answer.json["measured"]["recall"] >= 0.88
    assert validate(version).ok
    assert call("export", version.url, "--to", "usearch").code == 2
    assert "recall@10" in call("export", version.url, "--to", "usearch", "--force").out
    assert call("prune", version.root, "--keep", "1", "--yes").code == 0
    assert not Path(version.url).exists()


def test_an_output_has_its_name_when_all_is_written(build, tmp_path, monkeypatch):
    version = build(in_blocks(clusters(ROWS)))
    export_version(version.url, "npy", tmp_path / "out")
    before = (tmp_path / "out" / "export.json").read_bytes()

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(faiss_index._FaissIndex, "save", fails)
    answer = call(
        "export", version.url, "--to", "faiss", "--output", str(tmp_path / "out"), "--force"
    )
    assert answer.code == 4
    assert "No space left on device" in answer.error
    assert (tmp_path / "out" / "export.json").read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"out", "root"}
    monkeypatch.undo()
    export_version(version.url, "faiss", tmp_path / "out", force=True)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "export.json", "ids.arrow", "index.faiss",
    }  # fmt: skip
    assert {path.name for path in tmp_path.iterdir()} == {"out", "root"}


def refusal(*arguments: str) -> str:
    answer = call("export", *arguments)
    assert answer.code == 2
    return answer.error


def test_what_cannot_be_exported_is_refused(build, tmp_path, monkeypatch):
    version = build(in_blocks(clusters(30)), "manhattan")
    out = str(tmp_path / "out")
    said = refusal(version.url, "--to", "usearch", "--output", out)
    assert "its metric is manhattan, and usearch knows cosine, dot, euclidean" in said
    assert "name a directory" in refusal(version.url, "--to", "npy")
    assert "a local directory" in refusal(version.url, "--to", "npy", "--output", "s3://a/b")
    assert "expected a share" in refusal(version.url, "--to", "faiss", "--recall", "1.5")
    with pytest.raises(ConfigError, match="no target 'annoy'; expected one of faiss, usearch"):
        export_version(version.url, "annoy", out)
    inside = f"{version.url}/data/index"
    assert "in the version itself" in refusal(version.url, "--to", "npy", "--output", inside)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    for more in ((), ("--force",)):
        mine = (version.url, "--to", "npy", "--output", str(tmp_path / "mine"), *more)
        assert "holds other files than an export" in refusal(*mine)
    assert "no such directory" in refusal(str(tmp_path / "gone"), "--to", "npy", "--output", out)
    monkeypatch.setitem(
        targets.TARGETS, "faiss", targets.Target("absent_index", "X", True, "faiss", "embedkit")
    )
    assert "install the extra faiss of embedkit-batch" in refusal(version.url, "--to", "faiss")
    assert not Path(out).exists()


def test_words_scores_and_no_rows_are_refused(version, build, tmp_path):
    Job([span_block()], span_options(), dict(OF_WORDS)).complete(version)
    said = refusal(version.url, "--to", "npy", "--output", str(tmp_path / "out"))
    assert "vectors of words" in said
    assert "embedkit explode" in said
    scores = {**OF_WORDS, "column": "score", "granularity": None}
    other = Version(version.root, "scores")
    Job([span_block()], span_options(), scores).complete(other)
    said = refusal(other.url, "--to", "npy", "--output", str(tmp_path / "out"))
    assert "holds scores" in said


def test_a_vector_that_is_not_finite_is_named(build, tmp_path):
    vectors = clusters(60)
    vectors[40, 3] = np.nan
    version = build(in_blocks(vectors))
    with pytest.raises(IntegrityError, match="the vector of 'doc-40' is not finite"):
        export_version(version.url, "usearch", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_damaged_index_is_named_with_the_remedy(build, tmp_path):
    version = build(in_blocks(clusters(60)))
    for target, file in (("faiss", "index.faiss"), ("usearch", "index.usearch")):
        folder = tmp_path / target
        record = export_version(version.url, target, folder).record
        kind = targets.TARGETS[target].index()
        (folder / file).write_bytes(b"nothing that it could read")
        with pytest.raises(
            IntegrityError, match=f"{file}: not readable .*export the version again"
        ):
            kind.load(folder, record.metric, record.settings)
        (folder / "ids.arrow").write_bytes(b"nor this")
        with pytest.raises(IntegrityError, match=r"ids\.arrow: not what export wrote"):
            Ids(folder)
        said = json.loads((folder / "export.json").read_text())
        (folder / "export.json").write_text(json.dumps(said | {"rows": 7}))
        with pytest.raises(IntegrityError, match="changed after it was written"):
            type(record).read(folder)
        with pytest.raises(ConfigError, match="nothing that embedkit export wrote"):
            type(record).read(tmp_path)


def test_so_many_rows_get_so_many_lists():
    assert [faiss_index.lists_for(rows) for rows in (9_999, 10_000, 1_000_000, 10**12)] == [
        0, 256, 2048, 65_536,
    ]  # fmt: skip
    assert DIMENSION == 24
