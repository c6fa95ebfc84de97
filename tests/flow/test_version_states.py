"""Any number of runs at one root, an operation of its store at a time, killed and late: promise 1.

Runs are real ones, from the plan to ``LATEST``, of a model that costs nothing. Those at the same
version differ in the last digits of their vectors, which tell afterwards who made each of them.
"""

import itertools
import json
import os
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attempts import Attempt, KilledError, attempt_here
from costless import (
    WORDS,
    CostlessEngine,
    CostlessSpec,
    MemoryFiles,
    costless_model,
    make_costless,
    vector_of,
)
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from embedkit.config import JobConfig
from embedkit.dataset import heartbeat, removal
from embedkit.dataset.manifest import read_manifest
from embedkit.dataset.prune import Policy, Prune
from embedkit.dataset.publication import number_of, publish
from embedkit.dataset.rows import read_rows
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version, latest
from embedkit.engines.run import run_job
from embedkit.errors import (
    ConfigError,
    EmbedkitError,
    InputError,
    IntegrityError,
    RemovedError,
    ResumableError,
)
from embedkit.flow import beats, complete, prepare, report
from embedkit.flow.publish_by_hand import publish_version
from embedkit.flow.verdict import REPORT_JSON, judge
from embedkit.reports.report import report_json

ROOT = "memory://root"
TEXTS = [" ".join(WORDS[n + m] for m in range(1 + n % 3)) for n in range(9)]
STEPS = (
    "plan.json", "data/part-", "rejects/", "_meta/stats/", "_meta/commits/", "_meta/splits/",
    "manifest.json", "README.md", "_SUCCESS", "_PUBLISHED", ".numbers/", "LATEST",
)  # fmt: skip
"""What an attempt writes, in the order that it does."""

HIDDEN = (".numbers", ".tmp", ".removing")
FROZEN = (
    "data/", "rejects/", "_meta/plan", "_meta/commits/", "_meta/splits/", "_meta/stats/",
    "_meta/manifest", "_SUCCESS",
)  # fmt: skip
"""What never changes of a complete version."""

FAILS, PASSES = "counts.rows<100", "counts.rows<0"
"""Gates of versions of a few rows."""

EXAMPLES = int(os.environ.get("EMBEDKIT_SOAK_EXAMPLES", "2000"))

Document = dict[str, str]


@dataclass(frozen=True)
class Said:
    """What a run found that it may take vectors over from.

    Attributes:
        version: Name of the earlier version.
        scope: Where texts are looked for.
        complete: Whether it was complete then.
    """

    version: str
    scope: str
    complete: bool


def ids_of(text: str) -> tuple[int, ...]:
    return tuple(WORDS.index(word) + 1 for word in text.split())


@cache
def nudges_of(text: str, vector: bytes) -> int | None:
    """Which attempt made a vector of a text."""
    return next((n for n in range(200) if vector_of(ids_of(text), n).tobytes() == vector), None)


@dataclass
class Run:
    """An attempt at a job.

    Attributes:
        number: Tells its vectors from others'.
        config: The job.
        attempt: Its thread.
        edits: How often files had been written in their places when it began.
        engine: Holds the encoder, which knows what was asked of it.
        heart: Its heartbeat, once it has begun.
        reuse: The version whose vectors it may take; None where it has not said yet.
        version: The version that it works on; None before it is known.
    """

    number: int
    config: JobConfig
    edits: int
    engine: CostlessEngine
    attempt: Attempt = field(init=False)
    heart: beats.Beats | None = None
    reuse: list[Any] = field(default_factory=list)
    version: str | None = None


class Clock:
    """The time, which a test may let pass."""

    def __init__(self) -> None:
        self.passed = 0.0

    def time(self) -> float:
        return time.time() + self.passed

    def monotonic(self) -> float:
        return time.monotonic() + self.passed


CLOCK = Clock()


@dataclass
class Pruning:
    """An attempt at pruning the root.

    Attributes:
        attempt: Its thread.
        alive: The versions that somebody wrote when it began, and those that he took rows from.
    """

    attempt: Attempt
    alive: dict[str, Run]


