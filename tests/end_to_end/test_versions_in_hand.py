"""Nights of one corpus: what the commands on versions say is what the runs did."""

import json
from pathlib import Path
from typing import Any

import pytest
from calling import call
from running import Dataset, flags, records, tiny_job, write_jsonl

pytestmark = [pytest.mark.usefixtures("logging_restored"), pytest.mark.soak]


def write(folder: Path, rows: list[dict[str, Any]], bad: int) -> Path:
    """Four files; in the last one some lines are no JSON."""
    for shard in range(4):
        own = [row for row in rows if int(row["id"][-5:]) % 4 == shard]
        write_jsonl(folder / f"shard-{shard}.jsonl", own)
    with (folder / "shard-3.jsonl").open("a") as file:
        file.write("".join(f'{{"id": "bad-{n}", "text": \n' for n in range(bad)))
    return folder


@pytest.fixture(scope="module")
def nights(tiny_model, tmp_path_factory) -> tuple[Path, dict[str, Any], dict[str, Any]]:
    """The root, and what the runs of two nights said."""
    folder = tmp_path_factory.mktemp("nights")
    rows = records(200)
    said = []
    for night, bad in (("monday", 3), ("tuesday", 1)):
        if night == "tuesday":
            rows[8]["text"] += " changed"
            rows[12]["stars"] += 1
            del rows[0]
            rows += records(2, 500)
        corpus = write(folder / "in", rows, bad)
        settings = {"id_column": "id", "metadata_columns": ("stars", "title")}
        job = tiny_job(tiny_model, corpus, folder / "out", version=night, max_reject_share=1.0,
                       **settings)  # fmt: skip
        answer = call("run", *flags(job), "--json")
        assert answer.code in (0, 3)
        said.append(answer.json)
    trial = tiny_job(tiny_model, folder / "in", folder / "out", limit=20, **settings)
    assert call("run", *flags(trial), "--json").code in (0, 3)
    return folder / "out", *said


def test_the_list_says_what_there_is(nights):
    root = nights[0]
    listed = {one["version"]: one for one in call("versions", str(root), "--json").json["versions"]}
    (trial,) = listed.keys() - {"monday", "tuesday"}
    assert listed[trial]["trial"] == 20
    assert (listed[trial]["published"], listed["monday"]["published"]) == (None, 1)
    assert [listed[name]["rows"] for name in ("monday", "tuesday")] == [200, 201]
    assert listed["tuesday"]["latest"]
    assert len({one["recipe"] for one in listed.values()}) == 1
    assert {one["fault"] for one in listed.values()} == {None}


def test_what_differs_is_what_was_changed_and_nothing_was_encoded_otherwise(nights):
    root, _, tuesday = nights
    counts, *rows = map(
        json.loads,
        call("diff", str(root / "monday"), str(root), "--list", "--json").out.splitlines(),
    )
    assert (counts["added"], counts["removed"], counts["changed"]) == (2, 1, 1)
    assert (counts["re_encoded"], counts["recipe_changes"]) == (0, [])
    by_kind = {one["id"]: one["differences"] for one in rows}
    assert by_kind["doc-00008"] == ["changed"]
    assert {name for name, kinds in by_kind.items() if kinds == ["added"]} == {
        "doc-00500", "doc-00501",
    }  # fmt: skip
    assert (tuesday["rows_added"], tuesday["rows_removed"], tuesday["rows_changed"]) == (2, 1, 1)
    assert tuesday["rows_reused"] == 198


def test_rejects_have_the_lines_of_their_files(nights):
    root = nights[0]
    for night, count in (("monday", 3), ("tuesday", 1)):
        folder = root / night
        counts, *rejects = map(
            json.loads, call("rejects", str(folder), "--list", "--json").out.splitlines()
        )
        assert counts["reasons"] == {"invalid_json": count}
        assert len(rejects) == len(Dataset(folder).rejects) == count
    lines = (root.parent / "in" / "shard-3.jsonl").read_text().splitlines()
    assert lines[rejects[0]["line"] - 1] == '{"id": "bad-0", "text": '
    assert rejects[0]["place"] == f"line {rejects[0]['line']}"
