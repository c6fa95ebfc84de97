"""The kinds of output, each in a module that is loaded when it is asked for."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, cast

from embedkit.errors import ConfigError
from embedkit.search.export.bulk import BulkWriter
from embedkit.search.export.index import IndexKind


class MissingLibraryError(ConfigError):
    """The library of a target is not installed."""


@dataclass(frozen=True)
class Target:
    """A kind of output.

    Attributes:
        module: The module that writes it, beside this one.
        attribute: What of the module does: an ``IndexKind`` or a ``BulkWriter``.
        is_index: Which of the two.
        extra: The extra that brings its library; None where it needs none.
        library: What the library is called where it is imported.
    """

    module: str
    attribute: str
    is_index: bool
    extra: str | None = None
    library: str | None = None

    def _loaded(self) -> Any:
        try:
            module = import_module(f"embedkit.search.export.{self.module}")
        except ModuleNotFoundError as error:
            if self.library is None or (error.name or "").partition(".")[0] != self.library:
                raise
            raise MissingLibraryError(
                f"{self.library} is not installed; install the extra {self.extra} of embedkit-batch"
            ) from error
        return getattr(module, self.attribute)

    def index(self) -> IndexKind:
        """Returns the kind of index.

        Raises:
            MissingLibraryError: Its library is not installed.
        """
        return cast(IndexKind, self._loaded())

    def writer(self) -> BulkWriter:
        """Returns what writes files that are no index of ours.

        Raises:
            MissingLibraryError: Its library is not installed.
        """
        return cast(BulkWriter, self._loaded())


TARGETS: Final[dict[str, Target]] = {
    "faiss": Target("faiss_index", "LISTS", True, "faiss", "faiss"),
    "usearch": Target("usearch_index", "KIND", True, "usearch", "usearch"),
    "hnsw": Target("faiss_index", "HNSW", True, "faiss", "faiss"),
    "npy": Target("npy_files", "WRITER", False),
    "lance": Target("lance_dataset", "WRITER", False, "lance", "lance"),
    "pgvector": Target("pgvector_copy", "WRITER", False),
    "qdrant": Target("qdrant_points", "WRITER", False),
    "opensearch": Target("opensearch_bulk", "WRITER", False),
}


def target_named(name: str) -> Target:
    """Returns a target.

    Raises:
        ConfigError: There is none of that name.
    """
    if not isinstance(name, str) or name not in TARGETS:
        raise ConfigError(f"no target {name!r}; expected one of {', '.join(TARGETS)}")
    return TARGETS[name]
