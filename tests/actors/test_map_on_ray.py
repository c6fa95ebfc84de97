"""Looks at the ids of splits as Ray tasks, and what their loss looks like."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from embedkit.actors.map_on_ray import MapOnRay
from embedkit.corpus.duplicates import Suspect
from embedkit.corpus.splits import FileRange, Split
from embedkit.errors import InputError, ResumableError
from embedkit.flow.check_ids import IdLook

pytestmark = pytest.mark.usefixtures("ray_session")

LOOKS = [
    IdLook(Split(f"{n:05d}", (FileRange(f"{n}", f"/in/{n}", 1, "e", "jsonl", "none", 0, 1, 1),)))
    for n in range(12)
]


@dataclass(frozen=True)
class Look:
    """Notes in a folder which process looked at a split; may be killed, or find a file gone."""

    folder: Path
    kills: int = 0
    fails: bool = False

    def __call__(self, look: IdLook) -> list[Suspect]:
        name = look.split.split_id
        tries = len(list(self.folder.glob(f"{name}-*")))
        (self.folder / f"{name}-{tries}-{os.getpid()}").touch()
        if name == "00003" and tries < self.kills:
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "00005" and self.fails:
            raise InputError("/in/5: no such file; check the inputs")
        # The later ones are done first.
        time.sleep(0.01 * (len(LOOKS) - int(name)))
        return [Suspect(b"", name, int(name))]


def looked(folder: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in folder.iterdir())


def test_results_come_in_order_from_other_processes(tmp_path):
    found = list(MapOnRay(most_lost=0, timeout=60)(Look(tmp_path), LOOKS))
    assert [one.row_index for (one,) in found] == list(range(12))
    assert looked(tmp_path) == [look.split.split_id for look in LOOKS]
    pids = {int(path.name.rpartition("-")[2]) for path in tmp_path.iterdir()}
    assert os.getpid() not in pids


def test_a_killed_process_costs_its_split_alone(tmp_path):
    found = list(MapOnRay(most_lost=1, timeout=60)(Look(tmp_path, kills=1), LOOKS))
    assert [one.row_index for (one,) in found] == list(range(12))
    names = [look.split.split_id for look in LOOKS]
    assert looked(tmp_path) == sorted([*names, "00003"])


def test_a_split_that_kills_two_is_named(tmp_path):
    with pytest.raises(ResumableError, match=r"reading split 00003 killed 2 workers.*\(/in/3\)"):
        list(MapOnRay(most_lost=5, timeout=60)(Look(tmp_path, kills=9), LOOKS))


def test_no_more_are_lost_than_may_be(tmp_path):
    with pytest.raises(ResumableError, match="1 workers were lost, more than --max-lost-workers 0"):
        list(MapOnRay(most_lost=0, timeout=60)(Look(tmp_path, kills=1), LOOKS))


def test_an_error_is_the_one_that_was_raised(tmp_path):
    with pytest.raises(InputError, match=r"^/in/5: no such file; check the inputs$"):
        list(MapOnRay(most_lost=0, timeout=60)(Look(tmp_path, fails=True), LOOKS))
