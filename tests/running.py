"""What tests of whole runs share: small corpora, jobs, the command line, finished datasets."""

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedkit.config import JobConfig
from embedkit.flow import embed
from embedkit.vectors import TokenBatch

WORDS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "corpus vectors neighbours record reason counted weights model tokenizer prompt pooling"
).split()


class SumClient:
    """Vectors from token sums: deterministic, and different for every row of ids."""

    dimension = 4

    def __init__(self, poison: int | None = None) -> None:
        self.calls: list[TokenBatch] = []
        self._poison = poison

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[np.ndarray]:
        for batch in batches:
            self.calls.append(batch)
            ends = batch.offsets
            rows = [batch.input_ids[a:b] for a, b in itertools.pairwise(ends)]
            yield np.array([self.vector(row) for row in rows], dtype=np.float32)

    def vector(self, ids: np.ndarray) -> list[float]:
        if self._poison is not None and self._poison in ids:
            return [1.0, float("nan"), 0.0, 0.0]
        weights = np.arange(1, len(ids) + 1)
        return [float(ids.sum()), float(len(ids)), float((ids * weights).sum() % 8191), 1.0]


class WideSumClient(SumClient):
    """The same with as many components as are asked for."""

    def __init__(self, dimension: int) -> None:
        super().__init__()
        self.dimension = dimension

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[np.ndarray]:
        for vectors in super().encode_all(batches):
            yield np.resize(vectors.T, (self.dimension, len(vectors))).T


def connect_sum_client() -> SumClient:
    """Picklable, as transforms want it."""
    return SumClient()


def sentence(number: int, words: int) -> str:
    """A text of so many words; other numbers give other texts."""
    picked = [WORDS[(number * 7 + place * (1 + number % 5)) % len(WORDS)] for place in range(words)]
    return " ".join([f"{number}", *picked])


def records(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Records with an id, a text of 1 to 30 words, and two metadata columns."""
    return [
        {
            "id": f"doc-{number:05d}",
            "text": sentence(number, 1 + number * 11 % 30),
            "stars": number % 5,
            "title": f"title {number}",
        }
        for number in range(start, start + count)
    ]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_corpus(folder: Path, shards: int = 3, rows: int = 60) -> Path:
    """JSONL shards of `records`, every id once."""
    for shard in range(shards):
        write_jsonl(folder / f"shard-{shard}.jsonl", records(rows, shard * rows))
    return folder


def change_corpus(corpus: Path, folder: Path, rows: int) -> Path:
    """Writes the shards of `write_corpus` once more, the first as it was, as many records in all.

    In each of the others half of the records have other texts, the last one has lost its first
    third, and a new shard before all of them has as many new records.
    """
    shards = sorted(corpus.glob("*.jsonl"))
    shutil.copy2(shards[0], folder / shards[0].name)
    for number, shard in enumerate(shards[1:], 1):
        found = [json.loads(line) for line in shard.read_text().splitlines()]
        for record in found[number % 2 :: 2]:
            record["text"] += " changed"
        write_jsonl(folder / shard.name, found[rows // 3 :] if shard == shards[-1] else found)
    write_jsonl(folder / "new.jsonl", records(rows // 3, start=10 * rows * len(shards)))
    return folder


def tiny_job(model: str, inputs: Path | str, output: Path, **changes: Any) -> JobConfig:
    """A job over the tiny model in float32, in blocks of a few rows."""
    settings: dict[str, Any] = {
        "inputs": (str(inputs),),
        "model": model,
        "pooling": "mean",
        "normalize": True,
        "backend": "torch",
        "precision": "float32",
        "encoder_threads": 1,
        "output": str(output),
        "engine": "plain",
        "block_rows": 16,
        "split_bytes": 4096,
    }
    return JobConfig(**(settings | changes))


def flags(job: JobConfig) -> list[str]:
    """What of a job differs from its defaults, as command line arguments."""
    arguments = list(job.inputs)
    for name, field_ in JobConfig.model_fields.items():
        value = getattr(job, name)
        if name == "inputs" or value == field_.get_default():
            continue
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            arguments.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, tuple):
            for one in value:
                arguments += [flag, str(one)]
        else:
            arguments += [flag, str(value)]
    return arguments


def embedkit_command() -> list[str]:
    return [sys.executable, "-m", "embedkit"]


def start(*arguments: str, **options: Any) -> subprocess.Popen:
    """Starts the command line as a process, its output piped."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*embedkit_command(), *arguments], env=environment, **(settings | options)
    )


