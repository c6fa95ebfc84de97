"""Rows that come from no file, night after night: what did not change is not encoded again."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from running import Dataset, WideSumClient, records

from embedkit.config import ModelConfig, OutputConfig, RecordConfig
from embedkit.corpus.rows import blocks_from_rows, plan_rows, row_split
from embedkit.encoders.kinds import read_job_model
from embedkit.flow.complete import complete_version
from embedkit.flow.completed import begin_account
from embedkit.flow.embed import embed_blocks
from embedkit.flow.prepare import begin_version
from embedkit.reports.account import RunAccount
from embedkit.vectors import TokenBatch

Rows = list[dict[str, Any]]


@pytest.fixture
def model(tiny_model: str) -> ModelConfig:
    return ModelConfig(model=tiny_model, pooling="mean", normalize=False, precision="float32")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "out"


def embed(
    model: ModelConfig,
    root: Path,
    name: str,
    rows: Rows,
    shards: int = 4,
    metadata: tuple[tuple[str, str], ...] = (("stars", "int64"),),
    client: type[WideSumClient] = WideSumClient,
    **settings: Any,
) -> tuple[RunAccount, int]:
    """Makes a version of rows; returns its account, and how many rows were encoded."""
    names = OutputConfig.model_fields.keys() & settings.keys()
    output = OutputConfig(
        output=str(root), version=name, **{one: settings.pop(one) for one in names}
    )
    records = RecordConfig(block_rows=16, **settings)
    draft = begin_version(model, read_job_model(model, records), plan_rows(shards), records, output)
    chunker = draft.make_chunker() if draft.make_chunker else None
    blocks = (
        block
        for split in draft.plan.splits
        for block in blocks_from_rows(
            split.split_id,
            [row for row in rows if row_split(row, records, shards) == split.split_id],
            records,
            metadata,
            chunker,
        )
    )
    counting = client(draft.model.vectors.dimension)
    list(embed_blocks(blocks, draft, counting, 100_000))
    account = complete_version(draft, begin_account([]))
    assert account.documents == len(rows)
    return account, sum(map(len, counting.calls))


def vectors(root: Path, name: str, by: str = "id") -> dict[str, bytes]:
    table = Dataset(root / name).table
    pairs = zip(table[by].to_pylist(), table["embedding"].to_pylist(), strict=True)
    return {one: pa.array(vector, pa.float32()).buffers()[1].to_pybytes() for one, vector in pairs}


def test_of_a_hundred_rows_the_one_that_changed_is_encoded(model: ModelConfig, root: Path) -> None:
    rows = records(100)
    assert embed(model, root, "monday", rows)[1] == 100
    rows[42] = {**rows[42], "text": "something else"}
    account, encoded = embed(model, root, "tuesday", rows)
    assert encoded == 1
    assert (account.rows_reused, account.rows_encoded) == (99, 1)
    assert (account.rows_added, account.rows_changed, account.rows_removed) == (0, 1, 0)
    before, now = vectors(root, "monday"), vectors(root, "tuesday")
    assert {one for one in now if now[one] != before[one]} == {"doc-00042"}
    assert list((root / "tuesday" / "_meta").rglob("*.run")) == []


@pytest.mark.soak
def test_over_other_shards_with_new_rows_and_others_gone(model: ModelConfig, root: Path) -> None:
    embed(model, root, "monday", records(60))
    rows = [*records(50, start=10), *records(5, start=500)]
    account, encoded = embed(model, root, "tuesday", rows, shards=7)
    assert encoded == 5
    assert (account.rows_reused, account.rows_encoded) == (50, 5)
    assert (account.rows_added, account.rows_changed, account.rows_removed) == (5, 0, 10)


@pytest.mark.soak
def test_ids_and_metadata_may_change(model: ModelConfig, root: Path) -> None:
    embed(model, root, "monday", records(30))
    rows = [{**row, "id": f"new-{row['id']}", "stars": "7", "further": 1.5} for row in records(30)]
    metadata = (("stars", "string"), ("further", "float64"))
    account, encoded = embed(model, root, "tuesday", rows, metadata=metadata)
    assert encoded == 0
    assert (account.rows_added, account.rows_changed, account.rows_removed) == (30, 0, 30)
    now = vectors(root, "tuesday")
    assert {f"new-{one}": vector for one, vector in vectors(root, "monday").items()} == now
    assert set(Dataset(root / "tuesday").table["stars"].to_pylist()) == {"7"}


@pytest.mark.soak
def test_rows_without_ids_are_known_by_their_texts(model: ModelConfig, root: Path) -> None:
    rows = [{"text": row["text"]} for row in records(30)]
    embed(model, root, "monday", rows)
    rows[3] = {"text": "something else"}
    account, encoded = embed(model, root, "tuesday", rows)
    assert encoded == 1
    assert (account.rows_added, account.rows_changed, account.rows_removed) == (1, 0, 1)


class Drifting(WideSumClient):
    """Of one text the vectors of no two calls are equal."""

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[np.ndarray]:
        for vectors in super().encode_all(batches):
            yield vectors + len(self.calls)


def test_of_rows_with_one_text_each_keeps_its_own_vector(model: ModelConfig, root: Path) -> None:
    rows = [{"id": f"{n}", "text": "one and the same"} for n in range(12)]
    embed(model, root, "monday", rows, shards=9, metadata=(), client=Drifting)
    account, encoded = embed(model, root, "tuesday", rows[::-1], shards=2, metadata=())
    assert (encoded, account.rows_changed) == (0, 0)
    before = vectors(root, "monday")
    assert len(set(before.values())) > 3
    assert vectors(root, "tuesday") == before


@pytest.mark.soak
def test_chunks_of_rows(model: ModelConfig, root: Path) -> None:
    rows = [{"id": f"{n}", "text": " ".join(f"{n} {m}." for m in range(30))} for n in range(10)]
    chunks = {"chunk": "sentences", "chunk_tokens": 8, "metadata": ()}
    first, _ = embed(model, root, "monday", rows, **chunks)
    assert first.rows > 50
    rows[4] = {"id": "4", "text": f"{rows[4]['text']} At the end."}
    account, encoded = embed(model, root, "tuesday", rows, **chunks)
    assert 1 <= encoded <= 2
    assert account.rows_reused == account.rows - encoded


@pytest.mark.soak
def test_of_a_chosen_version_or_of_none(model: ModelConfig, root: Path) -> None:
    embed(model, root, "monday", records(20))
    embed(model, root, "tuesday", records(20, start=100))
    assert embed(model, root, "wednesday", records(20), reuse="monday")[1] == 0
    assert embed(model, root, "thursday", records(20), reuse="off")[1] == 20


@pytest.mark.soak
def test_of_a_version_that_is_not_complete(model: ModelConfig, root: Path) -> None:
    embed(model, root, "monday", records(40))
    for mark in ("_SUCCESS", "_meta/manifest.json"):
        (root / "monday" / mark).unlink()
    assert embed(model, root, "tuesday", records(40), reuse="monday")[1] == 0
