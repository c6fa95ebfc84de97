"""A small nightly run whose store fails at chosen operations, and what it must end in."""

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from failing_store import FailingStore, Faults, Gone
from fsspec.implementations.memory import MemoryFileSystem
from numpy.typing import NDArray
from running import write_jsonl
from tokenizers import Tokenizer

from embedkit.config import JobConfig
from embedkit.corpus import blocks
from embedkit.dataset.stores import open_store, read_all
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version, latest_name
from embedkit.encoders.local_client import LocalClient
from embedkit.engines.run import run_job
from embedkit.errors import EmbedkitError, IntegrityError
from embedkit.vectors import TokenBatch

POISON = "#"
"""A word whose vectors are not finite."""

_LONG = "one two three four five six seven eight nine ten eleven twelve " * 3


def write_first_night(folder: Path) -> None:
    """Writes two files with two rejects, and a document of several blocks in each."""
    write_jsonl(
        folder / "a.jsonl",
        [
            {"id": "a0", "text": "rain"},
            {"id": "a1", "text": _LONG},
            {"id": "a2", "text": " "},
            {"id": "a3", "text": "a corpus becomes vectors"},
        ],
    )
    write_jsonl(
        folder / "b.jsonl",
        [
            {"id": "b0", "text": "the quick brown fox"},
            {"id": "b1", "text": f"one {_LONG}"},
            {"id": "b2", "text": "numbers 1 22 333"},
            {"id": "b3", "text": "white space around"},
        ],
    )


def write_second_night(folder: Path) -> None:
    """Of the second file one document has changed, one is gone, and two have come.

    One of these is rejected whole, for the vectors of one of its blocks.
    """
    write_jsonl(
        folder / "b.jsonl",
        [
            {"id": "b0", "text": "the quick brown dog"},
            {"id": "b1", "text": f"one {_LONG}"},
            {"id": "b3", "text": "white space around"},
            {"id": "b4", "text": f"{_LONG}{POISON} {_LONG}"},
            {"id": "b5", "text": "whoever changes one of them"},
            {"id": "b6"},
        ],
    )


class Place(Protocol):
    """Where the runs of many cases write, one after the other."""

    root: str

    def clear(self) -> None:
        """Takes everything away."""
        ...


class MemoryPlace:
    """A root in this process."""

    root = "memory://nightly/out"

    def clear(self) -> None:
        MemoryFileSystem.store.clear()


