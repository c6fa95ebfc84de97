"""Joining a Ray cluster, and what its nodes are."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import ray

from embedkit.actors.private_ray import connect
from embedkit.engines.signals import handlers_kept
from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line

_CONNECT_SECONDS = 10.0


@contextmanager
def ray_on_cluster(address: str, namespace: str) -> Iterator[None]:
    """Joins a Ray cluster, and leaves it; stays in one that this process has joined before.

    Raises:
        ConfigError: There is no cluster at the address.
    """
    if ray.is_initialized():
        yield
        return
    try:
        _check_listener(address)
        with handlers_kept():
            connect(address, namespace)
    except (OSError, RuntimeError, ValueError) as error:
        what = one_line(error, only_first=True)
        raise ConfigError(
            f"ray_address: no Ray cluster answers at {address!r} ({what}); start one with 'ray "
            "start --head', give its --ray-address, or take --engine local"
        ) from error
    try:
        yield
    except Exception:
        ray.shutdown()
        raise
    # After a signal this process leaves at once, whose threads may be inside Ray's calls.
    ray.shutdown()


def _check_listener(address: str) -> None:
    """Fails at once where nothing listens: Ray itself would try for minutes, and say so often."""
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", address)
    if address == "auto":
        return
    place = urlsplit(f"//{address}")
    if place.hostname is None or place.port is None:
        raise ValueError("expected HOST:PORT or auto")
    socket.create_connection((place.hostname, place.port), _CONNECT_SECONDS).close()


def alive_nodes() -> list[dict[str, Any]]:
    """Returns the cluster's nodes that are alive, as Ray describes them."""
    return [node for node in ray.nodes() if node["Alive"]]


def draining_nodes() -> set[str]:
    """Returns the ids of the nodes that are about to leave, such as spot machines taken back."""
    return set(ray._private.state.state.get_draining_nodes())
