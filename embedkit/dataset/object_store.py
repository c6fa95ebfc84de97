"""Object stores through fsspec, where the service itself refuses to create a key twice.

fsspec's own ``mode="create"`` looks first and writes then, so two writers can both succeed. Only
file systems that hand the condition to the service are taken here.
"""

import secrets
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from importlib import import_module
from typing import Any

import fsspec
import pyarrow as pa
from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from embedkit.dataset.store_keys import AskedKeys, checked_key, store_errors
from embedkit.errors import ConfigError, StoreError
from embedkit.errors.foreign import one_line
from embedkit.errors.remote import remote_errors
from embedkit.errors.urls import remember_secrets, s3_credentials, without_user
from embedkit.remote import check_reachable, patience

CONFLICT_TRIES = 5
"""Times that a create is sent while the service reports another one under way on its key."""

_NOT_TAKEN = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_IMPLEMENTED)
"""What a service answers that does not know a header."""

_TIMES = ("updated", "LastModified", "last_modified", "mtime", "created")
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def object_store(root: str) -> "ObjectStore":
    """Opens the store at a URL.

    Args:
        root: A URL as ``normalize_root`` spells it, secrets and all.

    Raises:
        ConfigError: The file system is unknown, not installed, or cannot create exclusively.
        StoreError: There is no way to its service.
    """
    protocol = root.partition("://")[0]
    remember_secrets(root)
    credentials = s3_credentials(root)
    try:
        check_reachable(protocol)
    except OSError as error:
        raise StoreError(
            f"{root}: its service cannot be reached ({one_line(error)}); see that it can, then run "
            "the same command again"
        ) from error
    try:
        kind = _file_system(protocol)
        options = kind._get_kwargs_from_urls(root) or {}
        if credentials:
            root = without_user(root)
            options = dict(zip(("key", "secret"), credentials, strict=True))
        # Another writer's objects must be seen, so a listing is never taken from memory.
        system = kind(use_listings_cache=False, **patience(protocol), **options)
    except (ImportError, ValueError, OSError) as error:
        package = "its fsspec package"
        if protocol in _EXTRAS:
            extra = _EXTRAS[protocol]
            package = f"{extra}fs, which is the extra {extra} of embedkit-batch"
        raise ConfigError(f"{root}: {one_line(error)}; check it, or install {package}") from error
    path = system._strip_protocol(root)
    if protocol == "memory":
        return MemoryStore(root, system, path)
    if _EXTRAS.get(protocol) == "s3":
        return S3Store(root, system, path, remote_errors(protocol))
    if _EXTRAS.get(protocol) == "gcs":
        return GcsStore(root, system, path, remote_errors(protocol))
    return ObjectStore(root, system, path, remote_errors(protocol))


def _file_system(protocol: str) -> Any:
    if _EXTRAS.get(protocol) == "gcs":
        # Not the class that is registered: in zonal buckets that one writes objects that are seen
        # while they grow.
        return import_module("gcsfs.core").GCSFileSystem
    kind = fsspec.get_filesystem_class(protocol)
    # A web server is sent whatever it may do with it, and says nothing of who was first.
    if protocol in ("http", "https") or (protocol != "memory" and not _creates_by_itself(kind)):
        raise ConfigError(
            f"{protocol}:// cannot create an object only if it is absent; write to a local "
            "directory, s3:// or gs://, and copy the finished version"
        )
    return kind


