"""Finishing a version of many blocks, which a writer that costs nothing has committed.

The writer makes a few blocks in earnest and repeats them: parts and rejects are hard links, the
other files are written without a sync, those of each block with its own name. The version is then
completed by a process of its own, as a run that has nothing left to encode would.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
from pydantic import TypeAdapter

from embedkit.config import CorpusConfig, ModelConfig, OutputConfig
from embedkit.corpus.splits import FileRange, Plan, Split
from embedkit.dataset.commit import commit_block
from embedkit.dataset.committed import CommitRecord, SplitEnd
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.encoders.kinds import read_model
from embedkit.flow.complete import complete_version
from embedkit.flow.completed import begin_account
from embedkit.flow.prepare import Draft, begin_version
from embedkit.hashes.digests import text_hash
from embedkit.records import DOCUMENT_SCHEMA, TOKEN_FIELDS, Reject
from embedkit.reports.sample import RowKeys
from embedkit.reports.statistics import Sidecar
from embedkit.vectors import EmbeddingBlock, Vectors
from tests.benchmarks.machine import describe_machine, watched

_KINDS = 256
_ROW_KEYS = TypeAdapter(RowKeys)
_WITH_REJECT = 16
_DIMENSION = 384
_INTERVAL = 0.1
_PROMISED_SECONDS = 60.0
_PROMISED_MIB = 953.0


def make_block(number: int, rows: int, dimension: int = _DIMENSION) -> EmbeddingBlock:
    """Returns a block of random unit vectors; every sixteenth has a reject."""
    random = np.random.default_rng(number)
    vectors = random.standard_normal((rows, dimension), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    ids = [f"{number}-{row}" for row in range(rows)]
    texts = [f"row {row} of kind {number} " + "and so on " * (row % 50) for row in range(rows)]
    n_tokens = random.integers(3, 400, rows).astype(np.int32)
    source = f"{number % 7}.jsonl"
    columns = {
        "id": ids,
        "doc_id": ids,
        "chunk_index": [0] * rows,
        "char_start": [0] * rows,
        "char_end": list(map(len, texts)),
        "text_hash": list(map(text_hash, texts)),
        "source": [source] * rows,
        "row_index": list(range(rows)),
        "text": texts,
    }
    embedding = Vectors.from_matrix(vectors).to_arrow()
    arrays = [pa.array(columns[field.name], field.type) for field in DOCUMENT_SCHEMA]
    arrays += [
        embedding,
        pa.array(n_tokens),
        pa.array(n_tokens > 256),
    ]
    fields = [
        *DOCUMENT_SCHEMA,
        pa.field("embedding", embedding.type, nullable=False),
        *TOKEN_FIELDS[1:],
    ]
    rejects = () if number % _WITH_REJECT else (Reject(source, rows, "empty_text", "no text"),)
    return EmbeddingBlock(
        split_id=f"{number:05d}",
        seq=0,
        documents=rows + len(rejects),
        last=True,
        rejects=rejects,
        rows=pa.record_batch(arrays, schema=pa.schema(fields)),
    )


def plan_of(splits: int) -> Plan:
    """Returns a plan of files that nobody will read."""
    return Plan(
        base="",
        metadata=(),
        splits=tuple(
            Split(
                f"{number:05d}",
                (FileRange(f"{number}.jsonl", "", 1, "", "jsonl", "none", 0, 1, 1),),
            )
            for number in range(splits)
        ),
        files=splits,
        total_bytes=splits,
        inputs_digest="0" * 32,
    )


def make_draft(folder: Path, splits: int) -> Draft:
    """Begins a version of so many splits."""
    model = ModelConfig(model=str(folder / "model"))
    output = OutputConfig(output=str(folder / "output"), version="v1")
    records = CorpusConfig(inputs=("none.jsonl",))
    return begin_version(model, read_model(model), plan_of(splits), records, output)


def write_blocks(version: Version, blocks: int, per_split: int, rows: int) -> None:
    """Commits blocks and ends their splits, without encoding anything."""
    kinds = [Kind.of(version, number, rows) for number in range(min(_KINDS, blocks))]
    for path in ("data", "rejects", "_meta/commits", "_meta/stats", "_meta/splits"):
        (Path(version.url) / path).mkdir(parents=True, exist_ok=True)
    root = Path(version.root)
    for split, first in enumerate(range(0, blocks, per_split)):
        count, documents = min(per_split, blocks - first), 0
        for seq in range(count):
            kind = kinds[(first + seq) % len(kinds)]
            kind.commit(version, split, seq)
            documents += kind.record.documents
        end = SplitEnd(f"{split:05d}", count, documents, ((documents, 0, 0, 0, documents),))
        (root / version.split_key(end.split_id)).write_bytes(end.to_json())


@dataclass(frozen=True)
class Kind:
    """A block that was made in earnest, and stands for many.

    Attributes:
        record: Its commit record.
        files: Its part and rejects.
        keys: The keys of its sampled rows.
        statistics: Its statistics as JSON, those keys left out.
    """

    record: CommitRecord
    files: tuple[Path, Path]
    keys: RowKeys
    statistics: bytes

    @classmethod
    def of(cls, version: Version, number: int, rows: int) -> "Kind":
        """Makes one of a number."""
        scratch = version.sibling("kinds")
        options = PartOptions(dimension=_DIMENSION, file_metadata={"embedkit.fingerprint": "f"})
        block = make_block(number, rows)
        sidecar = Sidecar.of(block, 256)
        record = commit_block(scratch, block, options, 256, sidecar.to_json())
        values = json.loads(sidecar.to_json()) | {"keys": None}
        named = json.dumps(values, sort_keys=True).replace(f'"{block.block_id}"', "BLOCK")
        root = Path(scratch.root)
        part, reject = scratch.part_key(block.block_id), scratch.reject_key(block.block_id)
        return cls(record, (root / part, root / reject), sidecar.statistics.keys, named.encode())

    def commit(self, version: Version, split: int, seq: int) -> None:
        """Commits it as a block of the version."""
        root, block = Path(version.root), f"{split:05d}-{seq:05d}"
        part = version.part_key(block)
        os.link(self.files[0], root / part)
        if self.record.rejects:
            os.link(self.files[1], root / version.reject_key(block))
        count = len(self.keys)
        keys = replace(self.keys, splits=np.full(count, split), seqs=np.full(count, seq))
        dumped = json.dumps(_ROW_KEYS.dump_python(keys, mode="json")).encode()
        statistics = self.statistics.replace(b"null", dumped, 1).replace(
            b"BLOCK", f'"{block}"'.encode()
        )
        (root / version.stats_key(block)).write_bytes(statistics)
        record = replace(self.record, block_id=block, part=part.removeprefix(version.key("")))
        record = record.with_statistics(statistics)
        (root / version.commit_key(block)).write_bytes(record.to_json())


def _write(folder: Path, blocks: int, per_split: int, rows: int) -> None:
    # Not above: what it imports would count as memory of the process that completes.
    from tests.benchmarks.memory import save_tiny_model

    save_tiny_model(folder)
    draft = make_draft(folder, -(-blocks // per_split))
    write_blocks(draft.version, blocks, per_split, rows)


def _complete(folder: Path, blocks: int, per_split: int) -> None:
    begun = time.perf_counter()
    draft = make_draft(folder, -(-blocks // per_split))
    joined = time.perf_counter() - begun
    begun, (own, others) = time.perf_counter(), _cpu_seconds()
    account = complete_version(draft, begin_account([]))
    seconds = time.perf_counter() - begun
    used = _cpu_seconds()
    figures = {"joined": joined, "seconds": seconds, "rows": account.rows}
    figures |= {"own": used[0] - own, "others": used[1] - others}
    print(json.dumps(figures))


def _cpu_seconds() -> tuple[float, float]:
    times = os.times()
    return times.user + times.system, times.children_user + times.children_system


def _memory(processes: list[psutil.Process]) -> dict[str, float]:
    total = 0.0
    for process in processes:
        try:
            total += process.memory_full_info().pss / 2**20
        except psutil.Error:
            continue
    return {"memory": total}


def measure(blocks: int, per_split: int, rows: int) -> dict[str, float]:
    """Writes and finishes a version; returns seconds, CPU seconds and MiB at most."""
    with tempfile.TemporaryDirectory() as name:
        arguments = [name, str(blocks), str(per_split), str(rows)]
        command = [sys.executable, "-m", "tests.benchmarks.finish"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1"}
        subprocess.run([*command, "write", *arguments], check=True, env=environment)
        process = subprocess.Popen(
            [*command, "complete", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        with watched(process.pid, _INTERVAL, _memory) as usage:
            printed, _ = process.communicate()
        if process.returncode:
            raise RuntimeError(f"finishing {blocks} blocks ended with {process.returncode}")
    return {**json.loads(printed.splitlines()[-1]), **usage.peaks}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds this benchmark's options."""
    parser.add_argument("--blocks", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--per-split", type=int, default=8)
    parser.add_argument("--block-rows", type=int, default=64)


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    print(
        "\n| blocks | rows | joined in s | finished in s | CPU s of the driver | and of others "
        "| peak MiB of all |"
    )
    print("|---|---|---|---|---|---|---|")
    for blocks in options.blocks:
        found = measure(blocks, options.per_split, options.block_rows)
        print(
            f"| {blocks:,} | {found['rows']:,} | {found['joined']:.1f} | {found['seconds']:.1f} "
            f"| {found['own']:.1f} | {found['others']:.1f} | {found['memory']:,.0f} |",
            flush=True,
        )
    print(f"Promised: 100,000 blocks in {_PROMISED_SECONDS:.0f} s and {_PROMISED_MIB:.0f} MiB.")


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        _write(Path(sys.argv[2]), *map(int, sys.argv[3:]))
    elif sys.argv[1:2] == ["complete"]:
        _complete(Path(sys.argv[2]), *map(int, sys.argv[3:5]))
    else:
        arguments = argparse.ArgumentParser(description=__doc__)
        add_options(arguments)
        print(describe_machine())
        main(arguments.parse_args())
