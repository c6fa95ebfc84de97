"""The encoders of a job in Ray, as it fits them."""

from collections.abc import Iterator
from contextlib import contextmanager

import ray

from embedkit.actors.encoder_pool import EncoderPool
from embedkit.encoders.canary import canaries_for, wants_canaries
from embedkit.encoders.fitting import Fitting
from embedkit.encoders.kinds import load_encoder
from embedkit.engines.display import LOADING, Display
from embedkit.engines.progress import phases_shown
from embedkit.flow.prepare import Job


@contextmanager
def ray_encoders(job: Job, fitting: Fitting) -> Iterator[EncoderPool]:
    """Starts the encoders of a job, and ends them; they have yet to load the model then."""
    canaries = None
    if wants_canaries(job.model, job.config.canaries):
        # Where encoders will be, which wait for it, as the model may be on such nodes alone.
        computed = ray.remote(canaries_for).options(num_cpus=0, num_gpus=fitting.encoder_gpus)
        canaries = computed.remote(job.model, job.config.canaries, load_encoder)
    pool = EncoderPool(
        job.model.with_threads(fitting.threads),
        encoders=fitting.encoders.most,
        namespace=ray.get_runtime_context().namespace,
        calls_in_flight=job.config.calls_in_flight,
        timeout=job.config.encoder_timeout,
        cpus=fitting.encoder_cpus,
        gpus=fitting.encoder_gpus,
        least=fitting.encoders.least,
        wait=job.config.encoder_wait,
        canaries=canaries,
    )
    try:
        yield pool
    finally:
        pool.stop()


def loaded(pool: EncoderPool, display: Display) -> str:
    """Waits until as many encoders as a run needs have loaded the model.

    Returns:
        The device's name.
    """
    display.phase(LOADING)
    with phases_shown(pool.phase, display):
        _, device = pool.wait_until_ready()
    return device