class ObjectStore:
    """Objects of any fsspec file system whose ``pipe_file`` knows ``mode="create"``."""

    def __init__(
        self, url: str, system: Any, path: str, errors: tuple[type[Exception], ...]
    ) -> None:
        self._url = url
        self._system = system
        self._base = path.rstrip("/")
        self._errors = errors

    @property
    def url(self) -> str:
        """The root's URL."""
        return self._url

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object unless the key is taken."""
        path = self._path(key)
        with store_errors(self._url, key, "create", self._errors):
            try:
                self._put_if_absent(path, data)
            except FileExistsError:
                return False
        return True

    def copy(self, source: str, key: str) -> bool:
        """Creates an object with the bytes of another, which are read here, if the key is free."""
        return self.create(key, self.read(source))

    def replace(self, key: str, data: bytes) -> None:
        """Creates or replaces an object."""
        path = self._path(key)
        with store_errors(self._url, key, "replace", self._errors):
            self._system.pipe_file(path, data)

    def read(self, key: str) -> bytes:
        """Returns an object's bytes."""
        path = self._path(key)
        with store_errors(self._url, key, "read", self._errors, missing=True):
            data: bytes = self._system.cat_file(path)
            return data

    def size(self, key: str) -> int | None:
        """Returns an object's size in bytes, or None where there is no such object."""
        path = self._path(key)
        with store_errors(self._url, key, "look for", self._errors):
            try:
                return int(self._system.info(path)["size"])
            except FileNotFoundError:
                return None

    def modified(self, key: str) -> float | None:
        """Returns when an object was written, or None where there is none or nobody tells."""
        path = self._path(key)
        with store_errors(self._url, key, "look for", self._errors):
            try:
                found = self._system.info(path)
            except FileNotFoundError:
                return None
        return _time_in(found)

    def list(self, prefix: str) -> Iterator[str]:
        """Yields the keys below a prefix, sorted."""
        for key, _ in self.sizes(prefix):
            yield key

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields the same keys with their sizes, by the same listing."""
        for key, size, _ in self.times(prefix):
            yield key, size

    def times(self, prefix: str) -> Iterator[tuple[str, int, float | None]]:
        """Yields the same keys with sizes and times, by the same listing."""
        with store_errors(self._url, prefix, "list", self._errors):
            self._system.invalidate_cache()
            found = self._system.find(f"{self._base}/{prefix}".rstrip("/"), detail=True)
        start = len(self._base) + 1
        for path in sorted(found):
            yield path[start:], int(found[path]["size"]), _time_in(found[path])

    def matching(self, prefix: str) -> Container[str]:
        """Returns the keys that begin with a prefix; fsspec lists no less than a folder."""
        return AskedKeys(prefix, self.size)

    def folders(self) -> Sequence[str]:
        """Returns the names directly below the root that have objects below them, sorted."""
        with store_errors(self._url, "", "list", self._errors):
            self._system.invalidate_cache()
            try:
                found = self._system.ls(self._base, detail=True)
            except FileNotFoundError:
                return []
        paths = [entry["name"] for entry in found if entry["type"] == "directory"]
        return sorted(path.rstrip("/").rpartition("/")[2] for path in paths)

    def open(self, key: str) -> Any:
        """Opens an object for reads of ranges, each of them one request."""
        path = self._path(key)
        with store_errors(self._url, key, "open", self._errors, missing=True):
            file = self._system.open(path, "rb", cache_type="none")
        return pa.PythonFile(_RangeReader(file, self._url, key, self._errors), mode="r")

    def place(self, key: str) -> tuple[Any, str]:
        """Returns the file system and the object's path there."""
        return self._system, self._path(key)

    def remove(self, key: str) -> None:
        """Removes an object where it exists."""
        path = self._path(key)
        with store_errors(self._url, key, "remove", self._errors):
            try:
                self._system.rm_file(path)
            except FileNotFoundError:
                return

    def remove_empty(self, prefix: str) -> None:
        """An object store has no folders."""

    def _path(self, key: str) -> str:
        return f"{self._base}/{checked_key(key)}"

    def _put_if_absent(self, path: str, data: bytes) -> None:
        # One request, however large: the condition of an upload in parts is only checked at its
        # end, and not by every service.
        self._system.pipe_file(path, data, mode="create", chunksize=len(data) + 1)


class _RangeReader:
    """An open object whose failures name it, so that they are not taken for damaged bytes."""

    def __init__(self, file: Any, url: str, key: str, errors: tuple[type[Exception], ...]) -> None:
        self._file = file
        self._place = (url, key, "read", errors)

    def read(self, size: int = -1) -> bytes:
        with store_errors(*self._place):
            data: bytes = self._file.read(size)
            return data

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._file.close()

    @property
    def closed(self) -> bool:
        return bool(self._file.closed)


