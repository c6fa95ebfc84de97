"""Every file of a version, changed in every way, before every command: one line, or all is well.

Whoever reads a file may find anything in it: bytes that turned, a file cut short or from another
place, and JSON in which a field is gone, doubled, of another type, huge or deep, with checksums
that hold all the same. No command may end by anything but an error that says what to do, or take
more memory and time than the few rows are worth; and what runs to its end holds every record.
"""

import json
import math
import re
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from attempts import Attempt
from costless import (
    DIMENSION,
    WORDS,
    CostlessEngine,
    CostlessSpec,
    MemoryFiles,
    costless_model,
    make_costless,
)
from fsspec.implementations.memory import MemoryFileSystem
from fuzzing import EXAMPLES, rounds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from embedkit.cli.app import app
from embedkit.config import JobConfig
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version
from embedkit.engines.run import run_job
from embedkit.errors import EmbedkitError
from embedkit.flow import beats
from embedkit.formats.canonical import canonical_json, sha256, with_checksum
from embedkit.search.exact import search

ROOT = "memory://root"
MOST_SECONDS = 20.0
MOST_BYTES = 1 << 29

Files = dict[str, bytes]


@dataclass(frozen=True)
class World:
    """Versions and their inputs, in memory.

    Attributes:
        files: All files.
        times: When each was made.
        model: The model that made them.
    """

    files: Files
    times: dict[str, Any]
    model: CostlessSpec

    @property
    def written(self) -> Files:
        """What runs have written."""
        return {path: data for path, data in self.files.items() if path.startswith("/root/")}


def documents(start: int, count: int) -> list[dict[str, str]]:
    return [
        {"id": f"d{n}", "text": " ".join(WORDS[n % 30 + m] for m in range(1 + n % 4))}
        for n in range(start, start + count)
    ]


def job(name: str, inputs: str, **changes: Any) -> JobConfig:
    return JobConfig(
        inputs=(f"memory:/{inputs}",), model="costless", output=ROOT, version=name, id_column="id",
        store_text=True, block_rows=2, split_bytes=200, max_reject_share=1, engine="plain",
        **changes,
    )  # fmt: skip


