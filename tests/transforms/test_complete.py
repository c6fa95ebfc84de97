"""Versions that all of Beam's workers read before one of them completes them."""

import json

import pytest
from beam_running import results
from running import records, tiny_job, write_jsonl

from embedkit.dataset import finalize
from embedkit.encoders.local_client import LocalConnection
from embedkit.engines.run import run_job
from embedkit.errors import IntegrityError
from embedkit.flow.prepare import prepare
from embedkit.transforms import complete
from embedkit.transforms.embed import MakeVersion
from embedkit.transforms.read import ReadCorpus


@pytest.fixture
def corpus(tmp_path):
    """Texts of which some are in several files, and rejects in two."""
    for shard in range(3):
        rows = [*records(40, shard * 20), {"id": f"none-{shard}", "text": ""}][: 40 + shard % 2 + 1]
        rows = [{**row, "id": f"{shard}-{row['id']}"} for row in rows]
        write_jsonl(tmp_path / "in" / f"shard-{shard}.jsonl", rows)
    return tmp_path / "in"


def on_beam(job):
    settled = prepare(job)
    read = ReadCorpus(job, settled.plan, settled.make_chunker, settled.version)
    make = MakeVersion(settled, LocalConnection(settled.model), 4096, spread=True)
    (account,) = results(lambda p: p | "Read" >> read | "Make" >> make)
    return account


def said(path):
    """What a file says, but for the run that wrote it and what it ran on."""
    found = json.loads(path.read_text())
    found.pop("run", None)
    del found["dataset" if "dataset" in found else "description"]["device_name"]
    return found


@pytest.mark.parametrize("chunk", ["none", "sentences"])
def test_what_many_read_is_what_one_reads(tiny_model, corpus, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(finalize, "BLOCKS_AT_ONCE", 2)
    settings = {"id_column": "id", "chunk": chunk, "version": "v1", "max_reject_share": 0.5}
    run_job(tiny_job(tiny_model, corpus, tmp_path / "plain", **settings))
    job = tiny_job(tiny_model, corpus, tmp_path / "beam", **settings)
    account = on_beam(job)
    plain, beam = tmp_path / "plain/v1", tmp_path / "beam/v1"
    for name in ("_meta/manifest.json", "report/report.json"):
        assert said(beam / name) == said(plain / name)
    assert said(beam / "report/report.json")["duplicates"]["rows"] >= 30
    assert account.rows_resumed == 0
    # Once more there is nothing to read and nothing to write.
    before = (beam / "_SUCCESS").stat().st_mtime_ns
    assert on_beam(job).rows == account.rows
    assert (beam / "_SUCCESS").stat().st_mtime_ns == before


def test_damage_that_any_of_them_finds_ends_the_pipeline(tiny_model, corpus, tmp_path, monkeypatch):
    job = tiny_job(tiny_model, corpus, tmp_path / "beam", version="v1", id_column="id")
    read_blocks = "embedkit.flow.survey.read_blocks"

    def damaged(version, blocks):
        raise IntegrityError(f"{version.url}: block {blocks[0][0]} is damaged; restore it")

    monkeypatch.setattr(read_blocks, damaged)
    with pytest.raises(Exception, match="block 00000-00000 is damaged"):
        on_beam(job)
    assert not (tmp_path / "beam/v1/_SUCCESS").exists()


def test_splits_come_in_the_order_of_their_numbers_however_many_they_are():
    """Which is that of the parts in the manifest, on every engine."""
    splits = ("00000", "99999", "100000")
    step = complete._Complete(list, splits[::-1])
    assert list(step.process(None, 0, ["00007"])) == [["00000", "00007", "99999", "100000"]]
