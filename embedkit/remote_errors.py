"""What file systems raise when a service refuses a request or does not answer."""


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
