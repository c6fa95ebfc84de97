"""The clients that share a run's encoders, wherever they are."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError

from embedkit.actors import pool_use
from embedkit.actors.encoder_errors import encoder_error
from embedkit.actors.encoder_handle import (
    LOST,
    PULSE_SECONDS,
    EncoderHandle,
    answer,
    look,
    no_answer,
)
from embedkit.actors.metrics import repeated_calls
from embedkit.actors.private_ray import join
from embedkit.errors import EncoderError
from embedkit.errors.foreign import one_line
from embedkit.vectors import TokenBatch

_MOST_TRIES = 4
_CALLS_AHEAD = 4


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
    """

    address: str
    namespace: str
    names: tuple[str, ...]
    calls_in_flight: int
    timeout: float
    wait: float = 600.0

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
        return PoolClient(actors, self.calls_in_flight, self.timeout, self.wait, pool)


def _actor_named(name: str, namespace: str) -> Any:
    try:
        return ray.get_actor(name, namespace=namespace)
    except ValueError:
        return None


@dataclass
class _Call:
    batch: TokenBatch
    encoder: EncoderHandle
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
    ) -> None:
        self._pool = pool
        self._encoders = [EncoderHandle(actor) for actor in actors]
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

    def _running(self) -> list[EncoderHandle]:
        return [encoder for encoder in self._encoders if encoder.running]

    def _free_encoder(self) -> EncoderHandle | None:
        free = [one for one in self._running() if one.in_flight < self._calls_in_flight]
        return min(free, key=lambda encoder: encoder.in_flight, default=None)

    def _look_for_more(self) -> None:
        """Looks, now and then, whether encoders that did not run do so by now."""
        now = time.monotonic()
        absent = [
            encoder
            for encoder in self._encoders
            if not encoder.running and (encoder.asked or now - encoder.asked_at > PULSE_SECONDS)
        ]
        if absent:
            look(absent, timeout=0)

    def _wait_for_encoder(self) -> EncoderHandle:
        deadline = time.monotonic() + self._wait
        while (encoder := self._free_encoder()) is None:
            pool_use.go_on(self._pool)
            absent = [one for one in self._encoders if not one.running]
            for one in absent:
                one.ask()
            ray.wait([one.asked for one in absent], timeout=PULSE_SECONDS)
            look(absent, timeout=0)
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

    def _call(self, batch: TokenBatch, encoder: EncoderHandle) -> _Call:
        encoder.in_flight += 1
        ref = encoder.actor.encode.remote(*batch.arrays())
        return _Call(batch, encoder, ref, time.monotonic())

    def _advance(self, open_calls: list[_Call]) -> None:
        """Waits a little for any answer, and takes those that have come."""
        if not open_calls:
            return
        done, _ = ray.wait([call.ref for call in open_calls], timeout=PULSE_SECONDS)
        for call in open_calls:
            if call.ref in done:
                self._take(call)
            elif time.monotonic() - call.started > self._timeout:
                self._check_progress(call)

    def _take(self, call: _Call) -> None:
        call.encoder.in_flight -= 1
        try:
            call.vectors = ray.get(call.ref)
        except LOST as error:
            call.encoder.running = False
            self._repeat(call, error)
        except RayError as error:
            raise encoder_error(error) from error

    def _repeat(self, call: _Call, error: RayError) -> None:
        if call.tries == _MOST_TRIES:
            raise EncoderError(
                f"a call of {len(call.batch)} texts lost its encoder {_MOST_TRIES} times "
                f"({one_line(error, only_first=True)}); run the same command again to resume"
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
            raise no_answer(self._timeout)
        call.calls_before, call.started = calls, time.monotonic()
