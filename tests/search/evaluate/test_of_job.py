"""The evaluation that a job file asks for, from the section to the report and LATEST."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from calling import Answer, call
from running import records, sentence, tiny_job, write_jsonl

from embedkit.cli.options import read_evaluation, read_job
from embedkit.config import EvaluationConfig, evaluation_fault
from embedkit.dataset.local_store import LocalStore
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import ConfigError, StoreError
from embedkit.search.evaluate import of_job

DOCUMENTS = 30


def write_labels(folder: Path, first: str = "doc-00000", judged: int = 8) -> None:
    write_jsonl(
        folder / "queries.jsonl", [{"_id": f"q{n}", "text": sentence(n, 6)} for n in range(8)]
    )
    lines = ["query-id\tcorpus-id\tscore", f"q0\t{first}\t1"]
    lines += [f"q{n}\tdoc-{n:05}\t1" for n in range(1, judged)]
    (folder / "qrels.tsv").write_text("\n".join(lines) + "\n")


class Night:
    """A corpus, labels, and a job file that has the version held against these."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.labels, self.output = folder, folder / "judged", folder / "out"
        self.pairs = folder / "pairs.csv"
        write_jsonl(folder / "a.jsonl", records(DOCUMENTS))
        write_labels(self.labels)
        rows = [f"{sentence(n, 4)},{sentence(n + n % 3, 5)},{n % 4}" for n in range(12)]
        self.pairs.write_text("\n".join(rows) + "\n")
        self.job = {
            "inputs": str(folder / "a.jsonl"), "id_column": "id", "model": model,
            "pooling": "mean", "normalize": True, "backend": "torch", "precision": "float32",
            "encoder_threads": 1, "engine": "plain", "output": str(self.output),
            "store_text": True, "metadata_columns": ["title"],
            "evaluation": {"retrieval": str(self.labels)},
        }  # fmt: skip
        self.everything = {
            "retrieval": str(self.labels), "sts": [str(self.pairs)], "known_items": "title",
        }  # fmt: skip

    def file(self, **changes: Any) -> str:
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(self.job | changes))
        return str(path)

    def run(self, *flags: str, **changes: Any) -> Answer:
        return call("run", self.file(**changes), "--progress", "none", *flags)

    @property
    def version(self) -> Path:
        (found,) = self.output.glob("v*")
        return found

    @property
    def report(self) -> dict[str, Any]:
        return json.loads((self.version / "report" / "report.json").read_text())

    @property
    def page(self) -> str:
        return (self.version / "report" / "report.html").read_text()


@pytest.fixture
def night(tmp_path, tiny_model) -> Night:
    return Night(tmp_path, tiny_model)


def test_a_run_says_what_evaluate_says(night):
    printed = night.run("--json", evaluation=night.everything).json
    report = night.report["evaluation"]
    options = ["--sts", str(night.pairs), "--retrieval", str(night.labels)]
    options += ["--known-items", "title"]
    expected = call("evaluate", str(night.output), *options, "--json").json["evaluation"]
    assert {name: one for name, one in report.items() if name != "asked"} == expected
    assert printed["published"]
    measured = printed["evaluation"]
    of_folder = report["retrieval"]["judged"]
    assert measured["retrieval"]["judged"]["ndcg@10"] == of_folder["ndcg@10"]
    assert measured["ndcg@10"] == report["ndcg@10"] == of_folder["ndcg@10"]
    assert measured["spearman"] == report["sts"]["pairs"]["spearman"]
    assert len(of_folder["worst"]) == 8
    assert "worst" not in measured["retrieval"]["judged"]
    for shown in ("Evaluation", "judged", "pairs", "Known items, no judgments: the title of"):
        assert shown in night.page
    assert f"{of_folder['ndcg@10']:.4f}<br>" in night.page


