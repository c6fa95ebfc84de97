"""What stands in the dataset against sentence-transformers, and its worth for a search."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from running import Dataset, flags, run_process, write_jsonl
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score
from texts import paragraphs, topics_of_python

from embedkit.config import JobConfig
from embedkit.encoders.transformer import model_files
from embedkit.encoders.transformer.placement import choose_placement
from embedkit.engines.run import run_job

pytestmark = pytest.mark.timeout(900)

TOLERANCES = {("torch", "float32"): 2e-5, ("openvino", "float32"): 1e-4}
CRANFIELD_NDCG = 0.39552
STSB_SPEARMAN = 0.86716
REJECTED = ("471", "995")
"""Documents of Cranfield without a text."""


def vectors(table: pa.Table) -> np.ndarray:
    column = table["embedding"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), column.type.list_size)


def write_texts(folder: Path, texts: list[str], shards: int = 3) -> Path:
    """Writes texts as JSON lines with ids that sort as they stand."""
    rows = [{"id": f"{number:06d}", "text": text} for number, text in enumerate(texts)]
    for shard in range(shards):
        write_jsonl(folder / f"shard-{shard}.jsonl", rows[shard::shards])
    return folder


def job_of(corpus: Path, model: str, output: Path, backend: str, precision: str) -> JobConfig:
    return JobConfig(
        inputs=(str(corpus),),
        id_column="id",
        model=model,
        output=str(output),
        device="cpu",
        backend=backend,
        precision=precision,
        block_rows=16,
        engine="plain",
    )


@pytest.fixture(scope="module")
def sample(oracle, tmp_path_factory):
    """A corpus of some real texts, one of them twice, and their exact vectors."""
    texts = [*paragraphs()[::60], *topics_of_python()[::8], paragraphs()[0]]
    corpus = write_texts(tmp_path_factory.mktemp("sample"), texts)
    return corpus, oracle.encode(texts)


@pytest.mark.parametrize("backend", [pytest.param("torch", marks=pytest.mark.soak), "openvino"])
def test_both_engines_write_the_same_and_what_sentence_transformers_gives(
    backend, sample, minilm, ray_session, tmp_path
):
    corpus, expected = sample
    plain = job_of(corpus, minilm, tmp_path / "plain", backend, "float32")
    run_job(plain)
    alone = Dataset.latest(tmp_path / "plain")
    job = plain.model_copy(update={"engine": "local", "output": str(tmp_path / "local")})
    if backend == "torch":
        # From the command line, with a Ray of its own.
        done = run_process("run", *flags(job), "--json", timeout=600)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["rows"] == len(expected)
    else:
        run_job(job)
    spread = Dataset.latest(tmp_path / "local")
    assert spread.folder.name == alone.folder.name
    assert spread.part_hashes == alone.part_hashes
    assert len(alone.parts) > 1
    assert spread.table.equals(alone.table)
    found = vectors(alone.table)
    print(f"\n{backend}: greatest difference {np.abs(found - expected).max():.2e}")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES[backend, "float32"])


@pytest.fixture
def on_stream(monkeypatch):
    """Models are placed on the unpadded stream, as on a GPU; the CPU runs it without the kernel."""

    def choose(*arguments, **options):
        return replace(choose_placement(*arguments, **options), unpadded=True)

    monkeypatch.setattr(model_files, "choose_placement", choose)


@pytest.mark.soak
def test_runs_on_the_unpadded_stream(sample, minilm, ray_session, tmp_path, on_stream):
    """Two calls are in the encoder at once; bytes are the same all the same."""
    corpus, expected = sample
    plain = job_of(corpus, minilm, tmp_path / "plain", "torch", "float32")
    run_job(plain)
    run_job(plain.model_copy(update={"engine": "local", "output": str(tmp_path / "local")}))
    alone, spread = (Dataset.latest(tmp_path / name) for name in ("plain", "local"))
    assert alone.manifest["description"]["numerics"]["unpadded"] is True
    assert spread.part_hashes == alone.part_hashes
    found = vectors(alone.table)
    print(f"\nstream: greatest difference {np.abs(found - expected).max():.2e}")
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCES["torch", "float32"])


def judgments(data: Path, queries: list[str], documents: list[str]) -> np.ndarray:
    """Relevance, shape (queries, documents)."""
    gains = np.zeros((len(queries), len(documents)))
    with (data / "cranfield" / "qrels.tsv").open() as file:
        for query, document, gain in list(csv.reader(file, delimiter="\t"))[1:]:
            gains[queries.index(query), documents.index(document)] = float(gain)
    return gains


def cranfield_ndcg(table: pa.Table, data: Path, oracle) -> float:
    """nDCG@10 of an exact search, by scikit-learn; the queries are encoded in float32.

    A document without a vector, of which one is judged relevant, comes last.
    """
    with (data / "cranfield" / "queries.jsonl").open() as file:
        queries = {record["id"]: record["text"] for record in map(json.loads, file)}
    documents = [*table["id"].to_pylist(), *REJECTED]
    scores = oracle.encode(list(queries.values())) @ vectors(table).T
    scores = np.pad(scores, [(0, 0), (0, len(REJECTED))], constant_values=-1)
    gains = judgments(data, list(queries), documents)
    judged = gains.max(axis=1) > 0
    return float(ndcg_score(gains[judged], scores[judged], k=10))


@pytest.mark.soak
def test_a_search_in_the_default_dataset_is_as_good_as_in_exact_vectors(
    cranfield_run, cranfield, public_data, oracle
):
    run = cranfield_run
    described = run.dataset.manifest["description"]
    assert described["backend"] == "openvino"
    assert run.dataset.table.num_rows == 1398
    assert {reject["doc_id"] for reject in run.dataset.rejects} == set(REJECTED)
    ndcg = cranfield_ndcg(run.dataset.table, public_data, oracle)
    print(f"\n{described['precision']}: Cranfield nDCG@10 {ndcg:.5f}")
    assert ndcg == pytest.approx(CRANFIELD_NDCG, abs=0.003)
    table = run.dataset.table
    places = range(0, len(table), 40)
    texts = [cranfield[table["id"][place].as_py()] for place in places]
    cosines = (oracle.encode(texts) * vectors(table)[list(places)]).sum(axis=1)
    print(f"least cosine {cosines.min():.6f}")
    assert cosines.min() >= 0.9998


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("backend", "precision"), [*TOLERANCES, ("torch", "bfloat16"), ("openvino", "bfloat16")]
)
def test_all_of_the_corpora_through_the_command_line(
    backend, precision, wikitext, cranfield, public_data, minilm, oracle, tmp_path, everything
):
    texts, expected, first, second, scores = everything
    corpus = write_texts(tmp_path / "corpus", texts, shards=4)
    job = job_of(corpus, minilm, tmp_path / "out", backend, precision)
    job = job.model_copy(update={"engine": "local", "block_rows": 2048, "split_bytes": 1 << 19})
    done = run_process("run", *flags(job), "--json", timeout=3000)
    assert done.returncode == 0, done.stderr
    found = Dataset.latest(tmp_path / "out")
    found.check_accounts(len(texts))
    table = found.table
    written = vectors(table)
    cosine = (written * expected).sum(axis=1).min()
    difference = np.abs(written - expected).max()
    spearman = spearmanr((written[first] * written[second]).sum(axis=1), scores).statistic
    names = [name for name, text in cranfield.items() if text.strip()]
    tail = table.slice(len(texts) - len(names)).set_column(0, "id", pa.array(names))
    ndcg = cranfield_ndcg(tail, public_data, oracle)
    print(
        f"\n{backend} {precision}: {json.loads(done.stdout)['tokens_per_second']:.0f} tokens/s, "
        f"least cosine {cosine:.6f}, greatest difference {difference:.2e}, "
        f"STS-B dev Spearman {spearman:.5f}, Cranfield nDCG@10 {ndcg:.5f}"
    )
    if (backend, precision) in TOLERANCES:
        assert difference <= TOLERANCES[backend, precision]
    assert cosine >= 0.9998
    assert spearman == pytest.approx(STSB_SPEARMAN, abs=0.001)
    assert ndcg == pytest.approx(CRANFIELD_NDCG, abs=0.003)


@pytest.fixture(scope="module")
def wikitext(public_data) -> list[str]:
    """The paragraphs of WikiText-2, validation and test."""
    return [
        line.strip()
        for name in ("valid", "test")
        for line in (public_data / "wikitext2" / f"{name}.txt").read_text().splitlines()
        if line.strip() and not line.startswith(" =")
    ]


@pytest.fixture(scope="module")
def everything(public_data, wikitext, cranfield, oracle):
    """All texts, their exact vectors, and where the pairs of STS-B stand in them."""
    with (public_data / "stsb" / "dev.csv").open(newline="") as file:
        pairs = list(csv.reader(file))
    documents = [text for text in cranfield.values() if text.strip()]
    texts = [*(p[0] for p in pairs), *(p[1] for p in pairs), *wikitext, *documents]
    first = np.arange(len(pairs))
    scores = [float(pair[2]) for pair in pairs]
    return texts, oracle.encode(texts), first, first + len(pairs), scores


def test_the_parts_of_a_run_say_what_made_them(prose_run):
    for part in prose_run.dataset.parts:
        metadata = pq.read_metadata(part).metadata
        described = prose_run.dataset.manifest["description"]
        assert metadata[b"embedkit.fingerprint"].decode() == described["fingerprint"]
        assert metadata[b"embedkit.precision"].decode() == described["precision"]
        assert json.loads(metadata[b"embedkit.dimension"]) == 384