JOBS = {
    "v1": job("v1", "/in1"),
    "v2": job("v2", "/in2"),
    "v3": job("v3", "/in3", reuse_scope="global"),
}
"""A version, one that took most of its rows over from that, and one that was killed half-done."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    model = costless_model(tmp_path_factory.mktemp("model"))
    with pytest.MonkeyPatch.context() as patch:
        make_costless(patch, lambda: CostlessEngine(model), reports=True)
        MemoryFileSystem.store.clear()
        files = MemoryFiles("/in1")
        files.write("a.jsonl", [*documents(0, 5), {"id": "empty", "text": ""}])
        files.write("b.jsonl", documents(10, 4))
        run_job(JOBS["v1"])
        files = files.copied_to("/in2")
        files.write("b.jsonl", [*documents(10, 3), {"id": "none", "text": ""}])
        run_job(JOBS["v2"])
        files = files.copied_to("/in3")
        files.write("a.jsonl", [*documents(0, 3), *documents(20, 3), {"id": "e", "text": ""}])
        hearts: list[beats.Beats] = []

        class KeptBeats(beats.Beats):
            def __init__(self, *args: Any) -> None:
                super().__init__(*args)
                hearts.append(self)

        patch.setattr(beats, "Beats", KeptBeats)
        half = Attempt(lambda: run_job(JOBS["v3"]))
        for _ in range(5):
            half.go_on(lambda name, key: name == "create" and "/commits/" in key)
        half.steps(1)
        assert half.next is not None
        hearts[-1].beat()
        half.kill()
        store = dict(MemoryFileSystem.store)
        yield World(
            {path: file.getvalue() for path, file in store.items()},
            {path: file.created for path, file in store.items()},
            model,
        )
        MemoryFileSystem.store.clear()


def restore(world: World, files: Files) -> None:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    for path, data in files.items():
        MemoryFileSystem().pipe_file(path, data)
        if path in world.times:
            MemoryFileSystem.store[path].created = world.times[path]


# What befalls a file.

NUMBERS = (-1, 0, 1, 2, 2**31, 2**63, 10**9, 10**12, 10**30, 0.5, math.nan, math.inf)
STRINGS = (
    "", "x", "../../etc/passwd", "data/../../x", "/etc/passwd", "\ud800", "\0", "0" * 32,
    "0" * 64, "a" * 10_000, "99999-99999", "00000-00000", "00000", "٣" * 5, "a\nb",
)  # fmt: skip
OTHERS = (None, True, False, [], [[]], [None], {}, {"a": {}}, [1] * 1000)
TEXTS = (
    b"", b"{}", b"[]", b"null", b"1e999", b"NaN", b'"x"', b"[" * 100_000, b'{"a":' * 100_000,
    b"\xff\xfe{\0}\0", b"\xef\xbb\xbf{}", b"PAR1", b"\x1f\x8b\x08\0", b"9" * 5000, b"\n",
)  # fmt: skip


@st.composite
def byte_changes(draw: st.DrawFn, data: bytes) -> bytes:
    """Bits turned, bytes gone, doubled or put in; or other content altogether."""
    how = draw(st.sampled_from(["flip", "flip", "cut", "drop", "double", "insert", "zero", "text"]))
    if how == "text":
        return draw(st.sampled_from(TEXTS))
    at = draw(st.integers(0, max(0, len(data) - 1)))
    end = min(len(data), at + draw(st.integers(1, 64)))
    if how == "flip":
        changed = bytearray(data)
        places = draw(st.lists(st.integers(0, max(0, len(data) - 1)), min_size=1, max_size=4))
        for place in places if data else ():
            changed[place] ^= 1 << draw(st.integers(0, 7))
        return bytes(changed)
    if how == "cut":
        return data[:at]
    if how == "drop":
        return data[:at] + data[end:]
    if how == "double":
        return data[:end] + data[at:]
    if how == "insert":
        return data[:at] + draw(st.binary(min_size=1, max_size=20)) + data[at:]
    return data[:at] + bytes(end - at) + data[end:]


@st.composite
def json_changes(draw: st.DrawFn, data: bytes) -> bytes:
    """A field gone, of another value, or there twice; its checksum kept, dropped or made anew."""
    said = json.loads(data)
    keep = draw(st.sampled_from(["keep", "drop", "hold", "hold"]))
    for _ in range(draw(st.integers(1, 2))):
        said = draw(json_value_changes(said))
    if isinstance(said, dict) and "checksum" in json.loads(data):
        # A copy, as it may be one of the values that all examples share.
        said = {name: one for name, one in said.items() if name != "checksum"}
        if keep == "keep":
            said["checksum"] = json.loads(data)["checksum"]
        elif keep == "hold":
            try:
                said = with_checksum(said)
            except ValueError:
                pass
    try:
        changed = canonical_json(said)
    except ValueError:
        changed = json.dumps(said).encode()
    if draw(st.integers(0, 9)) == 0:
        # The first field once more.
        changed = re.sub(rb'^\{\s*("[^"]*":\s*)', rb"{\g<1>null, \g<1>", changed, count=1)
    return changed


def hostile(value: Any) -> st.SearchStrategy[Any]:
    """Values that nobody wrote, more often of the same type than of another."""
    same = NUMBERS if isinstance(value, (int, float)) else STRINGS
    return st.sampled_from(same) | st.sampled_from(same) | st.sampled_from([*OTHERS, 7, "y"])


@st.composite
def json_value_changes(draw: st.DrawFn, value: Any, depth: int = 0) -> Any:
    inner = isinstance(value, (dict, list)) and len(value) > 0 and draw(st.integers(0, 7)) > 0
    if not inner or depth > 6:
        return draw(hostile(value))
    place = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    changed = dict(value) if isinstance(value, dict) else list(value)
    how = draw(st.sampled_from(["value", "value", "value", "value", "remove", "more"]))
    if how == "remove":
        del changed[place]
    elif how == "more" and isinstance(changed, dict):
        changed[draw(st.sampled_from(["", "x", "unknown", "é"]))] = draw(hostile(None))
    elif how == "more":
        changed.append(changed[place])
    else:
        changed[place] = draw(json_value_changes(value[place], depth + 1))
    return changed


@st.composite
def changed_file(draw: st.DrawFn, files: Files, kind: re.Pattern[str]) -> tuple[str, bytes]:
    path = draw(st.sampled_from(sorted(path for path in files if kind.search(path))))
    data = files[path]
    if path.endswith(".jsonl") and data and draw(st.booleans()):
        lines = data.splitlines(keepends=True)
        number = draw(st.integers(0, len(lines) - 1))
        lines[number] = json.dumps(draw(json_value_changes(json.loads(lines[number])))).encode()
        return path, b"".join(lines) + draw(st.sampled_from([b"\n", b""]))
    if data.startswith(b"{") and not path.endswith(".jsonl") and draw(st.integers(0, 3)):
        return path, draw(json_changes(data))
    return path, draw(byte_changes(data))


def with_hashes(files: Files, path: str, data: bytes) -> Files:
    """The same files with one changed, and all that says what is in it changed with it."""
    changed = {**files, path: data}
    version = path.split("/")[2]
    block = re.search(r"(\d{5}-\d{5})", path)
    commit = f"/root/{version}/_meta/commits/{block[1]}.json" if block else ""
    if commit in files and path != commit:
        said = json.loads(files[commit])
        if "/data/" in path:
            said |= {"size": len(data), "sha256": sha256(data)}
        elif "/stats/" in path:
            said |= {"stats_size": len(data), "stats_sha256": sha256(data)}
        else:
            said |= {"rejects_sha256": sha256(data)}
        changed[commit] = canonical_json(with_checksum(said))
    manifest, mark = f"/root/{version}/_meta/manifest.json", f"/root/{version}/_SUCCESS"
    if mark not in files or path == mark:
        return changed
    if "/data/" in path:
        said = json.loads(files[manifest])
        for part in said["parts"]:
            if path.endswith(part["path"]):
                part |= {"size": len(data), "sha256": sha256(data)}
        changed[manifest] = canonical_json(said)
    said = json.loads(files[mark])
    said["manifest_sha256"] = sha256(changed[manifest])
    if path.endswith("README.md"):
        said["card_sha256"] = sha256(data)
    changed[mark] = canonical_json(with_checksum(said))
    return changed


# What reads it.


def _command(*arguments: str) -> Callable[[str], None]:
    def call(name: str) -> None:
        version = f"{ROOT}/{name}"
        given = [one.format(root=ROOT, version=version) for one in arguments]
        result = CliRunner().invoke(app, given)
        if isinstance(result.exception, Exception):
            raise result.exception
        if "--json" in given:
            for line in result.stdout.splitlines():
                json.loads(line)

    return call


def _search(name: str) -> None:
    for hits in search(Version(ROOT, name), np.ones((1, DIMENSION), dtype=np.float32), 3):
        json.dumps([hit.to_dict() for hit in hits])


def _again(name: str) -> None:
    run_job(JOBS[name])


def _reuse(name: str) -> None:
    run_job(job("new", "/in3", reuse=name))


def _reuse_global(name: str) -> None:
    run_job(job("new", "/in3", reuse=name, reuse_scope="global"))


COMMANDS: dict[str, Callable[[str], None]] = {
    "info": _command("info", "{version}"),
    "info of the root": _command("info", "{root}", "--json"),
    "validate": _command("validate", "{version}"),
    "versions": _command("versions", "{root}"),
    "versions as JSON": _command("versions", "{root}", "--json"),
    "diff": _command("diff", ROOT + "/v1", "{version}", "--list", "--json"),
    "diff of the other": _command("diff", "{version}", ROOT + "/v2", "--list"),
    "compare": _command("compare", ROOT + "/v1", "{version}", "--json"),
    "status": _command("status", "{version}"),
    "status of the root": _command("status", "{root}", "--json"),
    "rejects": _command("rejects", "{version}", "--list"),
    "rejects as JSON": _command("rejects", "{version}", "--json", "--list"),
    "prune": _command("prune", "{root}"),
    "prune it": _command("prune", "{root}", "--yes", "--json"),
    "search": _search,
    "again": _again,
    "reuse": _reuse,
    "reuse global": _reuse_global,
}
KINDS = {
    "plan": "/_meta/plan", "commit": "/commits/", "end": "/splits/", "statistics": "/stats/",
    "manifest": "/manifest", "mark": "/_SUCCESS", "published": "/_PUBLISHED", "LATEST": "/LATEST",
    "number": r"/\.numbers/", "ids": "/ids/|/duplicates", "rejects": "/rejects/",
    "part": r"\.parquet", "device": "/device", "text": r"README|/report/",
    "heartbeat": "/heartbeat", "growing": "/growing", "index": "/reuse/", 
}  # fmt: skip


@contextmanager
def bounded() -> Iterator[None]:
    """Lets this process have no more memory than such small versions are worth, nor time."""
    used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0]) << 10
    before = resource.getrlimit(resource.RLIMIT_DATA)
    start = time.process_time()
    resource.setrlimit(resource.RLIMIT_DATA, (used + MOST_BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
    assert time.process_time() - start < MOST_SECONDS


def check(world: World, path: str, data: bytes, command: str, held: bool) -> None:
    version = path.split("/")[2]
    name = version if version in JOBS else "v2"
    files = world.files
    restore(world, with_hashes(files, path, data) if held else {**files, path: data})
    try:
        with bounded():
            COMMANDS[command](name)
    except EmbedkitError as error:
        assert len(str(error).splitlines()) == 1, error
        assert type(error).__name__ in DOCUMENTED
        return
    if command == "prune it" and not re.search("LATEST|number|v2/", path):
        # Whatever is wrong with others, the newest one stays.
        kept = {key for key in files if key.startswith("/root/v2/")}
        assert kept <= MemoryFileSystem.store.keys()
    if command in ("again", "reuse", "reuse global") and not held:
        check_accounts("new" if command != "again" else name)


DOCUMENTED = {"ConfigError", "InputError", "IntegrityError", "StoreError", "ResumableError"}


def check_accounts(name: str) -> None:
    """What a run calls complete has every record once, or validation names the fault."""
    report = validate(Version(ROOT, name))
    if report.problems:
        return
    folder = JOBS[name].inputs[0] if name in JOBS else "memory://in3"
    given = [
        json.loads(line)
        for path, file in MemoryFileSystem.store.items()
        if path.startswith(folder.removeprefix("memory:/"))
        for line in file.getvalue().splitlines()
    ]
    found = dict(_rows(Version(ROOT, name)))
    assert found == {one["id"]: one["text"] for one in given if one["text"]}


def _rows(version: Version) -> Iterator[tuple[str, str]]:
    from embedkit.dataset.manifest import read_manifest
    from embedkit.dataset.rows import read_columns

    for batch in read_columns(version, read_manifest(version).parts, ["id", "text"]):
        yield from zip(batch["id"].to_pylist(), batch["text"].to_pylist(), strict=True)


def fuzz(world: World, kind: str, examples: int, number: int) -> None:
    @hypothesis.seed(number)
    @settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(
        changed_file(world.written, re.compile(KINDS[kind])),
        st.sampled_from(sorted(COMMANDS)),
        st.booleans(),
    )
    def run(change: tuple[str, bytes], command: str, held: bool) -> None:
        check(world, *change, command, held)

    run()


@pytest.fixture(autouse=True)
def costless(world: World, logging_restored: None, monkeypatch: pytest.MonkeyPatch) -> None:
    make_costless(monkeypatch, lambda: CostlessEngine(world.model))


FOUND = [
    ("v2/_meta/manifest.json", ("parts", 0, "rows"), 2**40, "diff"),
    ("v1/_meta/manifest.json", ("parts", 0, "rows"), 2**40, "reuse global"),
    ("v1/_meta/splits/00000.json", ("blocks",), 10**12, "validate"),
    ("v2/_meta/splits/00000.json", ("blocks",), 10**12, "reuse"),
    ("v2/_meta/manifest.json", ("parts", 0, "rows"), 10**30, "reuse global"),
    ("v3/_meta/commits/00002-00000.json", ("rows",), 10**12, "reuse global"),
    ("v2/_meta/manifest.json", ("parts", 1, "sha256"), "a\nb", "validate"),
    ("v1/_meta/plan.json", ("inputs_digest",), "a\nb", "again"),
    ("v2/_meta/stats/00001-00000.json", ("text_hashes",), "", "reuse"),
]
"""What once ended otherwise, with checksums that hold."""


@pytest.mark.parametrize(("path", "place", "value", "command"), FOUND)
def test_what_once_took_all_memory_or_more_than_a_line(
    world: World, path: str, place: tuple[Any, ...], value: Any, command: str
) -> None:
    said = json.loads(world.files[f"/root/{path}"])
    inside = said
    for name in place[:-1]:
        inside = inside[name]
    inside[place[-1]] = value
    data = canonical_json(with_checksum(said) if "checksum" in said else said)
    check(world, f"/root/{path}", data, command, held=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.few(8)
def test_a_changed_file_is_named_or_harmless(world: World, kind: str) -> None:
    fuzz(world, kind, 5, 0)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_a_changed_file_is_named_or_harmless_for_long(world: World, kind: str) -> None:
    for seed in rounds(kind):
        fuzz(world, kind, EXAMPLES, seed)
