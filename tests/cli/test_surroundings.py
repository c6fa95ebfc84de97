"""Whatever environment a process is started in, it works, or says one line and what to do."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from running import flags, one_line, tiny_job, write_corpus

from embedkit.cli.surroundings import this_machine_without_proxy, threads_that_are_numbers

SMALL = 64


def at(number: int, path: str) -> Callable[[], None]:
    """Puts a device in the place of a stream."""

    def change() -> None:
        os.dup2(os.open(path, os.O_RDWR), number)

    return change


def unread(number: int) -> Callable[[], None]:
    """Puts a pipe that nobody reads in the place of a stream."""

    def change() -> None:
        reader, writer = os.pipe()
        os.dup2(writer, number)
        os.close(reader)
        os.close(writer)

    return change


def closed(*numbers: int) -> Callable[[], None]:
    def change() -> None:
        for number in numbers:
            os.close(number)

    return change


def limited(what: int, most: int) -> Callable[[], None]:
    def change() -> None:
        resource.setrlimit(what, (most, most))

    return change


def in_a_folder_that_is_gone() -> None:
    folder = f"/tmp/embedkit-gone-{os.getpid()}"
    os.mkdir(folder)
    os.chdir(folder)
    os.rmdir(folder)


PROXY = "http://127.0.0.1:9"
WORKS = (0, "")

SURROUNDINGS: dict[str, tuple[dict[str, str | None], Callable[[], None] | None, tuple]] = {
    "proxies": ({"http_proxy": PROXY, "HTTPS_PROXY": PROXY, "grpc_proxy": PROXY}, None, WORKS),
    "no home": ({"HOME": None, "USER": None}, None, WORKS),
    "home read-only": ({"HOME": "/proc"}, None, WORKS),
    "no folder for temporary files": ({"TMPDIR": "/nowhere"}, None, WORKS),
    "ascii": ({"PYTHONIOENCODING": "ascii"}, None, WORKS),
    "no locale": ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, None, WORKS),
    "unknown locale": ({"LC_ALL": "xx_YY", "LANG": "?"}, None, WORKS),
    "optimized": ({"PYTHONOPTIMIZE": "1"}, None, WORKS),
    "without docstrings": ({"PYTHONOPTIMIZE": "2"}, None, (2, "PYTHONOPTIMIZE=1 or none")),
    "threads": ({"OMP_NUM_THREADS": "many"}, None, WORKS),
    "no such GPU": ({"CUDA_VISIBLE_DEVICES": "nonsense"}, None, WORKS),
    "no terminal": ({"TERM": None, "COLUMNS": "0"}, None, WORKS),
    "columns no number": ({"COLUMNS": "wide"}, None, WORKS),
    "time zone": ({"TZ": "Nonsense/Nowhere"}, None, WORKS),
    "no path": ({"PATH": None}, None, WORKS),
    "stdin closed": ({}, closed(0), WORKS),
    "stdout closed": ({}, closed(1), WORKS),
    "all streams closed": ({}, closed(0, 1, 2), WORKS),
    "stdout full": ({}, at(1, "/dev/full"), (4, "No space left on device; make room")),
    "stderr full": ({}, at(2, "/dev/full"), WORKS),
    "stdout unread": ({}, unread(1), WORKS),
    "stderr unread": ({}, unread(2), WORKS),
    "few files": ({}, limited(resource.RLIMIT_NOFILE, SMALL), WORKS),
    "little address space": ({}, limited(resource.RLIMIT_AS, 300 << 20), (2, "at least, and")),
    "working directory gone": ({}, in_a_folder_that_is_gone, (2, "change to one that exists")),
}


@pytest.fixture(scope="module")
def root(tiny_model, tmp_path_factory) -> Path:
    from embedkit.engines.run import run_job

    output = tmp_path_factory.mktemp("root")
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"), shards=1, rows=5)
    run_job(tiny_job(tiny_model, corpus, output))
    return output


def run_in(
    environment: dict[str, str | None], change: Callable[[], None] | None, *arguments: str
) -> subprocess.CompletedProcess:
    settings = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(
        [sys.executable, "-m", "embedkit", *arguments],
        env={name: value for name, value in settings.items() if value is not None},
        preexec_fn=change,
        capture_output=True,
        timeout=240,
        check=False,
    )


def check(done: subprocess.CompletedProcess, code: int, said: str) -> None:
    assert done.returncode == code, done.stderr
    errors = [line for line in done.stderr.decode().splitlines() if " INFO " not in line]
    assert len(errors) == (code != 0), done.stderr
    assert said in "".join(errors)


@pytest.mark.parametrize(("environment", "change", "end"), SURROUNDINGS.values(), ids=SURROUNDINGS)
@pytest.mark.few(9)
def test_a_command_works_or_says_why_not(root, environment, change, end):
    check(run_in(environment, change, "info", str(root), "--json"), *end)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("engine", ["plain", "local"])
@pytest.mark.parametrize(("environment", "change", "end"), SURROUNDINGS.values(), ids=SURROUNDINGS)
def test_a_run_works_or_says_why_not(tiny_model, tmp_path, environment, change, end, engine):
    corpus = write_corpus(tmp_path / "corpus", shards=1, rows=5)
    job = tiny_job(tiny_model, corpus, tmp_path / "out", engine=engine)
    check(run_in(environment, change, "run", *flags(job)), *end)
    assert (tmp_path / "out" / "LATEST").exists() == (end[0] != 2)


@pytest.mark.parametrize(
    "environment",
    [
        {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/nowhere/token"},
        {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_TMPDIR": "/proc"},
        {"RAY_AUTH_MODE": "garbage"},
        {"TMPDIR": "/tmp/" + "x" * 90},
    ],
    ids=["token", "address", "mode", "long"],
)
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_ray_of_its_own_heeds_no_settings_for_another(tiny_model, tmp_path, environment):
    corpus = write_corpus(tmp_path / "corpus", shards=1, rows=5)
    job = tiny_job(tiny_model, corpus, tmp_path / "out", engine="local")
    check(run_in(environment, None, "run", *flags(job)), *WORKS)


def test_what_python_m_finds_missing_is_an_object_too():
    done = run_in({}, None, "info", "/nowhere", "--json")
    said = json.loads(one_line(done.stdout.decode()))
    assert (done.returncode, said["exit_code"]) == (2, 2)
    assert said["error"] in one_line(done.stderr.decode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"no_proxy": "a"}, {"no_proxy": "a"}),
        (
            {"http_proxy": PROXY},
            dict.fromkeys(("no_proxy", "NO_PROXY", "no_grpc_proxy"), "localhost,127.0.0.1,::1"),
        ),
        (
            {"HTTPS_PROXY": PROXY, "NO_PROXY": "a, localhost", "no_grpc_proxy": "*"},
            {
                "no_proxy": "a,localhost,127.0.0.1,::1",
                "NO_PROXY": "a,localhost,127.0.0.1,::1",
                "no_grpc_proxy": "*",
            },
        ),
    ],
)
def test_this_machine_never_goes_through_a_proxy(monkeypatch, before, after):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        # So that they are taken away again.
        if name not in before:
            monkeypatch.setenv(name, "")
            monkeypatch.delenv(name)
    this_machine_without_proxy()
    exceptions = {
        name: value
        for name, value in os.environ.items()
        if name in ("no_proxy", "NO_PROXY", "no_grpc_proxy")
    }
    assert exceptions == after


@pytest.mark.parametrize(
    ("value", "kept"),
    [("4", True), (" 4, 2 ", True), ("many", False), ("0", False), ("-1", False), ("", False)],
)
def test_what_is_no_number_of_threads_is_taken_away(monkeypatch, value, kept):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    threads_that_are_numbers()
    assert os.environ.get("OMP_NUM_THREADS") == (value if kept else None)
