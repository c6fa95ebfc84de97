"""Pairs of a query and a text, from files of every format to scores in a version."""

import csv
import gzip
import json

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from beam_running import results
from running import Dataset, records, tiny_job, write_jsonl
from sentence_transformers import CrossEncoder
from tiny_cross import save_cross_encoder

from embedkit.config import ModelConfig, OutputConfig, RecordConfig, pairs_fault
from embedkit.dataset.validate import validate
from embedkit.dataset.version import find_version
from embedkit.engines.estimate import plan_job
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, InputError
from embedkit.hashes.digests import digest
from embedkit.transforms.embed_corpus import EmbedCorpus

QUERIES = ["seven eight", "which corpus is counted", "three; \"four\", 'five'", "Zürich 日本語"]
PLAIN = {"pooling": None, "normalize": None, "query_column": "query", "id_column": "id"}


@pytest.fixture(scope="module")
def cross(tmp_path_factory):
    return save_cross_encoder(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def three_labels(tmp_path_factory):
    said = {"id2label": {"0": "no", "1": "maybe", "2": "yes"}}
    return save_cross_encoder(tmp_path_factory.mktemp("three"), "roberta", 3, **said)


def pairs(count=40):
    """Each query with several texts, and some pairs twice."""
    found = [{"query": QUERIES[number % 4], **row} for number, row in enumerate(records(count - 4))]
    twice = [{**row, "id": f"again-{number}"} for number, row in enumerate(found[:4])]
    return [*found, *twice]


def job_of(model, corpus, output, **settings):
    return tiny_job(model, corpus, output, **PLAIN | settings)


def expected(model, rows):
    found = CrossEncoder(model, device="cpu").predict([(row["query"], row["text"]) for row in rows])
    return {row["id"]: score for row, score in zip(rows, found, strict=True)}


def check_scores(dataset, model, rows, column="score"):
    wanted = expected(model, rows)
    found = {row["id"]: row[column] for row in dataset.table.select(["id", column]).to_pylist()}
    assert found.keys() == wanted.keys()
    for name, score in wanted.items():
        np.testing.assert_allclose(found[name], score, rtol=0, atol=2e-5)


def write(rows, folder, form):
    file = folder / f"pairs.{form}"
    names = list(rows[0])
    if form in ("csv", "tsv"):
        with file.open("w", newline="") as stream:
            quoting = csv.QUOTE_NONE if form == "tsv" else csv.QUOTE_MINIMAL
            quotes = {"quotechar": None} if form == "tsv" else {}
            tab = "\t" if form == "tsv" else ","
            writer = csv.DictWriter(stream, names, delimiter=tab, quoting=quoting, **quotes)
            writer.writeheader()
            writer.writerows(rows)
    elif form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    elif form == "json":
        file.write_text(json.dumps(rows))
    else:
        write_jsonl(folder / "pairs.jsonl", rows)
        if form == "jsonl.gz":
            file.write_bytes(gzip.compress((folder / "pairs.jsonl").read_bytes()))
            (folder / "pairs.jsonl").unlink()
    return file


@pytest.mark.parametrize("form", ["jsonl", "jsonl.gz", "json", "csv", "tsv", "parquet"])
def test_scores_of_files_of_every_format(cross, tmp_path, form):
    rows = pairs()
    job = job_of(cross, write(rows, tmp_path, form), tmp_path / "out", metadata_columns=("stars",))
    result = run_job(job)
    version = find_version(job.output)
    assert validate(version).problems == ()
    dataset = Dataset.latest(job.output)
    dataset.check_accounts(len(rows))
    check_scores(dataset, cross, rows)
    schema = pq.read_schema(dataset.parts[0])
    assert schema.field("score").type == pa.float32()
    assert not {"embedding", "query", "text", "\0second"} & set(schema.names)
    assert "stars" in schema.names
    found = dataset.table.select(["id", "text_hash"]).to_pylist()
    hashes = {row["id"]: row["text_hash"] for row in found}
    assert hashes["doc-00003"] == digest(rows[3]["query"], rows[3]["text"])
    assert hashes["again-0"] == hashes["doc-00000"]
    if form == "jsonl":
        assert run_job(job).dataset == result.dataset


def test_the_card_of_scores(three_labels, tmp_path):
    run_job(job_of(three_labels, write(pairs(8), tmp_path, "jsonl"), tmp_path / "out"))
    card = (Dataset.latest(str(tmp_path / "out")).folder / "README.md").read_text()
    assert "| labels | no, maybe, yes |" in card and "Scores of pairs of texts, complete" in card
    assert "| scores | float x 3 | the scores of query and text, one for each label |" in card
    assert "embedding" not in card and "Searching" not in card


def test_equal_pairs_are_scored_once(cross, tmp_path):
    one, other = pairs()[:2]
    rows = [{**row, "id": str(number)} for number, row in enumerate([one, other] * 20)]
    run_job(
        job_of(
            cross,
            write(rows, tmp_path, "jsonl"),
            tmp_path / "out",
            block_rows=100,
            split_bytes=1 << 20,
        )
    )
    dataset = Dataset.latest(str(tmp_path / "out"))
    check_scores(dataset, cross, rows)
    manifest = dataset.manifest
    assert manifest["tokens_encoded"] * 20 == manifest["tokens"]


def test_a_query_with_two_texts_and_a_text_with_two_queries_are_two_pairs(cross, tmp_path):
    rows = [
        {"id": "a", "query": "one", "text": "two three"},
        {"id": "b", "query": "one two", "text": "three"},
        {"id": "c", "query": "two three", "text": "one"},
        {"id": "d", "query": "one", "text": "three"},
    ]
    run_job(job_of(cross, write(rows, tmp_path, "jsonl"), tmp_path / "out"))
    dataset = Dataset.latest(str(tmp_path / "out"))
    check_scores(dataset, cross, rows)
    assert len(set(dataset.table["text_hash"].to_pylist())) == 4


@pytest.mark.soak
def test_several_labels_on_beam_and_ray(three_labels, tmp_path, ray_session):
    rows = pairs(60)
    job = job_of(
        three_labels, write(rows, tmp_path, "jsonl"), tmp_path / "out", engine="local", workers=1
    )
    run_job(job)
    assert validate(find_version(job.output)).problems == ()
    dataset = Dataset.latest(job.output)
    check_scores(dataset, three_labels, rows, "scores")
    assert dataset.table.schema.field("scores").type == pa.list_(
        pa.field("item", pa.float32(), nullable=False), 3
    )
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    assert report["sections"] == ["records", "lengths", "scores", "repeated", "run", "dataset"]
    assert [one["label"] for one in report["scores"]] == ["no", "maybe", "yes"]
    scores = np.array([*expected(three_labels, rows).values()])
    for number, one in enumerate(report["scores"]):
        assert one["count"] == 60 == sum(one["bars"]["counts"])
        assert one["mean"] == pytest.approx(scores[:, number].mean(), abs=1e-5)
        assert one["low"] == pytest.approx(scores[:, number].min(), abs=1e-4)
        quantile = np.quantile(scores[:, number], 0.5, method="inverted_cdf")
        assert one["quantiles"]["p50"] == pytest.approx(quantile, rel=2e-3)
    page = (dataset.folder / "report" / "report.html").read_text()
    assert "<h3><bdi>maybe</bdi></h3>" in page and "Vectors" not in page
    files = str(dataset.folder / "data" / "*.parquet")
    best = duckdb.sql(f"SELECT id FROM '{files}' ORDER BY scores[3] DESC LIMIT 1").fetchall()
    assert best[0][0] in [rows[place]["id"] for place in np.argsort(-scores[:, 2])[:2]]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, set()),
        ({"store_text": True}, {"query", "text"}),
        ({"metadata_columns": ("query",)}, {"query"}),
        ({"metadata_columns": ("query:string", "stars"), "store_text": True}, {"query", "text"}),
    ],
)
def test_the_query_is_stored_where_the_text_is_or_as_metadata(cross, tmp_path, settings, kept):
    rows = pairs(6)
    run_job(job_of(cross, write(rows, tmp_path, "jsonl"), tmp_path / "out", **settings))
    dataset = Dataset.latest(str(tmp_path / "out"))
    assert {"query", "text"} & set(dataset.table.schema.names) == kept
    if kept:
        asked = {row["id"]: row["query"] for row in rows}
        found = dataset.table.select(["id", "query"]).to_pylist()
        assert {row["id"]: row["query"] for row in found} == asked
    assert validate(find_version(str(tmp_path / "out"))).problems == ()


