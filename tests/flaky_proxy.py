"""A proxy before a server of this machine that answers for it, or loses its answers, as told."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Failure = Literal[500, 503, "before", "after"]
"""A status that is answered in the server's place, or a connection that is lost before a request
reaches it or after it has done what was asked."""

_OF_ONE_CONNECTION = {"connection", "keep-alive", "transfer-encoding", "content-length"}


class FlakyProxy(ThreadingHTTPServer):
    """Passes requests on.

    Args:
        server: URL of the server.
    """

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = urlsplit(server).netloc
        self.failure_of: Callable[[], Failure | None] = lambda: None
        self.requests = self.failures = 0
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def next(self) -> Failure | None:
        """Counts a request; returns how it fails."""
        with self._lock:
            self.requests += 1
            failure = self.failure_of()
            self.failures += failure is not None
            return failure

    def handle_error(self, *about: object) -> None:
        """A client may be gone before it is answered."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: FlakyProxy

    def log_message(self, *arguments: object) -> None:
        pass

    def _pass_on(self) -> None:
        body, failure = self._body(), self.server.next()
        if failure in (500, 503):
            self._answer(int(failure), [], b"")
            return
        if failure is None or failure == "after":
            connection = http.client.HTTPConnection(self.server.server)
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in _OF_ONE_CONNECTION | {"expect"}:
                    connection.putheader(name, value)
            connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = answer.read()
            connection.close()
        if failure is None:
            self._answer(answer.status, answer.getheaders(), found)
        else:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        said = dict((name.lower(), value) for name, value in headers)
        for name, value in headers:
            if name.lower() not in _OF_ONE_CONNECTION:
                self.send_header(name, value)
        # Of what a HEAD is about, and not of what comes.
        size = said.get("content-length", "0") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", size)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def flaky_proxy(server: str) -> Iterator[FlakyProxy]:
    """Serves such a proxy."""
    with FlakyProxy(server) as proxy:
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        yield proxy
        proxy.shutdown()
        thread.join()
