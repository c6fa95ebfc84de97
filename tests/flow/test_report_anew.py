"""Reports made anew from a version alone, held against what its run had written."""

import io
import json

import pyarrow.parquet as pq
import pytest
from calling import call
from costless import WORDS, CostlessEngine, MemoryFiles, costless_model, make_costless
from fsspec.implementations.memory import MemoryFileSystem
from releases import FIXTURES, copy_of_root, version_of

from embedkit.config import JobConfig
from embedkit.dataset.stores import open_store
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, IntegrityError, ResumableError
from embedkit.flow.report import put_report
from embedkit.flow.report_anew import make_report_anew
from embedkit.flow.verdict import read_report
from embedkit.reports.report import report_json
from embedkit.reports.sections.evaluation import with_evaluation
from embedkit.reports.verdict import judged

pytestmark = pytest.mark.usefixtures("logging_restored")

ROOT = "memory://anew"
JSON = "report/report.json"
SECRET = "confidential"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where the model of runs is, which cost nothing and write reports."""
    MemoryFileSystem.store.clear()
    make_costless(monkeypatch, lambda: CostlessEngine(costless_model(tmp_path)), reports=True)
    yield tmp_path
    MemoryFileSystem.store.clear()


def run(rows: int = 12, **changes: object) -> Version:
    """A version of texts of which some repeat, some are cut, and some records are rejected."""
    found = MemoryFiles("/corpus")
    begin = [f"{SECRET} " * (n % 2) + " ".join(WORDS[: 3 + 3 * (n % 4)]) for n in range(rows)]
    texts = [f"{text} {WORDS[n // 2]}" for n, text in enumerate(begin)]
    for name in ("a", "b"):
        found.write(f"{name}.jsonl", [{"id": f"{name}{n}", "text": t} for n, t in enumerate(texts)])
    found.write("c.jsonl", [{"id": "c0", "text": "", "note": f"{SECRET} note"}])
    settings = {"inputs": ("memory://corpus",), "model": "costless", "output": ROOT,
                "id_column": "id", "engine": "plain", "max_reject_share": 0.5}  # fmt: skip
    return Version(ROOT, run_job(JobConfig(**(settings | changes))).version)


def files(version: Version) -> dict[str, bytes]:
    return {key: version.store.read(key) for key in version.store.list("")}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"store_text": True},
        {"store_text": True, "excerpts": False},
        {"excerpts": True, "near_duplicates": "off"},
        {"fail_on": ("truncated_share>0.2", "errors>0"), "near_duplicates": "0.999"},
        {"max_reject_share": 0.0},
        {"limit": 5},
    ],
)
def test_it_is_what_the_run_wrote_to_the_byte(folder, settings):
    version = run(**settings)
    before = files(version)
    # Neither the inputs nor the model is read.
    open_store("memory://corpus").remove("a.jsonl")
    (folder / "tokenizer.json").unlink()
    for kept in (True, False):
        if not kept:
            version.store.replace(version.key("report/report.html"), b"torn")
        found, report = make_report_anew(version.url)
        assert (found.name, report) == (version.name, json.loads(before[found.key(JSON)]))
        assert files(version) == before


def test_a_version_that_took_rows_over(folder):
    run()
    version = run(13)
    before = files(version)
    assert read_report(version)["reuse"]["rows_reused"] == 24
    make_report_anew(version.url)
    assert files(version) == before


def test_what_came_of_an_evaluation_stays(folder):
    version = run(fail_on=("sts.spearman<0.5",))
    evaluation = {"asked": "x", "sts": {}, "retrieval": {}, "storage": {}}
    report = with_evaluation(read_report(version), evaluation | {"sts.spearman": 0.25})
    report = judged(report, [])
    put_report(version, report)
    before = files(version)
    assert make_report_anew(version.url)[1]["evaluation"] == report["evaluation"]
    assert files(version) == before


def told(version: Version) -> list[str]:
    """The files of a version's report that tell of a text."""
    found = version.store.list(version.key("report/"))
    return [key for key in found if SECRET in spelled(key, version.store.read(key))]


def spelled(key: str, data: bytes) -> str:
    """What a file holds, which some have compressed."""
    if key.endswith(".parquet"):
        return str(pq.read_table(io.BytesIO(data)).to_pylist())
    return data.decode("utf-8", "replace")


TEXTS = [{"store_text": True}, {"excerpts": True}]


@pytest.mark.parametrize("settings", TEXTS)
def test_a_report_without_texts(folder, settings):
    version = run(**settings, report_text=False)
    assert told(version) == []
    before = files(version)
    report = make_report_anew(version.url)[1]
    assert (files(version), report["texts"]) == (before, False)
    # The same job as with them, and rejects keep what excerpts allows.
    assert run(**settings).name == version.name
    assert files(version) == before
    (rejects,) = version.store.list(version.key("rejects/"))
    assert SECRET in version.store.read(rejects).decode()
    answer = call("report", version.url, "--report-text")
    assert answer.code == 0
    assert version.key(JSON) in told(version)


