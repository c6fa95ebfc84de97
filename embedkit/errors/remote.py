"""What file systems raise when a service refuses a request or does not answer."""

import errno
import ftplib
import socket
import ssl
from http import HTTPStatus

_PASSING_KINDS = (
    "ClientConnectionError",  # aiohttp
    "ClientPayloadError",  # aiohttp
    "ConnectionError",  # botocore
    "HTTPClientError",  # botocore
    "TransportError",  # google.auth
)
_PASSING_NUMBERS = (
    errno.EIO,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ESTALE,
)


def remote_errors(protocol: str) -> tuple[type[Exception], ...]:
    """Returns the exceptions that a file system is known to raise, OSError among them.

    Args:
        protocol: The part of a URL before ``://``.
    """
    if protocol in ("s3", "s3a"):
        return _s3_errors()
    if protocol in ("gs", "gcs"):
        return _gcs_errors()
    if protocol in ("http", "https"):
        from aiohttp import ClientError as HttpClientError

        return (OSError, HttpClientError)
    if protocol == "ftp":
        return ftplib.all_errors
    return (OSError,)


def _s3_errors() -> tuple[type[Exception], ...]:
    from aiohttp import ClientError as HttpClientError
    from botocore.exceptions import BotoCoreError, ClientError

    return (OSError, BotoCoreError, ClientError, HttpClientError)


def _gcs_errors() -> tuple[type[Exception], ...]:
    from aiohttp import ClientError as HttpClientError
    from gcsfs.retry import ChecksumError, HttpError, NonRetryableError
    from google.auth.exceptions import GoogleAuthError

    # A refused request comes as a ValueError.
    return (
        OSError, ValueError, HttpClientError, HttpError, ChecksumError, NonRetryableError,
        GoogleAuthError,
    )  # fmt: skip


def is_passing(error: BaseException) -> bool:
    """Whether an error may be gone at the next try: of a network, or of a service that is busy.

    What a service says counts before what carried it: one that refuses answers as well.
    """
    status = _status(error)
    if status is not None:
        return status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in (
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.TOO_MANY_REQUESTS,
        )
    if isinstance(error, (ConnectionError, TimeoutError, socket.gaierror, ssl.SSLError)):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING_NUMBERS:
        return error.__cause__ is None or is_passing(error.__cause__)
    # The classes' names, as their libraries need not be installed.
    if any(kind.__name__ in _PASSING_KINDS for kind in type(error).__mro__):
        return True
    return error.__cause__ is not None and is_passing(error.__cause__)


def _status(error: BaseException) -> int | None:
    """Returns the HTTP status in an error of aiohttp, botocore or gcsfs."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        return _number(response.get("ResponseMetadata", {}).get("HTTPStatusCode"))
    return _number(getattr(error, "status", None)) or _number(getattr(error, "code", None))


def _number(value: object) -> int | None:
    try:
        return int(str(value)) or None
    except ValueError:
        return None
