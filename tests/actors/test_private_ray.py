"""What Ray is told of its surroundings while it starts, and that nothing of it stays behind."""

import os
import sys
from pathlib import Path

import pytest
from ray._private import ray_constants

import embedkit
from embedkit.actors import private_ray
from embedkit.actors.private_ray import CleanPath, on_loopback, own_token


@pytest.fixture(autouse=True)
def _session_keeps_its_token(monkeypatch):
    """The tests' own Ray, which runs meanwhile, would take the token of a moment for its own."""
    monkeypatch.setattr(private_ray, "read_token_again", lambda: None)


def worker_path() -> list[str]:
    """The directories that Ray would put before a worker's own, as `ray.init` asks for them."""
    config = CleanPath()
    config._py_driver_sys_path.extend(["/corpus", "/corpus/scripts"])
    return list(config._get_proto_job_config().py_driver_sys_path)


def test_workers_import_from_no_directory_of_the_drivers(monkeypatch):
    place = Path(embedkit.__file__).parents[1]
    others = [entry for entry in sys.path if Path(entry).resolve() != place]
    monkeypatch.setattr(sys, "path", others)
    assert worker_path() == []


def test_workers_find_an_embedkit_that_is_not_installed(tmp_path, monkeypatch):
    """As where the command is run in a clone."""
    monkeypatch.setattr(embedkit, "__file__", str(tmp_path / "embedkit" / "__init__.py"))
    assert worker_path() == []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    assert worker_path() == [str(tmp_path)]


@pytest.mark.parametrize(
    ("before", "during"),
    [(":/a", "/a"), ("/a:", "/a"), ("/a::/b", "/a:/b"), (".:/a", ".:/a"), ("", ""), (None, None)],
)
def test_an_empty_part_of_the_path_does_not_name_the_working_directory(before, during, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if before is not None:
        monkeypatch.setenv("PYTHONPATH", before)
    with on_loopback():
        assert os.environ.get("PYTHONPATH") == during
        assert os.environ["PYTHONSAFEPATH"] == "1"
    assert os.environ.get("PYTHONPATH") == before


def test_nothing_stays_in_the_environment_or_in_ray(monkeypatch, tmp_path):
    """A job on a cluster may follow in the same process."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    before = dict(os.environ), ray_constants.ENABLE_RAY_CLUSTER
    with pytest.raises(OSError), on_loopback(), own_token():
        assert len(os.environ["RAY_AUTH_TOKEN"]) == 64
        assert "RAY_AUTH_TOKEN_PATH" not in os.environ
        assert os.environ["RAY_AUTH_MODE"] == "token"
        assert not ray_constants.ENABLE_RAY_CLUSTER
        raise OSError(28, "no space left on device")
    assert (dict(os.environ), ray_constants.ENABLE_RAY_CLUSTER) == before


def test_each_run_has_a_token_of_its_own(monkeypatch):
    home = Path.home() / ".ray" / "auth_token"
    known = home.read_text() if home.exists() else ""
    tokens = {known}
    for _ in range(3):
        with own_token():
            tokens.add(os.environ["RAY_AUTH_TOKEN"])
    assert len(tokens) == 4
    assert (home.read_text() if home.exists() else "") == known
