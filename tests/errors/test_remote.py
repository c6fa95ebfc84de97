"""Which errors of a network or a service may be gone at the next try, raised by real libraries."""

import errno
import http.server
import socket
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
from reading import read_corpus
from running import one_line
from s3fs.errors import translate_boto_error

from embedkit.config import CorpusConfig
from embedkit.corpus.sources import list_inputs
from embedkit.dataset.stores import open_store
from embedkit.errors import InputError, ResumableError, StoreError
from embedkit.errors.remote import is_passing
from embedkit.remote import check_reachable


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


@pytest.mark.parametrize("host", ["127.0.0.1:9", "no-such-host.invalid"])
def test_google_cloud_without_a_way_to_it_is_said_at_once(host, monkeypatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://{host}")
    check_reachable.cache_clear()
    with pytest.raises(ResumableError, match=r"gs://b/a.txt: cannot be reached .* to resume$"):
        list_inputs(CorpusConfig(inputs=("gs://b/a.txt",)))
    with pytest.raises(StoreError, match=r"gs://b/out: its service cannot be reached"):
        open_store("gs://b/out")


def test_a_silent_web_server_is_waited_for_in_bounds(monkeypatch):
    monkeypatch.setattr("embedkit.remote._ANSWER_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"HTTP://127.0.0.1:{silent.getsockname()[1]}/a.jsonl"
        with pytest.raises(ResumableError, match="Timeout"):
            list_inputs(CorpusConfig(inputs=(url,)))


class WithoutRanges(http.server.BaseHTTPRequestHandler):
    """Sends the whole of one file, whatever part of it is asked for."""

    content = b"".join(b'{"text": "document %d"}\n' % number for number in range(900))
    headers_too: tuple[tuple[str, str], ...] = ()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(self.content)

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        for name, value in self.headers_too:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class SaysSo(WithoutRanges):
    headers_too = (("Accept-Ranges", "none"),)


@pytest.mark.parametrize("kind", [WithoutRanges, SaysSo])
def test_a_web_server_without_ranges_is_read_in_one_stream(kind, monkeypatch):
    monkeypatch.setattr("embedkit.corpus.opening.FETCH_BYTES", 1000)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/a.jsonl"
    whole, parts = read_corpus(url), read_corpus(url, split_bytes=3000)
    server.shutdown()
    server.server_close()
    assert whole.texts == parts.texts == [f"document {number}" for number in range(900)]
    assert len(parts.plan.splits) > 1
