"""The real model on real labels, whose figures sentence-transformers gave."""

import pytest
from judged_corpora import CRANFIELD_NDCG, STSB_SPEARMAN
from running import tiny_job

from embedkit.config import EvaluationConfig
from embedkit.engines.run import run_job
from embedkit.search.evaluate.evaluate import evaluate_version

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_cranfield_is_worth_nearly_as_much_in_codes(minilm, public_data, tmp_path, dtype):
    settings = {"pooling": None, "normalize": None, "encoder_threads": None, "block_rows": 512}
    settings |= {"id_column": "id", "max_reject_share": 1, "backend": "auto"}
    folder = public_data / "cranfield"
    job = tiny_job(
        minilm, folder / "corpus.jsonl", tmp_path / "out", vector_dtype=dtype, **settings
    )
    run_job(job)
    config = EvaluationConfig(retrieval=(folder,))
    found = evaluate_version(tmp_path / "out", config).to_dict()["evaluation"]
    bound = {"int8": 0.003, "binary": 0.05}[dtype]
    assert found["retrieval"]["cranfield"]["ndcg@10"] == pytest.approx(CRANFIELD_NDCG, abs=bound)


def test_sts_b_and_cranfield_and_what_storage_costs_them(minilm, public_data, tmp_path):
    settings = {"pooling": None, "normalize": None, "encoder_threads": None, "block_rows": 512}
    settings |= {"id_column": "id", "max_reject_share": 1, "backend": "auto"}
    folder = public_data / "cranfield"
    job = tiny_job(minilm, folder / "corpus.jsonl", tmp_path / "out", **settings)
    run_job(job)
    config = EvaluationConfig(
        sts=(public_data / "stsb" / "dev.csv",), retrieval=(folder,), storage=True
    )
    found = evaluate_version(tmp_path / "out", config).to_dict()["evaluation"]
    assert found["sts"]["dev"]["spearman"] == pytest.approx(STSB_SPEARMAN, abs=0.001)
    cranfield = found["retrieval"]["cranfield"]
    assert cranfield["documents_from"] == "version"
    assert cranfield["ndcg@10"] == pytest.approx(CRANFIELD_NDCG, abs=0.001)
    assert cranfield["recall@100"] == pytest.approx(0.77557, abs=0.001)
    assert cranfield["mrr@10"] == pytest.approx(0.53460, abs=0.001)
    ways = found["storage"]["cranfield"]
    assert ways["int8"]["ndcg@10"] == pytest.approx(CRANFIELD_NDCG, abs=0.003)
    assert ways["float16"]["recall@10"] > 0.999
    # The corpus encoded by evaluate itself has the same figure.
    again = EvaluationConfig(retrieval=(folder,), documents="corpus", document_template="{text}")
    found = evaluate_version(tmp_path / "out", again).to_dict()["evaluation"]
    assert found["retrieval"]["cranfield"]["ndcg@10"] == pytest.approx(CRANFIELD_NDCG, abs=0.001)
