"""A run of a version of which a file is torn, and a run that was stopped before its end."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
from running import Dataset, tiny_job, write_corpus, write_jsonl
from typer.testing import CliRunner

from embedkit.cli.app import app
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version
from embedkit.engines.plain import PlainWork
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, IntegrityError
from embedkit.flow import complete
from embedkit.flow.prepare import prepare
from embedkit.formats.canonical import canonical_json, sha256, with_checksum


def contents(folder: Path) -> dict[str, bytes]:
    """All files but the report, whose figures of the run differ."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in files
        if path.parent.name != "report"
    }


@pytest.fixture
def job(make_job, tmp_path):
    """Three shards, one of them with lines that are no records."""
    write_jsonl(tmp_path / "in" / "shard-00.jsonl", [{"id": "x", "text": ""}, {"id": "y"}])
    return make_job(max_reject_share=0.5)


@pytest.fixture
def stopped(job, monkeypatch):
    """The folder of the job's version, all splits done but one, and nothing completed."""
    settled = prepare(job)
    embed = PlainWork.run

    def all_but_the_last(work, host):
        work.splits = work.splits[:-1]
        embed(work, host)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(PlainWork, "run", all_but_the_last)
        with pytest.raises(KeyboardInterrupt):
            run_job(job)
    return Path(settled.version.url)


@pytest.fixture
def undisturbed(job, tmp_path):
    done = run_job(job.model_copy(update={"output": str(tmp_path / "undisturbed")}))
    return contents(Path(done.dataset))


@pytest.fixture
def warnings(caplog, monkeypatch):
    """What is logged, whatever became of the root logger in this process before."""
    log = logging.getLogger("embedkit")
    monkeypatch.setattr(log, "handlers", [*log.handlers, caplog.handler])
    monkeypatch.setattr(log, "disabled", False)
    with caplog.at_level(logging.WARNING, log.name):
        yield caplog


KINDS = ["plan", "device", "commits", "splits", "stats", "rejects", "data"]


def one_of(folder: Path, kind: str) -> Path:
    if kind in ("plan", "device"):
        return folder / "_meta" / f"{kind}.json"
    below = folder if kind in ("rejects", "data") else folder / "_meta"
    return sorted((below / kind).iterdir())[0]


