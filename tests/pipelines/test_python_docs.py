"""The corpus that is on every machine, as files."""

import gzip
import json
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from pipelines import python_docs
from pipelines.python_docs import documents, write_corpus


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs") / "corpus"
    return folder, write_corpus(folder)


def test_documents_are_many_named_once_and_in_order(corpus):
    found = documents()
    names = [one["name"] for one in found]
    assert len(found) == corpus[1] > 4000
    assert names == sorted(set(names))
    assert {one["kind"] for one in found} == {"module", "class", "function", "method", "topic"}
    assert all(one["text"].strip() and "\0" not in one["text"] for one in found)


@pytest.mark.parametrize(
    ("name", "kind", "module", "said"),
    [
        ("zipfile.ZipFile.extractall", "method", "zipfile", "Extract all members from the archive"),
        ("argparse", "module", "argparse", "Command-line parsing library"),
        ("collections.OrderedDict", "class", "collections", "remembers insertion order"),
        ("json.dumps", "function", "json", "to a JSON formatted"),
        ("topic:lambda", "topic", "", "Lambda expressions"),
    ],
)
def test_well_known_documents(name, kind, module, said):
    (found,) = [one for one in documents() if one["name"] == name]
    assert (found["kind"], said in found["text"]) == (kind, True)
    assert found["module"] == module
    assert found["text"].startswith(name.removeprefix("topic:") + "\n\n")


def test_the_documents_do_not_depend_on_what_is_loaded_already():
    """`concurrent.futures` has its executors only once somebody has asked for them."""
    code = (
        "import json, sys\n"
        "{}\n"
        "from pipelines.python_docs import documents\n"
        "print(json.dumps(documents()))"
    )
    first, second = (
        subprocess.run([sys.executable, "-c", code.format(line)], capture_output=True, check=True)
        for line in ("", "import concurrent.futures.thread, multiprocessing.pool, xml.sax, asyncio")
    )
    assert first.stdout == second.stdout
    names = {one["name"] for one in json.loads(first.stdout)}
    assert "concurrent.futures.ThreadPoolExecutor.submit" in names


def test_shards_of_two_formats_hold_every_document_once(corpus):
    folder, count = corpus
    rows = []
    for shard in sorted(folder.iterdir()):
        if shard.suffix == ".parquet":
            rows += pq.read_table(shard).to_pylist()
        else:
            rows += [json.loads(line) for line in gzip.open(shard, "rt", encoding="utf-8")]
    assert {path.name for path in folder.iterdir()} == {
        *(f"docs-{number}.parquet" for number in (0, 1)),
        *(f"docs-{number}.jsonl.gz" for number in (2, 3, 4, 5)),
    }
    assert len(rows) == count
    assert sorted(rows, key=lambda row: row["name"]) == documents()


def test_the_same_documents_leave_the_files_as_they_are(corpus, monkeypatch):
    """A job's inputs are known by their size and time: a demo run again finds itself finished."""
    folder, count = corpus
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert write_corpus(folder) == count
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    fewer = documents()[:-1]
    monkeypatch.setattr(python_docs, "documents", lambda: fewer)
    write_corpus(folder)
    after = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sum(after[path] != before[path] for path in before) == 1
