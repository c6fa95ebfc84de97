"""A text to its nearest rows, against transformers, sentence-transformers and numpy."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from running import Dataset, records, tiny_job, write_jsonl
from tiny_models import save_transformer
from transformers import AutoModel, AutoTokenizer

from embedkit.engines.query import search_text
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, IntegrityError

QUERY = "vectors and their neighbours, counted"


def embed(model: str, text: str, normalize: bool = True) -> np.ndarray:
    """The mean of the last layer's states, by transformers alone."""
    inputs = AutoTokenizer.from_pretrained(model)(
        text, truncation=True, max_length=24, return_tensors="pt"
    )
    with torch.no_grad():
        states = AutoModel.from_pretrained(model)(**inputs).last_hidden_state[0]
    vector = states.mean(dim=0).double().numpy()
    return vector / np.linalg.norm(vector) if normalize else vector


def nearest(root: Path, query: np.ndarray, k: int) -> list[tuple[str, float]]:
    """The rows of a dataset by cosine, by numpy over all that pyarrow reads."""
    table = Dataset.latest(root).table
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float64)
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
    scores = vectors @ query / lengths
    order = np.argsort(-scores, kind="stable")[:k]
    return [(table["id"][int(row)].as_py(), float(scores[row])) for row in order]


def check(root: Path, query: np.ndarray, **settings: object) -> None:
    hits = search_text(str(root), QUERY, 12, **settings)
    expected = nearest(root, query, 12)
    assert [hit.id for hit in hits] == [name for name, _ in expected]
    np.testing.assert_allclose(
        [hit.score for hit in hits], [score for _, score in expected], rtol=0, atol=2e-6
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"normalize": False},
        {"vector_dtype": "float16"},
        {"chunk": "tokens", "chunk_tokens": 12},
        {"batch_tokens": 64, "block_rows": 7},
    ],
    ids=["plain", "not normalized", "float16", "chunks", "small batches"],
)
def test_exactly_the_nearest_rows(make_job, tiny_model, tmp_path, settings):
    run_job(make_job(**settings))
    query = embed(tiny_model, QUERY, normalize=settings.get("normalize", True))
    check(tmp_path / "out", query)


def test_fewer_dimensions(make_job, tiny_model, tmp_path):
    run_job(make_job(dimensions=8))
    check(tmp_path / "out", embed(tiny_model, QUERY)[:8])


def test_a_document_s_own_text_is_its_nearest(make_job, tmp_path):
    run_job(make_job())
    for row in records(180)[::37]:
        best, *_ = search_text(str(tmp_path / "out"), row["text"], 3)
        assert best.id == row["id"]
        assert best.score == pytest.approx(1, abs=1e-5)


@pytest.fixture(scope="module")
def with_prompts(tiny_model, tmp_path_factory) -> str:
    """A model of sentence-transformers' with prompts for queries and for documents."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(tiny_model, max_seq_length=24), Pooling(32, "mean"), Normalize()]
    prompts = {"query": "one two three: ", "document": "corpus: ", "other": "ten eleven: "}
    directory = tmp_path_factory.mktemp("prompts") / "model"
    SentenceTransformer(modules=modules, device="cpu", prompts=prompts).save(str(directory))
    return str(directory)


@pytest.fixture(scope="module")
def prompted(with_prompts, tmp_path_factory) -> Path:
    """A dataset whose documents had their prompt."""
    folder = tmp_path_factory.mktemp("prompted")
    corpus = write_jsonl(folder / "a.jsonl", records(120))
    job = tiny_job(with_prompts, corpus, folder / "out", prompt_name="document", pooling=None)
    run_job(job.model_copy(update={"id_column": "id", "normalize": None}))
    return folder / "out"


@pytest.mark.parametrize(
    ("settings", "oracle"),
    [
        ({}, {"prompt_name": "query"}),
        ({"prompt_name": "other"}, {"prompt_name": "other"}),
        ({"prompt": "thirteen, "}, {"prompt": "thirteen, "}),
        ({"prompt": ""}, {"prompt": ""}),
    ],
)
def test_the_query_gets_the_prompt_for_queries_or_the_one_given(
    with_prompts, prompted, settings, oracle
):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(with_prompts, device="cpu")
    check(prompted, model.encode(QUERY, **oracle).astype(np.float64), **settings)


def test_prompts_that_cannot_be(prompted):
    with pytest.raises(ConfigError, match="no prompt named 'nobody'; expected one of document"):
        search_text(str(prompted), QUERY, 3, prompt_name="nobody")
    with pytest.raises(ConfigError, match="both prompt and prompt_name"):
        search_text(str(prompted), QUERY, 3, prompt="a", prompt_name="other")


@pytest.mark.parametrize("text", ["", "  \n "])
def test_nothing_to_look_for(prompted, text):
    with pytest.raises(ConfigError, match="the text to look for is empty"):
        search_text(str(prompted), text, 3)


def test_a_model_that_has_moved_or_changed(tiny_model, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    corpus = write_jsonl(tmp_path / "a.jsonl", records(60))
    root = tmp_path / "out"
    run_job(tiny_job(str(model), corpus, root, id_column="id", max_tokens=24))
    query = embed(tiny_model, QUERY)
    check(root, query)

    model.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=f"model {model}: no such directory") as raised:
        search_text(str(root), QUERY, 3)
    assert "--model" in str(raised.value)
    check(root, query, model=str(tmp_path / "moved"))

    save_transformer(model, "bert", seed=1)
    for chosen in (None, str(model)):
        with pytest.raises(ConfigError) as raised:
            search_text(str(root), QUERY, 3, chosen)
        assert str(raised.value).startswith(f"{model}: its weights are not those that {root}/v")
        assert str(raised.value).endswith("give the right --model")


def test_a_version_that_is_not_complete(make_job, tmp_path):
    result = run_job(make_job())
    Path(result.dataset, "_SUCCESS").unlink()
    with pytest.raises(ConfigError, match="not complete"):
        search_text(result.dataset, QUERY, 3)
    with pytest.raises(IntegrityError, match="not complete"):
        search_text(str(tmp_path / "out"), QUERY, 3)
