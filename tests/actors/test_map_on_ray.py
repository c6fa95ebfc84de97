"""Looks at the ids of splits as Ray tasks, and what their loss looks like."""

import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.actors.map_on_ray import MapOnRay
from embedkit.config import CorpusConfig
from embedkit.corpus.duplicates import Suspect
from embedkit.corpus.plan import plan_inputs
from embedkit.corpus.raw_file import RawFile
from embedkit.corpus.splits import FileRange, Split
from embedkit.dataset.version import Version
from embedkit.errors import InputError, ResumableError
from embedkit.flow.check_ids import IdLook, check_ids_by_workers

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


def write_inputs(folder: Path, rows: int) -> CorpusConfig:
    """A file of each format whose records are far more than its beginning."""
    folder.mkdir()
    ids = [f"{form}-{row:06d}" for form in range(3) for row in range(rows)]
    ids[-1] = ids[5]
    texts = [f"{n * 0x9E3779B97F4A7C15:0400x}" for n in range(3 * rows)]
    parts = [(ids[n * rows : (n + 1) * rows], texts[n * rows : (n + 1) * rows]) for n in range(3)]
    lines = [json.dumps({"id": one, "text": text}) for one, text in zip(*parts[0], strict=True)]
    (folder / "a.jsonl").write_text("\n".join(lines))
    lines = [f"{one},{text}" for one, text in zip(*parts[1], strict=True)]
    (folder / "b.csv").write_text("\n".join(["id,text", *lines]))
    table = pa.table({"id": parts[2][0], "text": parts[2][1]})
    plain = {"compression": "none", "use_dictionary": False}
    pq.write_table(table, folder / "c.parquet", row_group_size=rows // 4, **plain)
    return CorpusConfig(inputs=(str(folder),), id_column="id", split_bytes=1 << 20)


def test_the_driver_reads_no_more_than_headers_and_footers(tmp_path, monkeypatch):
    read: list[int] = []
    original = RawFile.read

    def counted(file: RawFile, size: int = -1) -> bytes:
        data = original(file, size)
        read.append(len(data))
        return data

    driver = []
    for rows in (6_000, 18_000):
        config = write_inputs(tmp_path / f"in-{rows}", rows)
        # In this process alone, so what its workers read is not counted.
        with monkeypatch.context() as patched:
            patched.setattr(RawFile, "read", counted)
            read.clear()
            plan = plan_inputs(config)
            version = Version(str(tmp_path / "out"), f"v{rows}")
            found = check_ids_by_workers(plan, config, version, MapOnRay(0, 60))
            driver.append(sum(read))
        assert found.duplicates == 1
        stored = sum(path.stat().st_size for path in (tmp_path / f"in-{rows}").iterdir())
        assert stored > rows * 3 * 400
    few, many = driver
    # Three times as many records, and not a record more that the driver reads; the rest is what
    # the plan looks at of any file.
    assert many - few < 10_000
