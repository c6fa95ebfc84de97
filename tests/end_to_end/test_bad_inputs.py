"""Bad records of every kind in one corpus, and what cannot be run at all, from the command line."""

import gzip
import json
import shutil
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from running import (
    Dataset,
    flags,
    one_line,
    records,
    run_process,
    start,
    tiny_job,
    write_jsonl,
)
from texts import MESSY

pytestmark = pytest.mark.timeout(900)

LONG = 50_000_000


def line(**values: object) -> bytes:
    return json.dumps(values).encode()


GOOD = records(90)
BAD_LINES = [
    (b'{"id": "broken", "text": "no end', "invalid_json"),
    (b"not JSON at all", "invalid_json"),
    (b'["an", "array"]', "invalid_json"),
    (b'{"id": "bytes", "text": "caf\xe9 au lait", "stars": 1}', "invalid_utf8"),
    (line(id="number", text=17, stars=1), "wrong_type"),
    (line(id="list", text=["a", "b"], stars=1), "wrong_type"),
    (line(id="null", text=None, stars=1), "missing_column"),
    (line(id="absent", stars=1), "missing_column"),
    (line(id="empty", text="", stars=1), "empty_text"),
    (line(id="blank", text=" \t\u3000 ", stars=1), "empty_text"),
    (line(id="nul", text="a\0b", stars=1), "nul_byte"),
    (line(text="a good text without an id", stars=1), "missing_id"),
    (line(id=None, text="an id that is null", stars=1), "missing_id"),
    (line(id=1.5, text="an id that is broken", stars=1), "wrong_type"),
    (line(id="doc-00003", text="another record has this id", stars=1), "duplicate_id"),
    (line(id="long", text="x" * LONG, stars=1), "too_long"),
    (b'{"id": "deep", "text": ' + b"[" * 100_000 + b"}", "invalid_json"),
]


