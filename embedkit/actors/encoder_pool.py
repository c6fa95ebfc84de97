"""The encoders of a run, and the clients that share them."""

import logging
import math
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import (
    ActorUnavailableError,
    NodeDiedError,
    ObjectLostError,
    RayActorError,
    RayError,
)

from embedkit.actors import pool_use
from embedkit.actors.encoder_actor import EncoderActor, phase_of
from embedkit.actors.encoder_errors import encoder_error, first_line
from embedkit.actors.metrics import repeated_calls
from embedkit.actors.private_ray import join
from embedkit.encoders.meter import EncoderLoad
from embedkit.encoders.model_files import ModelSpec
from embedkit.encoders.pack_shape import pack_shape
from embedkit.errors import EncoderError
from embedkit.records import TokenBatch

_LOG = logging.getLogger("embedkit")
_MOST_TRIES = 4
_LOST = (RayActorError, ObjectLostError, NodeDiedError)
_CALLS_AHEAD = 4
_PULSE_SECONDS = 1.0
_MESSAGE_SECONDS = 30.0


@dataclass(frozen=True)
class PoolConnection:
    """Where the encoders of a run are; small, picklable, good on every node of the cluster.

    Attributes:
        address: Address of the Ray cluster.
        namespace: The run's Ray namespace.
        names: The encoders' names in it.
        calls_in_flight: Calls that one client keeps at each encoder.
        timeout: Seconds without an answer after which an encoder counts as lost.
        wait: Seconds to wait while no encoder runs at all.
        packs: Whether the encoders pack rows of different lengths together.
    """

    address: str
    namespace: str
    names: tuple[str, ...]
    calls_in_flight: int
    timeout: float
    wait: float = 600.0
    packs: bool = False

    def __call__(self) -> "PoolClient":
        """Connects, joining the cluster first where this process has not yet.

        Raises:
            EncoderError: The run's encoders are not there.
        """
        pool = self.names[0]
        with pool_use.inside(pool):
            if not ray.is_initialized():
                join(self.address, self.namespace)
            # One that could not load the model on its node is gone; the others do its work.
            found = [_actor_named(name, self.namespace) for name in self.names]
            actors = [actor for actor in found if actor is not None]
            if not actors:
                raise EncoderError(
                    f"encoder not found in Ray namespace {self.namespace}: {pool}; "
                    "the run that owned it has ended, start it again"
                )
        return PoolClient(actors, self.calls_in_flight, self.timeout, self.wait, pool, self.packs)


def _actor_named(name: str, namespace: str) -> Any:
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


@dataclass
class _Encoder:
    """What a process knows of one encoder.

    Attributes:
        actor: Its handle.
        running: Whether it answered when it was last asked.
        load: What it last said it did.
        in_flight: Calls of this client that it has not answered.
        asked: The question that it has not answered yet.
        asked_at: When that was put, by the monotonic clock.
        unstartable: Why its process could not be started anew; Ray tries that no more.
    """

    actor: Any
    running: bool = False
    load: EncoderLoad | None = None
    in_flight: int = 0
    asked: Any = None
    asked_at: float = -math.inf
    unstartable: RayActorError | None = None

    def ask(self) -> None:
        """Puts the question that tells whether it runs; one that waits to be placed keeps it."""
        if self.asked is None:
            self.asked, self.asked_at = self.actor.load.remote(), time.monotonic()

    def hear(self) -> None:
        """Takes the answer, which has come."""
        asked, self.asked = self.asked, None
        try:
            self.load = ray.get(asked)
        except _LOST as error:
            self.running = False
            if isinstance(error, RayActorError) and error.actor_init_failed:
                self.unstartable = error
        else:
            self.running = True


def _look(encoders: list[_Encoder], timeout: float) -> None:
    """Hears what encoders have answered; waits for those that were running when last heard."""
    for encoder in encoders:
        encoder.ask()
    expected = [encoder.asked for encoder in encoders if encoder.running]
    if expected:
        ray.wait(expected, num_returns=len(expected), timeout=timeout)
    questions = [encoder.asked for encoder in encoders]
    answered, _ = ray.wait(questions, num_returns=len(questions), timeout=0)
    for encoder in encoders:
        if encoder.asked in answered:
            encoder.hear()


