"""What a runner raises for a failed step, as the error that failed it."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from embedkit.errors import EmbedkitError, ResumableError, error_in_traceback
from embedkit.errors.foreign import one_line

_FRAMES = re.compile(r'(?:.*\n)?  File "[^\n]*\n(?:[ \t][^\n]*\n)*', re.DOTALL)
"""A traceback, down to the line that says what was raised."""
_WHERE = re.compile(r" \[while running '[^']*'\]$")


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turns what leaves the body into embedkit errors of one line; wrap the pipeline's run in it.

    Beam carries an exception of a step as the text of its traceback, or raises one of its class.

    Raises:
        EmbedkitError: What stopped the pipeline, as its step raised it.
        ResumableError: A step or the runner failed with something else.
    """
    try:
        yield
    except Exception as error:
        known = error if isinstance(error, EmbedkitError) else error_in_traceback(str(error))
        if known is not None:
            raise type(known)(_WHERE.sub("", str(known))) from error
        raise ResumableError(
            f"the pipeline stopped: {_what_it_says(error)}; run it again to resume"
        ) from error


def _what_it_says(error: Exception) -> str:
    said = str(error)
    if type(error) is RuntimeError:
        # Of a traceback, or what a runner of its own accord says.
        return one_line(_FRAMES.sub("", said, count=1) or said)
    return f"{type(error).__name__}: {one_line(said)}" if said else type(error).__name__
