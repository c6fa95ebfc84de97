"""Every file of a version, damaged in every way: named with its remedy, or made anew."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from embedkit.dataset.describe import describe
from embedkit.dataset.device import record_device, recorded_device
from embedkit.dataset.mend import mend
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan
from embedkit.dataset.validate import validate
from embedkit.dataset.version import Version, find_version
from embedkit.errors import EmbedkitError
from embedkit.search.exact import search

pytestmark = pytest.mark.few(40)

DAMAGES = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "garbage": lambda data: b"\x93\x00\xff" * (len(data) // 3 + 1),
    "not UTF-8": lambda data: data[:20] + b"\xff\xfe" + data[22:],
    "zeros": lambda data: bytes(len(data)),
    "another shape": lambda data: b'{"what": ["is", "this"]}\n',
    "a list": lambda data: b"[1, 2]\n",
    "removed": None,
    "a directory": None,
}
FILES = {
    "LATEST": "LATEST",
    "number": ".numbers/00000001",
    "plan": "v1/_meta/plan.json",
    "device": "v1/_meta/device.json",
    "commit": "v1/_meta/commits/00000-00001.json",
    "end": "v1/_meta/splits/00000.json",
    "statistics": "v1/_meta/stats/00000-00001.json",
    "rejects": "v1/rejects/00000-00001.jsonl",
    "part": "v1/data/part-00000-00001.parquet",
    "manifest": "v1/_meta/manifest.json",
    "mark": "v1/_SUCCESS",
    "published": "v1/_PUBLISHED",
    "card": "v1/README.md",
    "report": "v1/report/report.json",
}
READ = {
    "info": {"LATEST", "mark", "manifest", "published"},
    "search": {"LATEST", "manifest", "part"},
    "validate": set(FILES) - {"number"},
}
"""What the commands read; only ``validate`` says that a file is there that should be another."""


def damage(root: Path, name: str, how: str) -> Path:
    path = root / FILES[name]
    data = path.read_bytes()
    change = DAMAGES[how]
    path.unlink()
    if how == "a directory":
        path.mkdir()
    elif change is not None:
        path.write_bytes(change(data))
    return path


@pytest.fixture(scope="module")
def whole(make_job, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    version = Version(str(root), "v1")
    record_device(version, "a processor")
    make_job().complete(version)
    version.store.create("v1/report/report.json", b'{"rows": 12}\n')
    return root


@pytest.fixture(scope="module")
def half(make_job, tmp_path_factory) -> Path:
    """All is committed but the last split."""
    root = tmp_path_factory.mktemp("half")
    job = make_job()
    job.blocks = job.blocks[:-1]
    version = Version(str(root), "v1")
    record_device(version, "a processor")
    job.write(version)
    return root


def information(root: str) -> None:
    json.dumps(describe(find_version(root)))


def nearest(root: str) -> None:
    search(find_version(root), np.ones(8, dtype=np.float32), 3)


def validation(root: str) -> None:
    report = validate(find_version(root))
    if report.problems:
        raise EmbedkitError(report.problems[0])


COMMANDS = {"info": information, "search": nearest, "validate": validation}


def harmless(name: str, how: str, command: str = "validate") -> bool:
    """Damages that a reader cannot know of, or that change nothing."""
    return (
        # Nothing says that there has to be one.
        (how == "removed" and name in ("LATEST", "device", "published", "report"))
        or (how == "another shape" and name in ("plan", "device", "statistics", "report", "card"))
        or (how == "a list" and name == "card")
        # It is described as a version that is not complete.
        or (command == "info" and how == "removed" and name in ("mark", "manifest"))
        or (command == "info" and how == "another shape" and name == "mark")
    )


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_reader_names_what_is_damaged_and_the_remedy(whole, tmp_path, name, how):
    root = tmp_path / "root"
    shutil.copytree(whole, root)
    path = damage(root, name, how)
    for command, read in COMMANDS.items():
        try:
            read(str(root / "v1") if name != "LATEST" else str(root))
        except EmbedkitError as error:
            said = str(error)
            assert "\n" not in said
            assert re.search(r"; .*(restore|remove|run|move|write|give the path)", said), said
            incomplete = how == "removed" and name in ("mark", "manifest")
            assert path.name in said or incomplete or name == "LATEST", (command, said)
            if name != "LATEST" and not incomplete:
                assert error.exit_code == 4
        else:
            wrong = name in READ[command] and not harmless(name, how, command)
            assert not wrong, (command, name, how)


ANEW = {"commit", "end", "statistics", "rejects", "part", "device", "plan"}


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", sorted(ANEW))
def test_the_next_run_makes_anew_what_is_torn(half, whole, job, tmp_path, name, how):
    root = tmp_path / "root"
    shutil.copytree(half, root)
    path = damage(root, name, how)
    version = Version(str(root), "v1")
    try:
        create_or_check_plan(version, VersionPlan("f" * 32), renew=True)
        torn = mend(version)
        job.complete(version)
    except EmbedkitError as error:
        # It can be read, so it may be somebody's; or it cannot be taken away like a file.
        assert how in ("another shape", "a directory"), error
        assert path.name in str(error)
        assert re.search(r"; .*(remove|move|another version name)", str(error))
        return
    assert len(torn) <= 1
    if name == "part" and how in ("not UTF-8", "zeros"):
        # Of the right size: whoever reads the part finds it.
        assert path.name in validate(version).problems[0]
        return
    assert all(path.name in one and one.endswith("; made anew") for one in torn)
    assert validate(version).problems == ()
    expected = Version(str(whole), "v1")
    for key in expected.store.list("v1/"):
        if "device" not in key and "report" not in key and not harmless(name, how):
            assert version.store.read(key) == expected.store.read(key), key


@pytest.mark.parametrize("how", ["empty", "half", "garbage", "not UTF-8", "zeros", "a list"])
@pytest.mark.parametrize("name", ["manifest", "mark", "published", "number", "LATEST"])
def test_the_next_run_makes_marks_anew(whole, job, tmp_path, name, how):
    root = tmp_path / "root"
    shutil.copytree(whole, root)
    damage(root, name, how)
    version = Version(str(root), "v1")
    mend(version)
    job.complete(version)
    assert validate(version).problems == ()
    assert find_version(str(root)) == version
    assert (root / "v1" / "_SUCCESS").read_bytes() == (whole / "v1" / "_SUCCESS").read_bytes()


@pytest.mark.parametrize("name", ["statistics", "rejects", "part"])
def test_what_is_torn_of_a_block_that_is_not_committed(half, job, tmp_path, name):
    root = tmp_path / "root"
    shutil.copytree(half, root)
    (root / FILES["commit"]).unlink()
    path = root / FILES[name]
    path.write_bytes(path.read_bytes()[:-5])
    version = Version(str(root), "v1")
    (torn,) = mend(version)
    assert path.name in torn
    assert not path.exists()
    job.complete(version)
    assert validate(version).problems == ()


def test_nothing_is_taken_from_a_version_that_is_whole(half, whole):
    for root in (half, whole):
        version = Version(str(root), "v1")
        before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
        assert mend(version) == []
        assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_the_device_is_the_one_that_was_noted_first(half):
    version = Version(str(half), "v1")
    record_device(version, "another processor")
    assert recorded_device(version) == "a processor"
