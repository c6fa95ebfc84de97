"""Where Ray's sockets go, whatever the environment names, and what a Ray leaves of it."""

import os
import re
from contextlib import nullcontext

import pytest
import ray

from embedkit.engines import ray_folder as module
from embedkit.engines import ray_start
from embedkit.engines.ray_folder import ray_folder
from embedkit.engines.ray_start import ray_on_this_machine, ray_start_errors
from embedkit.errors import ConfigError, ResumableError


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch):
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    monkeypatch.delenv("TMPDIR", raising=False)


def test_the_folder_that_is_named_is_taken(monkeypatch, tmp_path):
    short = tmp_path.parents[-3] if len(str(tmp_path)) > 38 else tmp_path
    monkeypatch.setenv("TMPDIR", str(short))
    assert ray_folder() == f"{short}/ray"
    monkeypatch.setenv("RAY_TMPDIR", "/dev/shm")
    assert ray_folder() == "/dev/shm/ray"


@pytest.mark.parametrize("name", ["TMPDIR", "RAY_TMPDIR"])
@pytest.mark.parametrize("place", ["/nowhere/at/all", "/proc", "/tmp/" + "x" * 90, "/etc/passwd"])
def test_one_that_cannot_be_used_is_passed_over(monkeypatch, name, place):
    monkeypatch.setenv(name, place)
    assert ray_folder() in ("/tmp/ray", f"/tmp/ray-{os.getuid()}")


def test_the_longest_path_is_one_that_a_socket_can_have():
    """Bound by the system itself, under the name that Ray gives its session."""
    socket = "/session_2026-11-28_01-10-44_123456_4194304/sockets/plasma_store"
    assert module._LONGEST + len(socket) == 107


def test_where_there_is_none_it_says_why_and_what_to_set(monkeypatch):
    monkeypatch.setattr(module, "_LONGEST", 3)
    with pytest.raises(ConfigError, match=r"/tmp/ray: too long a path; .*; set RAY_TMPDIR to one"):
        ray_folder()


@pytest.mark.parametrize(
    ("raised", "becomes"),
    [
        (Exception("The current node timed out during startup."), ResumableError),
        (RuntimeError("no raylet"), ResumableError),
        (OSError("no port"), ConfigError),
        (ConfigError("no folder"), ConfigError),
        (KeyError("ours"), KeyError),
    ],
)
def test_a_ray_that_does_not_start_is_an_error_with_its_remedy(raised, becomes):
    with pytest.raises(becomes, match=re.escape(str(raised))), ray_start_errors():
        raise raised


def test_a_ray_that_was_started_and_ended_leaves_the_environment_as_it_was(monkeypatch):
    monkeypatch.delenv("RAY_USAGE_STATS_ENABLED", raising=False)
    monkeypatch.delenv("PYTHONBREAKPOINT", raising=False)
    for name in ("handlers_kept", "on_loopback", "own_token"):
        monkeypatch.setattr(ray_start, name, nullcontext)
    for name in ("read_token_again", "ray_folder"):
        monkeypatch.setattr(ray_start, name, lambda: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", lambda **_: os.environ.update(PYTHONBREAKPOINT="ray's"))
    before = dict(os.environ)
    with ray_on_this_machine("tests"):
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert dict(os.environ) == before
