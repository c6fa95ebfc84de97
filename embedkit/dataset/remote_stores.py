"""Object stores through fsspec, where the service itself refuses to create a key twice.

fsspec's own ``mode="create"`` looks first and writes then, so two writers can both succeed. Only
file systems that hand the condition to the service are taken here.
"""

from importlib import import_module
from typing import Any

import fsspec
from fsspec.asyn import AsyncFileSystem
from fsspec.spec import AbstractFileSystem

from embedkit.dataset.gcs_store import GcsStore
from embedkit.dataset.memory_store import MemoryStore
from embedkit.dataset.object_store import ObjectStore
from embedkit.dataset.s3_store import S3Store
from embedkit.errors import ConfigError, StoreError
from embedkit.errors.foreign import one_line
from embedkit.errors.remote import remote_errors
from embedkit.errors.urls import remember_secrets, s3_credentials, without_user
from embedkit.remote import check_reachable, patience

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def object_store(root: str) -> ObjectStore:
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


def _creates_by_itself(kind: Any) -> bool:
    own = getattr(kind, "_pipe_file", None) or kind.pipe_file
    return own not in {AbstractFileSystem.pipe_file, AsyncFileSystem._pipe_file}
