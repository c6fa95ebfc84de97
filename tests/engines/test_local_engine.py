"""Beam and Ray on this machine, inside a process that has a Ray already."""

import gzip
import json

import psutil
import pytest
import ray
from processes import alive, wait_until
from running import Dataset, flags, records, start, tiny_job, write_corpus, write_jsonl

from embedkit.corpus.duplicates import check_ids
from embedkit.corpus.plan import plan_inputs
from embedkit.corpus.raw_file import RawFile
from embedkit.dataset.version import Version
from embedkit.engines import local
from embedkit.engines.display import Nothing, Snapshot
from embedkit.engines.run import run_job
from embedkit.errors import InputError
from embedkit.flow.check_ids import check_ids_by_workers

pytestmark = [pytest.mark.timeout(600), pytest.mark.usefixtures("ray_session")]


def encoder_processes() -> list[psutil.Process]:
    names = ((one, one.info["name"] or "") for one in psutil.process_iter(["name"]))
    mine = set(psutil.Process().children(recursive=True))
    return [one for one, name in names if name.startswith("ray::Encoder") and one in mine]


def test_two_encoders_and_several_workers_write_what_one_process_writes(make_job, tmp_path):
    moments: list[Snapshot] = []
    display = Nothing()
    display.show = moments.append
    result = run_job(
        make_job(engine="local", encoders=2, workers=3, call_tokens=64, output=tmp_path / "beam"),
        display,
    )
    assert moments[-1].documents == 180
    plain = run_job(make_job(output=tmp_path / "plain"))
    beam, alone = Dataset.latest(tmp_path / "beam"), Dataset.latest(tmp_path / "plain")
    beam.check_accounts(180)
    columns = [name for name in alone.table.column_names if name != "embedding"]
    assert beam.table.select(columns).equals(alone.table.select(columns))
    assert (result.tokens, result.tokens_encoded) == (plain.tokens, plain.tokens)
    assert 0 < result.encoder_busy_share <= 1
    assert result.encode_seconds > 0
    assert result.tokens_per_second == pytest.approx(result.tokens_encoded / result.encode_seconds)
    report = json.loads((beam.folder / "report" / "report.json").read_text())
    assert report["run"]["encoders"] == 2
    assert ray.is_initialized()
    wait_until(lambda: not any(map(alive, encoder_processes())))


@pytest.mark.soak
def test_an_encoder_of_ray_s_tells_that_it_compiles(make_job):
    """In a process of its own, as other tests change what this one's Ray is asked with."""
    process = start("run", *flags(make_job(engine="local", backend="openvino", block_rows=512)))
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    phases = ["starting Ray", "loading the model", "compiling the model", "completing the version"]
    said = [phase for line in err.splitlines() for phase in phases if line.endswith(phase)]
    assert said == phases


def test_a_fault_inside_the_pipeline_is_said_as_if_there_were_no_pipeline(tiny_model, tmp_path):
    """A file that unpacks to more than is allowed, which shows long after the plan."""
    lines = "".join(json.dumps(row) + "\n" for row in records(2000)).encode()
    bomb = tmp_path / "bomb.jsonl.gz"
    bomb.write_bytes(gzip.compress(lines))
    settings = {"block_rows": 256, "max_decompressed_bytes": 100_000}
    faults = {}
    for engine in ("plain", "local"):
        job = tiny_job(tiny_model, bomb, tmp_path / engine, engine=engine, **settings)
        with pytest.raises(InputError) as raised:
            run_job(job)
        faults[engine] = str(raised.value)
        assert not (tmp_path / engine / "LATEST").exists()
    assert faults["local"] == faults["plain"]
    assert faults["plain"].startswith(f"{bomb}: ")
    wait_until(lambda: not any(map(alive, encoder_processes())))


def test_ids_of_more_than_a_little_are_looked_at_by_other_processes(
    tiny_model, tmp_path, monkeypatch
):
    corpus = write_corpus(tmp_path / "in", shards=3, rows=40)
    write_jsonl(tmp_path / "in" / "shard-3.jsonl", records(40, 20))
    job = tiny_job(tiny_model, corpus, tmp_path / "out", id_column="id")
    plan, version = plan_inputs(job), Version(str(tmp_path / "out"), "v1")
    expected = check_ids(plan, job)
    assert expected.duplicates == 40
    monkeypatch.setattr(local, "_READ_HERE", 0)
    with monkeypatch.context() as patched, local.LocalEngine(job, Nothing()) as engine:
        # In this process alone.
        patched.setattr(RawFile, "read", None)
        assert check_ids_by_workers(plan, job, version, engine.map_splits) == expected