def test_pairs_that_cannot_be_scored_are_rejected(cross, tmp_path):
    good = pairs(8)[0]
    bad = {
        "missing": {"text": "a corpus"},
        "null": {"query": None, "text": "a corpus"},
        "empty": {"query": "", "text": "a corpus"},
        "blank": {"query": " \t", "text": "a corpus"},
        "number": {"query": 7, "text": "a corpus"},
        "list": {"query": ["a"], "text": "a corpus"},
        "nul": {"query": "a\0b", "text": "a corpus"},
        "no text": {"query": "fox", "text": ""},
        "unseen": {"query": "fox", "text": "\u200b"},
    }
    rows = [good, *({"id": name, **row} for name, row in bad.items())]
    corpus = write(rows, tmp_path, "jsonl")
    run_job(job_of(cross, corpus, tmp_path / "out", publish_anyway=True))
    dataset = Dataset.latest(str(tmp_path / "out"))
    dataset.check_accounts(len(rows))
    assert {row["doc_id"]: row["reason"] for row in dataset.rejects} == {
        "missing": "missing_column",
        "null": "missing_column",
        "empty": "empty_query",
        "blank": "empty_query",
        "number": "wrong_type",
        "list": "wrong_type",
        "nul": "nul_byte",
        "no text": "empty_text",
        "unseen": "no_tokens",
    }
    details = {row["doc_id"]: row["detail"] for row in dataset.rejects}
    assert details["missing"].startswith("no value in column 'query'; fill it, or name another")
    assert details["empty"] == "the query is empty; leave the record out"
    assert details["list"].startswith("column 'query' holds list ['a'], expected a string")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk": "tokens"}, "chunk: pairs of a query and a text are scored whole"),
        ({"vector_dtype": "float16"}, "vector_dtype: scores are float32"),
        ({"pooling": "mean"}, "pooling: scores are not pooled"),
        ({"layers": "-2"}, "layers: a cross-encoder scores by its last layer"),
        ({"metadata_columns": ("score:string",)}, "metadata_columns: score is a column of embedk"),
    ],
)
def test_settings_that_do_not_go_with_pairs(cross, tmp_path, settings, message):
    job = job_of(cross, write(pairs(6), tmp_path, "jsonl"), tmp_path / "out", **settings)
    for refused in (run_job, plan_job):
        with pytest.raises(ConfigError, match=message):
            refused(job)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"query_column": "text_hash"}, "query_column: 'text_hash' is a column of embedkit's own"),
        ({"query_column": "text"}, "query_column: 'text' is a column of embedkit's own"),
        ({"query_column": "q", "text_column": "q"}, "query_column: 'q' is the text's column"),
        (
            {"query_column": "q", "metadata_columns": ("q:int64",)},
            "metadata_columns: a query is text; give q without a type",
        ),
    ],
)
def test_columns_that_cannot_be_a_query(settings, message):
    with pytest.raises(ConfigError, match=message):
        RecordConfig(**settings)


