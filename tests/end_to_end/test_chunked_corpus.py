"""Documents cut into chunks: the spans give the text back, the vectors are those of the chunks."""

import numpy as np
import pytest
from running import Dataset, write_jsonl
from texts import paragraphs, topics_of_python

from embedkit.config import JobConfig
from embedkit.engines.run import run_job

pytestmark = pytest.mark.timeout(900)
LIMIT, OVERLAP = 96, 12


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    """Texts shorter and longer than the limit, some of several paragraphs, some not English."""
    prose = paragraphs()
    found = {f"p{n}": prose[n] for n in range(0, 60, 20)}
    found["many"] = "\n\n".join(prose[200:206])
    found["lines"] = "\r\n".join(prose[300:306])
    found["japanese"] = "これは日本語の文章です。とても長い文章になります。" * 8
    found["emoji"] = "👩‍👩‍👧‍👦 e\u0301 🇨🇭 ﷽ " * 30
    found["blanks"] = f"   \n {topics_of_python()[0][:1500]}  \t\n  "
    return found


@pytest.mark.parametrize(
    "chunk",
    [
        pytest.param("tokens", marks=pytest.mark.soak),
        "sentences",
        pytest.param("paragraphs", marks=pytest.mark.soak),
    ],
)
def test_the_spans_give_the_text_back(chunk, documents, minilm, oracle, tmp_path):
    rows = [{"key": name, "text": text, "length": len(text)} for name, text in documents.items()]
    write_jsonl(tmp_path / "docs.jsonl", [*rows, {"key": "empty", "text": "", "length": 0}])
    job = JobConfig(
        inputs=(str(tmp_path / "docs.jsonl"),),
        id_column="key",
        metadata_columns=("length",),
        model=minilm,
        output=str(tmp_path / "out"),
        device="cpu",
        backend="torch",
        precision="float32",
        store_text=True,
        chunk=chunk,
        chunk_tokens=LIMIT,
        chunk_overlap=OVERLAP,
        block_rows=7,
        engine="plain",
    )
    result = run_job(job)
    dataset = Dataset.latest(tmp_path / "out")
    dataset.check_accounts(len(rows) + 1)
    assert [reject["doc_id"] for reject in dataset.rejects] == ["empty"]
    found = dataset.table.to_pylist()
    assert result.rows == len(found) > len(rows) + 5
    assert result.truncated_share == 0
    tokenizer = oracle.tokenizer
    for name, text in documents.items():
        chunks = sorted(
            (row for row in found if row["doc_id"] == name), key=lambda row: row["chunk_index"]
        )
        assert [row["chunk_index"] for row in chunks] == list(range(len(chunks)))
        assert [row["id"] for row in chunks] == [f"{name}:{n}" for n in range(len(chunks))]
        covered = np.zeros(len(text), dtype=bool)
        for row in chunks:
            assert row["text"] == text[row["char_start"] : row["char_end"]]
            assert row["length"] == len(text)
            special = 2
            assert row["n_tokens"] == len(tokenizer(row["text"])["input_ids"]) <= LIMIT + special
            covered[row["char_start"] : row["char_end"]] = True
        assert not "".join(np.array(list(text))[~covered]).strip()
        starts = [row["char_start"] for row in chunks]
        assert starts == sorted(set(starts))
    texts = [row["text"] for row in found]
    expected = oracle.encode(texts)
    written = np.array([row["embedding"] for row in found], dtype=np.float32)
    np.testing.assert_allclose(written, expected, rtol=0, atol=2e-5)
