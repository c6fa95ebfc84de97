"""What Ray says of an encoder that failed, as one line and an exit code."""

import re

from ray.exceptions import RayActorError, RayError, RayTaskError

from embedkit.errors import ConfigError, EncoderError, error_in_traceback
from embedkit.errors.foreign import lacks_memory, one_line

# The last line of a traceback, and the lines that its message goes on with.
_CAUSE = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:: .*|$)", re.MULTILINE | re.DOTALL)
_FRAME = re.compile(r'^  File ".*$', re.MULTILINE)


def encoder_error(error: RayError) -> Exception:
    """Returns the error that an encoder raised, or one that says what became of it."""
    known = error_in_traceback(str(error))
    if known is not None:
        return known
    if isinstance(error, RayActorError) and error.actor_init_failed:
        return _not_started(cause(str(error)))
    what = one_line(error, only_first=True)
    if isinstance(error, RayTaskError):
        what = f"{type(error.cause).__name__}: {one_line(error.cause, only_first=True)}"
    kind = "was lost" if isinstance(error, RayActorError) else "failed"
    return EncoderError(f"an encoder {kind}: {what}; run the same command again to resume")


def _not_started(why: str) -> Exception:
    if lacks_memory(why):
        return EncoderError(
            f"an encoder could not be started ({why}); free memory, or give fewer --encoders or "
            "--encoders-per-gpu, then run the same command again to resume"
        )
    return ConfigError(
        f"an encoder could not be started ({why}); it would fail again: mend that, or try another "
        "--backend, --device or --precision"
    )


def cause(traceback: str) -> str:
    """Returns what stands below the frames of a traceback that came as text, on one line."""
    frames = list(_FRAME.finditer(traceback))
    found = _CAUSE.search(traceback, frames[-1].end() if frames else 0)
    return one_line(found[0] if found else traceback)
