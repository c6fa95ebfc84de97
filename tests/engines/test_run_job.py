"""From a job to its result: the figures, and what a second or a resumed run does."""

import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from running import Dataset, write_jsonl

from embedkit.dataset.committed import committed
from embedkit.dataset.growing import growing_listing
from embedkit.dataset.prune import Policy, Prune
from embedkit.dataset.status import status
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.plain import PlainWork
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, ResumableError
from embedkit.flow import beats
from embedkit.flow.prepare import prepare
from embedkit.reports.account import RunAccount
from embedkit.reports.statistics import Sidecar


def files(root: Path) -> dict[Path, tuple[int, int, int]]:
    """Every file below a folder, with what changes when it is written."""
    found = {path: path.stat() for path in root.rglob("*") if path.is_file()}
    return {path: (stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in found.items()}


def report_of(result: RunAccount) -> dict:
    return json.loads(Path(result.report).with_name("report.json").read_text())


def test_the_result_against_the_rows_themselves(make_job):
    before = time.time()
    result = run_job(make_job())
    wall = time.time() - before
    dataset = Dataset.latest(result.dataset.rpartition("/")[0])
    dataset.check_accounts(180)
    counts = dataset.table["n_tokens"].to_numpy()
    assert result.version == dataset.folder.name
    assert (result.documents, result.rows, result.rejects) == (180, 180, 0)
    assert result.tokens == int(np.minimum(counts, 24).sum())
    assert result.truncated_share == pytest.approx(float((counts > 24).mean()))
    assert 0 < result.truncated_share < 1
    assert (result.rows_resumed, result.already_complete) == (0, False)
    # The corpus has no text twice.
    assert result.tokens_encoded == result.tokens
    assert 0 < result.encode_seconds <= wall
    assert 0 < result.encoder_busy_share <= 1
    assert result.tokens_per_second == pytest.approx(result.tokens_encoded / result.encode_seconds)
    assert Path(result.report).is_file()
    assert result.report == f"{dataset.folder}/report/report.html"


def test_a_job_in_a_process_that_has_run_another(make_job, tmp_path):
    """The encoder stays loaded; what it did for the first job is not the second's."""
    run_job(make_job(output=tmp_path / "first"))
    time.sleep(0.3)
    before = time.time()
    second = run_job(make_job(output=tmp_path / "second"))
    assert second.encode_seconds <= time.time() - before
    assert second.tokens_encoded == second.tokens


def test_a_finished_job_is_found_finished_and_left_alone(make_job, tmp_path, caplog):
    job = make_job()
    first = run_job(job)
    before = files(tmp_path)
    caplog.clear()
    with caplog.at_level(logging.INFO, "embedkit"):
        again = run_job(job)
    assert files(tmp_path) == before
    assert caplog.records == []
    assert again.already_complete
    assert (again.version, again.rows, again.tokens) == (first.version, first.rows, first.tokens)
    assert (again.tokens_encoded, again.encode_seconds) == (0, 0.0)
    assert again.rows_resumed == first.rows
    assert again.report == first.report


def test_the_most_frequent_reason_is_said_first_whether_it_was_just_found_or_read(
    make_job, tmp_path
):
    rows = [{"id": one, "text": text} for one, text in zip("abca", ("a", "", "", "b"), strict=True)]
    corpus = write_jsonl(tmp_path / "rejects" / "a.jsonl", rows)
    job = make_job(max_reject_share=1.0).model_copy(update={"inputs": (str(corpus),)})
    for _ in range(2):
        reasons = run_job(job).reject_reasons
        assert list(reasons.items()) == [("empty_text", 2), ("duplicate_id", 1)]


def test_a_resumed_run_encodes_only_the_rest(make_job, embed_some, tmp_path, caplog):
    job = prepare(make_job())
    splits = job.plan.splits
    assert len(splits) > 3
    tokens = embed_some(job, splits[:2])
    with caplog.at_level(logging.INFO, "embedkit"):
        result = run_job(make_job())
    assert (result.documents, result.rows) == (180, 180)
    assert 0 < result.rows_resumed < 180
    assert result.tokens_encoded == result.tokens - tokens
    assert caplog.records[0].getMessage() == (
        f"version {result.version}: {len(splits) - 2} of {len(splits)} splits to do, "
        f"{result.rows_resumed} rows committed before"
    )
    whole = run_job(make_job(output=tmp_path / "whole"))
    assert (
        Dataset.latest(tmp_path / "out").part_hashes
        == Dataset.latest(whole.dataset.rpartition("/")[0]).part_hashes
    )
    resumed, undisturbed = report_of(result), report_of(whole)
    assert resumed.pop("run")["rows_resumed"] == result.rows_resumed
    assert undisturbed.pop("run")["rows_resumed"] == 0
    assert resumed == undisturbed


def test_a_run_that_stopped_before_its_report_only_completes(make_job, embed_some, tmp_path):
    job = prepare(make_job())
    embed_some(job, job.plan.splits)
    # All but the heartbeat, which a complete version has no more.
    job.version.store.remove(job.version.heartbeat_key)
    standing = files(tmp_path / "out")
    result = run_job(make_job())
    assert (result.rows, result.rows_resumed, result.tokens_encoded) == (180, 180, 0)
    assert (result.encode_seconds, result.encoder_busy_share) == (0.0, 0.0)
    after = files(tmp_path / "out")
    assert {path: after[path] for path in standing if ".tmp" not in path.parts} == {
        path: seen for path, seen in standing.items() if ".tmp" not in path.parts
    }
    Dataset.latest(tmp_path / "out").check_accounts(180)


def test_a_run_says_that_it_writes_and_what_is_committed(make_job, tmp_path, monkeypatch):
    monkeypatch.setattr(beats, "_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(beats, "BEAT_SECONDS", 0.02)
    run = PlainWork.run

    def stop(work, host):
        run(replace(work, splits=work.splits[:2]), host)
        reached.append(work.documents())
        deadline = time.monotonic() + 60
        while (found := growing_listing(version)) is None or found.documents < reached[-1]:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        listed.append(found)
        assert status(version).state == "running"
        raise ResumableError("stopped")

    reached, listed = [], []
    version = prepare(make_job()).version
    monkeypatch.setattr(PlainWork, "run", stop)
    for _ in range(2):
        with pytest.raises(ResumableError, match="stopped"):
            run_job(make_job())
        records = committed(version).values()
        assert [one.path for one in listed[-1].parts] == [one.part for one in records if one.part]
        assert listed[-1].rows == sum(one.rows for one in records)
        assert listed[-1].description["recipe"]
    # What a resumed run lists, it lists with what was there before.
    assert 0 < listed[0].rows < listed[1].rows < 180
    told = status(version)
    assert (told.rows, told.splits) == (listed[1].rows, len(prepare(make_job()).plan.splits))
    assert told.splits_ended == 4
    assert 0 < told.share < 1
    monkeypatch.setattr(PlainWork, "run", run)
    assert run_job(make_job()).rows == 180
    for key in (version.heartbeat_key, version.growing_key):
        assert version.store.size(key) is None
    assert validate(version).problems == ()
    assert (status(version).state, status(version).rows) == ("complete", 180)


def test_another_job_makes_another_version(make_job, tmp_path):
    first = run_job(make_job())
    second = run_job(make_job(max_tokens=20))
    third = run_job(make_job(id_column=None))
    assert len({first.version, second.version, third.version}) == 3
    assert (tmp_path / "out" / "LATEST").read_text().strip() == third.version
    assert run_job(make_job()).version == first.version
    assert (tmp_path / "out" / "LATEST").read_text().strip() == third.version


def test_a_version_s_name_belongs_to_one_job(make_job):
    run_job(make_job(version="mine"))
    with pytest.raises(ConfigError, match="begun with another model or other settings"):
        run_job(make_job(version="mine", max_tokens=20))
    with pytest.raises(ConfigError, match="begun with other settings of its rows"):
        run_job(make_job(version="mine", store_text=True))


def test_what_does_not_change_rows_or_vectors_changes_no_version(make_job):
    first = run_job(make_job())
    again = run_job(make_job(calls_in_flight=3, call_tokens=99, max_reject_share=1.0, workers=7))
    assert again.already_complete
    assert again.version == first.version


@pytest.mark.parametrize(
    ("settings", "shown"), [({}, False), ({"store_text": True}, True), ({"excerpts": True}, True)]
)
def test_texts_show_where_they_are_stored_or_asked_for(make_job, tmp_path, settings, shown):
    path = tmp_path / "docs.jsonl"
    rows = [{"id": str(n), "text": f"secret text {n}"} for n in range(40)]
    lines = [*map(json.dumps, rows), '{"id": "x", "text": "secret" "broken"}']
    path.write_text("\n".join(lines))
    result = run_job(
        make_job(output=tmp_path / "out", **settings).model_copy(update={"inputs": (str(path),)})
    )
    folder = Path(result.dataset)
    (reject,) = Dataset(folder).rejects
    assert reject["reason"] == "invalid_json"
    assert ("secret" in reject["excerpt"]) is shown
    for name in ("report.html", "report.json"):
        assert ("secret" in (folder / "report" / name).read_text()) is shown
    meta = {file: file.read_bytes() for file in (folder / "_meta").rglob("*.json")}
    assert not any(b"secret" in data for data in meta.values())
    sidecars = [
        Sidecar.from_json(data, file.stem)
        for file, data in meta.items()
        if file.parent.name == "stats"
    ]
    kept = [text for sidecar in sidecars for text in sidecar.statistics.keys.texts]
    # Where parts hold the texts, a report finds them there.
    assert len(kept) == (40 if "excerpts" in settings else 0)


@pytest.mark.soak
def test_a_version_that_took_rows_over_stands_when_the_earlier_one_is_pruned(make_job, tmp_path):
    """Its copied parts are its own, and the next version takes rows over from it in turn."""
    first = run_job(make_job())
    (shard, *_) = sorted((tmp_path / "in").glob("*.jsonl"))
    lines = shard.read_text().splitlines()
    changed = json.loads(lines[0]) | {"text": "another text"}
    shard.write_text("\n".join([json.dumps(changed), *lines[1:]]) + "\n")
    second = run_job(make_job())
    assert second.rows_reused > 170
    root = first.dataset.rpartition("/")[0]
    gone = [one.version for one in Prune(root, Policy(1)).remove() if one.goes]
    assert gone == [first.version]
    assert validate(Version(root, second.version)).problems == ()
    third = run_job(make_job(version="third"))
    assert (third.rows_reused, third.tokens_encoded) == (third.rows, 0)
    assert validate(Version(root, "third")).problems == ()
