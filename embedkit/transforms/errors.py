"""What a runner raises for a failed step, as the error that failed it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from embedkit.errors import EmbedkitError, ResumableError, error_in_traceback

_WHERE = re.compile(r" \[while running '[^']*'\]$")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what leaves the body into embedkit errors of one line; wrap the pipeline's run in it.

    Beam carries an exception of a step as the text of its traceback.

    Raises:
        EmbedkitError: What stopped the pipeline, as its step raised it.
        ResumableError: A step or the runner failed with something else.
    """
    try:
        yield
    except (EmbedkitError, RuntimeError) as error:
        known = error if isinstance(error, EmbedkitError) else error_in_traceback(str(error))
        if known is not None:
            raise type(known)(_WHERE.sub("", str(known))) from error
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ResumableError(
            f"the pipeline stopped: {lines[-1]}; run it again to resume"
        ) from error
