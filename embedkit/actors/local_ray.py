"""One Ray per machine, shared by all processes that want its encoders, started by the first.

For runners that start worker processes of their own, several on a machine, and know nothing of
Ray: whichever process comes first starts Ray and the encoders, the others join, and both outlive
the process that started them. So a GPU holds one copy of the model, whatever the number of
processes.
"""

import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray

from embedkit.actors.encoder_actor import encoder_class
from embedkit.actors.encoder_handle import answer
from embedkit.actors.pool_client import PoolClient, PoolConnection
from embedkit.actors.private_ray import environment, join, on_loopback, read_token_again
from embedkit.config import EngineConfig
from embedkit.encoders.canary import Asked, Canaries, canaries_for, wants_canaries
from embedkit.encoders.fitting import fit_machine
from embedkit.encoders.kinds import load_encoder
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import CanaryError, ConfigError, EncoderError
from embedkit.hashes.digests import digest

_LOG = logging.getLogger("embedkit")
_MARK = "EMBEDKIT_LOCAL_RAY"
_ADDRESS = "address.json"
_TOKEN = "token"
_START_SECONDS = 180.0
_OBJECT_STORE_BYTES = 1 << 30

_joining = threading.Lock()
_joined: set[str] = set()


@dataclass(frozen=True)
class LocalRay:
    """Connects to the encoders of this machine's one Ray; picklable, called in each process.

    Attributes:
        model: What every encoder loads; its directory must be on every machine.
        name: Tells jobs that share a machine apart, such as the version's name; each has a Ray
            of its own.
        encoders_per_gpu: Encoders that share one GPU; a machine without GPUs has one encoder.
        calls_in_flight: Calls that one client keeps at each encoder.
        timeout: Seconds without an answer after which an encoder counts as lost.
        folder: Where this machine's processes find each other; a short path on a local disk that
            all of them see.
        canaries: Which encoders must first give the vectors of canary texts: ``auto`` (those on
            GPUs), ``always`` or ``never``.
    """

    model: ModelSpec
    name: str
    encoders_per_gpu: int = 1
    calls_in_flight: int = 2
    timeout: float = 900.0
    folder: str = "/tmp"
    canaries: Asked = "auto"

    @property
    def namespace(self) -> str:
        """The Ray namespace of the encoders."""
        return f"embedkit-{digest(self.name, self.model.identity.weights_hash)[:8]}"

    @property
    def home(self) -> Path:
        """This job's folder on the machine."""
        return Path(self.folder) / f"{self.namespace}-{os.getuid()}"

    def __call__(self) -> PoolClient:
        """Starts or joins the machine's Ray and encoders.

        Raises:
            EncoderError: Ray or an encoder could not be started; another try may succeed.
            CanaryError: All encoders give other vectors than the model.
            ConfigError: The model cannot be loaded here, there is no GPU for it, or this process
                is part of another Ray already.
        """
        _check_no_other_ray()
        with _locked(self.home):
            _use_token(self.home / _TOKEN)
            address = _living(self.home) or self._start()
        _join(address, self.namespace)
        names = self._ensure_encoders()
        connect = PoolConnection(
            address=address,
            namespace=self.namespace,
            names=names,
            calls_in_flight=self.calls_in_flight,
            timeout=self.timeout,
        )
        return connect()

    def stop(self) -> None:
        """Ends the machine's Ray and encoders, whoever started them."""
        with _locked(self.home):
            _end_all(self.home)

    def _start(self) -> str:
        _end_all(self.home)
        address = _start_ray(self.home)
        _join(address, self.namespace)
        (node,) = [node for node in ray.nodes() if node["Alive"]]
        raylet = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
        # Whoever reads it may rely on all that came before.
        found = {"gcs": address, "raylet": raylet, "by": os.getpid()}
        _write(self.home / _ADDRESS, json.dumps(found))
        _LOG.info("started this machine's Ray at %s", address)
        return address

    def _ensure_encoders(self) -> tuple[str, ...]:
        resources = ray.cluster_resources()
        engine = EngineConfig(encoders_per_gpu=self.encoders_per_gpu)
        fitting = fit_machine(engine, self.model.placement, resources)
        if fitting.encoder_gpus and resources.get("GPU", 0) < 1:
            raise ConfigError(
                "the model is to run on cuda, but Ray finds no GPU on this machine; check the "
                "accelerator and its driver, or take device cpu"
            )
        names = tuple(f"encoder-{number}" for number in range(fitting.encoders.most))
        canaries = self._canaries(names)
        remote = encoder_class(self.model)
        actors = [
            remote.options(
                name=name,
                namespace=self.namespace,
                lifetime="detached",
                get_if_exists=True,
                # The runner's own processes take CPUs as they need them.
                num_cpus=0,
                num_gpus=fitting.encoder_gpus,
                max_restarts=-1,
                # Clients repeat what a lost encoder did not answer.
                max_task_retries=0,
            ).remote(name, self.model, canaries)
            for name in names
        ]
        asked = [actor.describe.options(max_task_retries=3).remote() for actor in actors]
        if canaries is None:
            # The first to look sees why a model cannot be loaded; a pool would wait for it to come.
            answer(asked[0], self.timeout)
            return names
        return self._right_ones(dict(zip(names, asked, strict=True)))

    def _canaries(self, names: tuple[str, ...]) -> Canaries | None:
        """Returns what encoders must give that have yet to be started."""
        if not wants_canaries(self.model, self.canaries):
            return None
        named = ray.util.list_named_actors(all_namespaces=True)
        if all({"namespace": self.namespace, "name": name} in named for name in names):
            return None
        # Its value, as a detached actor outlives whoever computed it, and is started anew by it.
        compute = ray.remote(canaries_for).options(num_cpus=0)
        found: Canaries | None = answer(
            compute.remote(self.model, self.canaries, load_encoder), self.timeout
        )
        return found

    def _right_ones(self, asked: dict[str, "ray.ObjectRef"]) -> tuple[str, ...]:
        """Returns the names of the encoders that give what they should."""
        names, wrong = [], None
        for name, call in asked.items():
            try:
                answer(call, self.timeout)
                names.append(name)
            except CanaryError as error:
                _LOG.warning("an encoder is left out: %s", error)
                wrong = error
        if wrong is not None and not names:
            raise wrong
        return tuple(names)