def test_it_is_measured_once_for_the_same_question(night, monkeypatch):
    night.run()
    before, page = night.report, night.page
    asked: list[str] = []
    original = of_job.evaluate

    def counted(version, *rest, **named):
        asked.append(version.name)
        return original(version, *rest, **named)

    monkeypatch.setattr(of_job, "evaluate", counted)
    answer = night.run()
    assert f"judged: ndcg@10 {before['evaluation']['ndcg@10']:.4f}" in answer.out
    assert (night.report, night.page, asked) == (before, page, [])
    write_labels(night.labels, judged=7)
    night.run()
    assert asked == [night.version.name]
    after = night.report
    counts = [one["evaluation"]["retrieval"]["judged"]["queries"] for one in (before, after)]
    assert counts == [8, 7]
    # The figures of the run that made it stay.
    assert {name: one for name, one in after.items() if name != "evaluation"} == {
        name: one for name, one in before.items() if name != "evaluation"
    }
    assert after["sections"].count("evaluation") == 1
    (night.version / "report" / "report.json").write_text("{")
    night.run()
    assert night.report["evaluation"] == after["evaluation"]


def test_a_report_of_an_earlier_release_is_made_anew_for_it(night):
    night.run(evaluation=None)
    path = night.version / "report" / "report.json"
    before = {name: one for name, one in night.report.items() if name not in ("verdict", "gates")}
    path.write_text(json.dumps(before))
    night.run(evaluation=None)
    assert night.report == before
    done = night.run("--json").json
    assert done["tokens_encoded"] == 0
    assert night.report["evaluation"]["ndcg@10"] == done["evaluation"]["ndcg@10"]
    assert night.report["counts"] == before["counts"]
    assert night.report["verdict"] == done["verdict"]
    assert "<h2>Evaluation</h2>" in night.page


@pytest.mark.parametrize(
    ("file", "of_it"), [("report.html", b"<h2>Evaluation</h2>"), ("report.json", b'"asked"')]
)
def test_a_run_that_broke_off_between_page_and_figures_is_gone_on_with(
    night, monkeypatch, file, of_it
):
    replace = LocalStore.replace

    def broken(store, key, data):
        if key.endswith(f"report/{file}") and of_it in data:
            raise StoreError("gone")
        replace(store, key, data)

    with monkeypatch.context() as patched:
        patched.setattr(LocalStore, "replace", broken)
        assert night.run().code == 4
    assert not (night.output / "LATEST").exists()
    done = night.run("--json").json
    assert done["published"]
    assert night.report["evaluation"]["ndcg@10"] == done["evaluation"]["ndcg@10"]
    assert night.page.count("<h2>Evaluation</h2>") == 1


def test_labels_that_cannot_be_used_are_said_before_anything_is_written(night):
    (night.labels / "qrels.tsv").write_text("q0\tdoc-00003\n")
    answer = night.run()
    assert (answer.code, night.output.exists()) == (2, False)
    assert "qrels.tsv, line 1: 2 fields" in answer.error


def test_labels_of_another_corpus_leave_the_version_unpublished_until_they_are_mended(night):
    write_labels(night.labels, first="elsewhere")
    answer = night.run()
    assert answer.code == 2
    assert "judges document 'elsewhere', which is not among those of version" in answer.error
    assert Version(str(night.output), night.version.name).is_complete()
    assert not (night.output / "LATEST").exists()
    write_labels(night.labels)
    done = night.run("--json").json
    assert (done["published"], done["tokens_encoded"]) == (True, 0)
    assert (night.output / "LATEST").exists()


def test_a_gate_on_what_it_is_worth_keeps_it_back_and_goes_by_new_labels(night):
    limits = ["ndcg@10<1", "evaluation.retrieval.judged.map<2", "recall@100<-1.5"]
    answer = night.run(fail_on=limits)
    assert answer.code == 5
    ndcg = night.report["evaluation"]["ndcg@10"]
    assert 0 < ndcg < 1
    assert f"gates ndcg@10<1: the figure is {ndcg:.4g}" in answer.error
    assert [gate["passed"] for gate in night.report["gates"]] == [False, False, True]
    assert "May not go live" in night.page
    assert "Evaluation" in night.page


