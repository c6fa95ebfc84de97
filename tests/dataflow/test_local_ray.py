"""One Ray per machine: processes that start at once, and what is killed between any two steps."""

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apache_beam as beam
import psutil
import pytest
import ray
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from running import Dataset, tiny_job, write_corpus

from embedkit.actors import local_ray
from embedkit.actors.local_ray import LocalRay
from embedkit.config import ModelConfig
from embedkit.encoders.canary import canaries_of
from embedkit.encoders.kinds import load_encoder, read_model
from embedkit.errors import CanaryError, ConfigError
from embedkit.flow.prepare import prepare
from embedkit.transforms.embed import MakeVersion
from embedkit.transforms.read import ReadCorpus

_PROGRAM = """
import json, os, pickle, sys
connect = pickle.loads(bytes.fromhex(sys.argv[1]))
from embedkit.vectors import (TokenBatch)
import ray
for line in sys.stdin:
    if line.strip() == "connect":
        client = connect()
    rows = TokenBatch.from_lists([[2, 9, 3], [2, 5, 6, 7, 3]])
    vectors = next(client.encode_all([rows, rows]))
    encoder = ray.get(ray.get_actor("encoder-0", namespace=connect.namespace).load.remote())
    said = {"encoder": int(encoder.process.split("-")[0]), "vectors": vectors.tolist()}
    print("said", json.dumps(said), flush=True)
"""


class Worker:
    """A process as a runner starts it: it connects, and encodes when told to."""

    def __init__(self, connection: LocalRay) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, pickle.dumps(connection).hex()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, command: str) -> None:
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        for line in self.process.stdout:
            if line.startswith("said "):
                return json.loads(line.removeprefix("said "))
        raise AssertionError(f"the worker ended with {self.process.wait()}")

    def ask(self, command: str) -> dict[str, Any]:
        self.tell(command)
        return self.answer()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's own, whose paths are too long for Ray's sockets.
    with tempfile.TemporaryDirectory(prefix="ek", dir="/tmp") as path:
        yield Path(path)


@pytest.fixture
def connection(tiny_model: str, folder: Path) -> Iterator[LocalRay]:
    model = read_model(
        ModelConfig(
            model=tiny_model,
            pooling="mean",
            normalize=True,
            backend="torch",
            precision="float32",
            encoder_threads=1,
        )
    )
    connection = LocalRay(model, "a job", timeout=120.0, folder=str(folder))
    yield connection
    connection.stop()
    assert started(connection.home) == []


@pytest.fixture
def workers(connection: LocalRay) -> Iterator[Callable[[], Worker]]:
    made: list[Worker] = []

    def make() -> Worker:
        made.append(Worker(connection))
        return made[-1]

    yield make
    for worker in made:
        worker.kill()