@pytest.mark.parametrize("form", ["jsonl", "csv", "parquet"])
def test_a_column_that_no_file_has(cross, tmp_path, form):
    corpus = write(pairs(6), tmp_path, form)
    with pytest.raises(InputError, match=r"'question'"):
        run_job(job_of(cross, corpus, tmp_path / "out", query_column="question"))


def test_a_parquet_column_of_another_type(cross, tmp_path):
    rows = [{**row, "query": 5} for row in pairs(6)]
    with pytest.raises(InputError, match="query column 'query' is of type int64, expected string"):
        run_job(job_of(cross, write(rows, tmp_path, "parquet"), tmp_path / "out"))


def test_plain_text_has_no_queries(cross, tmp_path):
    (tmp_path / "a.txt").write_text("one\n")
    with pytest.raises(ConfigError, match=r"query_column: .*a.txt is plain text"):
        run_job(job_of(cross, tmp_path / "a.txt", tmp_path / "out", id_column=None))


def test_the_columns_of_a_query_and_of_a_text_as_they_are_named(cross, tmp_path):
    rows = [
        {"id": row["id"], "asked": {"as": row["query"]}, "title": row["title"], "body": row["text"]}
        for row in pairs(8)
    ]
    run_job(
        job_of(
            cross,
            write(rows, tmp_path, "jsonl"),
            tmp_path / "out",
            query_column="asked.as",
            text_template="{title}: {body}",
        )
    )
    joined = [
        {"id": r["id"], "query": r["asked"]["as"], "text": f"{r['title']}: {r['body']}"}
        for r in rows
    ]
    check_scores(Dataset.latest(str(tmp_path / "out")), cross, joined)


def test_plan_counts_the_tokens_of_both(cross, tmp_path):
    rows = pairs()
    job = job_of(cross, write(rows, tmp_path, "jsonl"), tmp_path / "out")
    planned = plan_job(job)
    run_job(job)
    tokens = Dataset.latest(job.output).table["n_tokens"].to_numpy()
    seen = np.minimum(tokens, 64).sum()
    assert planned.tokens == pytest.approx(seen, rel=0.1)
    assert planned.rows == len(rows)


def test_rows_of_a_beam_pipeline(cross, tmp_path):
    import apache_beam as beam

    rows = pairs(12)
    model = ModelConfig(model=cross, device="cpu", precision="float32")
    settings = {"query_column": "query", "id_column": "id"}
    output = OutputConfig(output=str(tmp_path / "rows"), version="v")
    accounts = results(
        lambda p: p | beam.Create(rows) | EmbedCorpus(model, output, RecordConfig(**settings))
    )
    assert [one.rows for one in accounts] == [12]
    check_scores(Dataset.latest(str(tmp_path / "rows")), cross, rows)


