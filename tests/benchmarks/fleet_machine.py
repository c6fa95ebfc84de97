"""A machine of cards that are not there, as a Ray actor: its encoders and its workers are threads.

A worker claims splits, waits for a card to take its block, writes the commit record and says so,
as a real one does, but reads, tokenizes and encodes nothing and writes no part.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
import ray

from embedkit.actors.beam_workers import BeamWorker
from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.version import Version
from embedkit.encoders.meter import EncoderLoad

DIMENSION = 384
_GATE_SECONDS = 0.5
ROW_TOKENS = 128


class Cards:
    """Cards that each compute one block at a time; a block goes to the one that is free first.

    Args:
        names: The encoders' names.
        block_seconds: What a block takes a card.
    """

    def __init__(self, names: list[str], block_seconds: float) -> None:
        self._seconds = block_seconds
        self._lock = threading.Lock()
        self._free = dict.fromkeys(names, 0.0)
        self._loads = {name: EncoderLoad(name, name) for name in names}

    def encode(self, rows: int) -> None:
        """Returns when a card would have computed a block of so many rows."""
        with self._lock:
            name = min(self._free, key=lambda one: self._free[one])
            start = max(time.time(), self._free[name])
            end = self._free[name] = start + self._seconds
            load = self._loads[name]
            self._loads[name] = EncoderLoad(
                name,
                name,
                load.busy_seconds + self._seconds,
                load.first_start or start,
                end,
                load.calls + 1,
                load.rows + rows,
                load.tokens + rows * ROW_TOKENS,
                load.computed + rows * ROW_TOKENS,
            )
        time.sleep(max(0.0, end - time.time()))

    def load(self, name: str) -> EncoderLoad:
        """Returns what a card did so far, the blocks that wait for it included."""
        with self._lock:
            return self._loads[name]


@dataclass
class _Here:
    """What of a machine its workers use, which run in the same process."""

    cards: Cards | None = None
    claims: list[float] | None = None


HERE = _Here()


class Machine:
    """Some cards and the workers beside them, in one process.

    Args:
        names: The names of its encoders.
        block_seconds: What a block takes a card.
    """

    def __init__(self, names: list[str], block_seconds: float) -> None:
        HERE.cards, HERE.claims = Cards(names, block_seconds), []
        self._cards = HERE.cards

    def node(self) -> str:
        """See ``BeamWorker.node``."""
        return BeamWorker().node()

    def run(self, control_address: str, worker_id: str, options: dict[str, Any]) -> None:
        """See ``BeamWorker.run``."""
        BeamWorker().run(control_address, worker_id, options)

    @ray.method(concurrency_group="observe")
    def describe(self) -> tuple[int, str]:
        """See ``EncoderActor.describe``."""
        return DIMENSION, "no device"

    @ray.method(concurrency_group="observe")
    def load(self, name: str) -> EncoderLoad:
        """See ``EncoderActor.load``."""
        return self._cards.load(name)

    @ray.method(concurrency_group="observe")
    def claims(self) -> list[float]:
        """Returns the seconds that its workers waited for each split that they claimed."""
        return HERE.claims or []


@dataclass
class Work(beam.DoFn):
    """What a worker does with the splits that a queue hands to it.

    Attributes:
        version: Where the commit records go.
        gate: A file that is there when all workers are, for which each waits with its first split.
        blocks: Blocks of a split.
        rows: Documents of a block.
    """

    version: Version
    gate: Path
    blocks: int
    rows: int

    # Beam compares the annotation with the element's type.
    def process(self, source: Any) -> Iterator[CommitRecord]:
        """Works until nothing is left."""
        assert HERE.cards is not None
        assert HERE.claims is not None
        while True:
            asked = time.monotonic()
            claim = source.claim()
            HERE.claims.append(time.monotonic() - asked)
            if claim is None:
                return
            while not self.gate.exists():
                time.sleep(_GATE_SECONDS)
            for seq in range(self.blocks):
                block = _Block(claim.split.split_id, seq, seq * self.rows)
                source.begin(block.block_id)
                HERE.cards.encode(self.rows)
                record = record_of(block.block_id, self.rows)
                self.version.store.create(self.version.commit_key(block.block_id), record.to_json())
                source.on_commit(block, record)
                yield record
                source.begin(None)


@dataclass(frozen=True)
class _Block:
    split_id: str
    seq: int
    documents_before: int

    @property
    def block_id(self) -> str:
        return f"{self.split_id}-{self.seq:05d}"


def record_of(block_id: str, rows: int) -> CommitRecord:
    """Returns the commit record of a block whose part was not written."""
    return CommitRecord(
        block_id=block_id,
        part=f"data/part-{block_id}.parquet",
        size=rows * DIMENSION * 4,
        sha256="0" * 64,
        documents=rows,
        rows=rows,
        rejects=0,
        id_digest="0" * 32,
        tokens=rows * ROW_TOKENS,
        n_tokens=rows * ROW_TOKENS,
        tokens_encoded=rows * ROW_TOKENS,
        truncated=0,
        stats_size=1,
        stats_sha256="0" * 64,
        sources={f"shard-{block_id[:5]}.jsonl": rows},
    )
