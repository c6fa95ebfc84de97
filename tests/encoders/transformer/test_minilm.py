"""The real model on real text against sentence-transformers; all of the corpora under `soak`."""

import numpy as np
import pytest
from judged_corpora import CRANFIELD_NDCG, STSB_SPEARMAN, Corpora, quality
from sentence_transformers import SentenceTransformer
from texts import FOREIGN, paragraphs, topics_of_python

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

EXACT = {("torch", "float32"): 2e-5, ("openvino", "float32"): 1e-4}
HALF = [
    pytest.param("torch", "bfloat16", marks=pytest.mark.soak),
    ("openvino", "bfloat16"),
]
LEAST_COSINE = 0.9998


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
@pytest.mark.few(2)
def test_real_texts(backend, precision, sample, minilm, embed, openvino_has_bf16):
    if backend == "openvino" and precision == "bfloat16" and not openvino_has_bf16(minilm):
        return
    texts, expected = sample
    check(embed(backend, precision, texts), expected, EXACT.get((backend, precision)))


@pytest.fixture(scope="module")
def everything(corpora, oracle) -> tuple[list[str], np.ndarray]:
    return corpora.texts, oracle.encode(corpora.texts)


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