@dataclass
class Publishing:
    """Somebody who publishes a version by hand.

    Attributes:
        version: Its name.
        attempt: His thread.
    """

    version: str
    attempt: Attempt


class Versions(RuleBasedStateMachine):
    """Runs at one root."""

    model: CostlessSpec

    def __init__(self) -> None:
        super().__init__()
        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
        self.runs: list[Run] = []
        self.folders = itertools.count(1)
        self.files = MemoryFiles("/in0")
        self.corpus: dict[str, list[Document]] = {}
        self.contents: dict[tuple[str, str], dict[int, Document]] = {}
        self.edits = 0
        self.ids = itertools.count()
        self.frozen: dict[str, dict[str, bytes]] = {}
        self.once: dict[str, bytes] = {}
        self.rows: dict[str, dict[tuple[str, int], Row]] = defaultdict(dict)
        self.latest = 0
        self.prunes: list[Pruning] = []
        self.hands: list[Publishing] = []
        self.going: set[str] = set()

    # What the inputs are.

    @initialize(counts=st.lists(st.integers(1, 4), min_size=1, max_size=3), data=st.data())
    def begin(self, counts: list[int], data: st.DataObject) -> None:
        self.id_column = data.draw(st.sampled_from([None, "id"]))
        for number, count in enumerate(counts):
            texts = data.draw(st.lists(st.sampled_from(TEXTS), min_size=count, max_size=count))
            self.corpus[f"{number}.jsonl"] = list(map(self._document, texts))
        for name in self.corpus:
            self._write(name)

    def _document(self, text: str) -> Document:
        return {"id": f"d{next(self.ids)}", "text": text}

    def _write(self, name: str) -> None:
        self.files.write(name, self.corpus[name])
        self._know()

    def _know(self) -> None:
        """Remembers what is in the files, by what the plan will say of them."""
        for path, file in list(MemoryFileSystem.store.items()):
            if path.startswith(f"{self.files.folder}/"):
                info = MemoryFileSystem().info(path)
                lines = file.getvalue().splitlines(keepends=True)
                starts = itertools.accumulate(map(len, lines), initial=0)
                self.contents[path.rpartition("/")[2], f"{info['size']}-{info['created']}"] = {
                    start: json.loads(line) for start, line in zip(starts, lines, strict=False)
                }

    def _elsewhere(self, in_place: bool) -> None:
        """Puts the files elsewhere unless they are to be changed where they are."""
        if in_place:
            self.edits += 1
        else:
            self.files = self.files.copied_to(f"/in{next(self.folders)}")

    @rule(
        in_place=st.booleans(), text=st.sampled_from([*TEXTS, ""]), place=st.integers(0, 20),
        file=st.integers(0, 3), what=st.sampled_from(["insert", "change", "remove", "repeat"]),
    )  # fmt: skip
    def edit(self, in_place: bool, text: str, place: int, file: int, what: str) -> None:
        """A document comes, goes, changes, or is there twice."""
        self._elsewhere(in_place)
        name = sorted(self.corpus)[file % len(self.corpus)]
        documents = self.corpus[name]
        if what == "insert":
            documents.insert(place % (len(documents) + 1), self._document(text))
        elif what == "repeat":
            documents.append(dict(documents[place % len(documents)]))
        elif what == "change":
            documents[place % len(documents)]["text"] = text
        elif len(documents) > 1:
            del documents[place % len(documents)]
        self._write(name)

    @rule(
        in_place=st.booleans(), file=st.integers(0, 3), number=st.integers(0, 9),
        what=st.sampled_from(["rename", "add", "remove"]),
    )  # fmt: skip
    def edit_files(self, in_place: bool, file: int, number: int, what: str) -> None:
        """A file comes, goes or gets another name."""
        name, other = sorted(self.corpus)[file % len(self.corpus)], f"{number}.jsonl"
        if what == "remove" and len(self.corpus) > 1:
            self._elsewhere(in_place)
            self.files.remove(name)
            del self.corpus[name]
        elif what == "rename" and other not in self.corpus:
            self._elsewhere(in_place)
            self.files.rename(name, other)
            self.corpus[other] = self.corpus.pop(name)
            self._know()
        elif what == "add" and other not in self.corpus:
            self._elsewhere(in_place)
            self.corpus[other] = [self._document(TEXTS[number % len(TEXTS)])]
            self._write(other)

    # What runs do.

    @precondition(lambda self: len(self._open()) < 4)
    @rule(
        name=st.sampled_from([None, None, "a", "b", "c"]),
        reuse=st.sampled_from(["latest", "latest", "latest", "off", "a", "b"]),
        scope=st.sampled_from(["source", "source", "global"]),
        rows=st.integers(1, 3), split_bytes=st.sampled_from([60, 200]),
        verify=st.booleans(), most=st.sampled_from([1, 1, 1, 0]),
        gates=st.sampled_from([(), (), (PASSES,), (FAILS, PASSES)]),
    )  # fmt: skip
    def start(
        self, name: str | None, reuse: str, scope: str, rows: int, split_bytes: int,
        verify: bool, most: float, gates: tuple[str, ...],
    ) -> None:  # fmt: skip
        config = JobConfig(
            inputs=(f"memory:/{self.files.folder}",), model="costless", output=ROOT, version=name,
            id_column=self.id_column, store_text=True, reuse=reuse, reuse_scope=scope,
            verify_inputs=verify, block_rows=rows, split_bytes=split_bytes,
            max_reject_share=most, fail_on=gates, engine="plain",
        )  # fmt: skip
        self._start(config)

    @precondition(lambda self: self.runs and len(self._open()) < 4)
    @rule(which=st.integers(0, 5), gates=st.sampled_from([None, None, (), (FAILS,)]))
    def start_the_same_again(self, which: int, gates: tuple[str, ...] | None) -> None:
        """With its own gates, or others."""
        config = self.runs[-1 - which % len(self.runs)].config
        changed = {} if gates is None else {"fail_on": gates}
        self._start(config.model_copy(update=changed))

    def _start(self, config: JobConfig) -> None:
        number = len(self.runs) + 1
        one = Run(number, config, self.edits, CostlessEngine(self.model, number))
        self.runs.append(one)

        def job() -> Any:
            attempt_here().run = one
            return run_job(config)

        one.attempt = Attempt(job)
        # All attempts try first whether the store keeps what it should.
        one.attempt.go_on(lambda name, key: not key.startswith(".tmp/"))
        self._look(one)

    def _open(self) -> list[Run]:
        return [one for one in self.runs if not one.attempt.ended]

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 5), count=st.integers(1, 12))
    def go_on(self, which: int, count: int) -> None:
        one = self._one(which)
        one.attempt.steps(count)
        self._look(one)

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 5), step=st.sampled_from(STEPS), behind=st.booleans())
    def go_on_until(self, which: int, step: str, behind: bool) -> None:
        """Stops before it writes something of a kind, or when it just has."""
        one = self._one(which)
        one.attempt.go_on(lambda name, key: name in ("create", "replace") and step in key)
        if behind:
            one.attempt.steps(1)
        self._look(one)

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 5))
    def finish(self, which: int) -> None:
        one = self._one(which)
        one.attempt.finish()
        self._look(one)

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 5), after=st.booleans())
    def fail(self, which: int, after: bool) -> None:
        one = self._one(which)
        one.attempt.fail(after)
        self._look(one)

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 5))
    def kill(self, which: int) -> None:
        one = self._one(which)
        one.attempt.kill()

    @precondition(lambda self: self._open())
    @rule(which=st.integers(0, 5))
    def beat(self, which: int) -> None:
        """Its own thread says that a run is alive, and lists what is committed."""
        self._beat(self._one(which))

    def _beat(self, one: Run) -> None:
        if one.heart is not None and not one.heart.stop.is_set():
            one.heart.beat()

    @rule(alive=st.integers(0, 15))
    def wait_for_a_day(self, alive: int) -> None:
        """All runs and prunes die but some, which say that they are alive."""
        CLOCK.passed += 30 * 3600
        for number, one in enumerate(self._open()):
            if alive >> number & 1 and one.heart is not None and not one.heart.stop.is_set():
                one.heart.beat()
            else:
                one.attempt.kill()
        for one in (*self.prunes, *self.hands):
            one.attempt.kill()

    # What people do.

    @precondition(lambda self: self.once and len(self._by_hand()) < 2)
    @rule(which=st.integers(0, 5))
    def publish(self, which: int) -> None:
        names = sorted({key.partition("/")[0] for key in self.once})
        name = names[which % len(names)]
        attempt = Attempt(lambda: publish_version(f"{ROOT}/{name}"))
        self.hands.append(Publishing(name, attempt))

    def _by_hand(self) -> list[Publishing]:
        return [one for one in self.hands if not one.attempt.ended]

    @precondition(lambda self: self._by_hand())
    @rule(
        which=st.integers(0, 1), how=st.sampled_from(["some", "some", "end", "end", "kill"]),
        count=st.integers(1, 12),
    )  # fmt: skip
    def go_on_publishing(self, which: int, how: str, count: int) -> None:
        found = self._by_hand()
        one = found[which % len(found)]
        if how == "some":
            one.attempt.steps(count)
        elif how == "end":
            one.attempt.finish()
        else:
            one.attempt.kill()
        error = one.attempt.error
        if error is not None and not isinstance(error, KilledError):
            assert len(str(error).splitlines()) == 1
            known = (ConfigError, ResumableError, *([IntegrityError] if self.prunes else []))
            assert isinstance(error, known), repr(error)

    # What prunes do.

    @precondition(lambda self: self.frozen and len(self._pruning()) < 2)
    @rule(keep=st.integers(1, 2), old=st.booleans())
    def prune(self, keep: int, old: bool) -> None:
        policy = Policy(keep, CLOCK.time() if old else None)
        alive = {}
        for one in self._open():
            if one.version is not None and self._is_writing(one):
                alive[one.version] = one
                alive |= {said.version: one for said in one.reuse if said is not None}
        attempt = Attempt(lambda: list(Prune(ROOT, policy, CLOCK.time).remove()))
        self.prunes.append(Pruning(attempt, alive))

    def _is_writing(self, one: Run) -> bool:
        """Whether a run has said that it writes its version, and looked whether it may."""
        return one.heart is not None and not one.heart.stop.is_set()

    def _pruning(self) -> list[Pruning]:
        return [one for one in self.prunes if not one.attempt.ended]

    @precondition(lambda self: self._pruning())
    @rule(
        which=st.integers(0, 1),
        how=st.sampled_from(["some", "some", "begin", "end", "end", "kill", "fail"]),
        count=st.integers(1, 20),
    )
    def go_on_pruning(self, which: int, how: str, count: int) -> None:
        found = self._pruning()
        one = found[which % len(found)]
        if how == "some":
            one.attempt.steps(count)
        elif how == "begin":
            one.attempt.go_on(lambda name, key: name == "create" and key.endswith("/begun"))
        elif how == "end":
            one.attempt.finish()
        elif how == "kill":
            one.attempt.kill()
        else:
            one.attempt.fail(count % 2 == 0)
        error = one.attempt.error
        assert error is None or isinstance(error, (KilledError, ConfigError)) or one.attempt.failed

    def _one(self, which: int) -> Run:
        found = self._open()
        return found[-1 - which % len(found)]

    def _look(self, one: Run) -> None:
        """Sees how a run has ended, if it has."""
        attempt, error = one.attempt, one.attempt.error
        if attempt.ended and error is None:
            self._check_refusal(one)
        if not attempt.ended or error is None or isinstance(error, KilledError):
            return
        said = str(error)
        assert isinstance(error, EmbedkitError), repr(error)
        assert len(said.splitlines()) == 1
        changed = isinstance(error, InputError) and one.edits < self.edits
        other = isinstance(error, ConfigError) and (
            "was begun with" in said or "there is no version" in said
        )
        lost = attempt.failed and isinstance(error, ResumableError)
        removed = bool(self.prunes) and isinstance(error, (RemovedError, IntegrityError))
        if not (changed or other or lost or removed):
            raise error

    def _check_refusal(self, one: Run) -> None:
        """Whoever asks, and however often, the same gates fail by as much."""
        result = one.attempt.result
        if FAILS not in one.config.fail_on:
            assert result.refusal is None or not result.refusal.startswith("gate")
            return
        # A report may go at this moment.
        known = f"gate {FAILS}: the figure is {result.rows}, {100 - result.rows} below 100; "
        gone = "gates " if len(one.config.fail_on) > 1 else "gate "
        removed = bool(self.prunes) and "the report has no such figure" in result.refusal
        assert result.refusal.startswith(known) or (removed and result.refusal.startswith(gone))

    # What must be true whatever they have done.

    @invariant()
    def promises_hold(self) -> None:
        found: dict[str, dict[str, bytes]] = defaultdict(dict)
        for path, file in MemoryFileSystem.store.items():
            if path.startswith("/root/"):
                name, _, key = path.removeprefix("/root/").partition("/")
                found[name][key] = file.getvalue()
        complete_ones = set()
        going = {key.partition("/")[0] for key in found[".removing"] if key.endswith("/begun")}
        self._check_pruned(found, going)
        for name, files in found.items():
            if name in ("LATEST", *HIDDEN) or name in going:
                continue
            rows = self._rows(name, files)
            if "_SUCCESS" in files and "_meta/manifest.json" in files:
                complete_ones.add(name)
                self._check_complete(name, files, rows)
                assert "_PUBLISHED" not in files or self._may_be_published(name)
        assert self.frozen.keys() <= complete_ones
        self._check_latest(found, complete_ones)

    def _check_pruned(self, found: dict[str, dict[str, bytes]], going: set[str]) -> None:
        """What goes is complete no more for anybody, and nobody writes it or takes rows from it."""
        for name in going:
            assert self._is_moved_now() or f"{name}\n".encode() != found["LATEST"].get("")
        for name in going - self.going:
            for one in self.prunes:
                writer = one.alive.get(name)
                assert writer is None or writer.attempt.ended or not self._is_writing(writer)
        self.going = going
        known = {*self.frozen, *(key.partition("/")[0] for key in self.once)}
        gone = {name for name in known if name in going or "_meta/plan.json" not in found[name]}
        assert not gone or self.prunes
        for name in gone:
            # Its name is free for others.
            self.frozen.pop(name, None)
            self.rows.pop(name, None)
        self.once = {
            key: data for key, data in self.once.items() if key.partition("/")[0] not in gone
        }

    def _rows(self, name: str, files: dict[str, bytes]) -> dict[tuple[str, int], Any]:
        """What a reader sees of a version: rows of its inputs, none of them torn or twice."""
        planned = self._planned(files)
        rows: dict[tuple[str, int], Any] = {}
        for key, data in files.items():
            if not key.endswith(".parquet"):
                continue
            assert key.startswith("data/")
            before = self.once.setdefault(f"{name}/{key}", data)
            assert before == data, f"{name}/{key} was written twice"
            for place, row in _rows_of(data).items():
                assert place not in rows, f"{name}: {place} twice"
                rows[place] = row
                document = planned[place]
                assert row.text == document["text"]
                assert self.id_column is None or row.id == document["id"]
        assert len({row.id for row in rows.values()}) == len(rows)
        self.rows[name].update(rows)
        return rows

    def _planned(self, files: dict[str, bytes]) -> dict[tuple[str, int], Document]:
        if "_meta/plan.json" not in files:
            return {}
        said = json.loads(files["_meta/plan.json"])["corpus"]["input_files"]
        return {
            (source, row): document
            for source, _, _, etag, *_ in said
            for row, document in self.contents[source, etag].items()
        }

    def _check_complete(
        self, name: str, files: dict[str, bytes], rows: dict[tuple[str, int], Any]
    ) -> None:
        kept = {key: data for key, data in files.items() if key.startswith(FROZEN)}
        if name in self.frozen:
            assert kept == self.frozen[name], f"{name} has changed"
            return
        self.frozen[name] = kept
        rejects = [
            json.loads(line)
            for key, data in files.items()
            if key.startswith("rejects/")
            for line in data.splitlines()
        ]
        places = [(one["source"], one["row_index"]) for one in rejects]
        planned = self._planned(files)
        assert sorted([*rows, *places]) == sorted(planned)
        empty = {place for place, document in planned.items() if not document["text"]}
        assert empty <= set(places)
        if self.id_column is not None:
            for place in set(places) - empty:
                twice = [one for one in planned.values() if one["id"] == planned[place]["id"]]
                assert len(twice) > 1
        manifest = json.loads(files["_meta/manifest.json"])
        assert (manifest["rows"], manifest["rejects"]) == (len(rows), len(rejects))
        self._check_vectors(name, rows)

    def _check_vectors(self, name: str, rows: dict[tuple[str, int], Any]) -> None:
        """Each vector is of an attempt at the version, or what an earlier one has for the text."""
        workers = [one for one in self.runs if one.version == name]
        own = {one.number for one in workers}
        earlier = {said for one in workers for said in one.reuse}
        taken = {
            (row.text, row.made_by)
            for said in earlier
            if said is not None
            for row in self.rows[said.version].values()
        }
        for row in rows.values():
            assert row.made_by in own or (row.text, row.made_by) in taken
        (said, *others) = earlier or [None]
        if said is not None and not others and said.complete:
            self._check_reuse(rows, said, workers)

    def _check_reuse(
        self, rows: dict[tuple[str, int], Any], said: "Said", workers: list[Run]
    ) -> None:
        """What all attempts could take over from one complete version is taken, and not encoded."""
        by_text: dict[Any, set[int]] = defaultdict(set)
        by_id = {}
        for (source, _), row in self.rows[said.version].items():
            by_text[row.text].add(row.made_by)
            by_text[source, row.text].add(row.made_by)
            by_id[row.text, row.id] = (source, row.made_by)
        to_encode = set()
        for (source, _), row in rows.items():
            there = row.text if said.scope == "global" else (source, row.text)
            if there not in by_text:
                to_encode.add(ids_of(row.text))
                continue
            assert row.made_by in by_text[row.text]
            place, made_by = by_id.get((row.text, row.id), ("", 0))
            if made_by and (said.scope == "global" or place == source):
                assert row.made_by == made_by
        for one in workers:
            assert to_encode.issuperset(one.engine.encoder.asked)

    def _check_latest(self, found: dict[str, dict[str, bytes]], complete_ones: set[str]) -> None:
        if "LATEST" not in found:
            assert not self.latest
            return
        name = found["LATEST"][""].decode().strip()
        assert name in complete_ones or self._is_moved_now()
        assert self._may_be_published(name)
        number = number_of(Version(ROOT, name))
        self.latest = max(self.latest, number)
        assert number == self.latest or self._is_moved_now()

    def _is_moved_now(self) -> bool:
        """Whether somebody has just moved LATEST, and has yet to look whether he may."""
        movers = (*self.runs, *self.hands)
        return any(one.attempt.last == ("replace", "LATEST") for one in movers)

    def _may_be_published(self, name: str) -> bool:
        """Whether somebody worked on a version whom no gate keeps from publishing it."""
        runs = [one for one in self.runs if one.version == name]
        by_hand = any(one.version == name for one in self.hands)
        return by_hand or any(FAILS not in one.config.fail_on for one in runs)

    @rule()
    def look_by_the_manifest(self) -> None:
        """A reader of the root sees all rows of a complete version."""
        if self.frozen and "/root/LATEST" in MemoryFileSystem.store:
            found = find_version(ROOT)
            manifest = read_manifest(found)
            ids = [
                one
                for part in manifest.parts
                for one in read_rows(found, part, ["id"]).column("id").to_pylist()
            ]
            assert len(ids) == len(set(ids)) == manifest.rows

    def teardown(self) -> None:
        for one in (*self.runs, *self.prunes, *self.hands):
            one.attempt.kill()
        CLOCK.passed += 30 * 3600
        if "LATEST" in {path.removeprefix("/root/") for path in MemoryFileSystem.store}:
            # What a prune has begun, the next one ends.
            list(Prune(ROOT, Policy(100), CLOCK.time).remove())
        assert not any("/.removing/" in path for path in MemoryFileSystem.store)
        self.promises_hold()
        published = [
            one
            for one in map(partial(Version, ROOT), self.frozen)
            if one.store.size(one.published_key) is not None
        ]
        for one in published:
            # Where whoever did it was killed, the next run does.
            publish(one)
        if published:
            assert number_of(latest(ROOT)) == max(map(number_of, published))
        for name in self.frozen:
            problems = validate(Version(ROOT, name)).problems
            assert problems == (), problems


