"""A server that stands in for Google Cloud Storage."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


class GcsHandler(BaseHTTPRequestHandler):
    """The few calls of the JSON API that a store makes, with its precondition on generation 0."""

    protocol_version = "HTTP/1.1"
    # Else an answer waits 40 ms for the client to acknowledge its head.
    disable_nagle_algorithm = True

    def do_POST(self):
        server, url = self.server, urlsplit(self.path)
        query = parse_qs(url.query)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "/rewriteTo/" in url.path:
            server.asked.append((url.path, query, 0))
            return self.rewrite(url.path, query)
        server.asked.append((url.path, query, len(body)))
        kind = f"Content-Type: {self.headers['Content-Type']}\n\n".encode()
        described, media = BytesParser().parsebytes(kind + body).get_payload()
        name = json.loads(described.get_payload())["name"]
        data = body.split(b"\n\n", 2)[2][: -len(b"\n--==0==--")]
        assert media is not None
        with server.lock:
            if query.get("ifGenerationMatch") == ["0"] and name in server.objects:
                return self.answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
            server.objects[name] = data
        return self.answer(200, self.described(name))

    def rewrite(self, path, query):
        """Copies in two steps, as the service does where it has to move many bytes."""
        objects = self.server.objects
        source, target = (unquote(half.rpartition("/o/")[2]) for half in path.split("/rewriteTo/"))
        if source not in objects:
            return self.answer(404, {"error": {"code": 404, "message": "No such object"}})
        with self.server.lock:
            if query.get("ifGenerationMatch") == ["0"] and target in objects:
                return self.answer(412, {"error": {"code": 412, "message": "conditionNotMet"}})
            if query.get("rewriteToken") != ["halfway"]:
                return self.answer(200, {"done": False, "rewriteToken": "halfway"})
            objects[target] = objects[source]
        return self.answer(200, {"done": True, "resource": self.described(target)})

    def do_GET(self):
        objects, url = self.server.objects, urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        bucket_path, _, name = url.path.partition("/o/")
        if name or url.path.endswith("/o/"):
            name = unquote(name)
            if name not in objects:
                return self.answer(404, {"error": {"code": 404, "message": "No such object"}})
            if query.get("alt") == "media":
                return self.media(objects[name])
            return self.answer(200, self.described(name))
        assert bucket_path.endswith("/o"), self.path
        found = sorted(key for key in objects if key.startswith(query.get("prefix", "")))
        items, prefixes = found, set()
        if "delimiter" in query:
            start = len(query.get("prefix", ""))
            prefixes = {key[: key.index("/", start) + 1] for key in found if "/" in key[start:]}
            items = [key for key in found if "/" not in key[start:]]
        described = [self.described(key) for key in items]
        return self.answer(200, {"items": described, "prefixes": sorted(prefixes)})

    def do_DELETE(self):
        name = unquote(urlsplit(self.path).path.partition("/o/")[2])
        code = 204 if self.server.objects.pop(name, None) is not None else 404
        return self.answer(code, {})

    def described(self, name):
        size = len(self.server.objects[name])
        return {"name": name, "bucket": "bucket", "size": str(size), "generation": "1"}

    def media(self, data):
        code, asked = 200, self.headers.get("Range")
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            data, code = data[int(first) : int(last) + 1], 206
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, code, value):
        data = b"" if code == 204 else json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *about):
        """A client may be gone before it is answered: gcsfs asks two things, and drops one."""


@contextmanager
def gcs_server() -> Iterator[ThreadingHTTPServer]:
    """Serves it on this machine; its objects and what was asked of it are the server's own."""
    server = _Server(("127.0.0.1", 0), GcsHandler)
    server.objects, server.asked, server.lock = {}, [], threading.Lock()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
