"""Where versions are written: a few operations on keys, of which one creates only if absent.

Everything else in this folder builds on that one: whatever the number of attempts at a block, and
wherever they are killed, the object that one of them created first is the one that stays.
"""

import secrets
from collections import deque
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, TypeVar

from embedkit.dataset.local_store import LocalStore
from embedkit.dataset.remote_stores import object_store
from embedkit.dataset.store_keys import is_hopeless, is_local, normalize_root
from embedkit.errors import ConfigError, StoreError
from embedkit.threads import GeneratorThreads

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

READERS = 16
"""Small objects that ``read_all`` asks for at once."""


class Store(Protocol):
    """A root under which objects have keys, '/'-separated.

    All operations raise StoreError with the key when the store fails; the outcome of the failed
    operation is then unknown.
    """

    @property
    def url(self) -> str:
        """The root, as a path or URL without a final slash."""
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Creates an object that becomes visible whole, unless the key is taken.

        Returns:
            Whether this call created it; False where it existed already.
        """
        ...

    def copy(self, source: str, key: str) -> bool:
        """Creates an object with the bytes of another, unless the key is taken.

        The bytes stay where the store is, if it copies on that condition by itself.

        Args:
            source: The other object's key.
            key: The key of the new one.

        Returns:
            Whether this call created it; False where it existed already.

        Raises:
            FileNotFoundError: There is no other object.
        """
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Creates or replaces an object; readers see the old one or the new one, whole."""
        ...

    def read(self, key: str) -> bytes:
        """Returns an object's bytes.

        Raises:
            GoneError: There is no such object; it is a FileNotFoundError.
        """
        ...

    def size(self, key: str) -> int | None:
        """Returns an object's size in bytes, or None where there is no such object."""
        ...

    def modified(self, key: str) -> float | None:
        """Returns when an object was written, in seconds since the epoch by the store's clock.

        None where there is no such object, or the store does not tell.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yields the keys below a prefix that is empty or ends in '/', as they are now, sorted."""
        ...

    def sizes(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yields the same keys with the size of each in bytes, by the same listing."""
        ...

    def times(self, prefix: str) -> Iterator[tuple[str, int, float | None]]:
        """Yields the same keys with sizes and when each was written last, by the same listing.

        That is in seconds since the epoch by the store's own clock; None where it does not tell.
        """
        ...

    def matching(self, prefix: str) -> Container[str]:
        """Returns the keys that begin with a prefix, to be asked with ``in``.

        A store that can list just those asks once, and says what there was then; another one is
        asked for each key.
        """
        ...

    def folders(self) -> Sequence[str]:
        """Returns the names directly below the root that have objects below them, sorted."""
        ...

    def open(self, key: str) -> Any:
        """Opens an object as a pyarrow file with random access.

        Raises:
            GoneError: There is no such object; it is a FileNotFoundError.
        """
        ...

    def place(self, key: str) -> tuple[Any, str]:
        """Returns where readers of other libraries find an object.

        Returns:
            A file system of fsspec's, or None for this machine's own, and the path there.
        """
        ...

    def remove(self, key: str) -> None:
        """Removes an object; one that does not exist is none of its business."""
        ...

    def remove_empty(self, prefix: str) -> None:
        """Removes folders without objects below a prefix, where a store has folders at all."""
        ...


def open_store(root: str) -> Store:
    """Opens the store at a path or URL without touching it.

    Args:
        root: A local path, ``memory://``, ``s3://``, ``gs://``, or the URL of another fsspec file
            system with an exclusive create of its own.

    Raises:
        ConfigError: The file system is unknown, not installed, or cannot create exclusively.
    """
    root = normalize_root(root)
    return LocalStore(root) if is_local(root) else object_store(root)


def probe(store: Store) -> None:
    """Checks that a store can be written and creates a key only once.

    Raises:
        ConfigError: It cannot, so that two attempts at a block could overwrite each other.
        StoreError: The store could not be asked.
    """
    key = f".tmp/probe-{secrets.token_hex(8)}"
    first = secrets.token_bytes(16)
    with refused("cannot write the output"):
        if isinstance(store, LocalStore):
            store.sweep()
        # What it is told may be wrong: a create whose answer was lost finds its own object there
        # when it is sent again.
        create(store, key, first)
        again = store.create(key, b"second")
        kept = store.read(key)
        listed = key in store.list(".tmp/")
        store.remove(key)
    if again or kept != first or not listed:
        raise ConfigError(
            f"{store.url} lets a second writer replace an object that was to be created only if "
            "absent, so repeated attempts could damage the dataset; write to a local disk, "
            "Amazon S3, Google Cloud Storage, or a store with conditional writes"
        )


@contextmanager
def refused(what: str) -> Iterator[None]:
    """Tells a store that will never do what it is asked from one that fails for now.

    Args:
        what: What cannot be done.

    Raises:
        ConfigError: No retry can mend it.
        StoreError: It failed for now.
    """
    try:
        yield
    except StoreError as error:
        if is_hopeless(error.__cause__):
            raise ConfigError(f"{what}: {error}") from error
        raise


def create(store: Store, key: str, data: bytes) -> bool:
    """Creates an object if absent, where the answer may be lost on its way.

    Returns:
        Whether this call is known to have created it; False says that it is there, and the caller
        has to read what it is.

    Raises:
        StoreError: The store failed, and the object is not there.
    """
    return _once(store, key, partial(store.create, key, data))


def copy(store: Store, source: str, key: str) -> bool:
    """Copies an object if the key is free, where the answer may be lost on its way.

    Returns:
        Whether this call is known to have made the copy; False says that something is there, and
        the caller has to see what it is.

    Raises:
        FileNotFoundError: There is no such object.
        StoreError: The store failed, and nothing is there.
    """
    return _once(store, key, partial(store.copy, source, key))


def _once(store: Store, key: str, make: Callable[[], bool]) -> bool:
    try:
        return make()
    except StoreError:
        if store.size(key) is None:
            raise
        return False


def read_if_there(store: Store, key: str) -> bytes | None:
    """Reads an object; None where it is not there.

    Raises:
        StoreError: The store failed.
    """
    try:
        return store.read(key)
    except FileNotFoundError:
        return None


def read_all(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Reads many small objects, a bounded number at a time, in the order of their keys.

    Yields:
        Each key and its bytes.

    Raises:
        GoneError: An object is not there.
        StoreError: The store failed.
    """
    return in_order(store.read, keys)


def read_found(store: Store, keys: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Reads many small objects, as ``read_all`` does; of one that is not there, None.

    Raises:
        StoreError: The store failed.
    """
    return in_order(partial(read_if_there, store), keys)


def in_order(
    read: Callable[[_Item], _Result], items: Iterable[_Item], readers: int = READERS
) -> Iterator[tuple[_Item, _Result]]:
    """Reads several things at once, a bounded number ahead, and yields them in their order.

    Args:
        read: Reads one of them, in a thread.
        items: What it is called with.
        readers: How many are read at once.

    Yields:
        Each item and what was read of it.
    """
    waiting: deque[tuple[_Item, Future[_Result]]] = deque()
    with GeneratorThreads(readers) as pool:
        try:
            for item in items:
                waiting.append((item, pool.submit(read, item)))
                if len(waiting) > 2 * readers:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            # Nobody waits for what an error, or who has seen enough, leaves behind.
            for _, future in waiting:
                future.cancel()
