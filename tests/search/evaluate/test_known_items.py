"""Known items against NumPy over the version's own rows, and ways to store them by the command."""

import re
from pathlib import Path

import numpy as np
import pytest
from calling import call
from running import Dataset, records, sentence, tiny_job, write_jsonl
from sentence_transformers import SentenceTransformer

from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.version import find_version
from embedkit.engines.run import run_job
from embedkit.search.evaluate.documents import VersionDocuments
from embedkit.search.evaluate.known_items import known_items

COUNT = 40
_ROUNDING = 2e-6
GAINS = {
    "map": lambda places: 1 / places,
    "mrr@10": lambda places: np.where(places <= 10, 1 / places, 0),
    "ndcg@10": lambda places: np.where(places <= 10, 1 / np.log2(places + 1), 0),
}


def make(model: str, folder: Path, rows: list[dict], **changes: object) -> str:
    inputs = write_jsonl(folder / "a.jsonl", rows)
    settings = {"id_column": "id", "max_tokens": 24} | changes
    return run_job(tiny_job(model, inputs, folder / "out", **settings)).dataset


@pytest.fixture(scope="module")
def oracle(tiny_model) -> SentenceTransformer:
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    modules = [Transformer(tiny_model, max_seq_length=24), Pooling(32, "mean"), Normalize()]
    return SentenceTransformer(modules=modules, device="cpu")


def rows() -> list[dict]:
    made = records(COUNT)
    for number, row in enumerate(made):
        # No two of the same words, as the last bits may order what is equal in any way.
        texts = [sentence(5 * number + place, 7 + number % 3).capitalize() for place in range(3)]
        row["text"] = ". ".join(texts) + "."
        row["title"] = sentence(900 + number, 4)
    made[0]["title"] = made[1]["title"]
    made[2]["title"] = ""
    made[3]["text"] = "One sentence that is alone here."
    made[4]["title"] = " ".join(made[4]["text"].split()[:4])
    return made


