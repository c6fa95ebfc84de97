"""What a running local job opens to others, whose code runs in it, and what it loses its Ray to."""

import contextlib
import ipaddress
import json
import secrets
import signal
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import grpc
import psutil
import pytest
from apache_beam.portability.api import (
    beam_artifact_api_pb2,
    beam_artifact_api_pb2_grpc,
    beam_runner_api_pb2,
)
from processes import alive, catches, command, family, wait_for_commits, wait_until
from running import Dataset, last_error

pytestmark = pytest.mark.timeout(900)
SECONDS = 5.0
IMPORTED = ("tokenizers", "numpy", "torch", "proto", "sitecustomize", "random", "click", "ray")
"""Modules that Python, Ray, Beam or an encoder imports, by whatever process."""


def lay_traps(folder: Path) -> Path:
    """Lays modules into a folder that say that they ran; returns where they say it."""
    folder.mkdir()
    ran = folder / "ran"
    for name in IMPORTED:
        code = f"open({str(ran)!r}, 'a').write({name!r})\nraise ImportError('not the real one')\n"
        (folder / f"{name}.py").write_text(code)
    return ran


def listening(process: subprocess.Popen) -> dict[tuple[str, int], str]:
    """Where a run and all that it has started listen, and which of them does."""
    found = {}
    for one in [psutil.Process(process.pid), *family(process)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in one.net_connections("inet"):
                if each.status == psutil.CONN_LISTEN:
                    found[each.laddr.ip, each.laddr.port] = command(one)
    return found


def is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def asked_of_beam(port: int, file: Path) -> bytes:
    """What an artifact service of Beam's gives for a file's name."""
    payload = beam_runner_api_pb2.ArtifactFilePayload(path=str(file)).SerializeToString()
    artifact = beam_runner_api_pb2.ArtifactInformation(
        type_urn="beam:artifact:type:file:v1", type_payload=payload
    )
    request = beam_artifact_api_pb2.GetArtifactRequest(artifact=artifact)
    with channel(port) as opened, contextlib.suppress(grpc.RpcError):
        stub = beam_artifact_api_pb2_grpc.ArtifactRetrievalServiceStub(opened)
        return b"".join(one.data for one in stub.GetArtifact(request, timeout=SECONDS))
    return b""


def asked_over_http(port: int, file: Path) -> bytes:
    """What a server of files, or of logs, gives for a file's name."""
    answers = []
    for path in (f"{file}", f"/logs{file}", f"/api/v0/logs/file?filename={file}", f"/..{file}"):
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", port), SECONDS) as opened,
        ):
            opened.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            answers.append(opened.recv(1 << 20))
    return b"".join(answers)


def answers_strangers(port: int, method: str) -> str:
    """What a service of Ray's says to a caller without the token, as the name of a status."""
    with channel(port) as opened:
        try:
            opened.unary_unary(method)(b"", timeout=SECONDS)
        except grpc.RpcError as error:
            return error.code().name
    return "OK"


@contextlib.contextmanager
def channel(port: int) -> Iterator[grpc.Channel]:
    options = [("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as opened:
        yield opened


def part_of(started: Iterable[psutil.Process], part: str) -> psutil.Process:
    """The one process of a run's Ray that has a name."""
    (found,) = [one for one in started if command(one).partition(" ")[0].endswith(f"/{part}")]
    return found


def lose(run: subprocess.Popen, part: str) -> None:
    """Takes a part of its Ray away from a run, which says so in seconds and leaves nothing."""
    started = family(run)
    assert run.poll() is None
    part_of(started, part).kill()
    out, err = run.communicate(timeout=45)
    assert run.returncode == 4, err
    assert f"Ray on this machine was lost: its {part} " in last_error(err)
    assert json.loads(out)["exit_code"] == 4
    wait_until(lambda: not any(map(alive, started)))


@pytest.mark.soak
def test_nothing_listens_beyond_loopback_or_hands_out_files_or_runs_what_lies_about(
    many_blocks, start_run: Callable[..., subprocess.Popen], tmp_path
):
    """One run for all of it, as every start of Ray takes seconds."""
    ran = lay_traps(tmp_path / "corpus")
    secret, content = tmp_path / "secret", secrets.token_hex(16)
    secret.touch(mode=0o600)
    secret.write_text(content)
    run = start_run(many_blocks(tmp_path / "out"), cwd=tmp_path / "corpus")
    wait_for_commits(tmp_path / "out", 3, run)
    # Of what Ray would catch to print C++ frames, the one that neither Python nor embedkit wants.
    assert not catches(run, signal.SIGTRAP)
    sockets = listening(run)
    assert any("gcs_server" in name for name in sockets.values())
    assert [where for where in sockets if not is_loopback(where[0])] == []
    for (_, port), name in sockets.items():
        assert content.encode() not in asked_of_beam(port, secret), name
        assert content.encode() not in asked_over_http(port, secret), name
        said = answers_strangers(port, "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")
        assert said != "OK", name
        assert "gcs_server" not in name or said == "UNAUTHENTICATED"
    assert not ran.exists()
    lose(run, "raylet")


@pytest.mark.soak
def test_a_run_that_loses_a_part_of_its_ray(many_blocks, start_run, tmp_path):
    run = start_run(many_blocks(tmp_path / "out"))
    wait_for_commits(tmp_path / "out", 3, run)
    lose(run, "gcs_server")
    assert not (tmp_path / "out" / "LATEST").exists()


@pytest.mark.soak
def test_a_part_of_its_ray_that_is_told_to_end(many_blocks, undisturbed, start_run, tmp_path):
    """Ray's store of its state may take longer to end than the run lasts, and answers meanwhile."""
    run = start_run(many_blocks(tmp_path / "out"))
    wait_for_commits(tmp_path / "out", 3, run)
    started = family(run)
    part_of(started, "gcs_server").terminate()
    out, err = run.communicate(timeout=90)
    if run.returncode:
        assert "Ray on this machine was lost: its gcs_server " in last_error(err)
        assert json.loads(out)["exit_code"] == run.returncode == 4
    else:
        assert Dataset.latest(tmp_path / "out").part_hashes == undisturbed.part_hashes
    wait_until(lambda: not any(map(alive, started)))
