"""Records that kill whoever reads or tokenizes them, and so the worker, every time.

One kills whoever looks at its id, the first time.
"""

from pathlib import Path

import pytest
from raylets import losses
from running import (
    Dataset,
    flags,
    last_error,
    records,
    run_process,
    tiny_job,
    write_jsonl,
)

pytestmark = pytest.mark.timeout(1200)

POISON = Path(__file__).parent / "poison"
SHARDS, ROWS, BLOCK = 3, 100, 10
KILLER = 120


@pytest.fixture
def poisonous(cluster):
    """A cluster whose only node with a CPU runs every process with the poison in its path."""
    cluster.resize(0)
    with cluster.nodes_with(PYTHONPATH=str(POISON)):
        cluster.add()
    yield cluster
    cluster.resize(0)


@pytest.fixture
def poisoned_job(poisonous, tiny_model, tmp_path):
    """Makes jobs over 300 records, the one of which with a number has a text."""

    def make(number: int, text: str, **changes):
        rows = records(SHARDS * ROWS)
        rows[number]["text"] += f" {text}"
        rows[KILLER]["id"] = f"kills-once:{tmp_path}/killed"
        for shard in range(SHARDS):
            part = rows[shard * ROWS : (shard + 1) * ROWS]
            write_jsonl(tmp_path / "in" / f"shard-{shard}.jsonl", part)
        settings = {
            "engine": "ray",
            "ray_address": poisonous.address,
            "workers": 2,
            "encoders": 1,
            "id_column": "id",
            "block_rows": BLOCK,
        }
        return tiny_job(tiny_model, tmp_path / "in", tmp_path / "out", **(settings | changes))

    return make


@pytest.mark.soak
def test_a_block_that_kills_its_worker_twice_becomes_rejects(poisoned_job, start_run, tmp_path):
    job = poisoned_job(155, "this text kills its tokenizer")
    run = start_run(job)
    result = run.end(3)
    plain = tmp_path / "plain"
    run_process("run", *flags(job.model_copy(update={"engine": "plain", "output": str(plain)})))
    expected = Dataset.latest(plain).table
    dataset = Dataset.only(tmp_path / "out")
    dataset.check_accounts(SHARDS * ROWS)

    # The one that looked at ids was another, and so is who took over.
    assert (tmp_path / "killed").exists()
    gone = [line for line in run.messages if "the worker that read split" in line]
    assert len(gone) == 1
    assert gone[0].endswith("another takes over")
    first, second, *others = losses(run)
    assert not others
    (block,) = {line.split(" was lost at block ")[1].partition(":")[0] for line in (first, second)}
    assert f"block {block} killed its worker twice and becomes rejects" in run.messages
    assert {one["reason"] for one in dataset.rejects} == {"worker_lost"}
    assert {block in one["detail"] for one in dataset.rejects} == {True}
    rejected = {one["doc_id"] for one in dataset.rejects}
    assert "doc-00155" in rejected
    assert len(rejected) == BLOCK
    kept = [id_ not in rejected for id_ in expected["id"].to_pylist()]
    assert dataset.table.equals(expected.filter(kept).combine_chunks())
    assert (result["documents"], result["rejects"]) == (SHARDS * ROWS, BLOCK)
    assert last_error(run.log_file.read_text()).startswith("10 of 300 documents were rejected")


@pytest.mark.soak
def test_a_split_whose_reading_kills_two_workers_is_named(poisoned_job, start_run, tmp_path):
    run = start_run(poisoned_job(200, "this text kills its reader"))
    assert run.end(4)["exit_code"] == 4
    message = last_error(run.log_file.read_text())
    assert message.startswith("reading split ")
    assert "killed 2 workers; look at its files" in message
    assert str(tmp_path / "in" / "shard-2.jsonl") in message
    assert not (tmp_path / "out" / "LATEST").exists()
