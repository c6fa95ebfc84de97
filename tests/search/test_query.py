"""A text to its nearest rows, against transformers, sentence-transformers and numpy."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx_models import export
from running import Dataset, records, tiny_job, write_jsonl
from tiny_models import make_tokenizer, save_transformer
from transformers import AutoModel, AutoTokenizer

from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, IntegrityError
from embedkit.search.query import search_text

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
@pytest.mark.few(2)
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


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "INFO the query is encoded with the prompt 'one two three: ', the documents were "
         "with 'corpus: '"),
        ({"prompt": "thirteen, "}, "INFO the query is encoded with the prompt 'thirteen, ', the "
         "documents were with 'corpus: '"),
        ({"prompt": ""}, None),
    ],
)  # fmt: skip
def test_a_search_says_which_prompt_it_uses(prompted, caplog, settings, said):
    with caplog.at_level("INFO", "embedkit"):
        search_text(str(prompted), QUERY, 3, **settings)
    assert said_of_prompts(caplog) == ([said] if said else [])


def said_of_prompts(caplog) -> list[str]:
    lines = [f"{one.levelname} {one.getMessage()}" for one in caplog.records]
    return [line for line in lines if "the query is encoded" in line]


@pytest.mark.parametrize(("prompt", "warned"), [("passage: ", True), ("", False)])
def test_documents_with_a_prompt_that_the_model_does_not_know(make_job, caplog, prompt, warned):
    result = run_job(make_job(prompt=prompt))
    with caplog.at_level("INFO", "embedkit"):
        search_text(result.dataset, QUERY, 3)
    said = [line for line in said_of_prompts(caplog) if line.startswith("WARNING")]
    assert bool(said) == warned
    if warned:
        assert "were with 'passage: '" in said[0]
        assert "--prompt" in said[0]


def check_card(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The snippets of a dataset's own card score its rows as a search does."""
    monkeypatch.chdir(dataset)
    _, *blocks = Path(dataset, "README.md").read_text().split("```python\n")
    blocks = [block.partition("```")[0] for block in blocks]
    code = f"{blocks[0]}\n{blocks[-1]}".replace('"what to look for"', repr(QUERY))
    names: dict[str, Any] = {}
    exec(code, names)
    scores = dict(zip(names["table"]["id"].to_pylist(), names["scores"].tolist(), strict=True))
    hits = search_text(dataset, QUERY, 12)
    expected = sorted(scores.values(), reverse=True)[:12]
    np.testing.assert_allclose([hit.score for hit in hits], expected, rtol=0, atol=2e-6)
    for hit in hits:
        assert scores[hit.id] == pytest.approx(hit.score, abs=2e-6)


@pytest.mark.parametrize(
    ("settings", "by"),
    [
        ({"dimensions": 16}, "sentence_transformers"),
        ({"normalize": False}, "sentence_transformers"),
        ({"pooling": "cls"}, "embedkit"),
        ({"prompt": "passage: "}, "sentence_transformers"),
    ],
)
def test_the_card_encodes_a_query_as_a_search_does(make_job, settings, by, monkeypatch):
    result = run_job(make_job(**settings))
    assert f"from {by}" in Path(result.dataset, "README.md").read_text()
    check_card(result.dataset, monkeypatch)


def test_the_card_gives_the_query_its_prompt(prompted, monkeypatch):
    dataset = str(Dataset.latest(prompted).folder)
    assert 'prompt="one two three: "' in Path(dataset, "README.md").read_text()
    check_card(dataset, monkeypatch)


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


def test_a_tokenizer_of_another_directory_that_has_moved_or_changed(tiny_model, tmp_path):
    other = tmp_path / "other"
    make_tokenizer("unigram").save_pretrained(other)
    corpus = write_jsonl(tmp_path / "a.jsonl", records(20))
    root = tmp_path / "out"
    changes = {"tokenizer": str(other), "allow_tokenizer_mismatch": True, "max_tokens": 24}
    result = run_job(tiny_job(tiny_model, corpus, root, id_column="id", **changes))
    assert "from embedkit import encode_query" in Path(result.dataset, "README.md").read_text()
    ids = AutoTokenizer.from_pretrained(other)(QUERY, return_tensors="pt")["input_ids"][:, :24]
    ids[0, -1] = AutoTokenizer.from_pretrained(other).sep_token_id
    with torch.no_grad():
        states = AutoModel.from_pretrained(tiny_model)(ids).last_hidden_state[0]
    vector = states.mean(dim=0).double().numpy()
    check(root, vector / np.linalg.norm(vector))

    for model in (None, tiny_model):
        other.rename(tmp_path / "moved")
        with pytest.raises(ConfigError, match=f"tokenizer {other}: no such .* put it back there"):
            search_text(str(root), QUERY, 3, model)
        make_tokenizer("unigram", truncation_side="left").save_pretrained(other)
        with pytest.raises(ConfigError, match=f"^{other}: its tokenizer is not the one that"):
            search_text(str(root), QUERY, 3, model)
        shutil.rmtree(other)
        (tmp_path / "moved").rename(other)
    check(root, vector / np.linalg.norm(vector))


def test_a_model_that_is_an_onnx_file_alone(tiny_model, tmp_path):
    model = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    export(model)
    (model / "model.safetensors").unlink()
    corpus = write_jsonl(tmp_path / "a.jsonl", records(20))
    root = tmp_path / "out"
    changes = {"id_column": "id", "max_tokens": 24, "backend": "onnx"}
    result = run_job(tiny_job(str(model), corpus, root, **changes))
    card = Path(result.dataset, "README.md").read_text()
    assert "from embedkit import encode_query" in card and "onnx/model.onnx" in card
    check(root, embed(tiny_model, QUERY))


def test_a_version_that_is_not_complete(make_job, tmp_path):
    result = run_job(make_job())
    Path(result.dataset, "_SUCCESS").unlink()
    with pytest.raises(ConfigError, match="not complete"):
        search_text(result.dataset, QUERY, 3)
    with pytest.raises(IntegrityError, match="not complete"):
        search_text(str(tmp_path / "out"), QUERY, 3)


def test_a_search_does_without_pandas(make_job):
    """Arrow imports it for many of its conversions, which takes longer than most of a search."""
    job = make_job()
    run_job(job)
    code = (
        "import sys\n"
        "from embedkit.search.query import search_text\n"
        f"found = [hit.id for hit in search_text({job.output!r}, {QUERY!r}, 5)]\n"
        "print(found, 'pandas' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = [hit.id for hit in search_text(job.output, QUERY, 5)]
    assert done.stdout.strip() == f"{expected} False"