class S3Store(ObjectStore):
    """Objects of Amazon S3 or a service that speaks its protocol, created by If-None-Match."""

    def __init__(
        self, url: str, system: Any, path: str, errors: tuple[type[Exception], ...]
    ) -> None:
        super().__init__(url, system, path, errors)
        self._finding_out = threading.Lock()
        self._copies_once: bool | None = None

    def copy(self, source: str, key: str) -> bool:
        """Creates an object with the bytes of another, by the service if it heeds If-None-Match.

        Amazon does since 2025; of others many ignore the header on copies and would replace what
        is there, so it is tried out, once in a process.
        """
        origin, path = self._path(source), self._path(key)
        with store_errors(self._url, key, "copy", self._errors, missing=True):
            if not self._service_copies_once():
                return super().copy(source, key)
            try:
                self._copy_if_absent(origin, path)
            except FileExistsError:
                return False
        return True

    def read(self, key: str) -> bytes:
        """Returns an object's bytes."""
        path = self._path(key)
        with store_errors(self._url, key, "read", self._errors, missing=True):
            # In ranges at once it would ask for the size first, of every small record as well.
            data: bytes = self._system.cat_file(path, max_concurrency=1)
            return data

    def size(self, key: str) -> int | None:
        """Returns an object's size in bytes, or None where there is no such object."""
        found = self._head(key)
        return None if found is None else int(found["ContentLength"])

    def modified(self, key: str) -> float | None:
        """Returns when an object was written, or None where there is no such object."""
        found = self._head(key)
        return None if found is None else _time_in(found)

    def _head(self, key: str) -> Mapping[str, Any] | None:
        bucket, name = self._split(self._path(key))
        with store_errors(self._url, key, "look for", self._errors):
            try:
                found: Mapping[str, Any] = self._system.call_s3(
                    "head_object", Bucket=bucket, Key=name
                )
            except FileNotFoundError:
                return None
        return found

    def times(self, prefix: str) -> Iterator[tuple[str, int, float | None]]:
        """Yields keys, sizes and times page by page, in the service's order, which is sorted."""
        bucket, folder = self._split(f"{self._base}/{prefix}")
        start = len(folder) - len(prefix)
        page: dict[str, Any] = {"Bucket": bucket, "Prefix": folder}
        while True:
            with store_errors(self._url, prefix, "list", self._errors):
                answer = self._system.call_s3("list_objects_v2", **page)
            for entry in answer.get("Contents", ()):
                yield entry["Key"][start:], int(entry["Size"]), _time_in(entry)
            if not answer.get("IsTruncated"):
                return
            page["ContinuationToken"] = answer["NextContinuationToken"]

    def matching(self, prefix: str) -> Container[str]:
        """Returns the keys that begin with a prefix, by one listing."""
        return frozenset(self.list(prefix))

    def remove(self, key: str) -> None:
        """Removes an object where it exists."""
        bucket, name = self._split(self._path(key))
        with store_errors(self._url, key, "remove", self._errors):
            self._system.call_s3("delete_object", Bucket=bucket, Key=name)

    def _split(self, path: str) -> tuple[str, str]:
        bucket, _, name = path.partition("/")
        return bucket, name

    def _put_if_absent(self, path: str, data: bytes) -> None:
        put = super()._put_if_absent
        self._if_absent(path, lambda: put(path, data))

    def _copy_if_absent(self, origin: str, path: str) -> None:
        (bucket, name), (_, source) = self._split(path), self._split(origin)
        place = {"Bucket": bucket, "Key": source}

        def copy() -> None:
            self._system.call_s3(
                "copy_object", Bucket=bucket, Key=name, CopySource=place, IfNoneMatch="*"
            )

        self._if_absent(path, copy)

    def _if_absent(self, path: str, send: Callable[[], None]) -> None:
        """Sends a request on the condition that a path is free.

        Raises:
            FileExistsError: It is not.
        """
        for attempt in range(CONFLICT_TRIES):
            try:
                return send()
            except OSError as error:
                status = _http_status(error)
                if status == HTTPStatus.PRECONDITION_FAILED:
                    raise FileExistsError(path) from error
                if status != HTTPStatus.CONFLICT or attempt == CONFLICT_TRIES - 1:
                    raise
            # Another create of the same key is under way; whether it succeeds is not known yet.
            time.sleep(0.1 * 2**attempt)

    def _service_copies_once(self) -> bool:
        with self._finding_out:
            if self._copies_once is None:
                self._copies_once = self._takes_condition() and self._heeds_condition()
            return self._copies_once

    def _takes_condition(self) -> bool:
        """Whether botocore can send it."""
        operation = self._system.s3.meta.service_model.operation_model("CopyObject")
        return "IfNoneMatch" in operation.input_shape.members

    def _heeds_condition(self) -> bool:
        """Whether a second copy to the same key is refused, and the first one is there."""
        name = f".tmp/probe-{secrets.token_hex(8)}"
        one, other, copied = (f"{name}-{number}" for number in range(3))
        try:
            self.create(one, b"one")
            self.create(other, b"other")
            try:
                self._copy_if_absent(self._path(one), self._path(copied))
                self._copy_if_absent(self._path(other), self._path(copied))
            except FileExistsError:
                return self.size(copied) is not None and self.read(copied) == b"one"
            except OSError as error:
                if _http_status(error) in _NOT_TAKEN:
                    return False
                raise
            return False
        finally:
            for key in (one, other, copied):
                self.remove(key)


