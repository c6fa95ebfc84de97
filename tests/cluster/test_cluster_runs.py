"""Runs on a Ray cluster of several raylets: equal to the plain run, whatever is killed or joins."""

import json
import re
from typing import Any

import pytest
import yaml
from processes import commits, wait_until
from raylets import (
    ROWS,
    by_encoder,
    check_equal,
    documents_told,
    losses,
    one,
    wait_until_still,
)
from running import Dataset, run_process, sentence, tiny_job, write_corpus, write_jsonl

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.soak
def test_three_raylets_make_what_the_plain_run_makes(
    cluster, many_blocks, undisturbed, start_run, tmp_path
):
    cluster.resize(2)
    job = many_blocks(tmp_path / "ray", ray_address=cluster.address, encoders="2")
    run = start_run(job)
    run.wait_for_commits(1)
    assert {len(cluster.workers("EncoderActor", node)) for node in cluster.nodes} == {1}
    result = run.end()
    rows = by_encoder(check_equal(tmp_path / "ray", undisturbed))
    assert set(rows) == {"encoder-0", "encoder-1"}
    assert all(rows.values())
    assert sum(rows.values()) == result["rows"] == documents_told(run) == ROWS
    assert not losses(run)
    assert not list((tmp_path / "ray" / ".tmp").iterdir())
    wait_until(lambda: not cluster.actors())


@pytest.mark.soak
def test_beam_on_this_machine_makes_the_same(many_blocks, undisturbed, start_run, tmp_path):
    start_run(many_blocks(tmp_path / "local", engine="local")).end()
    check_equal(tmp_path / "local", undisturbed)


@pytest.mark.soak
def test_as_many_workers_as_ray_is_asked_for_by_itself(
    cluster, many_blocks, undisturbed, start_run, tmp_path
):
    cluster.resize(2)
    job = many_blocks(tmp_path / "out", ray_address=cluster.address, encoders=None, workers="auto")
    run = start_run(job)
    run.wait_until(lambda: len(cluster.workers("EncoderActor")) == 2)
    run.wait_until(lambda: len(cluster.workers("BeamWorker")) == 4)
    run.end()
    check_equal(tmp_path / "out", undisturbed)


@pytest.mark.soak
def test_a_worker_and_an_encoder_killed(cluster, many_blocks, undisturbed, start_run, tmp_path):
    cluster.resize(2)
    run = start_run(many_blocks(tmp_path / "out", ray_address=cluster.address))
    run.wait_for_commits(20)
    encoder = one(cluster.workers("EncoderActor"))
    # With its encoder stopped, a worker waits with a block in hand.
    encoder.suspend()
    wait_until_still(run)
    victim, _ = cluster.workers("BeamWorker")
    victim.kill()
    run.wait_until(lambda: len(losses(run)) == 1)
    encoder.kill()
    result = run.end()
    check_equal(tmp_path / "out", undisturbed)
    (line,) = losses(run)
    assert re.match(r"worker-\d was lost at block \d{5}-\d+: a Beam worker was lost: ", line)
    assert (result["rows"], result["rejects"], documents_told(run)) == (ROWS, 0, ROWS)


@pytest.mark.soak
def test_a_raylet_joins_and_another_is_lost(cluster, many_blocks, undisturbed, start_run, tmp_path):
    (first,) = cluster.resize(1).nodes
    job = many_blocks(tmp_path / "out", ray_address=cluster.address, encoders="1..2")
    run = start_run(job)
    run.wait_for_commits(10)
    # With its encoder stopped, the run does not end before the node is there.
    encoder = one(cluster.workers("EncoderActor"))
    encoder.suspend()
    second = cluster.add()
    run.wait_until(lambda: len(cluster.workers("EncoderActor", second)) == 1)
    before = len(commits(run.root))
    encoder.resume()
    run.wait_for_commits(before + 10)
    cluster.remove(first)
    run.end()
    rows = by_encoder(check_equal(tmp_path / "out", undisturbed))
    assert rows["encoder-0"] > 0
    assert rows["encoder-1"] > 0
    assert losses(run)
    assert all("node was terminated" in line for line in losses(run))


@pytest.mark.soak
@pytest.mark.parametrize("engine", ["ray", "local"])
@pytest.mark.parametrize(
    "kind",
    [
        {"granularity": "word", "store_tokens": True},
        {"granularity": "token", "layers": "-2..-1:sum"},
        {"chunk": "sentences", "chunk_tokens": 6, "late_chunking": True},
    ],
    ids=["words", "tokens", "late-chunks"],
)
def test_every_kind_of_vector_is_what_the_plain_run_makes(
    engine, kind, cluster, tiny_model, start_run, tmp_path
):
    cluster.resize(1)
    corpus = write_corpus(tmp_path / "in", 2, 40)
    where = {"engine": engine, "ray_address": cluster.address} if engine == "ray" else {}
    settings = {"id_column": "id", "block_rows": 8, **kind}
    start_run(tiny_job(tiny_model, corpus, tmp_path / "plain", engine="plain", **settings)).end()
    start_run(tiny_job(tiny_model, corpus, tmp_path / "out", **where, **settings)).end()
    plain, other = (Dataset.latest(tmp_path / name) for name in ("plain", "out"))
    assert other.part_hashes == plain.part_hashes
    assert other.manifest["rows"] == plain.manifest["rows"] > 0


@pytest.mark.soak
def test_a_version_is_held_against_labels_by_the_driver(cluster, tiny_model, tmp_path):
    """With no encoder of the cluster left by then, and to the figures of the plain run."""
    cluster.resize(1)
    judged = tmp_path / "judged"
    write_jsonl(
        judged / "queries.jsonl", [{"_id": f"q{n}", "text": sentence(n, 6)} for n in range(8)]
    )
    lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\tdoc-{n:05}\t1" for n in range(8))]
    (judged / "qrels.tsv").write_text("\n".join(lines) + "\n")
    job: dict[str, Any] = {
        "inputs": str(write_corpus(tmp_path / "in", 2, 40)), "id_column": "id",
        "model": tiny_model, "pooling": "mean", "normalize": True, "backend": "torch",
        "precision": "float32", "encoder_threads": 1, "store_text": True,
        "metadata_columns": ["title"],
        "evaluation": {"retrieval": str(judged), "known_items": "title"},
    }  # fmt: skip

    def evaluated(name: str, **changes: Any) -> dict[str, Any]:
        file = tmp_path / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**job, "output": str(tmp_path / name), **changes}))
        ended = run_process("run", str(file), timeout=600)
        assert ended.returncode == 0, ended.stderr
        folder = Dataset.latest(tmp_path / name).folder
        return json.loads((folder / "report" / "report.json").read_text())["evaluation"]

    plain = evaluated("plain", engine="plain")
    found = evaluated("ray", engine="ray", ray_address=cluster.address)
    assert found["retrieval"] == plain["retrieval"]
    assert found["known_items"] == plain["known_items"]
    assert 0 < found["known_items"]["ndcg@10"] <= 1
