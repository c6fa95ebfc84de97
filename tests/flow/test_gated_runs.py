"""Whole runs with gates: what is complete, published and said, and what goes on as before."""

import json
import time

import pytest
from blocks import Job
from calling import call
from costless import WORDS, CostlessEngine, MemoryFiles, costless_model, make_costless
from fsspec.implementations.memory import MemoryFileSystem

from embedkit.config import JobConfig
from embedkit.dataset.publication import number_of
from embedkit.dataset.removal import claim_removal
from embedkit.dataset.status import status_of
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, latest, latest_name
from embedkit.dataset.version_list import list_versions
from embedkit.engines.run import run_job
from embedkit.errors import (
    ConfigError,
    EmbedkitError,
    GatesFailedError,
    IntegrityError,
    RejectsExceededError,
    RemovedError,
    ResumableError,
)
from embedkit.flow.publish import raise_where_refused
from embedkit.flow.publish_by_hand import publish_version
from embedkit.reports.account import RunAccount

pytestmark = pytest.mark.usefixtures("logging_restored")

ROOT = "memory://gated"
CUT = "truncated_share>0.2"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The engine of the run that begins next, which counts what it encodes."""
    MemoryFileSystem.store.clear()
    made = [CostlessEngine(costless_model(tmp_path))]
    make_costless(monkeypatch, lambda: made[-1], reports=True)
    yield made[0]
    MemoryFileSystem.store.clear()


def files(cut: int = 3, rows: int = 10, empty: int = 0) -> MemoryFiles:
    """So many documents, the first of which are longer than the model sees, the last are empty."""
    found = MemoryFiles("/corpus")
    texts = [" ".join(WORDS[: 12 if n < cut else 4]) + f" {WORDS[n]}" for n in range(rows)]
    texts[rows - empty :] = [""] * empty
    found.write("a.jsonl", [{"id": str(n), "text": text} for n, text in enumerate(texts)])
    return found


def run(*gates: str, **changes) -> RunAccount:
    settings = {"inputs": ("memory://corpus",), "model": "costless", "output": ROOT,
                "id_column": "id", "engine": "plain", "fail_on": gates}  # fmt: skip
    return run_job(JobConfig(**(settings | changes)))


def said(version: str, name: str = "report.json") -> str:
    return open_store(ROOT).read(f"{version}/report/{name}").decode()


def test_a_failed_gate_leaves_a_complete_version_and_latest_where_it_was(engine):
    files(cut=0)
    before = run(CUT)
    assert (before.refusal, before.published, latest(ROOT).name) == (None, True, before.version)
    files(cut=3)
    result = run(CUT, "errors>0")
    version = Version(ROOT, result.version)
    assert (result.published, version.is_complete(), number_of(version)) == (False, True, 0)
    assert validate(version).problems == ()
    assert latest(ROOT).name == before.version
    assert result.refusal == (
        "gate truncated_share>0.2: the figure is 0.3, 0.1 above 0.2; version "
        f"{version.name} is complete, but not published; see {version.url}/report, then mend the "
        f"inputs or settings, or publish it by hand: embedkit publish {version.url}; LATEST stays "
        "where it was"
    )
    report = json.loads(said(version.name))
    first, second = report["gates"]
    assert first == {
        "expression": CUT, "figure": 0.3, "limit": 0.2, "passed": False,
        "by": pytest.approx(0.1), "why": "the figure is 0.3, 0.1 above 0.2",
    }  # fmt: skip
    assert (second["expression"], second["passed"]) == ("errors>0", True)
    assert report["verdict"]["sentence"].startswith(f"May not go live: gate {CUT}: the figure is")
    assert json.loads(result.to_json())["gates"] == report["gates"]
    assert json.loads(result.to_json())["verdict"] == report["verdict"]
    assert "✗ May not go live: gate truncated_share&gt;0.2" in said(version.name, "report.html")
    with pytest.raises(GatesFailedError, match="gate truncated_share"):
        raise_where_refused(result)


def test_the_same_job_says_the_same_again_and_encodes_nothing(engine):
    files()
    first = run(CUT)
    store = open_store(ROOT)
    before = {key: store.read(key) for key in store.list("")}
    asked = len(engine.encoder.asked)
    again = run(CUT)
    assert (again.refusal, again.gates, again.verdict) == (
        first.refusal,
        first.gates,
        first.verdict,
    )
    assert {key: store.read(key) for key in store.list("")} == before
    assert len(engine.encoder.asked) == asked
    # Where none was, none is.
    assert latest_name(store) is None


def test_other_gates_judge_what_is_complete_anew(engine):
    files()
    kept_back = run(CUT)
    published = run("truncated_share>0.4")
    assert (published.refusal, published.version) == (None, kept_back.version)
    assert latest(ROOT).name == kept_back.version
    assert json.loads(said(published.version))["verdict"]["may_go_live"]
    assert "May go live, but: 30 % of rows were" in said(published.version, "report.html")
    # What was published stays so, whatever is asked of it later.
    strict = run("truncated_share>0.1")
    assert (strict.published, latest(ROOT).name) == (True, kept_back.version)
    assert strict.refusal.endswith("; it was published before")
    assert "May not go live" in said(strict.version, "report.html")
    assert validate(Version(ROOT, strict.version)).problems == ()


def test_a_report_that_is_gone_is_made_anew_before_it_is_judged(engine):
    files()
    first = run(CUT)
    page = said(first.version, "report.html")
    for name in ("report.json", "report.html"):
        open_store(ROOT).remove(f"{first.version}/report/{name}")
    assert run(CUT).gates == first.gates
    assert said(first.version, "report.html").count("verdict") == page.count("verdict")


def test_a_gate_without_its_figure_is_a_failed_one(engine):
    files(cut=0)
    result = run("novelty.centroid_cosine<0.98", "truncation.rowshare>0.2")
    assert not result.published
    assert "gates novelty.centroid_cosine<0.98: the report has no such figure" in result.refusal
    assert "rowshare>0.2: the report has no such figure; it has truncation.row_share" in (
        result.refusal
    )
    assert latest_name(open_store(ROOT)) is None
    assert run("drift.centroid_cosine?<0.98").published


def test_what_was_lost_is_said_beside_the_gates_which_decide_the_exit_code(engine):
    files(cut=3, empty=2)
    both = run(CUT, "rejects.share>0.1")
    assert "gates truncated_share>0.2: the figure is 0.375" in both.refusal
    assert "; 2 of 10 documents were rejected, more than --max-reject-share 0.01" in both.refusal
    with pytest.raises(GatesFailedError):
        raise_where_refused(both)
    lost = run("truncated_share>0.9")
    assert "2 of 10 documents were rejected" in lost.verdict["sentence"]
    with pytest.raises(RejectsExceededError):
        raise_where_refused(lost)
    # It allows what was lost, and no gate.
    kept = run(CUT, publish_anyway=True)
    assert kept.refusal.startswith("gate truncated_share>0.2: ")
    assert "--max-reject-share" not in kept.refusal
    assert run(publish_anyway=True).published


def test_the_next_night_takes_over_from_what_latest_names(engine):
    files(cut=0)
    first = run(CUT)
    files(cut=3, rows=12)
    kept_back = run(CUT)
    assert (kept_back.published, kept_back.rows_reused) == (False, 7)
    files(cut=0, rows=12)
    third = run(CUT)
    assert (third.published, third.rows_reused) == (True, 10)
    assert list(third.reused.versions) == [first.version]
    files(cut=0, rows=14)
    named = run(CUT, reuse=kept_back.version)
    assert list(named.reused.versions) == [kept_back.version]


def test_a_trial_has_gates_and_is_never_published(engine):
    files(cut=3)
    trial = run(CUT, limit=5)
    assert trial.refusal.startswith("gate truncated_share>0.2: the figure is 0.6, 0.4 above")
    passed = run("truncated_share>0.7", limit=5)
    assert (passed.refusal, passed.published) == (None, False)
    assert passed.verdict["sentence"] == "May not go live: a trial of the first 5 documents."
    with pytest.raises(ConfigError, match="a trial of the first 5 documents, which LATEST never"):
        publish_version(ROOT, trial.version)


def test_lists_and_states_tell_of_one_that_was_kept_back(engine):
    files(cut=0)
    first = run(CUT)
    files(cut=3)
    second = run(CUT)
    found = {one.version: one for one in list_versions(ROOT)}
    assert [found[one.version].latest for one in (first, second)] == [True, False]
    assert found[second.version].published is None
    lines = {line.split()[0]: line for line in call("versions", ROOT).out.splitlines()}
    assert lines[second.version].endswith("complete, not published")
    assert [one.version for one in status_of(ROOT)] == [first.version]
    assert status_of(f"{ROOT}/{second.version}")[0].state == "complete"
    assert call("info", f"{ROOT}/{second.version}", "--json").json["published"] is False


# --- publish ---


def test_latest_is_moved_forwards_and_backwards_by_hand(engine):
    files(cut=0)
    first = run(CUT).version
    files(cut=3)
    second = run(CUT).version
    answer = call("publish", f"{ROOT}/{second}")
    assert (answer.code, latest(ROOT).name) == (0, second)
    line, report = answer.out.splitlines()
    assert line == f"LATEST names {second}; before, it named {first}"
    assert report.startswith(f"  its report: May not go live: gate {CUT}: the figure is 0.3")
    back = call("publish", ROOT, "--version", first, "--json").json
    assert back == {
        "version": first, "url": f"{ROOT}/{first}", "before": second, "number": 3,
        "latest": True, "verdict": back["verdict"],
    }  # fmt: skip
    assert latest(ROOT).name == first
    assert "before, it named it already" in call("publish", f"{ROOT}/{first}").out
    # The job of the other one does not bring it back, and the next night takes its place.
    files(cut=3)
    again = run(CUT)
    assert again.refusal.endswith("; it was published before")
    assert latest(ROOT).name == first
    files(cut=0, rows=11)
    assert latest(ROOT).name != run(CUT).version != first


@pytest.mark.parametrize(
    ("path", "error", "match"),
    [
        (f"{ROOT}/gone", ConfigError, "gated/gone: there is no such version; give ROOT/VERSION"),
        (ROOT, ConfigError, "no version; give ROOT/VERSION, or ROOT and --version"),
        (f"{ROOT}/half", ResumableError, "half: not complete: 2 of 3 splits were read to their "),
        (f"{ROOT}/none", ConfigError, "none: has no rows for a reader; publish another version"),
    ],
)
def test_what_nobody_can_read_is_not_published(engine, path, error, match):
    from blocks import small_job

    from embedkit.dataset.commit import commit_block
    from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan

    files(cut=0)
    before = run().version
    job = small_job()
    half = Version(ROOT, "half")
    create_or_check_plan(half, VersionPlan("f" * 32, corpus={"splits": [0, 1, 2]}))
    for block in job.blocks[:3]:
        commit_block(half, block, job.options, 32, b"{}")
    Job([job.blocks[2]]).seal(Version(ROOT, "none"))
    with pytest.raises(error, match=match) as raised:
        publish_version(path)
    assert isinstance(raised.value, EmbedkitError)
    assert len(str(raised.value).splitlines()) == 1
    assert latest(ROOT).name == before


def gone(version: Version) -> None:
    version.store.remove(next(version.store.list(version.key("data/"))))


def torn(version: Version) -> None:
    key = next(version.store.list(version.key("data/")))
    version.store.replace(key, version.store.read(key)[:-9])


def without_manifest_to_read(version: Version) -> None:
    version.store.replace(version.manifest_key, b"{")


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (gone, r"part-\S+: gone; run the version's job again"),
        (torn, r"part-\S+: [\d,]+ bytes instead of [\d,]+; run the version's job again"),
        (without_manifest_to_read, r"manifest.json: "),
    ],
)
def test_a_damaged_one_is_not_published_by_hand(engine, damage, match):
    files(cut=0)
    before = run().version
    files(cut=3)
    version = Version(ROOT, run(CUT).version)
    damage(version)
    with pytest.raises(IntegrityError, match=match):
        publish_version(version.url)
    assert latest(ROOT).name == before
    assert number_of(version) == 0


def test_one_that_a_prune_removes_is_not_published_by_hand(engine):
    files(cut=0)
    before = run().version
    files(cut=3)
    version = Version(ROOT, run(CUT).version)
    removal = claim_removal(version, "another", time.time)
    assert not isinstance(removal, str)
    with pytest.raises(RemovedError, match="being removed by embedkit prune"):
        publish_version(version.url)
    removal.begin()
    version.store.remove(version.success_key)
    with pytest.raises(RemovedError, match="being removed by embedkit prune"):
        publish_version(version.url)
    assert latest(ROOT).name == before


def test_the_root_of_one_that_was_kept_back_says_that_none_is_published(engine):
    files(cut=3)
    kept_back = run(CUT)
    with pytest.raises(ConfigError, match="no LATEST there, so no version is published yet"):
        latest(ROOT)
    publish_version(ROOT, kept_back.version)
    # Its own job says the same again, and does not take it back.
    again = run(CUT)
    assert again.gates == kept_back.gates
    assert again.refusal == kept_back.refusal.replace(
        "LATEST stays where it was", "it was published before"
    )
    assert (again.published, latest(ROOT).name) == (True, kept_back.version)
