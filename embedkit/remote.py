"""How long file systems wait for their services before they give up."""

import os
import socket
from functools import cache
from typing import Any
from urllib.parse import urlsplit

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 20.0
_S3_ATTEMPTS = 3
_GCS = "https://storage.googleapis.com"


def patience(protocol: str) -> dict[str, Any]:
    """Returns options of a file system that bound its waiting for a service that is silent.

    Args:
        protocol: The part of a URL before ``://``.
    """
    if protocol in ("http", "https"):
        from aiohttp import ClientTimeout

        # The whole of a large file may take any time.
        timeout = ClientTimeout(
            total=None, sock_connect=_CONNECT_SECONDS, sock_read=_ANSWER_SECONDS
        )
        return {"client_kwargs": {"timeout": timeout}}
    if protocol in ("s3", "s3a") and "AWS_MAX_ATTEMPTS" not in os.environ:
        # s3fs tries again what botocore gave up.
        return {"config_kwargs": {"retries": {"total_max_attempts": _S3_ATTEMPTS}}}
    return {}


@cache
def check_reachable(protocol: str) -> None:
    """Checks that there is a way to a service whose library takes a minute to find that out.

    Raises:
        OSError: There is none.
    """
    behind_proxy = any(os.environ.get(name) for name in ("https_proxy", "HTTPS_PROXY"))
    if protocol not in ("gs", "gcs") or behind_proxy:
        return
    service = urlsplit(os.environ.get("STORAGE_EMULATOR_HOST") or _GCS)
    port = service.port or (80 if service.scheme == "http" else 443)
    if service.hostname:
        socket.create_connection((service.hostname, port), _CONNECT_SECONDS).close()
