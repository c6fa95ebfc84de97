"""Clusters that are not there, have no room, or lose it."""

import json
import re

import pytest
from processes import wait_until
from raylets import check_equal
from running import flags, last_error, run_process

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "ray://127.0.0.1:10001"])
@pytest.mark.few(1)
def test_no_cluster_at_the_address(address, many_blocks, tmp_path):
    job = many_blocks(tmp_path / "out", ray_address=address)
    run = run_process("run", *flags(job), "--json", timeout=240)
    assert run.returncode == 2, run
    joining, line = run.stderr.splitlines()
    assert joining.endswith("INFO joining the Ray cluster")
    assert line.startswith(f"embedkit: ray_address: no Ray cluster answers at '{address}' (")
    assert json.loads(run.stdout)["exit_code"] == 2


@pytest.mark.soak
def test_no_encoder_can_be_placed(cluster, many_blocks, start_run, tmp_path):
    cluster.resize(1)
    settings = {"encoder_cpus": 2, "encoder_wait": 8.0}
    run = start_run(many_blocks(tmp_path / "out", ray_address=cluster.address, **settings))
    run.end(4)
    assert any(
        "waiting for encoders to start, for up to 6 s more; 0 of 1 have" in one
        for one in run.messages
    )
    assert last_error(run.log_file.read_text()) == (
        "0 of 1 encoders could be started in 8 s; give the cluster room, or ask for fewer "
        "--encoders"
    )
    wait_until(lambda: not cluster.actors())


@pytest.mark.soak
def test_the_last_node_with_room_is_lost(cluster, many_blocks, undisturbed, start_run, tmp_path):
    (node,) = cluster.resize(1).nodes
    job = many_blocks(tmp_path / "out", ray_address=cluster.address, encoder_wait=40.0)
    run = start_run(job)
    run.wait_for_commits(20)
    cluster.remove(node)
    run.end(4)
    waiting = re.compile(
        r"no encoder runs at present; waiting up to (40|3\d) s for one to be placed"
    )
    assert any(map(waiting.fullmatch, run.messages)), run.messages
    message = last_error(run.log_file.read_text())
    assert message.startswith("no encoder could be placed for 40 s; give the cluster room")
    wait_until(lambda: not cluster.actors())
    cluster.resize(1)
    result = start_run(job).end()
    check_equal(tmp_path / "out", undisturbed)
    assert result["rows_resumed"] >= 80
