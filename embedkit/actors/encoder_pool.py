"""The encoders of a run, and the clients that share them."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from embedkit.actors.encoder_actor import EncoderActor
from embedkit.encoders.meter import EncoderLoad
from embedkit.encoders.model_files import ModelSpec
from embedkit.errors import EncoderError, error_in_traceback
from embedkit.records import TokenBatch


@dataclass(frozen=True)
class PoolConnection:
    """Where the encoders of a run are; small, picklable, good on every node of the cluster.

    Attributes:
        address: Address of the Ray cluster.
        namespace: The run's Ray namespace.
        names: The encoders' names in it.
        calls_in_flight: Calls that one client keeps at each encoder.
        timeout: Seconds without an answer after which an encoder counts as lost.
    """

    address: str
    namespace: str
    names: tuple[str, ...]
    calls_in_flight: int
    timeout: float

    def __call__(self) -> "PoolClient":
        """Connects, joining the cluster first where this process has not yet.

        Raises:
            EncoderError: The run's encoders are not there.
        """
        if not ray.is_initialized():
            ray.init(address=self.address, namespace=self.namespace, log_to_driver=False)
        try:
            actors = [ray.get_actor(name, namespace=self.namespace) for name in self.names]
        except ValueError as error:
            raise EncoderError(
                f"encoder not found in Ray namespace {self.namespace}: {error}; "
                "the run that owned it has ended, start it again"
            ) from error
        return PoolClient(actors, self.calls_in_flight, self.timeout)


class PoolClient:
    """Spreads calls over the encoders; safe to make many, one per worker."""

    def __init__(
        self, actors: list["ray.actor.ActorHandle"], calls_in_flight: int, timeout: float
    ) -> None:
        self._actors = actors
        self._calls_in_flight = calls_in_flight
        self._timeout = timeout

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Encodes batches with several calls in flight, and yields results in their order.

        A call goes to the encoder with the fewest calls of this client. A lost encoder process is
        restarted by Ray, which repeats the calls it had.

        Raises:
            EncoderError: An encoder was lost for good, or did not answer in time.
        """
        load = [0] * len(self._actors)
        capacity = self._calls_in_flight * len(self._actors)
        pending: deque[tuple[int, ray.ObjectRef]] = deque()
        for batch in batches:
            if len(pending) == capacity:
                yield self._result(pending, load)
            place = load.index(min(load))
            load[place] += 1
            call = self._actors[place].encode.remote(batch.input_ids, batch.offsets)
            pending.append((place, call))
        while pending:
            yield self._result(pending, load)

    def _result(
        self, pending: deque[tuple[int, "ray.ObjectRef"]], load: list[int]
    ) -> NDArray[np.float32]:
        place, call = pending.popleft()
        self._wait_while_it_works(self._actors[place], call)
        vectors: NDArray[np.float32] = answer(call, self._timeout)
        load[place] -= 1
        return vectors

    def _wait_while_it_works(self, actor: "ray.actor.ActorHandle", call: "ray.ObjectRef") -> None:
        # A call may stand behind other clients' calls for long: only an encoder that finishes
        # nothing at all during the timeout is given up, by `answer`.
        calls_before = -1
        while not ray.wait([call], timeout=self._timeout)[0]:
            calls: int = answer(actor.load.remote(), self._timeout).calls
            if calls == calls_before:
                return
            calls_before = calls


def answer(call: "ray.ObjectRef", timeout: float) -> Any:
    """Waits for one call to an encoder.

    Args:
        call: The call's reference.
        timeout: Seconds to wait at most.

    Raises:
        EncoderError: It failed, its encoder is lost for good, or the time is over.
    """
    try:
        return ray.get(call, timeout=timeout)
    except GetTimeoutError as error:
        raise EncoderError(
            f"no answer from an encoder for {timeout:.0f} s; run the same command again to "
            "resume, with a larger --encoder-timeout if the device is slow"
        ) from error
    except RayError as error:
        raise _encoder_error(error) from error


def _encoder_error(error: RayError) -> Exception:
    known = error_in_traceback(str(error))
    if known is not None:
        return known
    lines = [line for line in str(error).splitlines() if line.strip()]
    what = lines[-1].strip() if isinstance(error, RayTaskError) else lines[0].strip()
    kind = "was lost" if isinstance(error, RayActorError) else "failed"
    return EncoderError(f"an encoder {kind}: {what}; run the same command again to resume")


class EncoderPool:
    """The encoders of one run, owned by the driver: they end with it.

    Args:
        model: What every encoder loads.
        encoders: How many there are.
        namespace: The run's Ray namespace.
        calls_in_flight: Calls that one client keeps at each encoder.
        timeout: Seconds without an answer after which an encoder counts as lost.
        cpus: CPUs that Ray sets aside for each.
        gpus: GPUs, or a fraction of one, for each.
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
    ) -> None:
        remote = ray.remote(concurrency_groups={"observe": 1})(EncoderActor)
        names = tuple(f"encoder-{number}" for number in range(encoders))
        # -1: a run outlives any number of lost processes; the client's timeout is the bound.
        self._actors = {
            name: remote.options(
                name=name,
                num_cpus=cpus,
                num_gpus=gpus,
                max_restarts=-1,
                max_task_retries=3,
            ).remote(name, model)
            for name in names
        }
        self._timeout = timeout
        self._loads: dict[str, EncoderLoad] = {}
        address = ray.get_runtime_context().gcs_address
        self.connection = PoolConnection(address, namespace, names, calls_in_flight, timeout)

    def wait_until_ready(self) -> tuple[int, str]:
        """Waits until every encoder has loaded its model.

        Returns:
            The vectors' dimension and the device's name.

        Raises:
            EncoderError: One could not be started.
            ConfigError: One could not load the model.
        """
        deadline = time.monotonic() + self._timeout
        calls = [actor.describe.remote() for actor in self._actors.values()]
        described = [answer(call, max(1.0, deadline - time.monotonic())) for call in calls]
        dimension, device = described[0]
        return dimension, device

    def loads(self, timeout: float = 5.0) -> list[EncoderLoad]:
        """Returns the last known load of every encoder process there was.

        Args:
            timeout: Seconds to wait for the answers; an encoder that is being restarted keeps
                what it last said.
        """
        calls = [actor.load.remote() for actor in self._actors.values()]
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=timeout)
        for call in done:
            try:
                load = ray.get(call)
            except RayActorError:
                continue
            self._loads[load.process] = load
        return list(self._loads.values())

    def stop(self) -> None:
        """Ends the encoders' processes."""
        for actor in self._actors.values():
            ray.kill(actor, no_restart=True)
