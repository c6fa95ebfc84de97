"""Objects of Google Cloud Storage."""

from collections.abc import Container
from typing import Any

from embedkit.dataset.object_store import ObjectStore
from embedkit.dataset.store_keys import store_errors


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
