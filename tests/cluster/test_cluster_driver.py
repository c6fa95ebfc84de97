"""A driver that ends before its run: killed, or told to stop; the cluster lives on."""

import json
import signal

import pytest
from processes import commits, wait_until
from raylets import ROWS, check_equal, committed_below
from running import last_error

pytestmark = pytest.mark.timeout(1200)


@pytest.mark.soak
def test_a_driver_killed_and_then_told_to_stop(
    cluster, many_blocks, undisturbed, start_run, tmp_path
):
    """Three runs end before their time; each leaves no actor, and the next does only the rest.

    The third is told so while its encoder starts.
    """
    cluster.resize(1)
    output = tmp_path / "out"
    job = many_blocks(output, ray_address=cluster.address)
    known: dict = {}
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
        run = start_run(job)
        wanted = 0 if number == signal.SIGINT else len(known) + 20
        run.wait_for_commits(wanted)
        run.wait_until(lambda: len(cluster.workers("EncoderActor")) == 1)
        code = run.kill(number)
        wait_until(lambda: not cluster.actors())
        said = run.process.stdout.read()
        if number == signal.SIGKILL:
            assert (code, said) == (-signal.SIGKILL, "")
        else:
            assert code == json.loads(said)["exit_code"] == 4, run.log_file.read_text()
            assert last_error(run.log_file.read_text()) == (
                f"stopped by {number.name}; run the same command again to resume from what is "
                "committed"
            )
            assert "Traceback" not in run.log_file.read_text()
        found = committed_below(output)
        assert {name: found[name] for name in known} == known
        assert len(found) >= wanted
        known = found

    standing = {path: path.stat().st_mtime_ns for path in output.glob("*/data/*")}
    result = start_run(job).end()
    check_equal(output, undisturbed)
    assert {path: path.stat().st_mtime_ns for path in standing} == standing
    assert result["rows"] == ROWS
    assert result["rows_resumed"] == sum(record.rows for record in known.values())
    encoded_before = sum(record.tokens_encoded for record in known.values())
    assert result["tokens_encoded"] == undisturbed.manifest["tokens_encoded"] - encoded_before
    assert commits(output) == {path.stem.removeprefix("part-") for path in output.glob("*/data/*")}