@dataclass
class _Call:
    batch: TokenBatch
    encoder: _Encoder
    ref: Any
    started: float
    tries: int = 1
    calls_before: int = -1
    vectors: NDArray[np.float32] | None = field(default=None)


class PoolClient:
    """Spreads calls over the encoders that run; safe to make many, one per worker."""

    def __init__(
        self,
        actors: list["ray.actor.ActorHandle"],
        calls_in_flight: int,
        timeout: float,
        wait: float = 600.0,
        pool: str = "",
        packs: bool = False,
    ) -> None:
        self.packs = packs
        self._pool = pool
        self._encoders = [_Encoder(actor) for actor in actors]
        self._calls_in_flight = calls_in_flight
        self._timeout = timeout
        self._wait = wait
        self.retries = 0
        self._repeated = repeated_calls()

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Encodes batches with several calls in flight, and yields results in their order.

        A call goes to the running encoder with the fewest calls of this client. A call whose
        encoder is lost goes to another one, as encoding has no effect but its result; encoders that
        join or come back are used as soon as they answer.

        Raises:
            EncoderError: No encoder could be placed or none answered in time, a call lost its
                encoder four times, or the run has ended.
        """
        with pool_use.inside(self._pool):
            yield from self._encode_all(batches)

    def _encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        waiting = iter(batches)
        calls: deque[_Call] = deque()
        try:
            while True:
                pool_use.go_on(self._pool)
                self._fill(waiting, calls)
                if not calls:
                    return
                self._advance([call for call in calls if call.vectors is None])
                while calls and (vectors := calls[0].vectors) is not None:
                    calls.popleft()
                    yield vectors
        finally:
            # Emptied here: Ray must not be told of forgotten results after it was shut down.
            while calls:
                self._forget(calls.popleft())

    @staticmethod
    def _forget(call: _Call) -> None:
        if call.vectors is None:
            call.encoder.in_flight -= 1

    def _fill(self, waiting: Iterator[TokenBatch], calls: deque[_Call]) -> None:
        self._look_for_more()
        # More than are in flight, so that one slow call at the head does not let encoders idle.
        room = _CALLS_AHEAD * self._calls_in_flight * max(1, len(self._running()))
        while len(calls) < room:
            encoder = self._free_encoder()
            if encoder is None and calls:
                return
            batch = next(waiting, None)
            if batch is None:
                return
            calls.append(self._call(batch, encoder or self._wait_for_encoder()))

    def _running(self) -> list[_Encoder]:
        return [encoder for encoder in self._encoders if encoder.running]

    def _free_encoder(self) -> _Encoder | None:
        free = [one for one in self._running() if one.in_flight < self._calls_in_flight]
        return min(free, key=lambda encoder: encoder.in_flight, default=None)

    def _look_for_more(self) -> None:
        """Looks, now and then, whether encoders that did not run do so by now."""
        now = time.monotonic()
        absent = [
            encoder
            for encoder in self._encoders
            if not encoder.running and (encoder.asked or now - encoder.asked_at > _PULSE_SECONDS)
        ]
        if absent:
            _look(absent, timeout=0)

    def _wait_for_encoder(self) -> _Encoder:
        deadline = time.monotonic() + self._wait
        while (encoder := self._free_encoder()) is None:
            pool_use.go_on(self._pool)
            absent = [one for one in self._encoders if not one.running]
            for one in absent:
                one.ask()
            ray.wait([one.asked for one in absent], timeout=_PULSE_SECONDS)
            _look(absent, timeout=0)
            if not self._running():
                failed = [one.unstartable for one in self._encoders if one.unstartable]
                if len(failed) == len(self._encoders):
                    raise encoder_error(failed[0]) from failed[0]
                if time.monotonic() > deadline:
                    raise EncoderError(
                        f"no encoder could be placed for {self._wait:.0f} s; give the cluster room "
                        "and run the same command again to resume"
                    )
                time.sleep(0.2)
        return encoder

    def _call(self, batch: TokenBatch, encoder: _Encoder) -> _Call:
        encoder.in_flight += 1
        ref = encoder.actor.encode.remote(batch.input_ids, batch.offsets)
        return _Call(batch, encoder, ref, time.monotonic())

    def _advance(self, open_calls: list[_Call]) -> None:
        """Waits a little for any answer, and takes those that have come."""
        if not open_calls:
            return
        done, _ = ray.wait([call.ref for call in open_calls], timeout=_PULSE_SECONDS)
        for call in open_calls:
            if call.ref in done:
                self._take(call)
            elif time.monotonic() - call.started > self._timeout:
                self._check_progress(call)

    def _take(self, call: _Call) -> None:
        call.encoder.in_flight -= 1
        try:
            call.vectors = ray.get(call.ref)
        except _LOST as error:
            call.encoder.running = False
            self._repeat(call, error)
        except RayError as error:
            raise encoder_error(error) from error

    def _repeat(self, call: _Call, error: RayError) -> None:
        if call.tries == _MOST_TRIES:
            raise EncoderError(
                f"a call of {len(call.batch)} texts lost its encoder {_MOST_TRIES} times "
                f"({first_line(error)}); run the same command again to resume"
            ) from error
        self.retries += 1
        self._repeated.inc()
        again = self._call(call.batch, self._free_encoder() or self._wait_for_encoder())
        call.encoder, call.ref, call.started = again.encoder, again.ref, again.started
        call.tries, call.calls_before = call.tries + 1, -1

    def _check_progress(self, call: _Call) -> None:
        # A call may stand behind other clients' calls for long: only an encoder that finishes
        # nothing at all during the timeout is given up.
        question = call.encoder.actor.load.remote()
        calls: int = answer(question, self._timeout, self._pool).calls
        if calls == call.calls_before:
            raise _no_answer(self._timeout)
        call.calls_before, call.started = calls, time.monotonic()


def answer(call: "ray.ObjectRef", timeout: float, pool: str = "") -> Any:
    """Waits for one call to an encoder.

    Args:
        call: The call's reference.
        timeout: Seconds to wait at most.
        pool: Name of the pool whose end, or loss, ends the waiting.

    Raises:
        EncoderError: It failed, its encoder is lost for good, or the time is over.
    """
    deadline = time.monotonic() + timeout
    while not ray.wait([call], timeout=min(timeout, _PULSE_SECONDS))[0]:
        pool_use.go_on(pool)
        if time.monotonic() > deadline:
            raise _no_answer(timeout)
    try:
        return ray.get(call)
    except RayError as error:
        raise encoder_error(error) from error


def _description(call: "ray.ObjectRef") -> tuple[int, str] | None:
    """Returns what an encoder said of itself, or None where its process was lost meanwhile."""
    try:
        described: tuple[int, str] = ray.get(call)
    except ActorUnavailableError:
        return None
    except RayError as error:
        raise encoder_error(error) from error
    return described


def _no_answer(timeout: float) -> EncoderError:
    return EncoderError(
        f"no answer from an encoder for {timeout:.0f} s; run the same command again to "
        "resume, with a larger --encoder-timeout if the device is slow"
    )


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
    ) -> None:
        remote = ray.remote(concurrency_groups={"observe": 1})(EncoderActor)
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
            ).remote(name, model)
            for name, place in zip(names, places, strict=True)
        ]
        self._encoders = dict(zip(names, map(_Encoder, actors), strict=True))
        self._timeout = timeout
        self._wait = wait
        self._least = encoders if least is None else least
        self._loads: dict[str, EncoderLoad] = {}
        self._looking = threading.Lock()
        address = ray.get_runtime_context().gcs_address
        self.connection = PoolConnection(
            address,
            namespace,
            places,
            calls_in_flight,
            timeout,
            wait,
            pack_shape(model) is not None,
        )

    @property
    def name(self) -> str:
        """The pool's name in all processes."""
        return self.connection.names[0]

    def go_on(self) -> None:
        """Raises where the pool was lost; asked now and then by who waits for something else."""
        pool_use.go_on(self.name)

    def wait_until_ready(self) -> tuple[int, str]:
        """Waits until as many encoders as the run needs have loaded their model.

        Returns:
            The vectors' dimension and the device's name.

        Raises:
            EncoderError: They could not be started in time.
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
            done, _ = ray.wait(list(asked), timeout=min(left, patience / 4, _PULSE_SECONDS))
            for call in done:
                encoder = asked.pop(call)
                if (found := _description(call)) is None:
                    asked[encoder.actor.describe.remote()] = encoder
                else:
                    described.append(found)
                    encoder.running = True
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
            _look(list(self._encoders.values()), timeout)
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
