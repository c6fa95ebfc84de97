"""A row per word out of rows with lists of their vectors, against DuckDB's own unnesting."""

import json
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from blocks import Job, small_job
from span_blocks import OF_WORDS, TEXTS, span_block, span_options, words_of
from typer.testing import CliRunner

from embedkit.cli.app import app
from embedkit.dataset import explode as module
from embedkit.dataset.explode import explode
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError, StoreError

pytestmark = pytest.mark.usefixtures("logging_restored")

UNNESTED = """
    SELECT id || ':' || (n - 1) AS id, id AS row_id, doc_id,
           spans[n].char_start AS char_start, spans[n].char_end AS char_end,
           embeddings[n]::FLOAT[8] AS embedding, row_index
    FROM '{}/data/*.parquet', unnest(range(1, len(spans) + 1)) AS _(n) ORDER BY row_index, n
"""


def made(version: Version, *blocks, **options) -> Version:
    Job(list(blocks), options=span_options(**options), description=dict(OF_WORDS)).complete(version)
    return version


def read(output) -> pa.Table:
    files = sorted(Path(output).glob("*.parquet"))
    return pa.concat_tables([pq.read_table(file) for file in files])


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_vector_becomes_a_row(version, tmp_path, dtype):
    made(version, span_block(dtype=dtype), span_block(split=1), vector_dtype=dtype)
    done = explode(version, str(tmp_path / "words"))
    table = read(tmp_path / "words").sort_by([("row_index", "ascending"), ("id", "ascending")])
    names = ["id", "row_id", "doc_id", "char_start", "char_end", "embedding", "row_index"]
    expected = duckdb.sql(UNNESTED.format(version.url)).to_arrow_table()
    expected = expected.sort_by([("row_index", "ascending"), ("id", "ascending")])
    assert table.select(names).to_pylist() == expected.to_pylist()
    assert done.rows == table.num_rows == 2 * sum(len(words_of(text)) for text in TEXTS)
    assert (done.files, done.version) == (2, "v1")
    assert table.schema.field("embedding").type.list_size == 8
    assert "word" not in table.schema.names
    marks = {path.name for path in (tmp_path / "words").iterdir() if path.is_file()}
    assert marks == {
        "_EXPLODED.json",
        "_SUCCESS",
        "part-00000-00000.parquet",
        "part-00001-00000.parquet",
    }


def test_the_word_comes_from_the_text_of_its_own_row(version, tmp_path):
    made(version, span_block(starts=[0, 40, 70, 100, 7]), store_text=True)
    explode(version, str(tmp_path / "words"))
    table = read(tmp_path / "words")
    assert table["word"].to_pylist() == [word for text in TEXTS for word in text.split()]
    assert table["char_start"].to_pylist()[-2:] == [9, 11]


def test_stored_words_come_before_those_of_the_text(version, tmp_path):
    metadata = {"word": pa.array(list("abcde")), "stars": pa.array([1, 2, 3, None, 5])}
    made(version, span_block(tokens=True, metadata=metadata), store_text=True)
    explode(version, str(tmp_path / "words"))
    table = read(tmp_path / "words")
    assert table["word"].to_pylist() == [word.upper() for text in TEXTS for word in text.split()]
    of_texts = zip("abcde", TEXTS, strict=True)
    mine = [letter for letter, text in of_texts for _ in text.split()]
    assert table["metadata_word"].to_pylist() == mine
    assert table["stars"].to_pylist()[:4] == [1, 1, 1, 3]


def test_metadata_of_any_name_is_kept(version, tmp_path):
    names = ["word", "metadata_word", "row_id", "metadata_metadata_word"]
    metadata = {name: pa.array([f"{name} {n}" for n in range(5)]) for name in names}
    made(version, span_block(tokens=True, metadata=metadata))
    explode(version, str(tmp_path / "words"))
    first = read(tmp_path / "words").slice(0, 1).to_pylist()[0]
    held = [first[name] for name in list(first)[-len(names) :]]
    assert held == [f"{name} 0" for name in names]
    assert first["row_id"] != "row_id 0" != first["word"]


def test_few_rows_are_in_memory_at_a_time(version, tmp_path, monkeypatch):
    made(version, span_block(TEXTS * 20), store_text=True)
    whole = explode(version, str(tmp_path / "whole"))
    monkeypatch.setattr("embedkit.dataset.parquet._BYTES_AT_ONCE", 2000)
    batches = []
    rows = module._rows
    monkeypatch.setattr(
        module, "_rows", lambda batch, *of: batches.append(len(batch)) or rows(batch, *of)
    )
    again = explode(version, str(tmp_path / "again"))
    assert len(batches) > 10
    assert again.rows == whole.rows
    assert read(tmp_path / "again").equals(read(tmp_path / "whole"))


def test_what_was_stopped_goes_on_and_what_is_done_is_not_done_again(
    version, tmp_path, monkeypatch
):
    made(version, span_block(), span_block(split=1))
    output = str(tmp_path / "words")
    create = module.create

    def fails(store, key, data):
        if key.startswith("part-00001"):
            raise StoreError("the disk is gone")
        return create(store, key, data)

    monkeypatch.setattr(module, "create", fails)
    with pytest.raises(StoreError):
        explode(version, output)
    assert len(list(Path(output).glob("*.parquet"))) == 1
    monkeypatch.undo()
    first = next(Path(output).glob("*.parquet")).stat().st_mtime_ns
    assert explode(version, output).files == 2
    assert (Path(output) / "part-00000-00000.parquet").stat().st_mtime_ns == first
    with pytest.raises(ConfigError, match=r"holds all rows of v1 already$"):
        explode(version, output)


def test_on_an_object_store(tmp_path):
    version = made(Version("memory://explode/root", "v1"), span_block())
    done = explode(version, "memory://explode/words")
    assert done.rows == 12
    assert json.loads(version.store.place("x")[0].cat("/explode/words/_SUCCESS"))["rows"] == 12


def test_a_version_of_one_vector_per_row_is_refused(version, tmp_path):
    small_job().complete(version)
    with pytest.raises(ConfigError, match=r"^v1 has no lists of vectors") as raised:
        explode(version, str(tmp_path / "words"))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "words").exists()


def test_an_output_that_is_no_place_for_it_is_refused(version, tmp_path):
    made(version, span_block())
    for inside in (version.url, f"{version.url}/data", f"{version.url}/words"):
        with pytest.raises(ConfigError, match="is in the version itself"):
            explode(version, inside)
    with pytest.raises(ConfigError, match="is not empty; write into a new directory"):
        explode(version, version.root)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty"):
        explode(version, str(tmp_path / "mine"))
    other = made(version.sibling("v2"), span_block())
    explode(other, str(tmp_path / "other"))
    with pytest.raises(ConfigError, match="holds rows of another version"):
        explode(version, str(tmp_path / "other"))
    file = tmp_path / "file"
    file.write_text("x")
    with pytest.raises(ConfigError, match="cannot write the output"):
        explode(version, str(file))
    assert (file.read_text(), len(list((tmp_path / "mine").iterdir()))) == ("x", 1)


def test_the_command_says_what_it_wrote(version, tmp_path):
    made(version, span_block())
    command = ["explode", version.root, "--output", str(tmp_path / "words"), "--json"]
    done = CliRunner().invoke(app, command)
    assert (done.exit_code, json.loads(done.stdout)["rows"]) == (0, 12)
    with pytest.raises(ConfigError, match="holds rows that explode has written, and is no version"):
        find_version(tmp_path / "words")
