"""The real model on real text against sentence-transformers; all of the corpora under `soak`."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer
from texts import FOREIGN, paragraphs, topics_of_python

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

EXACT = {("torch", "float32"): 2e-5, ("openvino", "float32"): 1e-4}
HALF = [("torch", "bfloat16"), ("openvino", "bfloat16")]
LEAST_COSINE = 0.9998
STSB_SPEARMAN = 0.86716
CRANFIELD_NDCG = 0.39552


class Corpora:
    """The public corpora as lists of texts, with their judgments."""

    def __init__(self, data: Path) -> None:
        with (data / "stsb" / "dev.csv").open(newline="") as file:
            pairs = list(csv.reader(file))
        self.first = [pair[0] for pair in pairs]
        self.second = [pair[1] for pair in pairs]
        self.scores = [float(pair[2]) for pair in pairs]
        self.wikitext = [
            line.strip()
            for name in ("valid", "test")
            for line in (data / "wikitext2" / f"{name}.txt").read_text().splitlines()
            if line.strip() and not line.startswith(" =")
        ]
        records = [json.loads(line) for line in (data / "cranfield" / "corpus.jsonl").open()]
        self.documents = {record["id"]: record["text"] for record in records}
        records = [json.loads(line) for line in (data / "cranfield" / "queries.jsonl").open()]
        self.queries = {record["id"]: record["text"] for record in records}
        with (data / "cranfield" / "qrels.tsv").open() as file:
            self.judgments = [
                (q, d, int(r)) for q, d, r in list(csv.reader(file, delimiter="\t"))[1:]
            ]


@pytest.fixture(scope="module")
def corpora(public_data) -> Corpora:
    return Corpora(public_data)


@pytest.fixture(scope="module")
def oracle(minilm) -> SentenceTransformer:
    return SentenceTransformer(minilm, device="cpu")


@pytest.fixture(scope="module")
def embed(minilm):
    encoders = {}

    def run(backend: str, precision: str, texts: list[str]) -> np.ndarray:
        if (backend, precision) not in encoders:
            config = ModelConfig(model=minilm, device="cpu", backend=backend, precision=precision)
            spec = read_model(config)
            encoders[backend, precision] = load_encoder(spec), load_tokenizer(spec.tokenizer)
        encoder, tokenizer = encoders[backend, precision]
        ids, offsets, _ = tokenizer.encode(texts)
        return encoder.encode(TokenBatch(ids, offsets))

    return run


def check(vectors: np.ndarray, expected: np.ndarray, tolerance: float | None) -> None:
    if tolerance is None:
        assert (vectors * expected).sum(axis=1).min() >= LEAST_COSINE
    else:
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def sample(oracle) -> tuple[list[str], np.ndarray]:
    foreign = [sentence for language in FOREIGN.values() for sentence in language]
    texts = [*paragraphs()[::20], *topics_of_python()[::8], *foreign]
    return texts, oracle.encode(texts)


@pytest.mark.parametrize(("backend", "precision"), [*EXACT, *HALF])
def test_real_texts(backend, precision, sample, minilm, embed, openvino_has_bf16):
    if backend == "openvino" and precision == "bfloat16" and not openvino_has_bf16(minilm):
        return
    texts, expected = sample
    check(embed(backend, precision, texts), expected, EXACT.get((backend, precision)))


def ndcg_at_10(ranking: list[str], gains: dict[str, int]) -> float:
    """Normalized discounted cumulative gain with linear gain, as trec_eval's ndcg_cut_10."""
    discounts = 1 / np.log2(np.arange(2, 12))
    found = np.array([gains.get(document, 0) for document in ranking[:10]])
    best = np.array(sorted(gains.values(), reverse=True)[:10])
    return float((found * discounts).sum() / (best * discounts[: len(best)]).sum())


def cranfield_ndcg(documents: np.ndarray, queries: np.ndarray, corpora: Corpora) -> float:
    names, gains = list(corpora.documents), {}
    for query, document, relevance in corpora.judgments:
        gains.setdefault(query, {})[document] = relevance
    order = np.argsort(-(queries @ documents.T), axis=1, kind="stable")
    return float(
        np.mean(
            [
                ndcg_at_10([names[place] for place in order[row]], gains[query])
                for row, query in enumerate(corpora.queries)
                if any(gains.get(query, {}).values())
            ]
        )
    )


@pytest.fixture(scope="module")
def everything(corpora, oracle) -> tuple[list[str], np.ndarray]:
    texts = [
        *corpora.first,
        *corpora.second,
        *corpora.wikitext,
        *corpora.documents.values(),
        *corpora.queries.values(),
    ]
    return texts, oracle.encode(texts)


def quality(vectors: np.ndarray, corpora: Corpora) -> tuple[float, float]:
    """Spearman of STS-B dev and nDCG@10 of Cranfield from the vectors of ``everything``."""
    ends = np.cumsum(
        [
            len(corpora.first),
            len(corpora.second),
            len(corpora.wikitext),
            len(corpora.documents),
        ]
    )
    first, second, _, documents, queries = np.split(vectors, ends)
    spearman = spearmanr((first * second).sum(axis=1), corpora.scores).statistic
    return float(spearman), cranfield_ndcg(documents, queries, corpora)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_the_reference_figures(everything, corpora):
    spearman, ndcg = quality(everything[1], corpora)
    assert spearman == pytest.approx(STSB_SPEARMAN, abs=5e-6)
    assert ndcg == pytest.approx(CRANFIELD_NDCG, abs=5e-6)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("backend", "precision"), [*EXACT, *HALF])
def test_all_of_the_corpora(
    backend, precision, everything, corpora, minilm, embed, openvino_has_bf16
):
    if backend == "openvino" and precision == "bfloat16" and not openvino_has_bf16(minilm):
        return
    texts, expected = everything
    vectors = embed(backend, precision, texts)
    spearman, ndcg = quality(vectors, corpora)
    cosine = (vectors * expected).sum(axis=1).min()
    difference = np.abs(vectors - expected).max()
    print(
        f"\n{backend} {precision}: least cosine {cosine:.6f}, "
        f"greatest difference {difference:.2e}, "
        f"STS-B dev Spearman {spearman:.5f}, Cranfield nDCG@10 {ndcg:.5f}"
    )
    check(vectors, expected, EXACT.get((backend, precision)))
    assert spearman == pytest.approx(STSB_SPEARMAN, abs=0.001)
    assert ndcg == pytest.approx(CRANFIELD_NDCG, abs=0.003)