def run_process(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess:
    """Runs the command line as a process of its own."""
    process = start(*arguments)
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@dataclass
class Dataset:
    """A version on local disk, read with pyarrow alone."""

    folder: Path
    manifest: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.manifest = json.loads((self.folder / "_meta" / "manifest.json").read_text())
        assert (self.folder / "_SUCCESS").exists()

    @classmethod
    def only(cls, root: Path | str) -> "Dataset":
        """The one version of a root, published or not."""
        (mark,) = Path(root).glob("*/_SUCCESS")
        return cls(mark.parent)

    @classmethod
    def latest(cls, root: Path | str) -> "Dataset":
        return cls(Path(root) / (Path(root) / "LATEST").read_text().strip())

    @property
    def parts(self) -> list[Path]:
        return sorted((self.folder / "data").glob("*.parquet"))

    @property
    def part_hashes(self) -> dict[str, str]:
        return {part.name: hashlib.sha256(part.read_bytes()).hexdigest() for part in self.parts}

    @property
    def table(self) -> pa.Table:
        """All rows by id, without what the files' metadata say."""
        tables = [pq.read_table(part).replace_schema_metadata(None) for part in self.parts]
        return pa.concat_tables(tables).sort_by("id").combine_chunks()

    @property
    def rejects(self) -> list[dict[str, Any]]:
        files = sorted((self.folder / "rejects").glob("*.jsonl"))
        return [json.loads(line) for file in files for line in file.read_text().splitlines()]

    def check_accounts(self, documents: int) -> None:
        """Every record is in `data/` or in `rejects/`, exactly once."""
        table, rejects = self.table, self.rejects
        assert len(set(table["id"].to_pylist())) == table.num_rows
        embedded = set(
            zip(table["source"].to_pylist(), table["row_index"].to_pylist(), strict=True)
        )
        rejected = [(one["source"], one["row_index"]) for one in rejects]
        assert len(set(rejected)) == len(rejected)
        assert not embedded.intersection(rejected)
        assert len(embedded) + len(rejected) == documents
        assert self.manifest["documents"] == documents
        assert self.manifest["rows"] == table.num_rows
        assert self.manifest["rejects"] == len(rejects)


def one_line(text: str) -> str:
    """Asserts that a program said one line and no traceback, and returns it."""
    lines = text.splitlines()
    assert len(lines) == 1, text
    assert "Traceback" not in text
    return lines[0]


def last_error(log: str) -> str:
    """The message of the last line of a JSON log, which is an error."""
    last = json.loads(log.splitlines()[-1])
    assert (last["level"], "traceback" in last) == ("error", False), log
    return one_line(last["message"])


class Killed(BaseException):
    """Passes every handler of errors, as a signal does."""


@contextmanager
def killed_after_blocks(monkeypatch: pytest.MonkeyPatch, blocks: int) -> Iterator[None]:
    """Ends the run of the body when it is to write one block more; fails if that does not come."""
    write, done = embed.write_embeddings, itertools.count()

    def write_or_end(*arguments: Any, **named: Any) -> Any:
        if next(done) == blocks:
            raise Killed("as if killed")
        return write(*arguments, **named)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(embed, "write_embeddings", write_or_end)
        yield


def job_maker(model: str, folder: Path) -> Callable[..., JobConfig]:
    """Makes jobs over three shards of sixty records; other settings as given."""
    corpus = write_corpus(folder / "in")

    def make(**changes: object) -> JobConfig:
        settings = {"id_column": "id", "max_tokens": 24}
        output = Path(str(changes.pop("output", folder / "out")))
        return tiny_job(model, corpus, output, **(settings | changes))

    return make