@contextlib.contextmanager
def _locked(home: Path) -> Iterator[None]:
    """Holds the machine's lock; the system lets go of it when its holder is killed."""
    home.mkdir(mode=0o700, exist_ok=True)
    if home.stat().st_uid != os.getuid() or home.is_symlink():
        raise ConfigError(f"{home}: belongs to another user; remove it")
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _use_token(path: Path) -> None:
    """Lets this process, and what it starts, talk to the Ray whose token stands in a file.

    Other users of the machine reach that Ray, where whoever has the token can run code.
    """
    if not path.exists():
        _write(path, secrets.token_hex(32))
    settings = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(path)}
    if not ray.is_initialized() and any(os.environ.get(k) != v for k, v in settings.items()):
        os.environ.update(settings)
        os.environ.pop("RAY_AUTH_TOKEN", None)
        read_token_again()


def _living(home: Path) -> str | None:
    """Returns the address of the Ray that was started last, if it still runs."""
    try:
        found = json.loads((home / _ADDRESS).read_text())
    except FileNotFoundError:
        return None
    if all(_answers(found[part]) for part in ("gcs", "raylet")):
        return str(found["gcs"])
    _LOG.warning("this machine's Ray at %s is gone and is started anew", found["gcs"])
    return None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except ConnectionRefusedError:
        return False
    except TimeoutError:
        # Somebody listens, however busy; to kill what others use would be worse than to wait.
        return True
    return True


def _start_ray(home: Path) -> str:
    """Runs ``ray start``; returns the address of what it started."""
    folder = Path(tempfile.mkdtemp(prefix="r", dir=home))
    options = {
        "port": 0,
        "temp-dir": folder,
        "include-dashboard": "false",
        "include-log-monitor": "false",
        "object-store-memory": _OBJECT_STORE_BYTES,
    }
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head"]
    command += [f"--{name}={value}" for name, value in options.items()]
    settings = {_MARK: str(home), "RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": None}
    # Not a pipe, which what is started would keep open.
    with (folder / "start.log").open("w") as log, on_loopback(), environment(settings):
        try:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A signal to the process that comes first must not reach what all use.
                start_new_session=True,
                timeout=_START_SECONDS,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise EncoderError(
                f"ray start took longer than {_START_SECONDS:.0f} s; see {log.name}"
            ) from error
    if code:
        lines = (folder / "start.log").read_text().strip().splitlines() or ["it said nothing"]
        raise EncoderError(f"ray start failed with {code}: {lines[-1]}; see {log.name}")
    return (folder / "ray_current_cluster").read_text().strip()


def _check_no_other_ray() -> None:
    with _joining:
        current = ray.get_runtime_context().gcs_address if ray.is_initialized() else None
    if current is not None and current not in _joined:
        raise ConfigError(
            f"this process is part of another Ray, at {current}; use that one's encoders by a "
            "PoolConnection, or leave it before"
        )


def _join(address: str, namespace: str) -> None:
    """Makes this process part of a Ray, leaving one of this machine that is gone."""
    with _joining:
        if ray.is_initialized():
            if ray.get_runtime_context().gcs_address == address:
                return
            ray.shutdown()
        try:
            join(address, namespace)
        except (ConnectionError, RuntimeError, TimeoutError) as error:
            what = str(error).strip().splitlines() or [type(error).__name__]
            raise EncoderError(
                f"cannot join this machine's Ray at {address}: {what[0]}; try again"
            ) from error
        _joined.add(address)


def _end_all(home: Path) -> None:
    """Ends whatever was started in a folder, wholly or in part, and forgets it."""
    (home / _ADDRESS).unlink(missing_ok=True)
    deadline = time.monotonic() + 30
    while found := _started_in(home):
        for process in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise EncoderError(f"process {found[0]} of a lost Ray cannot be ended; end it by hand")
        time.sleep(0.05)
    for folder in home.glob("r*"):
        shutil.rmtree(folder, ignore_errors=True)


def _started_in(home: Path) -> list[int]:
    """Returns the processes that carry this folder's mark, which all of Ray's inherit."""
    mark = f"{_MARK}={home}\0".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            is_ended = b"\nState:\tZ" in (entry / "status").read_bytes()
            if not is_ended and mark in (entry / "environ").read_bytes():
                found.append(int(entry.name))
    return found


def _write(path: Path, text: str) -> None:
    """Writes a file, for its owner alone, that is seen whole or not at all."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)
