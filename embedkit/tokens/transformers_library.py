"""The transformers library, imported and used quietly."""

import contextlib
import logging
import threading
from collections.abc import Iterator
from importlib import import_module
from typing import Any

_quiet = threading.Lock()


def transformers_library() -> Any:
    """Imports the transformers library, in however many threads at once.

    It puts another module in its own place when it is imported: a statement that waits for another
    thread's import gets the first one, which has no names, where ``import_module`` looks again.
    """
    return import_module("transformers")


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keeps the transformers library from printing bars and notices while it loads something."""
    from transformers.utils import logging as noise

    with _quiet:
        level, bars = noise.get_verbosity(), noise.is_progress_bar_enabled()
        noise.set_verbosity(logging.CRITICAL)
        noise.disable_progress_bar()
        try:
            yield
        finally:
            noise.set_verbosity(level)
            if bars:
                noise.enable_progress_bar()
