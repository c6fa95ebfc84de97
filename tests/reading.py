"""What tests of the corpus share: a corpus read whole, its accounts checked on the way."""

import bz2
import gzip
import lzma
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import zstandard

from embedkit.config import CorpusConfig
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.formats import read_split
from embedkit.corpus.plan import Plan, plan_corpus
from embedkit.records import DocumentBlock, LineCounts, Reject

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
"""Compressors of other libraries, by suffix."""


@dataclass
class Corpus:
    """A corpus as it was read."""

    plan: Plan
    blocks: list[DocumentBlock]

    @property
    def table(self) -> pa.Table:
        return pa.Table.from_batches([block.rows for block in self.blocks])

    @property
    def rows(self) -> list[dict[str, Any]]:
        return self.table.to_pylist()

    @property
    def texts(self) -> list[str]:
        return self.table["text"].to_pylist()

    @property
    def ids(self) -> list[str]:
        return self.table["id"].to_pylist()

    @property
    def rejects(self) -> list[Reject]:
        return [reject for block in self.blocks for reject in block.rejects]

    @property
    def reasons(self) -> list[str]:
        return [reject.reason for reject in self.rejects]

    def check_accounts(self) -> None:
        """Every record is a document or a reject, exactly once."""
        places = self.table.select(["source", "row_index", "doc_id"]).to_pylist()
        documents = list(dict.fromkeys((one["source"], one["row_index"]) for one in places))
        assert len(set(self.ids)) == len(self.ids)
        assert len({one["doc_id"] for one in places}) == len(documents)
        rejected = [(one.source, one.row_index) for one in self.rejects]
        assert len(set(rejected)) == len(rejected)
        assert not set(rejected).intersection(documents)
        assert sum(block.documents for block in self.blocks) == len(documents) + len(rejected)
        assert all("\n" not in reject.detail for reject in self.rejects)


def corpus_config(*inputs: Path | str, **settings: Any) -> CorpusConfig:
    return CorpusConfig(inputs=tuple(map(str, inputs)), **settings)


def read_corpus(*inputs: Path | str, chunker: Chunker | None = None, **settings: Any) -> Corpus:
    """Plans and reads all splits, the plan having gone through its JSON form."""
    config = corpus_config(*inputs, **settings)
    plan = Plan.from_json(plan_corpus(config).to_json())
    return read_plan(plan, config, chunker)


def read_plan(plan: Plan, config: CorpusConfig, chunker: Chunker | None = None) -> Corpus:
    blocks: list[DocumentBlock] = []
    for split in plan.splits:
        found = list(read_split(split, plan.without_splits(), config, chunker))
        _check_split(split.split_id, found, plan)
        blocks += found
    corpus = Corpus(plan, blocks)
    corpus.check_accounts()
    return corpus


def counted(corpus: Corpus) -> LineCounts:
    """Adds up what the lines of all ranges are."""
    total = LineCounts()
    for block in corpus.blocks:
        assert block.last or not block.lines
        for counts in block.lines:
            total += counts
    return total


def _check_split(split_id: str, blocks: list[DocumentBlock], plan: Plan) -> None:
    assert [block.block_id for block in blocks] == [
        f"{split_id}-{seq:05d}" for seq in range(len(blocks))
    ]
    assert [block.last for block in blocks] == [False] * (len(blocks) - 1) + [True]
    before = 0
    for block in blocks:
        assert block.documents_before == before
        assert block.rows.schema.equals(plan.schema)
        block.rows.validate(full=True)
        before += block.documents


def write(path: Path, content: bytes | str | Iterable[str]) -> Path:
    """Writes a file, compressed as its suffix says."""
    if not isinstance(content, bytes | str):
        content = "".join(f"{line}\n" for line in content)
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(COMPRESS.get(path.suffix, bytes)(data))
    return path
