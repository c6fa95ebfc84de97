"""Other libraries read lists of vectors and their words, by the very code that the card gives."""

from functools import partial

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from blocks import Job
from span_blocks import OF_WORDS, span_block, span_options, words_of

from embedkit.dataset.card import dataset_card
from embedkit.dataset.finalize import finalize
from embedkit.dataset.manifest import seal
from embedkit.dataset.version import Version

KINDS = {
    "text": ({"store_text": True}, False),
    "tokens": ({}, True),
    "text and tokens": ({"store_text": True}, True),
    "neither": ({}, False),
    "float16": ({"store_text": True, "vector_dtype": "float16"}, False),
}


@pytest.fixture(scope="module", params=KINDS)
def dataset(request, tmp_path_factory):
    """A version of chunks that begin anywhere in their records, its words, spans and vectors."""
    options, tokens = KINDS[request.param]
    dtype = options.get("vector_dtype", "float32")
    starts = [3, 50, 17, 0, 99]
    # Metadata of names that queries are wont to give.
    mine = {name: pa.array(list("abcde")) for name in ("span", "vector", "word", "row")}
    fewer = {name: values.slice(0, 3) for name, values in mine.items()}
    others = ["zwölf Boxkämpfer", "", "👩‍👩‍👧 نص"]
    blocks = [
        span_block(split=0, tokens=tokens, dtype=dtype, starts=starts, metadata=mine),
        span_block(others, split=1, tokens=tokens, dtype=dtype, metadata=fewer),
    ]
    job = Job(blocks, options=span_options(**options), description=dict(OF_WORDS))
    version = Version(str(tmp_path_factory.mktemp("readers")), "v1")
    job.write(version)
    manifest = finalize(version, job.splits, job.description)
    seal(version, manifest, partial(dataset_card, version))
    texts = [text for block in blocks for text in block.rows.column("text").to_pylist()]
    words = [text[a:b] for text in texts for a, b in words_of(text)]
    if tokens:
        words = [word.upper() for word in words]
    spans = [one for block in blocks for row in block.rows["spans"].to_pylist() for one in row]
    has_words = None if request.param == "neither" else words
    return version, has_words, spans, np.concatenate([block.vectors.stacked for block in blocks])


def snippets(version):
    card = version.store.read(version.card_key).decode()
    parts = card.split("```")
    return [part.partition("\n")[::2] for part in parts[1::2]]


@pytest.mark.parametrize("number", range(4), ids=["pyarrow", "polars", "pandas", "datasets"])
def test_the_card_s_code_gives_words_and_their_vectors(dataset, number, tmp_path, monkeypatch):
    import datasets

    version, words, spans, vectors = dataset
    monkeypatch.chdir(version.url)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    python = [code for kind, code in snippets(version) if kind == "python"]
    assert len(python) == 4
    found: dict[str, object] = {}
    exec(python[number], found)
    assert found["spans"] == spans
    assert np.array_equal(np.asarray(found["vectors"], vectors.dtype), vectors)
    assert found.get("words") == words


def test_the_card_s_query_gives_words_and_their_vectors(dataset):
    version, words, spans, vectors = dataset
    (sql,) = [code for kind, code in snippets(version) if kind == "sql"]
    table = duckdb.sql(sql.replace("'data/", f"'{version.url}/data/")).to_arrow_table()
    assert np.array_equal(np.array(table["vector"].to_pylist(), vectors.dtype), vectors)
    places = table.select(["char_start", "char_end"]).to_pylist()
    assert places == spans
    assert (table["word"].to_pylist() if words else None) == words


def test_the_card_says_what_is_in_the_version(dataset):
    version, _, _, vectors = dataset
    card = version.store.read(version.card_key).decode()
    number = "halffloat" if vectors.dtype == np.float16 else "float"
    assert f"| embeddings | any number of {number} x 8 | the vectors of its words or" in card
    assert "| spans | " in card
    assert "| granularity | word |" in card
    assert "`embedkit explode`" in card
    assert "## Searching it" not in card


def test_columns_of_the_user_s_own_keep_their_meaning(version, make_job, make_block):
    names = ("tokens", "spans", "embeddings", "score")
    metadata = {name: pa.array(["mine"] * 5) for name in names}
    job = make_job([make_block(metadata=metadata)])
    job.write(version)
    card = dataset_card(version, finalize(version, job.splits, job.description))
    for name in names:
        assert f"| {name} | string | metadata of the input |" in card