@pytest.fixture(scope="module")
def version(tiny_model, tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("known")
    return make(tiny_model, folder, rows(), store_text=True, metadata_columns=("title", "stars"))


def ranks(
    version: str, oracle, queries: dict[str, str], rests: dict[str, str]
) -> list[tuple[int, int]]:
    """The best and the worst place of each query's document among all, by NumPy."""
    table = Dataset(Path(version)).table
    vectors = np.array(table["embedding"].to_pylist())
    names = table["id"].to_pylist()
    assert names == sorted(names)
    asked = oracle.encode(list(queries.values())).astype(np.float64)
    left = dict(zip(rests, oracle.encode(list(rests.values())) if rests else [], strict=True))
    found = []
    for name, query in zip(queries, asked, strict=True):
        scores = vectors @ query
        own = names.index(name)
        if name in left:
            scores[own] = left[name] @ query
        others = np.delete(scores, own) - scores[own]
        found.append((1 + int((others > _ROUNDING).sum()), 1 + int((others > -_ROUNDING).sum())))
    return found


def check(figures: dict, expected: list[tuple[int, int]]) -> None:
    best, worst = np.array(expected, dtype=float).T
    assert (best < worst).mean() < 0.1
    assert figures["queries"] == len(best)
    assert figures["recall@100"] == 1
    for name, gain in GAINS.items():
        low, high = (gain(places).mean() for places in (worst, best))
        assert low - 1e-6 <= figures[name] <= high + 1e-6, name


@pytest.mark.parametrize("made_of", ["title", "title:text"])
def test_a_title_finds_its_document(version, oracle, made_of):
    found = call("evaluate", version, "--known-items", made_of, "--json").json["evaluation"]
    titles = {row["id"]: row["title"] for row in rows()[2:] if row["title"]}
    check(found["known_items"], ranks(version, oracle, titles, {}))
    about = found["known_items"]["about"]
    assert about.startswith(f"known items, no judgments: the title of each of {len(titles)} doc")
    assert f"stands in {1 / len(titles):.0%} of the texts" in about


def test_a_sentence_finds_the_rest_of_its_document(version, oracle):
    opened = find_version(version)
    documents = VersionDocuments(opened, read_manifest(opened))
    items = known_items(documents, "sentence", 25).items
    assert len(items) == 25
    texts = {row["id"]: row["text"] for row in rows()}
    for item in items:
        assert item.query in texts[item.document]
        assert item.query not in item.rest
        assert sorted(f"{item.query} {item.rest}".split()) == sorted(texts[item.document].split())
    settings = ["--known-items", "sentence", "--known-item-queries", "25"]
    answer = call("evaluate", version, *settings, "--json").json["evaluation"]["known_items"]
    queries = {item.document: item.query for item in items}
    rests = {item.document: item.rest for item in items}
    check(answer, ranks(version, oracle, queries, rests))
    # The row itself, which the sentence is a part of, would be found more often.
    _, worst = np.array(ranks(version, oracle, queries, {})).T
    assert answer["map"] < np.mean(1 / worst)
    assert "a sentence of each of 25 documents is the query" in answer["about"]


def test_all_documents_that_can_be_and_for_people(version):
    answer = call("evaluate", version, "--known-items", "sentence")
    assert f"known_items: {COUNT - 1} queries among {COUNT} documents of the version" in answer.out
    assert "  known items, no judgments: " in answer.out


@pytest.mark.parametrize(
    ("changes", "column", "said"),
    [
        ({}, "sentence", "stores no texts, of which a sentence could be held out"),
        (
            {},
            "title",
            "no metadata column 'title'; run its job with --metadata-columns title, or "
            "take sentence",
        ),
        ({"metadata_columns": ("stars",)}, "embedding", "no metadata column 'embedding'; .* stars"),
        ({"metadata_columns": ("none:string",)}, "none", "no document of .* has none; take"),
        (
            {"store_text": True, "chunk": "sentences", "late_chunking": True},
            "sentence",
            r"\(late chunking\), so one without its sentence cannot be encoded alone",
        ),
    ],
)
def test_what_is_needed_is_said(tiny_model, tmp_path, changes, column, said):
    made = [{"none": None, **row} for row in rows()]
    version = make(tiny_model, tmp_path, made, **changes)
    answer = call("evaluate", version, "--known-items", column)
    assert answer.code == 2
    assert re.search(said, answer.error), answer.error


def test_what_storage_costs_by_rows_and_by_known_items(version):
    found = call("evaluate", version, "--storage", "--json").json["evaluation"]
    ways = found["storage"]["rows"]
    sizes = {name: way["bytes_per_row"] for name, way in ways.items()}
    assert sizes == {
        "float32": 128, "float16": 64, "int8": 32, "binary": 4, "binary_rescored": 4,
        "binary_int8": 36,
    }  # fmt: skip
    assert ways["float32"]["bytes"] == 128 * COUNT
    assert ways["float32"]["recall@10"] == 1
    assert "ndcg@10" not in ways["float32"]
    answer = call("evaluate", version, "--storage", "--known-items", "title", "--json")
    found = answer.json["evaluation"]
    assert list(found["storage"]) == ["known_items"]
    of_float32 = found["storage"]["known_items"]["float32"]
    assert of_float32["ndcg@10"] == found["known_items"]["ndcg@10"]
    told = call("evaluate", version, "--storage").out
    assert "storage, by rows: recall@10 is of the ten nearest by float32" in told
    assert "  binary: the least Hamming distance of the signs of both" in told


def test_one_document_has_none_to_find_and_few_are_enough(tiny_model, tmp_path):
    alone = make(tiny_model, tmp_path / "one", rows()[4:5], metadata_columns=("title",))
    answer = call("evaluate", alone, "--storage")
    assert answer.code == 2
    assert "has one document, which has none to find" in answer.error
    found = call("evaluate", alone, "--known-items", "title", "--storage", "--json").json
    assert found["evaluation"]["known_items"]["ndcg@10"] == 1
    two = make(tiny_model, tmp_path / "two", rows()[4:6])
    ways = call("evaluate", two, "--storage", "--json").json["evaluation"]["storage"]["rows"]
    assert {way["recall@10"] for way in ways.values()} == {1}


def test_of_chunks_the_first_alone_is_looked_for(tiny_model, tmp_path):
    settings = {"store_text": True, "chunk": "tokens", "chunk_tokens": 18}
    version = make(tiny_model, tmp_path, rows(), **settings)
    found = call("evaluate", version, "--known-items", "sentence", "--json").json["evaluation"]
    assert "and its first chunk alone without it" in found["known_items"]["about"]
    chunks = Dataset(Path(version)).table
    assert found["known_items"]["documents"] == COUNT < len(chunks)
