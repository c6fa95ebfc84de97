"""Runs on a Ray cluster of several raylets: equal to the plain run, whatever is killed or joins."""

import re

import pytest
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
from running import Dataset, tiny_job, write_corpus

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