def lists():
    """A query each with 1 to 23 candidates, several of them in more than one list."""
    texts = [row["text"] for row in records(30)]
    return [
        {"id": f"q{n}", "query": query, "found": texts[n : n + count], "stars": n}
        for n, (query, count) in enumerate(zip(QUERIES, (3, 23, 1, 8), strict=True))
    ]


def unfolded(rows):
    return [
        {"id": f"{row['id']}:{n}", "query": row["query"], "text": text}
        for row in rows
        for n, text in enumerate(row["found"])
    ]


@pytest.mark.parametrize("form", ["jsonl", "json", "parquet"])
def test_a_query_and_its_list_of_candidates(cross, tmp_path, form):
    rows = lists()
    settings = {"candidates_column": "found", "metadata_columns": ("stars",), "store_text": True}
    job = job_of(cross, write(rows, tmp_path, form), tmp_path / "out", block_rows=5, **settings)
    run_job(job)
    version = find_version(job.output)
    assert validate(version).problems == ()
    dataset = Dataset.latest(job.output)
    dataset.check_accounts(len(rows))
    check_scores(dataset, cross, unfolded(rows))
    found = {row["id"]: row for row in dataset.table.to_pylist()}
    for row in unfolded(rows):
        stored = found[row["id"]]
        assert (stored["query"], stored["text"]) == (row["query"], row["text"])
        assert stored["text_hash"] == digest(row["query"], row["text"])
        doc, _, number = row["id"].partition(":")
        assert (stored["doc_id"], stored["chunk_index"]) == (doc, int(number))
        assert stored["stars"] == int(doc[1:])
    planned = plan_job(job)
    assert planned.rows == len(found)
    seen = np.minimum(dataset.table["n_tokens"].to_numpy(), 64).sum()
    assert planned.tokens == pytest.approx(seen, rel=0.1)


def test_lists_that_cannot_be_scored(cross, tmp_path):
    bad = {
        "missing": {"query": "q"},
        "none": {"query": "q", "found": []},
        "text": {"query": "q", "found": "a corpus"},
        "number": {"query": "q", "found": ["a", 5]},
        "null": {"query": "q", "found": ["a", None]},
        "empty": {"query": "q", "found": ["a", "b", " "]},
        "parted": {"query": "q", "found": ["a\x1eb"]},
        "nul": {"query": "q", "found": ["a\0b"]},
        "query": {"found": ["a"]},
    }
    unseen = {"id": "unseen", "query": "q", "found": ["a", "\u200b"], "stars": 1}
    rows = [*lists(), unseen, *({"id": name, **row} for name, row in bad.items())]
    settings = {"candidates_column": "found", "publish_anyway": True}
    run_job(job_of(cross, write(rows, tmp_path, "jsonl"), tmp_path / "out", **settings))
    dataset = Dataset.latest(str(tmp_path / "out"))
    dataset.check_accounts(len(rows))
    check_scores(dataset, cross, unfolded([*lists(), unseen]))
    assert {row["doc_id"]: row["reason"] for row in dataset.rejects} == {
        "missing": "missing_column",
        "none": "empty_text",
        "text": "wrong_type",
        "number": "wrong_type",
        "null": "wrong_type",
        "empty": "empty_text",
        "parted": "separator_in_text",
        "nul": "nul_byte",
        "query": "missing_column",
    }
    details = {row["doc_id"]: row["detail"] for row in dataset.rejects}
    assert details["number"] == "candidate 2 in column 'found' is a int, expected a string; mend it"
    assert details["text"].startswith("column 'found' holds str 'a corpus', expected a list of st")


def test_inputs_and_settings_that_have_no_lists(cross, tmp_path):
    with pytest.raises(ConfigError, match=r"candidates_column: .*pairs.csv is CSV, which has no l"):
        corpus = write(pairs(6), tmp_path, "csv")
        run_job(job_of(cross, corpus, tmp_path / "out", candidates_column="text"))
    corpus = write(pairs(6), tmp_path, "parquet")
    with pytest.raises(InputError, match="candidates column 'title' is of type string, expected a"):
        run_job(job_of(cross, corpus, tmp_path / "out", candidates_column="title"))
    output = OutputConfig(output="out")
    alone = RecordConfig(candidates_column="found")
    assert "candidates are of a query; name its column" in pairs_fault(alone, output)
    both = RecordConfig(candidates_column="found", query_column="q", text_template="{text}")
    assert "text_template makes the text already" in pairs_fault(both, output)
