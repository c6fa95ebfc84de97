"""The report of versions that are written block by block, against what a database says of them."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import duckdb
import numpy as np
import pytest
from blocks import DESCRIPTION, build_block, make_options
from reporting import make_report

from embedkit.config import OutputConfig
from embedkit.dataset import finalize as finalize_module
from embedkit.dataset import rows as dataset_rows
from embedkit.dataset.finalize import finalize
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.processes import Each, here
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow import report as report_module
from embedkit.flow.gather import gather
from embedkit.flow.line_numbers import LineNumbers
from embedkit.flow.report import write_report
from embedkit.flow.write import write_embeddings
from embedkit.records import Reject
from embedkit.reports.account import RunAccount
from embedkit.vectors import EmbeddingBlock

DRAFT = {**DESCRIPTION, "max_tokens": 256, "stores_text": True}
SIZES = (700, 3, 0, 256, 257, 40)


def blocks_of(sizes: tuple[int, ...] = SIZES) -> list[EmbeddingBlock]:
    """Blocks of a split each, small and large, with texts that repeat within and among them."""
    random = np.random.default_rng(2)
    return [
        build_block(
            [f"text {random.zipf(1.5) if n % 3 else (seq, n)}" for n in range(size)],
            seq=0,
            rejects=(Reject("in.jsonl", seq, f"reason_{seq % 2}", "no text", excerpt="x"),) * seq,
            ids=[f"{seq}/{n}" for n in range(size)],
            split=seq,
        )
        for seq, size in enumerate(sizes)
    ]


class Written:
    """A version whose blocks are committed, and the report of it."""

    def __init__(self, root: Path, blocks: list[EmbeddingBlock], **options: object) -> None:
        self.version = Version(str(root), "v1")
        create_or_check_plan(self.version, VersionPlan("f" * 32))
        self.options = make_options(**{"store_text": True, "excerpts": True, **options})
        for block in blocks:
            write_embeddings(block, self.version, self.options, 256)
        self.ids = [block.block_id for block in blocks]
        splits = [block.split_id for block in blocks]
        self.manifest = finalize(self.version, splits, DRAFT)

    def report(self, each: Each = here) -> dict:
        output = OutputConfig(output=self.version.root, max_reject_share=1.0)
        draft = SimpleNamespace(
            version=self.version,
            options=self.options,
            output=output,
            shows_texts=self.options.excerpts,
            reuse=None,
        )
        account = RunAccount(
            started=0.0,
            documents=self.manifest.documents,
            rows=self.manifest.rows,
            rejects=self.manifest.rejects,
        )
        numbers = LineNumbers(None, {})
        gathered = gather(self.version, self.ids, self.manifest.parts, each)
        write_report(draft, self.manifest, gathered, account, numbers)
        data = self.version.store.read("v1/report/report.json")
        assert self.version.store.read("v1/report/report.html")
        return json.loads(data)


@pytest.fixture(scope="module")
def blocks() -> list[EmbeddingBlock]:
    return blocks_of()


@pytest.fixture(scope="module")
def written(blocks, tmp_path_factory) -> Written:
    return Written(tmp_path_factory.mktemp("root"), blocks)


def test_it_is_the_report_of_the_blocks_themselves(written, blocks):
    found, expected = written.report(), make_report(blocks)
    for name in ("counts", "tokens", "truncation", "norms", "similarity", "duplicates"):
        assert found[name] == json.loads(json.dumps(expected[name])), name
    assert [one["count"] for one in found["rejects"]["reasons"]] == [9, 6]
    assert all(len(one["examples"]) == 5 for one in found["rejects"]["reasons"])


def test_repeated_texts_are_those_of_a_database(written):
    parts = f"{written.version.root}/v1/data/*.parquet"
    found = written.report()["duplicates"]
    counted = duckdb.sql(f"select text, count(*) n from '{parts}' group by text having n > 1")
    counts = sorted((n for _, n in counted.fetchall()), reverse=True)
    assert (found["rows"], found["texts"]) == (sum(counts) - len(counts), len(counts))
    assert [one["count"] for one in found["top"]] == counts[:10]
    for one in found["top"]:
        # The rows of a version are in the order of its parts.
        first = duckdb.sql(
            f"select id from read_parquet('{parts}', filename=true, file_row_number=true) "
            f"where text_hash = '{one['text_hash']}' order by filename, file_row_number limit 1"
        ).fetchall()
        assert first == [(one["id"],)]


@pytest.mark.parametrize("at_once", [1, 4, 1000])
def test_however_blocks_are_gathered_the_bytes_are_the_same(written, monkeypatch, at_once):
    def backwards(function, items) -> Iterator:
        """As processes would, which end in whatever order."""
        several = list(items)
        done = {place: function(several[place]) for place in reversed(range(len(several)))}
        return (done[place] for place in range(len(several)))

    written.report()
    expected = written.version.store.read("v1/report/report.json")
    monkeypatch.setattr(finalize_module, "BLOCKS_AT_ONCE", at_once)
    written.report(each=backwards)
    assert written.version.store.read("v1/report/report.json") == expected


def test_only_parts_with_rows_to_be_shown_are_opened(tmp_path, monkeypatch):
    """Of small blocks, whose text hashes stand in their sidecars."""
    vectors = np.random.default_rng(1).normal(size=(60, 2, 8192)).astype(np.float32)
    blocks = [
        build_block([f"{seq} a", f"{seq} b"], wide, split=seq, ids=[f"{seq}/a", f"{seq}/b"])
        for seq, wide in enumerate(vectors)
    ]
    few = Written(tmp_path, blocks, dimension=8192)
    opened = []
    opened_part = dataset_rows.opened_part

    def opening(version, part, *args, **kwargs):
        opened.append(part.path)
        return opened_part(version, part, *args, **kwargs)

    monkeypatch.setattr(dataset_rows, "opened_part", opening)
    # That reads every part, once.
    monkeypatch.setattr(report_module, "examine_with_earlier", lambda *given: (None, None))
    monkeypatch.setattr(report_module, "near_duplicates_of", lambda *given: "they are off")
    found = few.report()
    assert found["similarity"]["sampled"] == 64
    assert len(opened) == len({*opened})
    # Nearly a quarter of the blocks have neither row among the 64 of 120.
    assert 40 < len(opened) < 55


def test_texts_that_parts_do_not_hold_are_shown_where_asked_for(blocks, tmp_path):
    for name, options, shown in (
        ("kept", {"store_text": False, "excerpts": True}, True),
        ("secret", {"store_text": False, "excerpts": False}, False),
        ("hidden", {"store_text": True, "excerpts": False}, False),
    ):
        found = Written(tmp_path / name, blocks, **options).report()
        closest = found["similarity"]["closest"]
        assert all(bool(pair["left"]["text"]) is shown for pair in closest), name


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (None, "gone; restore it, or remove"),
        (b"{", "not the rejects"),
        (b"[3]\n", "not the rejects"),
    ],
)
def test_rejects_that_are_gone_or_damaged_are_named(blocks, tmp_path, data, fault):
    spoiled = Written(tmp_path, blocks[1:2])
    key = spoiled.version.reject_key("00001-00000")
    spoiled.version.store.remove(key)
    if data is not None:
        spoiled.version.store.create(key, data)
    with pytest.raises(IntegrityError, match=rf"rejects/00001-00000\.jsonl: {fault}"):
        spoiled.report()


@pytest.mark.parametrize(
    "data", [b"{}", b'{"documents": 3, "rows": 4, "sections": {"records": {}}, "keys": {}}']
)
def test_a_sidecar_of_another_shape_is_named(blocks, tmp_path, data):
    spoiled = Written(tmp_path, blocks[1:2])
    spoiled.version.store.replace("v1/_meta/stats/00001-00000.json", data)
    with pytest.raises(IntegrityError, match=r"_meta/stats/00001-00000\.json: not the statistics"):
        spoiled.report()
