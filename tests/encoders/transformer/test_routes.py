"""Models that take queries another way than documents, against sentence-transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import records, tiny_job, write_jsonl
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Router, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from tiny_models import SENTENCES

from embedkit.config import ModelConfig
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.version import find_version
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.search.query import encode_query, search_text
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch


def spec_of(directory: str | Path, **settings: Any) -> ModelSpec:
    wanted = {"device": "cpu", "backend": "torch", "precision": "float32"}
    return read_model(ModelConfig(model=str(directory), **(wanted | settings)))


def vectors_of(directory: str | Path, **settings: Any) -> np.ndarray:
    spec = spec_of(directory, **settings)
    ids, offsets, _ = load_tokenizer(spec.tokenizer).encode(SENTENCES)
    return load_encoder(spec).encode(TokenBatch(ids, offsets))


def fails(directory: str | Path, match: str, **settings: Any) -> None:
    with pytest.raises(ConfigError, match=match) as raised:
        spec_of(directory, **settings)
    assert "\n" not in str(raised.value)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.fixture
def routed(plain_model: Callable[[str], str], tmp_path: Path) -> Callable[..., Path]:
    """Saves a model of modules made by a function that gets ready ones by name."""

    def save(make: Callable[..., list[Any]], **settings: Any) -> Path:
        torch.manual_seed(1)

        def modules(name: str, mode: str = "mean", tokens: int = 24) -> list[Any]:
            transformer = Transformer(plain_model(name), max_seq_length=tokens)
            return [transformer, Pooling(32, mode)]

        SentenceTransformer(modules=make(modules), device="cpu", **settings).save(
            str(tmp_path / "model")
        )
        return tmp_path / "model"

    return save


def two_models(modules: Callable[..., list[Any]]) -> list[Any]:
    router = Router.for_query_document(
        query_modules=[*modules("distilbert", "cls", 12), Dense(32, 32)],
        document_modules=modules("bert"),
    )
    return [router, Normalize()]


def heads_behind(modules: Callable[..., list[Any]]) -> list[Any]:
    return [*modules("bert"), Router({"query": [Dense(32, 16)], "document": [Dense(32, 16)]})]


def one_transformer(modules: Callable[..., list[Any]]) -> list[Any]:
    shared = modules("bert")
    return [
        Router.for_query_document(
            query_modules=[*shared, Dense(32, 16)], document_modules=[*shared, Dense(32, 16)]
        )
    ]


def by_mappings(modules: Callable[..., list[Any]]) -> list[Any]:
    routes = {"short": modules("distilbert"), "long": modules("bert"), "document": modules("mpnet")}
    mappings = {("query", "text"): "short", ("document", None): "long"}
    return [Router(routes, route_mappings=mappings)]


MODELS = {make.__name__: make for make in (two_models, heads_behind, one_transformer, by_mappings)}
ROUTES = {"by_mappings": ("long", "short")}


@pytest.mark.parametrize("name", MODELS)
def test_documents_and_queries(name, routed):
    directory = routed(MODELS[name])
    model = SentenceTransformer(str(directory), device="cpu")
    documents, queries = model.encode_document(SENTENCES), model.encode_query(SENTENCES)
    assert np.abs(documents - queries).max() > 0.01
    np.testing.assert_allclose(vectors_of(directory), documents, rtol=0, atol=2e-5)
    found = vectors_of(directory, route="query")
    np.testing.assert_allclose(found, queries, rtol=0, atol=2e-5)
    of_documents, of_queries = spec_of(directory), spec_of(directory, route="query")
    assert (of_documents.route, of_queries.route) == ROUTES.get(name, ("document", "query"))
    assert of_documents.query_weights == of_queries.identity.weights_hash
    assert of_documents.identity.weights_hash != of_queries.identity.weights_hash
    ingredients = of_documents.vector_ingredients(), of_queries.vector_ingredients()
    assert ingredients[0]["route"] != ingredients[1]["route"]


def test_prompts(routed):
    directory = routed(two_models, prompts={"query": "one ", "document": "two three "})
    model = SentenceTransformer(str(directory), device="cpu")
    found = vectors_of(directory, prompt_name="document")
    np.testing.assert_allclose(found, model.encode_document(SENTENCES), rtol=0, atol=2e-5)
    found = vectors_of(directory, route="query", prompt_name="query")
    np.testing.assert_allclose(found, model.encode_query(SENTENCES), rtol=0, atol=2e-5)


def test_a_directory_of_an_older_release(routed):
    directory = routed(heads_behind)
    edit_module(directory, 2, type="sentence_transformers.models.Asym", path="2_Asym")
    (directory / "2_Router").rename(directory / "2_Asym")
    file = (directory / "2_Asym" / "router_config.json").rename(
        directory / "2_Asym" / "config.json"
    )
    edit(file, parameters={"allow_empty_key": True})
    expected = SentenceTransformer(str(directory), device="cpu").encode_document(SENTENCES)
    np.testing.assert_allclose(vectors_of(directory), expected, rtol=0, atol=2e-5)


def edit_module(directory: Path, number: int, **changes: str) -> None:
    modules = json.loads((directory / "modules.json").read_text())
    modules[number] |= changes
    (directory / "modules.json").write_text(json.dumps(modules))


def test_routes_of_other_names(routed):
    directory = routed(
        lambda modules: [*modules("bert"), Router({"q": [Dense(32, 16)], "doc": [Dense(32, 16)]})]
    )
    file = directory / "2_Router" / "router_config.json"
    fails(directory, f"{file}: no route for 'document'; the model has 'q', 'doc': give the one for")
    model = SentenceTransformer(str(directory), device="cpu")
    found = vectors_of(directory, route="doc")
    np.testing.assert_allclose(found, model.encode(SENTENCES, task="doc"), rtol=0, atol=2e-5)


def test_a_route_where_there_is_none(sentence_model, plain_model):
    spec = spec_of(sentence_model())
    assert "route" not in spec.vector_ingredients() | spec.description()
    for directory in (sentence_model(), plain_model("bert")):
        fails(directory, "route is query, but .* takes all texts the same way", route="query")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"structure": {"document": ["nothing"]}},
            "has the module 'nothing', which types does not",
        ),
        ({"types": {"document_0_Dense": "os.system"}}, "module os.system is not supported"),
        (
            {"types": {"document_0_Dense": "sentence_transformers.models.Asym"}},
            "a route of a route is not supported, see 'document_0_Dense'",
        ),
        (
            {
                "types": {"../../x": "sentence_transformers.models.Dense"},
                "structure": {"document": ["../../x"]},
            },
            "'../../x' leads out of the model's directory",
        ),
        ({"structure": {"document": "x"}}, "structure.document: "),
        ({"structure": None}, "structure: "),
        ({"parameters": {"route_mappings": {"('document', None)": "no"}}}, "no route for 'no'"),
    ],
)
def test_routes_that_make_no_sense(changes, message, routed):
    directory = routed(heads_behind)
    edit(directory / "2_Router" / "router_config.json", **changes)
    fails(directory, f"router_config.json: .*{message}")


def test_search_takes_the_way_of_queries(routed, tmp_path):
    directory = routed(two_models, prompts={"query": "one ", "document": ""})
    corpus = write_jsonl(tmp_path / "corpus.jsonl", records(20))
    job = tiny_job(str(directory), corpus, tmp_path / "out", pooling=None, normalize=None)
    run_job(job)
    described = read_manifest(find_version(str(tmp_path / "out"))).description
    assert described["route"] == "document"
    assert described["query_weights_hash"] != described["weights_hash"]
    model = SentenceTransformer(str(directory), device="cpu")
    text = "vectors and their neighbours, and more words than queries may have there " * 2
    query = encode_query(str(tmp_path / "out"), text)
    np.testing.assert_allclose(query, model.encode_query([text])[0], rtol=0, atol=2e-5)
    texts = [record["text"] for record in records(20)]
    scores = model.encode_document(texts) @ query
    (best,) = search_text(str(tmp_path / "out"), text, 1)
    np.testing.assert_allclose(best.score, scores.max(), rtol=0, atol=2e-5)
    assert best.line == int(scores.argmax()) + 1
    moved = Path(shutil.copytree(directory, tmp_path / "moved"))
    encode_query(str(tmp_path / "out"), text, model=moved)
    weights = moved / "query_2_Dense" / "model.safetensors"
    save_file({name: tensor * 2 for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(ConfigError, match=r"its weights are not those that .* was made with"):
        encode_query(str(tmp_path / "out"), text, model=moved)


def test_a_way_of_queries_that_is_not_supported(routed, tmp_path, caplog):
    directory = routed(two_models)
    file = directory / "router_config.json"
    types = json.loads(file.read_text())["types"]
    edit(file, types=types | {"query_0_Transformer": "sentence_transformers.models.BoW"})
    spec = spec_of(directory)
    assert spec.query_weights == ""
    assert "no query will be encoded for a search in these vectors, as" in caplog.text
    assert "BoW is not supported" in caplog.text
