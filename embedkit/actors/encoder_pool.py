"""The encoders of a run, owned by its driver."""

import logging
import threading
import time
import uuid

import ray
from ray.exceptions import ActorUnavailableError, RayError

from embedkit.actors import pool_use
from embedkit.actors.encoder_actor import encoder_class, phase_of
from embedkit.actors.encoder_errors import encoder_error
from embedkit.actors.encoder_handle import PULSE_SECONDS, EncoderHandle, look
from embedkit.actors.pool_client import PoolConnection
from embedkit.encoders.canary import Canaries
from embedkit.encoders.meter import EncoderLoad
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import CanaryError, EncoderError

_LOG = logging.getLogger("embedkit")
_MESSAGE_SECONDS = 30.0
# The report counts what encoders say at the end, so a slow answer is worth waiting for.
_LAST_WORD_SECONDS = 60.0
_RETURN_SECONDS = 10.0


class EncoderPool:
    """The encoders of one run, owned by the driver: they end with it.

    All of them are asked for at once. Those that Ray cannot place yet wait for nodes to join, and
    tell an autoscaler what is wanted; those whose node leaves are placed anew.

    Args:
        model: What every encoder loads.
        encoders: How many there are at most.
        namespace: The run's Ray namespace.
        calls_in_flight: Calls that one client keeps at each encoder.
        timeout: Seconds without an answer after which an encoder counts as lost.
        cpus: CPUs that Ray sets aside for each.
        gpus: GPUs, or a fraction of one, for each.
        least: How many must run before the work begins; all unless given.
        wait: Seconds to wait while no encoder runs at all.
        canaries: What every process of an encoder must give first, or a reference to it.
    """

    def __init__(
        self,
        model: ModelSpec,
        encoders: int,
        namespace: str,
        calls_in_flight: int,
        timeout: float,
        cpus: float = 1.0,
        gpus: float = 0.0,
        least: int | None = None,
        wait: float = 600.0,
        canaries: "Canaries | ray.ObjectRef | None" = None,
    ) -> None:
        remote = encoder_class(model)
        run = uuid.uuid4().hex[:8]
        names = [f"encoder-{number}" for number in range(encoders)]
        places = tuple(f"embedkit-{run}-{name}" for name in names)
        # -1: a run outlives any number of lost processes; the clients' patience is the bound. They
        # repeat calls themselves, at another encoder, so Ray does not.
        actors = [
            remote.options(
                name=place,
                num_cpus=cpus,
                num_gpus=gpus,
                max_restarts=-1,
                max_task_retries=0,
                scheduling_strategy="SPREAD",
            ).remote(name, model, canaries)
            for name, place in zip(names, places, strict=True)
        ]
        self._encoders = dict(zip(names, map(EncoderHandle, actors), strict=True))
        self._timeout = timeout
        self._wait = wait
        self._least = encoders if least is None else least
        self._loads: dict[str, EncoderLoad] = {}
        self._looking = threading.Lock()
        address = ray.get_runtime_context().gcs_address
        self.connection = PoolConnection(address, namespace, places, calls_in_flight, timeout, wait)

    @property
    def name(self) -> str:
        """The pool's name in all processes."""
        return self.connection.names[0]

    def go_on(self) -> None:
        """Raises where the pool was lost; asked now and then by who waits for something else."""
        pool_use.go_on(self.name)

    def wait_until_ready(self) -> tuple[int, str]:
        """Waits until as many encoders as the run needs have loaded their model.

        It goes on without those that fail at the canary texts, as long as another one does not.

        Returns:
            The vectors' dimension and the device's name.

        Raises:
            EncoderError: They could not be started in time.
            CanaryError: All of them give other vectors than the model.
            ConfigError: One could not load the model.
        """
        patience = min(self._timeout, self._wait)
        deadline = time.monotonic() + patience
        asked = {one.actor.describe.remote(): one for one in self._encoders.values()}
        described: list[tuple[int, str]] = []
        said = time.monotonic()
        while len(described) < self._least:
            left = deadline - time.monotonic()
            if left <= 0:
                raise EncoderError(
                    f"{len(described)} of {self._least} encoders could be started in "
                    f"{patience:.0f} s; give the cluster room, or ask for fewer --encoders"
                )
            pool_use.go_on(self.name)
            done, _ = ray.wait(list(asked), timeout=min(left, patience / 4, PULSE_SECONDS))
            for call in done:
                encoder = asked.pop(call)
                try:
                    found = _description(call)
                except CanaryError as error:
                    if not asked and not described:
                        raise
                    _LOG.warning("an encoder is left out: %s", error)
                    self._least = min(self._least, len(asked) + len(described))
                    continue
                if found is None:
                    asked[encoder.actor.describe.remote()] = encoder
                else:
                    described.append(found)
                    encoder.running = encoder.ran = True
            if not done and time.monotonic() - said > min(patience / 4, _MESSAGE_SECONDS):
                said = time.monotonic()
                _LOG.info(
                    "waiting for encoders to start, for up to %.0f s more; %d of %d have so far",
                    max(0.0, deadline - said),
                    len(described),
                    self._least,
                )
        return described[0]

    def phase(self) -> str | None:
        """Returns what the loading of the first encoder is at, or None where it said nothing."""
        return phase_of(self.connection.names[0])

    def loads(self, timeout: float = 5.0) -> list[EncoderLoad]:
        """Returns the last known load of every encoder process there was.

        Args:
            timeout: Seconds to wait for the answers of running encoders; one that is being
                restarted keeps what it last said.
        """
        with self._looking:
            return self._look(timeout)

    def last_loads(self) -> list[EncoderLoad]:
        """Returns the loads at the end of a run; waits for encoders that are being restarted."""
        deadline = time.monotonic() + _RETURN_SECONDS
        with self._looking:
            # What is answered now may have been asked long ago, of an encoder that was lost then.
            self._look(_LAST_WORD_SECONDS)
            while time.monotonic() < deadline and any(
                one.ran and not one.running for one in self._encoders.values()
            ):
                time.sleep(_RETURN_SECONDS / 100)
                self._look(_LAST_WORD_SECONDS)
            return self._look(_LAST_WORD_SECONDS)

    def _look(self, timeout: float) -> list[EncoderLoad]:
        look(list(self._encoders.values()), timeout)
        for encoder in self._encoders.values():
            if encoder.load is not None:
                self._loads[encoder.load.process] = encoder.load
        return list(self._loads.values())

    @property
    def running(self) -> int:
        """Encoders that answered when they were last asked for their load."""
        return sum(encoder.running for encoder in self._encoders.values())

    def stop(self) -> None:
        """Ends the encoders' processes, once no thread of this process is waiting for them."""
        pool_use.end(self.name)
        if pool_use.is_lost(self.name):
            # They end with their Ray, which carries out nothing any more.
            return
        for encoder in self._encoders.values():
            ray.kill(encoder.actor, no_restart=True)


def _description(call: "ray.ObjectRef") -> tuple[int, str] | None:
    """Returns what an encoder said of itself, or None where its process was lost meanwhile."""
    try:
        described: tuple[int, str] = ray.get(call)
    except ActorUnavailableError:
        return None
    except RayError as error:
        raise encoder_error(error) from error
    return described