@pytest.mark.parametrize("settings", TEXTS)
@pytest.mark.parametrize("way", ["report", "run"])
def test_texts_go_from_a_report_that_shows_them(folder, settings, way):
    version = run(**settings)
    texts = {"id": "q", "text": SECRET, "found": [{"id": "d", "text": SECRET}]}
    sts = {
        "pairs": 1,
        "spearman": 0.5,
        "pearson": 0.5,
        "intervals": {"spearman": [0, 1], "pearson": [0, 1]},
        "worst": [texts],
    }
    spoken = with_evaluation(read_report(version), {"asked": "x", "sts": {"p.csv": sts}})
    version.store.replace(version.key(JSON), report_json(spoken))
    before = read_report(version)
    assert version.key(JSON) in told(version)
    # Of texts that are not stored, the map has none.
    assert (version.key("report/map.parquet") in told(version)) is ("store_text" in settings)
    if way == "run":
        run(**settings, report_text=False)
    else:
        assert call("report", version.url, "--no-report-text").code == 0
    assert told(version) == []
    after = read_report(version)
    assert after["run"] == before["run"]
    assert after["evaluation"]["sts"]["p.csv"]["worst"][0]["id"] == "q"


def test_no_texts_are_shown_that_the_job_does_not_allow(folder):
    version = run(store_text=True, excerpts=False)
    make_report_anew(version.url, texts=True)
    assert told(version) == []


def test_near_duplicates_that_were_found_since_are_told(folder):
    version = run(near_duplicates="off")
    assert not read_report(version)["near_duplicates"]["measured"]
    assert call("duplicates", version.url, "--threshold", "0.99").code == 0
    near = make_report_anew(version.url)[1]["near_duplicates"]
    assert (near["measured"], near["threshold"]) == (True, 0.99)


def test_without_a_report_that_stands_what_the_run_knew_is_lost(folder):
    version = run(fail_on=("truncated_share>0.2",))
    before = read_report(version)
    version.store.remove(version.key(JSON))
    report = make_report_anew(version.url, texts=True)[1]
    assert (report["run"]["encoders"], report["gates"]) == (None, [])
    same = before.keys() - {"run", "gates", "verdict"}
    assert {name: report[name] for name in same} == {name: before[name] for name in same}


@pytest.mark.parametrize("left", [None, b'{"texts": tr'])
def test_without_a_report_that_stands_no_texts_are_shown_unasked(folder, left):
    version = run(report_text=False)
    version.store.remove(version.key(JSON))
    if left is not None:
        version.store.create(version.key(JSON), left)
    assert make_report_anew(version.url)[1]["texts"] is False
    assert make_report_anew(version.url)[1]["texts"] is False


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ({"run": 3}, "at run"),
        ({"gates": [{"expression": "x"}]}, "at gates.0.expression"),
        ({"verdict": []}, "at verdict"),
    ],
)
def test_a_report_that_somebody_changed_is_named(folder, damage, where):
    version = run()
    version.store.replace(version.key(JSON), json.dumps(read_report(version) | damage).encode())
    with pytest.raises(IntegrityError, match=rf"report\.json: not what embedkit wrote, {where}"):
        make_report_anew(version.url)


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("_meta/plan.json", "plan.json: gone; restore it"),
        ("_meta/stats/00000-00000.json", "gone"),
        ("_meta/commits/00000-00000.json", "commit records of [0-9]+ of [0-9]+ blocks"),
        ("data/part-00000-00000.parquet", "gone"),
    ],
)
def test_a_file_that_is_gone_is_named(folder, gone, said):
    version = run()
    version.store.remove(version.key(gone))
    with pytest.raises((ResumableError, IntegrityError), match=said):
        make_report_anew(version.url)


def test_a_version_that_is_not_complete_or_not_there(folder):
    version = run()
    version.store.remove(version.success_key)
    answer = call("report", version.url)
    assert (answer.code, answer.error.count("\n")) == (2, 0)
    assert "not complete yet; run its job to the end first" in answer.error
    with pytest.raises(ConfigError, match="neither a version nor a root"):
        make_report_anew("memory://nowhere")


def test_the_command_prints_the_verdict_or_the_report(folder):
    version = run(fail_on=("truncated_share>0.2",))
    answer = call("report", version.url)
    assert answer.code == 0
    assert answer.out.startswith("May not go live: gate truncated_share>0.2: the figure is")
    assert f"{version.url}/report/report.html" in answer.out
    assert call("report", version.url, "--json").json == read_report(version)


COMPLETE = [
    (path.parent.name, name)
    for path in sorted(FIXTURES.glob("*/versions.json"))
    for name in json.loads(path.read_text())
    if "half-done" not in name
]


@pytest.mark.parametrize(("release", "name"), COMPLETE)
def test_a_version_of_an_earlier_release_gets_a_report_of_this_one(release, name, tmp_path):
    root = copy_of_root(release, tmp_path / "root")
    version = Version(str(root), version_of(release, name))
    before = read_report(version)
    report = make_report_anew(version.url)[1]
    assert validate(version).problems == ()
    assert report == read_report(version)
    assert report["verdict"]["may_go_live"]
    assert {one: report["run"][one] for one in before["run"]} == before["run"]
    for entry in ("counts", "tokens", "truncation", "rejects", "duplicates", "inputs", "dataset"):
        assert report[entry] == before[entry], entry
    page = version.store.read(version.key("report/report.html")).decode()
    assert "May go live" in page
    again = make_report_anew(version.url)[1]
    assert again == report
