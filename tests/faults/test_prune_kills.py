"""A prune, really killed, again and again, until one comes to its end."""

import json
import os
import random
import signal
import subprocess
import time

import pytest
from blocks import Job, make_block
from calling import call
from processes import wait_until
from running import embedkit_command

from embedkit.dataset.removal import removals
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, latest

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]
VERSIONS, BLOCKS, KILLS = 12, 240, 12


def test_prunes_killed_at_random(tmp_path):
    root = str(tmp_path / "root")
    job = Job([make_block(number, 0, 3) for number in range(BLOCKS)])
    names = [f"v{number:02}" for number in range(VERSIONS)]
    for name in names:
        job.complete(Version(root, name))
    chosen = random.Random(7)
    half, gone = 0, set()
    for _ in range(KILLS):
        claimed = set(os.listdir(f"{root}/.removing")) if os.path.isdir(f"{root}/.removing") else ()
        run = subprocess.Popen(
            [*embedkit_command(), "prune", root, "--keep", "2", "--yes", "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        wait_until(
            lambda seen=claimed: (
                set(os.listdir(root)) >= {".removing"}
                and set(os.listdir(f"{root}/.removing")) - set(seen)
            ),
            run,
        )
        time.sleep(chosen.uniform(0, 0.4))
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        assert latest(root).name == names[-1]
        known = removals(open_store(root))
        for name in names:
            version = Version(root, name)
            if version.is_complete():
                assert name not in gone, "it came back"
                if not known.get(name):
                    assert validate(version).problems == ()
            elif os.path.exists(version.url):
                assert known[name], f"{name} is half removed, and nothing says so"
                half += 1
            else:
                gone.add(name)
        if len(gone) > VERSIONS - 5:
            break
    assert half > 2
    done = call("prune", root, "--keep", "2", "--yes", "--json").json
    assert {one["version"] for one in done["kept"]} == set(names[-2:])
    assert sorted(os.listdir(root)) == [".numbers", ".removing", ".tmp", "LATEST", *names[-2:]]
    assert os.listdir(f"{root}/.removing") == []
    assert sorted(os.listdir(f"{root}/.numbers")) == ["00000011", "00000012"]
    for name in names[-2:]:
        assert validate(Version(root, name)).problems == ()
    print(json.dumps({"kills": KILLS, "half removed": half, "gone": len(gone)}))
