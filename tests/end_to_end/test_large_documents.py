"""A document whose chunks fill several blocks is one document of its version."""

import json
from pathlib import Path

import pytest
from running import Dataset, tiny_job, write_jsonl

from embedkit.corpus import blocks
from embedkit.dataset.commit import CommitRecord, committed
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.flow import read_pending
from embedkit.job import prepare

RECORDS = [
    {"id": "a", "text": "before"},
    {"id": "large", "text": "one two three four five six seven eight nine ten " * 9},
    {"id": "b", "text": "behind"},
    {"id": "empty", "text": ""},
    {"id": "also", "text": "eleven twelve thirteen fourteen fifteen sixteen " * 9},
]


@pytest.fixture
def job(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "_LARGE_DOCUMENT_ROWS", 3)
    write_jsonl(tmp_path / "in.jsonl", RECORDS)
    return tiny_job(
        tiny_model, tmp_path / "in.jsonl", tmp_path / "out",
        id_column="id", engine="plain", chunk="tokens", chunk_tokens=8, block_rows=3,
        store_text=True, max_reject_share=1.0,
    )  # fmt: skip


def test_its_chunks_are_in_several_parts(job, tmp_path):
    result = run_job(job)
    dataset = Dataset.latest(tmp_path / "out")
    dataset.check_accounts(len(RECORDS))
    assert [reject["doc_id"] for reject in dataset.rejects] == ["empty"]
    version = Version(str(tmp_path / "out"), Path(result.dataset).name)
    assert not validate(version).problems
    records = list(committed(version).values())
    assert len(records) > 6
    assert all(record.rows <= 3 for record in records)
    assert sum(record.documents for record in records) == len(RECORDS)
    report = json.loads(Path(result.dataset, "report", "report.json").read_text())
    assert report["counts"]["reconciled"]
    assert report["counts"]["embedded"] == len(RECORDS) - 1
    for record in RECORDS[1::3]:
        rows = [row for row in dataset.table.to_pylist() if row["doc_id"] == record["id"]]
        rows.sort(key=lambda row: row["chunk_index"])
        assert [row["chunk_index"] for row in rows] == list(range(len(rows)))
        assert " ".join(row["text"] for row in rows).split() == record["text"].split()


def test_a_version_that_has_it_in_one_block_is_not_continued(job, tmp_path):
    result = run_job(job.model_copy(update={"version": "begun"}))
    settled = prepare(job.model_copy(update={"version": "begun"}))
    assert settled.make_chunker is not None
    chunker = settled.make_chunker()
    version = settled.version
    first = next(one for one in committed(version).values() if one.documents and one.rows == 3)
    folder = Path(result.dataset)
    (folder / "_SUCCESS").unlink()
    for split in (folder / "_meta" / "splits").iterdir():
        split.unlink()
    file = folder / "_meta" / "commits" / f"{first.block_id}.json"
    changed = json.loads(file.read_text()) | {"rows": 40}
    file.write_bytes(CommitRecord(**changed).to_json())
    with pytest.raises(ConfigError, match="earlier release"):
        for split in settled.plan.splits:
            list(read_pending(split, settled.plan, job, chunker, settled.version))
