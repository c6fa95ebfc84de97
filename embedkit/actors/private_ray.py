"""Starts and joins a Ray that opens nothing to others and runs no code but ours.

Ray by itself listens on an address that the network reaches, keeps a token that every user of the
machine can read, and has workers import from the directories that its driver was started in.
"""

import logging
import os
import secrets
import site
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import ray
from ray._private import ray_constants
from ray.job_config import JobConfig

import embedkit

_AS_IN_ENVIRONMENT = {
    # Off, it keeps a Ray to the loopback addresses.
    "ENABLE_RAY_CLUSTER": "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER",
    # Under `uv run` it copies the working directory to where workers import from.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "RAY_ENABLE_UV_RUN_RUNTIME_ENV",
}


@contextmanager
def on_loopback() -> Iterator[None]:
    """Keeps a Ray that is started or joined in the body to the loopback addresses.

    What the body starts does not import from the working directory either.
    """
    before = {name: getattr(ray_constants, name) for name in _AS_IN_ENVIRONMENT}
    # Ray read these of its settings from the environment when it was imported.
    for name in before:
        setattr(ray_constants, name, False)
    settings = dict.fromkeys(_AS_IN_ENVIRONMENT.values(), "0") | {"PYTHONSAFEPATH": "1"}
    if "PYTHONPATH" in os.environ:
        # An empty entry, as a stray colon leaves it, stands for the working directory.
        entries = filter(None, os.environ["PYTHONPATH"].split(os.pathsep))
        settings["PYTHONPATH"] = os.pathsep.join(entries)
    try:
        with environment(settings):
            yield
    finally:
        for name, value in before.items():
            setattr(ray_constants, name, value)


@contextmanager
def own_token() -> Iterator[None]:
    """Has a Ray that is started in the body ask everybody for a token that only its processes know.

    It stands in no file: Ray would write one that every user of the machine can read.
    """
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with environment(token | {"RAY_AUTH_TOKEN_PATH": None}):
        read_token_again()
        yield


def join(address: str, namespace: str) -> None:
    """Makes this process part of a Ray, whose address is the one that itself goes by."""
    local = address.startswith(("127.0.0.1:", "[::1]:"))
    # Without, Ray would take a loopback address for another of the machine's.
    with on_loopback() if local else nullcontext():
        connect(address, namespace)


def connect(address: str, namespace: str) -> None:
    """Makes this process a driver of the Ray at an address, whose workers get a clean path."""
    ray.init(
        address=address,
        namespace=namespace,
        log_to_driver=False,
        logging_level=logging.ERROR,
        job_config=CleanPath(),
    )


def read_token_again() -> None:
    """Has Ray in this process take its token from the environment as that is now."""
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()


@contextmanager
def environment(settings: Mapping[str, str | None]) -> Iterator[None]:
    """Sets variables of the environment during the body; None removes one."""
    before = {name: os.environ.get(name) for name in settings}
    _set_environment(settings)
    try:
        yield
    finally:
        _set_environment(before)


def _set_environment(settings: Mapping[str, str | None]) -> None:
    for name, value in settings.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


class CleanPath(JobConfig):
    """Has workers import from where embedkit and what it needs are installed, and nowhere else.

    Ray would put the driver's working directory before that, and the directory of its script: a
    ``tokenizers.py`` that lies in a corpus would run in every worker.
    """

    def _get_proto_job_config(self) -> Any:
        described = super()._get_proto_job_config()
        del described.py_driver_sys_path[:]
        described.py_driver_sys_path.extend(_place_of_embedkit())
        return described


def _place_of_embedkit() -> list[str]:
    """Returns where embedkit was imported from, if workers do not look there by themselves."""
    place = Path(embedkit.__file__).resolve().parents[1]
    looked_at = {Path(entry).resolve() for entry in sys.path}
    installed = {*site.getsitepackages(), site.getusersitepackages()}
    installed |= {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    if place not in looked_at or place in {Path(entry).resolve() for entry in installed}:
        return []
    return [str(place)]
