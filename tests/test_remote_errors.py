"""Which errors of a network or a service may be gone at the next try, raised by real libraries."""

import errno
import http.server
import threading
from collections.abc import Iterator

import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    SSLError,
)
from gcsfs.retry import HttpError
from google.auth.exceptions import TransportError
from running import one_line
from s3fs.errors import translate_boto_error

from embedkit.config import CorpusConfig
from embedkit.corpus.sources import list_inputs
from embedkit.errors import InputError, ResumableError
from embedkit.remote_errors import is_passing


def s3(status: int, code: str) -> Exception:
    """What s3fs makes of an answer of the service."""
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return translate_boto_error(ClientError(answer, "ListObjectsV2"))


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (s3(500, "InternalError"), True),
        (s3(503, "SlowDown"), True),
        (s3(429, "429"), True),
        (s3(403, "AccessDenied"), False),
        (s3(404, "NoSuchBucket"), False),
        (s3(301, "PermanentRedirect"), False),
        (EndpointConnectionError(endpoint_url="http://x"), True),
        (ConnectTimeoutError(endpoint_url="http://x"), True),
        (SSLError(endpoint_url="http://x", error="e"), True),
        (NoCredentialsError(), False),
        (HttpError({"code": 503, "message": "busy"}), True),
        (HttpError({"code": 403, "message": "no"}), False),
        (TransportError("no route"), True),
        (ConnectionResetError(errno.ECONNRESET, "reset"), True),
        (OSError(errno.EIO, "Input/output error"), True),
        (OSError(errno.EINVAL, "Invalid argument"), False),
        (PermissionError(errno.EACCES, "Permission denied"), False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_what_may_be_gone_at_the_next_try(error, passing):
    assert is_passing(error) is passing


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers every request with the status that its path begins with."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, InputError) for status in (401, 403, 404)),
        *((status, ResumableError) for status in (429, 500, 502, 503)),
    ],
)
def test_an_input_whose_service_refuses_or_is_busy(service, status, kind):
    url = f"{service}/{status}/corpus.jsonl"
    with pytest.raises((InputError, ResumableError)) as raised:
        list_inputs(CorpusConfig(inputs=(url,)))
    assert type(raised.value) is kind
    line = one_line(str(raised.value))
    assert line.startswith(url)
    assert ("run the same command again" in line) == (kind is ResumableError)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9/a.jsonl", "http://no-such-host.invalid/a.jsonl"]
)
def test_an_input_whose_host_cannot_be_reached(url):
    with pytest.raises(ResumableError, match="see that its service can be reached"):
        list_inputs(CorpusConfig(inputs=(url,)))


def test_an_input_where_the_host_speaks_no_tls(service):
    url = service.replace("http://", "https://") + "/200/a.jsonl"
    with pytest.raises(ResumableError, match=r"SSL.*run the same command again"):
        list_inputs(CorpusConfig(inputs=(url,)))


@pytest.mark.parametrize("status", [403, 404, 500])
def test_a_signed_input_whose_service_refuses_or_is_busy(service, status):
    kind = ResumableError if status == 500 else InputError
    with pytest.raises((InputError, ResumableError)) as raised:
        list_inputs(CorpusConfig(inputs=(f"{service}/{status}/corpus.jsonl?t=SECRET",)))
    assert type(raised.value) is kind
    line = one_line(str(raised.value))
    assert ("no such file" in line) == (status == 404)
    assert "SECRET" not in line


def test_a_server_of_files_that_cannot_be_reached():
    with pytest.raises(ResumableError) as raised:
        list_inputs(CorpusConfig(inputs=("ftp://ann:SECRET@127.0.0.1:9/a.jsonl",)))
    line = one_line(str(raised.value))
    assert "see that its service can be reached" in line
    assert "SECRET" not in line
