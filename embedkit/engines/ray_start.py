"""Starting a Ray on this machine, for this process alone."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import ray
from ray.exceptions import RayError

from embedkit.actors.private_ray import (
    CleanPath,
    environment,
    on_loopback,
    own_token,
    read_token_again,
)
from embedkit.engines.ray_folder import ray_folder
from embedkit.engines.signals import handlers_kept
from embedkit.errors import ConfigError, ResumableError
from embedkit.errors.foreign import one_line

_OBJECT_STORE_BYTES = 1 << 30


@contextmanager
def ray_on_this_machine(namespace: str) -> Iterator[None]:
    """Starts a Ray of this process's own, and ends it; joins one that the process already has."""
    if ray.is_initialized():
        yield
        return
    told = {"RAY_USAGE_STATS_ENABLED": os.environ.get("RAY_USAGE_STATS_ENABLED", "0")}
    # Ray sets it for the whole process, which may go on for long.
    debugger = {"PYTHONBREAKPOINT": os.environ.get("PYTHONBREAKPOINT")}
    with environment(told | debugger):
        try:
            with ray_start_errors(), handlers_kept(), on_loopback(), own_token():
                ray.init(
                    address="local",
                    namespace=namespace,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=_OBJECT_STORE_BYTES,
                    job_config=CleanPath(),
                    _temp_dir=ray_folder(),
                )
            yield
        finally:
            ray.shutdown()
            read_token_again()


@contextmanager
def ray_start_errors() -> Iterator[None]:
    """Turns what a Ray says that cannot be started into one line.

    Raises:
        ConfigError: It found something wrong with this machine or its settings.
        ResumableError: Its processes did not come up in time, or ended.
    """
    try:
        yield
    except (OSError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"Ray could not be started ({one_line(error)}); mend that, or use --engine plain"
        ) from error
    except Exception as error:
        # Of a raylet that does not come up, Ray raises an exception of no kind of its own.
        if type(error) is not Exception and not isinstance(error, (RuntimeError, RayError)):
            raise
        raise ResumableError(
            f"Ray could not be started ({one_line(error)}); see that this machine has memory, "
            "room on its disk and processes to spare, then run the same command again"
        ) from error
