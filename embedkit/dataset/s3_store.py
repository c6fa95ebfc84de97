"""Objects of Amazon S3, and of services that speak its protocol."""

import secrets
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping
from http import HTTPStatus
from typing import Any

from embedkit.dataset.object_store import ObjectStore, time_in
from embedkit.dataset.store_keys import store_errors

CONFLICT_TRIES = 5
"""Times that a create is sent while the service reports another one under way on its key."""

_NOT_TAKEN = (HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_IMPLEMENTED)
"""What a service answers that does not know a header."""


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
        return None if found is None else time_in(found)

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
                yield entry["Key"][start:], int(entry["Size"]), time_in(entry)
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


def _http_status(error: OSError) -> int | None:
    response = getattr(error.__cause__, "response", None) or {}
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return int(status) if status is not None else None
