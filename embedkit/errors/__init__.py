"""Errors, each named after what a scheduler or an operator should do about it.

Every message is one line that names the file and record (where there is one) and the remedy.
"""

import re

from embedkit.errors.escapes import escaped
from embedkit.errors.urls import without_secrets

_CONTROL = frozenset({"Cc", "Zl", "Zp"})


class EmbedkitError(Exception):
    """Base of all errors that embedkit raises on purpose.

    What they say holds no secret of a URL, and is one line whatever they quote: ends of lines and
    other control characters of a file, a name or a setting are written as their escapes.

    Attributes:
        exit_code: What the command line exits with.
    """

    exit_code = 4

    def __init__(self, message: str = "") -> None:
        super().__init__(escaped(without_secrets(message), _CONTROL))


class ConfigError(EmbedkitError):
    """The configuration is wrong: fix it, a retry cannot help."""

    exit_code = 2


class MissingSettingError(ConfigError):
    """The model names none of what a setting says, so the job must.

    Attributes:
        setting: Its name.
        usual: What most models have there.
    """

    def __init__(self, message: str = "", setting: str = "", usual: str = "") -> None:
        super().__init__(message)
        self.setting = setting
        self.usual = usual


class InputError(EmbedkitError):
    """An input cannot be used at all: fix or remove it, a retry cannot help."""

    exit_code = 2


class NotPublishedError(EmbedkitError):
    """The version is complete, but not published."""


class RejectsExceededError(NotPublishedError):
    """More was lost than the job allows."""

    exit_code = 3


class GatesFailedError(NotPublishedError):
    """A figure of the report is beyond the limit that the job gives for it."""

    exit_code = 5


class ResumableError(EmbedkitError):
    """The run stopped; the same command resumes it from what is committed."""

    exit_code = 4


class StoreError(ResumableError):
    """The output store did not do what was asked of it."""


class GoneError(ResumableError, FileNotFoundError):
    """A file was gone when it was to be read, as where another run of the same job mends it."""


class RemovedError(ResumableError):
    """The version was removed, or is being removed, while it was read or written."""


class EncoderError(ResumableError):
    """An encoder could not be started or stopped answering."""


class CanaryError(EncoderError):
    """An encoder gives other vectors than the model: it is not used, and others may be."""


class WorkerLostError(ResumableError):
    """A worker process ended before its work did, or could not be placed."""


class IntegrityError(EmbedkitError):
    """What is on disk is not what its manifest says: restore it or build the version anew."""

    exit_code = 4


def error_in_traceback(text: str) -> EmbedkitError | None:
    """Finds the embedkit error at the bottom of a traceback that crossed a process as text.

    Args:
        text: A formatted traceback, as Beam and Ray wrap remote exceptions.

    Returns:
        The last embedkit error in it, rebuilt, or None where there is none.
    """
    known: dict[str, type[EmbedkitError]] = {}
    pending: list[type[EmbedkitError]] = [EmbedkitError]
    while pending:
        error = pending.pop()
        known[error.__name__] = error
        pending.extend(error.__subclasses__())
    found = re.findall(rf"{re.escape(__name__)}\.(\w+): (.*)", text)
    for name, message in reversed(found):
        if name in known:
            # Beam names its step behind the message, which says nothing to who reads it.
            return known[name](message.partition(" [while running ")[0].strip())
    return None