@dataclass
class LocalPlace:
    """A folder of this machine."""

    root: str

    def clear(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


class S3Place:
    """A bucket of the S3 server."""

    def __init__(self, bucket: str) -> None:
        self.root = f"s3://{bucket}/nightly/out"
        self._bucket = bucket

    def clear(self) -> None:
        import s3fs

        system = s3fs.S3FileSystem()
        system.invalidate_cache()
        if system.find(self._bucket):
            system.rm(f"{self._bucket}/nightly", recursive=True)


@dataclass
class GcsPlace:
    """A bucket of the server that stands in for Google Cloud Storage."""

    server: ThreadingHTTPServer
    root: str = "gs://bucket/nightly/out"

    def clear(self) -> None:
        self.server.objects.clear()


def contents(root: str) -> dict[str, bytes]:
    """Every object of a root, by its key; what a probe leaves that is killed is none of them."""
    store = open_store(root)
    return dict(read_all(store, (key for key in store.list("") if not key.startswith(".tmp/"))))


@dataclass
class Counts:
    """What came of the cases."""

    cases: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    failures: list[str] = field(default_factory=list)

    @property
    def harm(self) -> tuple[int, int, int]:
        """Rows lost, rows doubled, parts torn."""
        return self.lost, self.doubled, self.torn

    def line(self, what: str) -> str:
        """A row of a table."""
        outcomes = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        return (
            f"| {what} | {self.cases} | {self.lost} | {self.doubled} | {self.torn} | {outcomes} |"
        )


def _is_of_this_run(key: str, power: bool) -> bool:
    """A report tells how long its run took; a number that was torn is no other version's."""
    is_number = key.startswith(".numbers/") or key.endswith("/_PUBLISHED")
    return "/report/" in key or (power and is_number)


class Night:
    """A run over a root that holds the version of an earlier one, and what it ends in undisturbed.

    Args:
        job: The job.
        before: What the root holds when it begins.
        place: Where it runs.
    """

    def __init__(self, job: JobConfig, before: dict[str, bytes], place: Place) -> None:
        self.job = job.model_copy(update={"output": place.root})
        self.place, self.before = place, before
        self.counts = Counts()
        self.log: list[str] = []
        self.said: str | None = None
        self.begin()
        written: dict[str, bytes] = {}
        faults = Faults(lambda *_: None)
        with faults.in_stores(), _keeping(written):
            run_job(self.job)
        self.operations = faults.operations
        self.after = contents(place.root)
        self.name = latest_name(open_store(place.root)) or ""
        self.parts = {key: data for key, data in written.items() if _is_part(key)}
        """Whatever part an attempt may leave, of a document that is rejected whole as well."""
        self.problems = validate(Version(place.root, self.name)).problems

    def begin(self) -> None:
        """Makes the root what it was before the run."""
        self.place.clear()
        store = open_store(self.place.root)
        for key, data in self.before.items():
            store.create(key, data)

    def attempt(self, faults: Faults) -> str:
        """Runs the job once; returns how it ended."""
        self.log, self.said = faults.operations, None
        with faults.in_stores():
            try:
                run_job(self.job)
            except Gone:
                return "killed"
            except EmbedkitError as error:
                self.said = str(error)
                assert "\n" not in self.said, self.said
                assert self.place.root in self.said, self.said
                return type(error).__name__
        return "finished"

    def case(self, *attempts: Faults, power: bool = False) -> None:
        """Runs the job with faults, once for each attempt, and then to its end; counts the case.

        Args:
            attempts: The faults of each attempt but the last, which has none.
            power: Whether files may be torn meanwhile.
        """
        self.begin()
        self.counts.cases += 1
        try:
            self._case(attempts, power)
        except (AssertionError, EmbedkitError) as error:
            last = self.log[-1] if self.log else "no operation"
            self.counts.failures.append(f"{last}: {type(error).__name__}: {error}")

    def _case(self, attempts: Iterable[Faults], power: bool) -> None:
        for faults in attempts:
            outcome = self.attempt(faults)
            self.counts.outcomes[outcome] += 1
            self.check_reader(power)
            if outcome == "finished":
                # A store that refuses may leave a heartbeat, which the next run takes away.
                self.check_data()
        run_job(self.job)
        self.check_end(power)

    def check_reader(self, power: bool = False) -> None:
        """Checks what a reader of ``data/`` sees at this moment: whole rows, each once."""
        for key, data in contents(self.place.root).items():
            if "/data/" not in key or data == self.before.get(key, self.parts.get(key)):
                continue
            is_torn = power and not _is_parquet(data)
            assert is_torn, key
        self.check_published(power)

    def check_published(self, power: bool = False) -> None:
        """Checks that ``LATEST`` names a complete version, or that a torn one is said to be."""
        store = open_store(self.place.root)
        try:
            name = latest_name(store)
        except IntegrityError as error:
            assert power and "LATEST holds" in str(error), error
            return
        if name is None or Version(self.place.root, name).is_complete():
            return
        assert power, name
        with pytest.raises(IntegrityError, match=f"LATEST names {name}, which is not complete"):
            find_version(self.place.root)

    def check_end(self, power: bool = False) -> None:
        """Checks that the root is what an undisturbed run leaves."""
        found = contents(self.place.root)
        ours = {key: data for key, data in found.items() if not _is_of_this_run(key, power)}
        expected = {
            key: data for key, data in self.after.items() if not _is_of_this_run(key, power)
        }
        if ours != expected:
            self._count_harm(ours, expected)
            different = sorted(
                key for key in ours.keys() | expected.keys() if ours.get(key) != expected.get(key)
            )
            raise AssertionError(f"{different} differ")
        assert power or found.keys() == self.after.keys()
        report = next(key for key in found if key == f"{self.name}/report/report.json")
        json.loads(found[report])

    def check_data(self, anew: bool = False) -> None:
        """Checks that the version has the same parts and is sound, whatever its records count.

        Args:
            anew: Whether vectors may have been encoded that an undisturbed run takes over.
        """
        found = contents(self.place.root)
        self._count_harm(found, self.after)
        if anew:
            ours, theirs = self._rows(found), self._rows(self.after)
            assert ours.drop_columns("embedding") == theirs.drop_columns("embedding")
            vectors = [np.stack(rows["embedding"].to_numpy()) for rows in (ours, theirs)]
            np.testing.assert_allclose(*vectors, atol=1e-6)
        else:
            parts = {key: data for key, data in found.items() if "/data/" in key}
            assert parts == {key: data for key, data in self.after.items() if "/data/" in key}
        assert latest_name(open_store(self.place.root)) == self.name
        problems = validate(Version(self.place.root, self.name)).problems
        assert problems == (), problems

    def _rows(self, files: dict[str, bytes]) -> pa.Table:
        own = f"{self.name}/data/"
        parts = [
            pa.BufferReader(data) for key, data in sorted(files.items()) if key.startswith(own)
        ]
        return pa.concat_tables(
            pq.read_table(part).replace_schema_metadata(None) for part in parts
        ).combine_chunks()

    def _count_harm(self, ours: dict[str, bytes], expected: dict[str, bytes]) -> None:
        torn = {key for key, data in ours.items() if key in self.parts and not _is_parquet(data)}
        self.counts.torn += len(torn)
        found = Counter(_ids({key: data for key, data in ours.items() if key not in torn}))
        self.counts.doubled += sum(found.values()) - len(found)
        self.counts.lost += len(set(_ids(expected)) - found.keys())


def _ids(files: dict[str, bytes]) -> Iterator[tuple[str, str]]:
    for key, data in files.items():
        if _is_part(key):
            for value in pq.read_table(pa.BufferReader(data)).column("id").to_pylist():
                yield key.partition("/")[0], value


def _is_part(key: str) -> bool:
    """Whether a file holds rows; a report's map holds some of their ids as well."""
    return "/data/" in key and key.endswith(".parquet")


def _is_parquet(data: bytes) -> bool:
    try:
        pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError):
        return False
    return True