class GcsStore(ObjectStore):
    """Objects of Google Cloud Storage, created by a condition on their generation."""

    def copy(self, source: str, key: str) -> bool:
        """Creates an object with the bytes of another, by the service, unless the key is taken."""
        bucket, origin, _ = self._system.split_path(self._path(source))
        _, name, _ = self._system.split_path(self._path(key))
        asked: dict[str, Any] = {"ifGenerationMatch": 0}
        with store_errors(self._url, key, "copy", self._errors, missing=True):
            while True:
                try:
                    answer = self._system.call(
                        "POST",
                        "b/{}/o/{}/rewriteTo/b/{}/o/{}",
                        *(bucket, origin, bucket, name),
                        headers={"Content-Type": "application/json"},
                        json_out=True,
                        **asked,
                    )
                except FileExistsError:
                    return False
                if answer["done"]:
                    return True
                asked["rewriteToken"] = answer["rewriteToken"]

    def matching(self, prefix: str) -> Container[str]:
        """Returns the keys that begin with a prefix, by one listing."""
        folder, _, name = f"{self._base}/{prefix}".rpartition("/")
        with store_errors(self._url, prefix, "list", self._errors):
            found = self._system.find(folder, prefix=name)
        return frozenset(path[len(self._base) + 1 :] for path in found)


class MemoryStore(ObjectStore):
    """Objects in this process, for tests and small experiments."""

    _lock = threading.RLock()

    def __init__(self, url: str, system: Any, path: str) -> None:
        super().__init__(url, system, path, (OSError,))

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object unless the key is taken."""
        with self._lock:
            if self.size(key) is not None:
                return False
            self.replace(key, data)
            return True

    def replace(self, key: str, data: bytes) -> None:
        """Creates or replaces an object."""
        with self._lock:
            super().replace(key, data)

    def read(self, key: str) -> bytes:
        """Returns an object's bytes."""
        with self._lock:
            return super().read(key)

    def size(self, key: str) -> int | None:
        """Returns an object's size in bytes, or None where there is no such object."""
        with self._lock:
            return super().size(key)

    def modified(self, key: str) -> float | None:
        """Returns when an object was written, or None where there is no such object."""
        with self._lock:
            return super().modified(key)

    def times(self, prefix: str) -> Iterator[tuple[str, int, float | None]]:
        """Yields the keys below a prefix with sizes and times, sorted."""
        with self._lock:
            found = list(super().times(prefix))
        yield from found

    def folders(self) -> Sequence[str]:
        """Returns the names directly below the root that have objects below them, sorted."""
        with self._lock:
            return super().folders()

    def open(self, key: str) -> Any:
        """Opens an object; the file system itself would share one position among all readers."""
        return pa.BufferReader(self.read(key))

    def remove(self, key: str) -> None:
        """Removes an object where it exists."""
        with self._lock:
            super().remove(key)


def _time_in(entry: Mapping[str, Any]) -> float | None:
    """Returns when an object was written, by what a file system tells of it."""
    times = (entry[name] for name in _TIMES if entry.get(name) is not None)
    return next(filter(None, map(_seconds, times)), None)


def _seconds(when: Any) -> float | None:
    """Reads a time as one of the file systems gives it."""
    if isinstance(when, str):
        try:
            when = datetime.fromisoformat(when)
        except ValueError:
            return None
    if isinstance(when, datetime):
        # What has no zone is of fsspec's own file systems, which mean UTC.
        return when.timestamp() if when.tzinfo else when.replace(tzinfo=UTC).timestamp()
    return float(when) if isinstance(when, int | float) else None


def _http_status(error: OSError) -> int | None:
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status is not None else None


def _creates_by_itself(kind: Any) -> bool:
    own = getattr(kind, "_pipe_file", None) or kind.pipe_file
    return own not in {AbstractFileSystem.pipe_file, AsyncFileSystem._pipe_file}
