"""A document whose chunks fill several blocks is one document of its version."""

import contextlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from running import Dataset, tiny_job, write_jsonl

from embedkit.corpus import blocks
from embedkit.dataset.committed import committed
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError
from embedkit.flow import complete, large_documents
from embedkit.flow import encode as encoding
from embedkit.flow import read as reading
from embedkit.flow.check_ids import with_known_duplicates
from embedkit.flow.prepare import prepare
from embedkit.flow.read import is_pending, read_pending, without_documents

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
    file.write_bytes(replace(first, rows=40).to_json())
    with pytest.raises(ConfigError, match="earlier release"):
        plan = with_known_duplicates(settled.plan, job, version)
        for split in plan.splits:
            list(read_pending(split, plan, job, chunker, version))


WORDS = "one two three four five six seven eight nine ten ".split() * 9
SPOILED = {"first block": [0], "middle": [50], "last block": [89], "two blocks": [30, 70]}


def spoil(monkeypatch, tmp_path, places):
    """Makes the vectors of some chunks of the large document infinite."""
    words = [*WORDS]
    for place in places:
        words[place] = "poison"
    records = [dict(one) for one in RECORDS]
    records[1]["text"] = " ".join(words)
    write_jsonl(tmp_path / "in.jsonl", records)
    encode = encoding._encode_rows

    def spoiled(rows, *how):
        vectors, tokens = encode(rows, *how)
        for number, text in enumerate(rows.column("text").to_pylist()):
            if "poison" in text:
                vectors.matrix[number] = float("nan")
        return vectors, tokens

    monkeypatch.setattr(encoding, "_encode_rows", spoiled)


def check_rejected_whole(tmp_path, reason):
    dataset = Dataset.latest(tmp_path / "out")
    dataset.check_accounts(len(RECORDS))
    rejects = {one["doc_id"]: one["reason"] for one in dataset.rejects}
    assert rejects == {"large": reason, "empty": "empty_text"}
    assert len(dataset.rejects) == 2
    assert set(dataset.table.column("doc_id").to_pylist()) == {"a", "b", "also"}
    version = Version(str(tmp_path / "out"), dataset.folder.name)
    assert validate(version).problems == ()
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    assert report["counts"]["reconciled"]
    assert report["counts"]["embedded"] == 3
    return {
        key: version.store.read(key)
        for key in version.store.list(version.key(""))
        if "/report/" not in key
    }


@pytest.mark.parametrize("places", SPOILED.values(), ids=SPOILED)
def test_a_vector_that_is_not_finite_rejects_all_of_it(job, tmp_path, monkeypatch, places):
    spoil(monkeypatch, tmp_path, places)
    result = run_job(job)
    assert (result.documents, result.rejects) == (5, 2)
    check_rejected_whole(tmp_path, "non_finite_vector")


def test_a_run_that_only_completes_has_encoded_nothing(job, tmp_path, monkeypatch):
    """What earlier runs encoded of the document is in their blocks no more."""
    spoil(monkeypatch, tmp_path, SPOILED["two blocks"])
    with monkeypatch.context() as patched:
        patched.setattr(
            complete, "complete_version", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
        )
        with pytest.raises(KeyboardInterrupt):
            run_job(job)
    result = run_job(job)
    assert result.tokens_encoded == 0
    check_rejected_whole(tmp_path, "non_finite_vector")


def test_its_blocks_are_still_those_that_were_read(job, tmp_path, monkeypatch):
    spoil(monkeypatch, tmp_path, SPOILED["two blocks"])
    run_job(job)
    settled = prepare(job)
    plan = with_known_duplicates(settled.plan, job, settled.version)
    (split,) = plan.splits
    chunker = settled.make_chunker()
    pending = [
        is_pending(block, settled.version)
        for block in reading.read_split(split, plan, job, chunker)
    ]
    assert len(pending) > 6
    assert not any(pending)


def test_a_block_that_killed_its_worker_rejects_all_of_it(job, tmp_path, monkeypatch):
    read = reading.read_split

    def quarantined(*arguments):
        for block in read(*arguments):
            yield without_documents(block) if block.seq == 3 else block

    monkeypatch.setattr(reading, "read_split", quarantined)
    run_job(job)
    check_rejected_whole(tmp_path, "worker_lost")


def test_a_run_killed_while_it_rejects_ends_in_the_same_bytes(job, tmp_path, monkeypatch):
    spoil(monkeypatch, tmp_path, SPOILED["two blocks"])
    run_job(job.model_copy(update={"output": str(tmp_path / "undisturbed" / "out")}))
    undisturbed = check_rejected_whole(tmp_path / "undisturbed", "non_finite_vector")
    store_type = type(prepare(job).version.store)
    reject = large_documents._reject
    left = after = 0

    def dying(change):
        def instead(self, *arguments):
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            return change(self, *arguments)

        return instead

    def rejecting(version, blocks):
        with monkeypatch.context() as patched:
            for name in ("replace", "remove"):
                patched.setattr(store_type, name, dying(getattr(store_type, name)))
            reject(version, blocks)

    while left == 0:
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        left, after = after, after + 3
        with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
            patched.setattr(large_documents, "_reject", rejecting)
            run_job(job)
        run_job(job)
        assert check_rejected_whole(tmp_path, "non_finite_vector") == undisturbed, after
    assert after > 20