def write_bad_corpus(folder: Path, naughty: list[str]) -> tuple[set[str], dict[str, list[str]]]:
    """Writes it; returns the ids that must be embedded, and the reasons expected of each file."""
    folder.mkdir()
    good = [line(**row) for row in GOOD[:30]]
    mixed = [
        part for pair in zip(good, (bad for bad, _ in BAD_LINES), strict=False) for part in pair
    ]
    (folder / "a-mixed.jsonl").write_bytes(b"\n".join(mixed + good[len(BAD_LINES) :]))
    reasons = {"a-mixed.jsonl": [reason for _, reason in BAD_LINES]}

    whole = gzip.compress(b"".join(line(**row) + b"\n" for row in GOOD[30:60]), mtime=0)
    (folder / "b-cut.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    reasons["b-cut.jsonl.gz"] = ["damaged_file"]

    (folder / "c-empty.jsonl").write_bytes(b"")
    (folder / "d-empty.jsonl.gz").write_bytes(b"")

    header = "stars,id,title,text\n"
    cells = ["1,csv-1,t,a good text", '2,csv-2,t,"a good, quoted\nsecond line"', "3,,t,no id"]
    cells += ["4,csv-4,t,", "6,csv-6", "7,csv-1,t,a second csv-1"]
    (folder / "e-cells.csv").write_text(header + "\n".join(cells) + "\n")
    reasons["e-cells.csv"] = [
        "missing_id", "empty_text", "missing_column", "duplicate_id",
    ]  # fmt: skip

    columns = {
        "id": pa.array(["pq-1", "pq-2", None, "doc-00029", "pq-3"]),
        "text": pa.array(["good", None, "no id", "an id of another file", "good again"]),
        "stars": pa.array([1, 2, 3, 4, 5], pa.int64()),
    }
    pq.write_table(pa.table(columns), folder / "f-rows.parquet")
    reasons["f-rows.parquet"] = ["missing_column", "missing_id", "duplicate_id"]

    write_jsonl(
        folder / "g-naughty.jsonl",
        [{"id": f"n{n}", "text": text, "stars": n} for n, text in enumerate(naughty)],
    )
    blank = [text for text in naughty if not text.strip()]
    unseen = [text for text in naughty if text.strip() and not says_anything(text)]
    assert unseen
    reasons["g-naughty.jsonl"] = ["empty_text"] * len(blank) + ["no_tokens"] * len(unseen)

    kept = {row["id"] for row in GOOD[:30]} | {"csv-1", "csv-2", "pq-1", "pq-3"}
    return kept | {f"n{n}" for n, text in enumerate(naughty) if says_anything(text)}, reasons


def says_anything(text: str) -> bool:
    """Tells whether a text holds more than spaces, controls and marks without a width."""
    return any(unicodedata.category(char) not in ("Cc", "Cf", "Zs", "Zl", "Zp") for char in text)


def embedded_of_cut(dataset: Dataset) -> list[str]:
    table = dataset.table
    sources = zip(table["id"].to_pylist(), table["source"].to_pylist(), strict=True)
    return [name for name, source in sources if source == "b-cut.jsonl.gz"]


def test_bad_records_are_rejects_and_nothing_else_is_lost(tiny_model, tmp_path):
    kept, reasons = write_bad_corpus(tmp_path / "corpus", list(MESSY))
    job = tiny_job(
        tiny_model,
        tmp_path / "corpus",
        tmp_path / "out",
        id_column="id",
        metadata_columns=("stars:int64",),
        store_text=True,
        engine="local",
        # The long line is 48 ranges long.
        split_bytes=1 << 20,
        max_reject_share=0.001,
        max_record_bytes=1 << 20,
    )
    done = run_process("run", *flags(job), "--json", timeout=600)
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    result = json.loads(done.stdout)
    rejects = sum(map(len, reasons.values()))
    last = one_line(done.stderr.splitlines()[-1])
    documents = result["documents"]
    assert last.startswith("embedkit: 1 input broke off for damage, and the rest of each such file")

    dataset = Dataset.only(tmp_path / "out")
    dataset.check_accounts(documents)
    assert result["rejects"] == rejects
    found = {
        source: sorted(one["reason"] for one in dataset.rejects if one["source"] == source)
        for source in {one["source"] for one in dataset.rejects}
    }
    assert found == {source: sorted(expected) for source, expected in reasons.items()}
    cut = embedded_of_cut(dataset)
    assert 5 < len(cut) < 30
    assert cut == [row["id"] for row in GOOD[30 : 30 + len(cut)]]
    assert set(dataset.table["id"].to_pylist()) == kept | set(cut)
    texts = dict(zip(*(dataset.table[name].to_pylist() for name in ("id", "text")), strict=True))
    assert all(texts[row["id"]] == row["text"] for row in GOOD[:30])
    assert all(texts.get(f"n{n}", text) == text for n, text in enumerate(MESSY))
    for one in dataset.rejects:
        assert one["detail"] and "\n" not in one["detail"]
        assert len(one["excerpt"]) <= 200
    report = json.loads((dataset.folder / "report" / "report.json").read_text())
    assert report["counts"]["reconciled"]
    assert {one["reason"]: one["count"] for one in report["rejects"]["reasons"]} == {
        reason: sum(every.count(reason) for every in reasons.values())
        for reason in {reason for every in reasons.values() for reason in every}
    }

    # The version is complete; only what allows the losses makes the same command succeed.
    allowed = job.model_copy(update={"max_reject_share": 0.5, "allow_damaged_files": True})
    again = run_process("run", *flags(allowed), timeout=600)
    assert again.returncode == 0
    assert "complete already" in again.stdout


class Fatal:
    """Runs that cannot begin, started together, as each spends its time on imports."""

    def __init__(self, tmp_path: Path, model: str) -> None:
        self._tmp_path = tmp_path
        self._model = model
        self._runs: dict[str, tuple] = {}
        self.corpus = write_jsonl(tmp_path / "corpus" / "a.jsonl", records(5))

    def add(self, name: str, expected: tuple[str, ...], **changes: object) -> None:
        output = self._tmp_path / f"out-{name}"
        job = tiny_job(self._model, self.corpus, output).model_copy(update=changes)
        self._runs[name] = (start("run", *flags(job), "--json"), output, expected)

    def copy_of_model(self, name: str) -> Path:
        folder = self._tmp_path / name
        shutil.copytree(self._model, folder)
        return folder

    def check(self) -> None:
        ended = {name: run.communicate(timeout=240) for name, (run, _, _) in self._runs.items()}
        for name, (run, output, expected) in self._runs.items():
            out, err = ended[name]
            said = one_line(err)
            assert said.startswith("embedkit: "), said
            failure = {"error": said.removeprefix("embedkit: "), "exit_code": 2}
            assert (run.returncode, json.loads(out)) == (2, failure), name
            for part in expected:
                assert part in said, name
            assert not output.exists(), name


def test_what_cannot_be_run_says_so_in_one_line(tiny_model, tmp_path):
    fatal = Fatal(tmp_path, tiny_model)
    bare = fatal.copy_of_model("bare")
    weights = next(bare.glob("*.safetensors"))
    weights.unlink()
    pickled = fatal.copy_of_model("pickled")
    next(pickled.glob("*.safetensors")).unlink()
    torch.save({"a": torch.zeros(2)}, pickled / "pytorch_model.bin")
    table = pa.table({"body": ["a text"], "id": ["1"]})
    pq.write_table(table, tmp_path / "corpus" / "b.parquet")
    (tmp_path / "corpus" / "c.csv").write_text("id,body\n1,a text\n")

    parquet, cells = tmp_path / "corpus" / "b.parquet", tmp_path / "corpus" / "c.csv"
    fatal.add("parquet", (str(parquet), "no column 'text'"), inputs=(str(parquet),))
    fatal.add("csv", (str(cells), "'text'"), inputs=(str(cells),))
    gone = str(tmp_path / "corpus" / "gone.jsonl")
    fatal.add("missing", (gone, "no such file"), inputs=(str(fatal.corpus), gone))
    fatal.add("glob", ("*.tsv", "matches no file"), inputs=(str(tmp_path / "corpus" / "*.tsv"),))
    fatal.add("no-model", ("no-such-model",), model=str(tmp_path / "no-such-model"))
    fatal.add("no-weights", (str(bare), "safetensors"), model=str(bare))
    fatal.add("pickle", (str(pickled), "safetensors"), model=str(pickled))
    fatal.add(
        "metadata",
        (str(fatal.corpus), "'colour'"),
        metadata_columns=("colour",),
    )
    fatal.check()