def started(home: Path, kind: str = "") -> list[psutil.Process]:
    """Processes of the Rays below a folder, by what their command lines say."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            if f"{home}/r" in command and kind in command and process.status() != "zombie":
                found.append(process)
        except psutil.Error:
            continue
    return found


def until(done: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := done()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return found


@pytest.mark.timeout(600)
@pytest.mark.soak
def test_processes_share_one_encoder_whoever_is_killed(connection, workers):
    # One story rather than five, as every start of Ray takes seconds.
    kill_the_first_half_way(connection, workers)
    first = [workers() for _ in range(3)]
    for worker in first:
        worker.tell("connect")
    answers = [worker.answer() for worker in first]
    assert answers == [answers[0]] * 3
    assert raylets(connection) == 1
    assert len(list(connection.home.glob("r*"))) == 1
    # Whoever can read the token can run code.
    assert (connection.home / "token").stat().st_mode & 0o077 == 0
    assert connection.home.stat().st_mode & 0o077 == 0
    left = kill_the_starter(connection, first, answers[0])
    assert workers().ask("connect") == answers[0]
    kill_the_encoder(left, answers[0])
    kill_ray(connection)
    again = workers().ask("connect")
    assert again["vectors"] == answers[0]["vectors"]
    assert raylets(connection) == len(started(connection.home, "gcs_server")) == 1


def kill_the_first_half_way(connection: LocalRay, workers: Callable[[], Worker]) -> None:
    worker = workers()
    worker.tell("connect")
    # Ray's first process runs, and nobody knows its address yet.
    until(lambda: started(connection.home, "gcs_server"))
    assert not (connection.home / "address.json").exists()
    worker.kill()


def kill_the_starter(
    connection: LocalRay, workers: list[Worker], answer: dict[str, Any]
) -> list[Worker]:
    """Kills the process that started Ray while the others encode; returns the others."""
    starter = json.loads((connection.home / "address.json").read_text())["by"]
    others = [worker for worker in workers if worker.pid != starter]
    assert len(others) == len(workers) - 1
    for worker in others:
        worker.tell("encode")
    next(worker for worker in workers if worker.pid == starter).kill()
    assert [worker.answer() for worker in others] == [answer] * len(others)
    return others


def kill_the_encoder(workers: list[Worker], answer: dict[str, Any]) -> None:
    os.kill(answer["encoder"], signal.SIGKILL)
    after = [worker.ask("encode") for worker in workers]
    assert after == [after[0]] * len(workers)
    assert after[0]["vectors"] == answer["vectors"]
    assert after[0]["encoder"] != answer["encoder"]


def kill_ray(connection: LocalRay) -> None:
    """Kills the node and leaves the rest of Ray behind."""
    for process in started(connection.home, "/raylet/raylet "):
        process.kill()
        process.wait(60)


def raylets(connection: LocalRay) -> int:
    return len(started(connection.home, "/raylet/raylet "))


def test_a_process_of_another_ray_is_told_so(connection, ray_session):
    with pytest.raises(ConfigError, match="is part of another Ray"):
        connection()
    assert ray.is_initialized()
    assert not connection.home.exists()


def test_a_folder_of_another_user_is_refused(connection, tmp_path, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    connection.home.symlink_to(tmp_path)
    with pytest.raises(ConfigError, match="belongs to another user"):
        connection()
    connection.home.unlink()


def test_a_model_for_a_gpu_needs_one(connection, monkeypatch):
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 2.0})
    on_gpu = replace(
        connection,
        model=replace(
            connection.model, placement=replace(connection.model.placement, device="cuda")
        ),
    )
    with pytest.raises(ConfigError, match="Ray finds no GPU on this machine"):
        on_gpu._ensure_encoders()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_encoders_that_give_other_vectors_than_the_model_are_not_used(
    connection, ray_session, monkeypatch
):
    asking = replace(connection, canaries="always")
    try:
        assert asking._ensure_encoders() == ("encoder-0",)
        # Whoever comes next computes nothing, as they were asked when they were started.
        monkeypatch.setattr(local_ray, "answer", lambda call, timeout: ray.get(call))
        monkeypatch.setattr(local_ray, "canaries_for", None)
        assert asking._ensure_encoders() == ("encoder-0",)
        ray.kill(ray.get_actor("encoder-0", namespace=connection.namespace))
        right = canaries_of(connection.model, load_encoder)
        wrong = replace(right, vectors=-right.vectors)
        monkeypatch.undo()
        monkeypatch.setattr(LocalRay, "_canaries", lambda self, names: wrong)
        with pytest.raises(CanaryError, match="4 of 4 canary texts"):
            asking._ensure_encoders()
    finally:
        for one in ray.util.list_named_actors(all_namespaces=True):
            if one["namespace"] == connection.namespace:
                ray.kill(ray.get_actor(**one))


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_pipeline_whose_workers_are_processes_shares_one_encoder(connection, tmp_path):
    """As on a Dataflow worker machine: Beam starts the processes, and knows nothing of Ray."""
    job = tiny_job(
        connection.model.identity.model_id, write_corpus(tmp_path / "in"), tmp_path / "out"
    )
    settled = prepare(job.model_copy(update={"id_column": "id"}), connection.model)
    read = ReadCorpus(settled.config, settled.plan, None, settled.version)
    options = PipelineOptions(
        flags=[], direct_running_mode="multi_processing", direct_num_workers=3
    )
    with beam.Pipeline(runner=FnApiRunner(), options=options) as pipeline:
        _ = pipeline | read | MakeVersion(settled, connection, 1000)
    Dataset.latest(tmp_path / "out").check_accounts(180)
    assert raylets(connection) == 1
    # It outlives Beam's processes.
    names = {process.name() for process in psutil.process_iter()}
    assert any(name.startswith("ray::Encoder") for name in names)