@dataclass(frozen=True)
class Row:
    """A row of a part."""

    id: str
    text: str
    made_by: int


@cache
def _rows_of(data: bytes) -> dict[tuple[str, int], Row]:
    table = pq.read_table(pa.BufferReader(data))
    vectors = np.array(table["embedding"].to_pylist(), dtype=np.float32)
    rows = {}
    for number, one in enumerate(table.select(["id", "text", "source", "row_index"]).to_pylist()):
        made_by = nudges_of(one["text"], vectors[number].tobytes())
        assert made_by is not None, one
        assert (one["source"], one["row_index"]) not in rows
        rows[one["source"], one["row_index"]] = Row(one["id"], one["text"], made_by)
    return rows


def small_report(draft: Any, manifest: Any, *_: Any) -> None:
    """Stands in the place of one that takes longer than all else."""
    figures = {"counts": {"rows": manifest.rows}, "findings": []}
    data = report_json(judge(draft.output, manifest, figures))
    draft.version.store.replace(draft.version.key(REPORT_JSON), data)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Versions]:
    """Runs whose store operations take turns, and whose threads are their own alone."""
    make_costless(monkeypatch, lambda: attempt_here().run.engine)
    begun, found = prepare.create_or_check_plan, prepare.find_reuse

    def begin(of: Version, *args: Any, **options: Any) -> Any:
        attempt_here().run.version = of.name
        return begun(of, *args, **options)

    def find(*args: Any) -> Any:
        reuse = found(*args)
        said = None
        if reuse is not None:
            name = reuse.version.name
            said = Said(name, reuse.scope, f"/root/{name}/_SUCCESS" in MemoryFileSystem.store)
        attempt_here().run.reuse.append(said)
        return reuse

    class KnownBeats(beats.Beats):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            attempt_here().run.heart = self

        def go_on(self) -> None:
            """Its test says when it is time."""

    monkeypatch.setattr(beats, "Beats", KnownBeats)
    for module in (beats, heartbeat):
        monkeypatch.setattr(module, "time", CLOCK)
    # A process that a test has killed runs on.
    monkeypatch.setattr(removal, "_machine", lambda: "")
    for module in (complete, report):
        monkeypatch.setattr(module, "write_report", small_report)
    monkeypatch.setattr(prepare, "create_or_check_plan", begin)
    monkeypatch.setattr(prepare, "find_reuse", find)

    class Settled(Versions):
        model = costless_model(tmp_path)

    yield Settled
    MemoryFileSystem.store.clear()


def test_whatever_runs_do_at_once(machine: type[Versions]) -> None:
    run_state_machine_as_test(machine, settings=_settings(15, 30))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_whatever_runs_do_at_once_for_long(machine: type[Versions]) -> None:
    run_state_machine_as_test(machine, settings=_settings(EXAMPLES, 60))


def _settings(examples: int, steps: int) -> settings:
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