def test_neither_a_trial_nor_nothing_is_evaluated(night, caplog):
    job = read_job([night.file()], {"limit": 5})
    assert run_job(job, evaluation=read_evaluation([night.file()])).evaluation is None
    assert "a trial is not evaluated: most of what queries look for is not in it" in caplog.text
    empty = write_jsonl(night.folder / "empty.jsonl", [{**records(1)[0], "text": ""}])
    answer = night.run("--json", "--max-reject-share", "1", inputs=str(empty))
    assert answer.error == ""
    assert "evaluation" not in answer.json


def test_texts_are_shown_escaped_or_not_at_all(night):
    hostile = "<script>alert(1)</script> {{ 7 * 7 }} one two three"
    rows = records(DOCUMENTS)
    rows[3] = {**rows[3], "text": hostile, "title": "<b>bold</b>"}
    write_jsonl(night.folder / "a.jsonl", rows)
    queries = [{"_id": f"q{n}", "text": f"<i>{n}</i> {hostile}"} for n in range(8)]
    write_jsonl(night.labels / "queries.jsonl", queries)
    night.run()
    assert "<script>alert" not in night.page
    assert "<i>" not in night.page
    assert "&lt;/i&gt; &lt;script&gt;alert(1)&lt;/script&gt; {{ 7 * 7 }} one two" in night.page
    assert "<b>bold" not in night.page
    hidden = night.run("--json", store_text=False, output=str(night.folder / "hidden"))
    report = Path(hidden.json["report"]).with_name("report.json").read_text()
    assert "alert" not in report
    (worst, *_) = json.loads(report)["evaluation"]["retrieval"]["judged"]["worst"]
    assert worst["text"] is None


def test_storage_alone_by_rows(night):
    night.run(evaluation={"storage": True})
    ways = night.report["evaluation"]["storage"]["rows"]
    assert ways["float32"]["recall@10"] == 1
    assert "What fewer bytes cost, by rows of the version" in night.page
    assert f"{ways['binary']['recall@10']:.4f}" in night.page


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("yes", "job.yaml: evaluation = 'yes': expected lines below it, such as 'retrieval: DIR"),
        ({"retreival": "a"}, "evaluation: retreival is no setting of an evaluation, did you mean "
         "retrieval?"),
        ({"known_item_queries": 0, "storage": True}, "evaluation: known_item_queries = 0: "),
        ({}, "evaluation: asks nothing; give sts, retrieval, known_items or storage"),
        ({"known_items": "stars"}, "known_items of stars needs that column; add it to metadata"),
    ],
)  # fmt: skip
def test_a_wrong_section_is_named(night, section, said):
    answer = night.run(evaluation=section)
    assert (answer.code, night.output.exists()) == (2, False)
    assert said in answer.error


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_section_is_checked_by_whoever_reads_the_file(night, command):
    answer = call(command, night.file(evaluation={"documents": "all"}))
    assert answer.code == 2
    assert "evaluation: documents = 'all'" in answer.error


@pytest.mark.parametrize(
    ("settings", "asked", "said"),
    [
        ({"granularity": "word"}, {"storage": True}, "and words or tokens get vectors; leave it"),
        ({"query_column": "q"}, {"storage": True}, "and pairs get scores; leave it out"),
        ({}, {"known_items": "sentence"}, "needs stored texts; give store_text: true"),
        ({"metadata_columns": ("a:string",)}, {"known_items": "b"}, "of b needs that column"),
        ({"metadata_columns": ("a:string",)}, {"known_items": "a:text"}, None),
        ({"store_text": True}, {"known_items": "sentence"}, None),
    ],
)
def test_what_a_job_s_settings_cannot_give(settings, asked, said):
    job = tiny_job("model", Path("a.jsonl"), Path("out"), **settings)
    fault = evaluation_fault(job, EvaluationConfig(**asked))
    assert (fault is None) if said is None else (said in fault)


def test_inputs_without_a_job_file_ask_nothing(tmp_path):
    assert read_evaluation(["a.jsonl"]) is None
    assert read_evaluation([]) is None
    with pytest.raises(ConfigError, match="no such job file"):
        read_evaluation([str(tmp_path / "gone.yaml")])