@contextmanager
def small_blocks(tokenizer: Tokenizer) -> Iterator[None]:
    """Documents of several blocks need but a few chunks, and a word of theirs is poison."""
    poison = tokenizer.token_to_id(POISON)
    encode_all = LocalClient.encode_all

    def spoiled(client: LocalClient, batches: Iterable[TokenBatch]) -> Iterator[NDArray[Any]]:
        batches = list(batches)
        for batch, vectors in zip(batches, encode_all(client, batches), strict=True):
            rows = np.split(batch.input_ids, batch.offsets[1:-1])
            vectors[[poison in row for row in rows]] = np.nan
            yield vectors

    with (
        patch.object(LocalClient, "encode_all", spoiled),
        patch.object(blocks, "_LARGE_DOCUMENT_ROWS", 3),
    ):
        yield


@contextmanager
def _keeping(written: dict[str, bytes]) -> Iterator[None]:
    """Keeps what stores create or copy, in case that it is removed."""
    done = FailingStore._done

    def keep(store: FailingStore, name: str, *arguments: Any, **named: Any) -> Any:
        answer = done(store, name, *arguments, **named)
        if name in ("create", "copy"):
            key = arguments[0 if name == "create" else 1]
            written[key] = store._store.read(key)
        return answer

    with patch.object(FailingStore, "_done", keep):
        yield