def test_stopped_and_torn_anywhere_the_next_run_ends_in_the_same_bytes(
    job, stopped, undisturbed, warnings
):
    kept = stopped.parent / "kept"
    shutil.copytree(stopped, kept)
    for kind in KINDS:
        for share in (0, 2):
            shutil.rmtree(stopped)
            shutil.copytree(kept, stopped)
            for mark in ("LATEST", ".numbers/00000001"):
                (stopped.parent / mark).unlink(missing_ok=True)
            path = one_of(stopped, kind)
            os.truncate(path, path.stat().st_size * share // 4)
            warnings.clear()
            result = run_job(job)
            assert (result.documents, result.rows, result.rejects) == (182, 180, 2)
            assert contents(stopped) == undisturbed, kind
            if kind != "plan":
                assert any(path.name in message for message in warnings.messages), kind
    assert validate(find_version(str(stopped.parent))).problems == ()


def test_a_card_that_another_release_wrote_is_written_anew_as_this_one_does(job):
    folder = Path(run_job(job).dataset)
    mark = json.loads((folder / "_SUCCESS").read_text())
    changed = with_checksum(mark | {"card_sha256": sha256(b"another card")})
    (folder / "_SUCCESS").write_bytes(canonical_json(changed))
    (folder / "README.md").write_text("")
    run_job(job)
    assert validate(find_version(str(folder))).problems == ()


@pytest.mark.parametrize("kind", ["stats", "rejects", "splits", "commits"])
@pytest.mark.few(2)
def test_json_of_another_shape_is_named_and_the_remedy_works(job, stopped, undisturbed, kind):
    path = one_of(stopped, kind)
    path.write_text('{"documents": "many"}\n' if kind != "stats" else "{}\n")
    try:
        run_job(job)
    except IntegrityError as error:
        assert str(path) in str(error)
        assert "remove it" in str(error)
        path.unlink()
        run_job(job)
    else:
        # These have their checksum in the commit record.
        assert kind in ("rejects", "stats")
    assert contents(stopped) == undisturbed


def test_a_run_stopped_after_its_last_block_says_the_same_of_its_device(
    job, undisturbed, monkeypatch
):
    def stop(*_: object, **settings: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(complete, "complete_version", stop)
        with pytest.raises(KeyboardInterrupt):
            run_job(job)
    result = run_job(job)
    assert result.tokens_encoded == 0
    assert contents(Path(result.dataset)) == undisturbed


@pytest.mark.parametrize("name", ["report/report.json", "report/report.html", "README.md"])
@pytest.mark.parametrize("how", ["gone", "empty", "half"])
@pytest.mark.few(3)
def test_the_report_and_the_card_of_a_complete_version_are_made_anew(job, name, how):
    done = run_job(job)
    path = Path(done.dataset, name)
    before = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        os.truncate(path, 0 if how == "empty" else len(before) // 2)
        assert any(name in one for one in validate(find_version(done.dataset)).problems)
    run_job(job)
    if name == "README.md":
        assert path.read_bytes() == before
    elif name.endswith("json"):
        now, then = json.loads(path.read_bytes()), json.loads(before)
        assert {**now, "run": None} == {**then, "run": None}
    else:
        assert path.read_text().rstrip().endswith("</html>")
    assert validate(find_version(done.dataset)).problems == ()


def test_a_complete_version_of_which_more_is_torn(job):
    done = run_job(job)
    folder = Path(done.dataset)
    for name in ("_SUCCESS", "_meta/manifest.json", "_PUBLISHED", "_meta/plan.json", "../LATEST"):
        path = folder / name
        before = path.read_bytes()
        os.truncate(path, len(before) // 2 if len(before) > 20 else 0)
        run_job(job)
        assert path.read_bytes() == before, name
    assert validate(find_version(str(folder.parent))).problems == ()


def flipped(data: bytes) -> bytes:
    """A digit, or the byte in the middle, is another one; the file can still be read as text."""
    place = next((n for n, byte in enumerate(data) if n > len(data) // 3 and 48 <= byte < 58), None)
    place = len(data) // 2 if place is None else place
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


DAMAGES = {
    "half": lambda data: data[: len(data) // 2],
    "flipped": flipped,
    "another version's": None,
}
OF_COMPLETE = [
    "_meta/plan.json", "_meta/device.json", "_meta/commits", "_meta/splits", "_meta/stats",
    "rejects", "data", "_meta/manifest.json", "_SUCCESS", "_PUBLISHED", "README.md", "../LATEST",
    "../.numbers/00000002",
]  # fmt: skip


def damage(path: Path, how: str, other: Path) -> None:
    data = path.read_bytes()
    path.unlink()
    change = DAMAGES[how]
    path.write_bytes(other.read_bytes() if change is None else change(data))


@pytest.fixture(scope="module")
def two_versions(tiny_model, tmp_path_factory):
    """Two versions of one root, their jobs, and all that is in the second."""
    folder = tmp_path_factory.mktemp("two")
    corpus = write_corpus(folder / "in")
    write_jsonl(folder / "in" / "shard-00.jsonl", [{"id": "x", "text": ""}, {"id": "y"}])
    settings = {"id_column": "id", "max_reject_share": 0.5}
    out = folder / "out"
    jobs = [tiny_job(tiny_model, corpus, out, max_tokens=tokens, **settings) for tokens in (9, 24)]
    first, second = (Path(run_job(job).dataset) for job in jobs)
    shutil.copytree(out, folder / "kept")
    return jobs[1], first, second


@pytest.fixture
def second_of_two(two_versions):
    """The same, and whatever was done to them undone."""
    job, first, second = two_versions
    shutil.rmtree(second.parent)
    shutil.copytree(second.parent.with_name("kept"), second.parent)
    return job, first, second


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", OF_COMPLETE)
@pytest.mark.few(14)
def test_the_remedy_for_any_damage_to_a_complete_version_works(second_of_two, name, how):
    job, first, second = second_of_two
    before = contents(second)
    paths = [folder / name for folder in (second, first)]
    mine, others = (sorted(one.iterdir())[0] if one.is_dir() else one for one in paths)
    if how == "another version's" and name.startswith("../"):
        others = second / "README.md"
    damage(mine, how, others)
    for _ in range(9):
        problems = validate(Version(str(second.parent), second.name)).problems
        if not problems:
            break
        assert any(mine.name in one or "not complete" in one for one in problems), problems
        assert not any("belongs to nothing" in one for one in problems)
        file, _, rest = problems[0].partition(": ")
        if problems[0].endswith("into it"):
            (second.parent / "LATEST").write_text(f"{second.name}\n")
            continue
        if "remove it" in rest:
            Path(file).unlink()
        assert "job again" in rest, rest
        assert run_job(job).rows == 180
    else:
        pytest.fail(f"the remedies do not help: {problems}")
    after = contents(second)
    if name in ("_meta/device.json", "_PUBLISHED"):
        # Nothing says that there has to be one.
        after.setdefault(name, before[name])
    assert after == before
    assert find_version(str(second.parent)).name == second.name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text_column": "title"}, "text_column: title, was text"),
        ({"id_column": None}, "id_column: not set, was id"),
        ({"block_rows": 8, "store_text": True}, "block_rows: 8, was 16; store_text: true, was fal"),
        ({"max_tokens": 12}, "max_tokens: 12, was 24"),
        ({"chunk": "tokens", "chunk_tokens": 9}, "chunk: tokens, was none; chunk_tokens: 9, was n"),
        ({"vector_dtype": "float16"}, "vector_dtype: float16, was float32"),
    ],
)
@pytest.mark.few(2)
def test_another_job_under_a_used_name_is_told_what_differs(make_job, changes, said):
    run_job(make_job(version="v1"))
    with pytest.raises(ConfigError) as caught:
        run_job(make_job(**{"version": "v1", **changes}))
    assert f"({said}" in str(caught.value)
    assert str(caught.value).endswith("give this job another version name, or none")


def test_other_inputs_under_a_used_name_are_named(make_job, tmp_path):
    run_job(make_job(version="v1"))
    write_jsonl(tmp_path / "in" / "shard-9.jsonl", [{"id": "z", "text": "more"}])
    with pytest.raises(
        ConfigError, match=r"other inputs \(shard-9\.jsonl: 28 bytes .*, was not th"
    ):
        run_job(make_job(version="v1"))


@pytest.mark.usefixtures("logging_restored")
class TestInfo:
    def test_an_unfinished_version_is_told_by_its_root(self, stopped):
        answer = CliRunner().invoke(app, ["info", str(stopped.parent), "--json"])
        told = json.loads(answer.stdout)
        assert told["version"] == stopped.name
        assert (told["complete"], told["published"]) == (False, False)
        planned = len(json.loads((stopped / "_meta" / "plan.json").read_text())["corpus"]["splits"])
        assert (told["splits"], told["splits_ended"]) == (planned, planned - 1)
        assert 0 < told["rows"] <= 180
        text = CliRunner().invoke(app, ["info", str(stopped.parent)]).stdout
        assert stopped.name in text

    def test_several_of_them(self, stopped):
        shutil.copytree(stopped, stopped.parent / "other")
        told = json.loads(CliRunner().invoke(app, ["info", str(stopped.parent), "--json"]).stdout)
        assert {one["version"] for one in told["versions"]} == {stopped.name, "other"}

    @pytest.mark.parametrize("command", ["info", "validate", "search"])
    def test_what_is_no_root(self, job, tmp_path, command):
        dataset = Dataset.latest(Path(run_job(job).dataset).parent)
        (tmp_path / "empty").mkdir()
        (tmp_path / "file").write_text("v1\n")
        shutil.copytree(dataset.folder / "data", tmp_path / "copied" / "data")
        others = {
            "nowhere": "there is no such directory",
            "empty": "neither a version nor a root",
            "file": "it is a file",
            "copied": "it has data/ but no _meta/; copy the whole folder",
        }
        for name, said in others.items():
            words = [command, str(tmp_path / name), *(["text"] if command == "search" else [])]
            error = CliRunner().invoke(app, words, standalone_mode=False).exception
            assert isinstance(error, ConfigError)
            assert said in str(error)
