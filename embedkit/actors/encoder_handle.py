"""An encoder as the processes that use it see it: its handle, and the answers it gives."""

import math
import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayError

from embedkit.actors import pool_use
from embedkit.actors.encoder_errors import encoder_error
from embedkit.encoders.meter import EncoderLoad
from embedkit.errors import EncoderError

LOST = (RayActorError, ObjectLostError, NodeDiedError)
"""What Ray raises for a call whose encoder was lost."""

PULSE_SECONDS = 1.0
"""How long a wait lasts before it is asked whether waiting still makes sense."""


@dataclass
class EncoderHandle:
    """What a process knows of one encoder.

    Attributes:
        actor: Its handle.
        running: Whether it answered when it was last asked.
        ran: Whether it ever answered.
        load: What it last said it did.
        in_flight: Calls of this client that it has not answered.
        asked: The question that it has not answered yet.
        asked_at: When that was put, by the monotonic clock.
        unstartable: Why its process could not be started anew; Ray tries that no more.
    """

    actor: Any
    running: bool = False
    ran: bool = False
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
        except LOST as error:
            self.running = False
            if isinstance(error, RayActorError) and error.actor_init_failed:
                self.unstartable = error
        else:
            self.running = self.ran = True


def look(encoders: list[EncoderHandle], timeout: float) -> None:
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
    while not ray.wait([call], timeout=min(timeout, PULSE_SECONDS))[0]:
        pool_use.go_on(pool)
        if time.monotonic() > deadline:
            raise no_answer(timeout)
    try:
        return ray.get(call)
    except RayError as error:
        raise encoder_error(error) from error


def no_answer(timeout: float) -> EncoderError:
    """Returns the error of an encoder that gave no answer in time."""
    return EncoderError(
        f"no answer from an encoder for {timeout:.0f} s; run the same command again to "
        "resume, with a larger --encoder-timeout if the device is slow"
    )
