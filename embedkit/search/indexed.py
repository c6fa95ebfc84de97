"""Nearest neighbours by an index that ``embedkit export`` made of a version."""

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embedkit.dataset.manifest import Manifest
from embedkit.dataset.version import INDEXES, Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.search.exact import (
    Candidate,
    Hit,
    check_one_vector_per_row,
    checked_queries,
    read_hits,
)
from embedkit.search.export.ids import ANEW, Ids
from embedkit.search.export.index import Found, VectorIndex
from embedkit.search.export.record import NAME, ExportRecord
from embedkit.search.export.source import contents_of
from embedkit.search.export.targets import TARGETS, MissingLibraryError

PREFERRED: Sequence[str] = ("hnsw", "usearch", "faiss")
"""Of several indexes of a version the first of these is taken."""

_LOG = logging.getLogger("embedkit")


@dataclass(frozen=True)
class OpenIndex:
    """An index of a version.

    Attributes:
        folder: Where it stands.
        record: What it is of.
        index: It, in memory.
        ids: Its entries.
    """

    folder: Path
    record: ExportRecord
    index: VectorIndex
    ids: Ids

    def search(
        self, version: Version, manifest: Manifest, queries: NDArray[np.float32], k: int
    ) -> list[list[Hit]]:
        """Finds rows that are near to each query, nearly always the nearest.

        Args:
            version: The version that the index is of.
            manifest: Its manifest.
            queries: Vectors of its model, shape (queries, dimension); one of shape (dimension,) is
                one query.
            k: Most hits per query.

        Returns:
            Per query its hits, best first, with the scores that the index has of them.

        Raises:
            ConfigError: The queries are none of this version, or ``k`` is no positive whole number.
            IntegrityError: The index or a part is damaged or missing.
        """
        queries = checked_queries(queries, k, manifest)
        labels, scores = self._enough(queries, min(k, self.record.rows))
        ends = np.cumsum([part.rows for part in manifest.parts])
        found = []
        for near, of_query in zip(labels, scores, strict=True):
            there = near >= 0
            rows = self.ids.rows_of(near[there])
            found.append(
                sorted(
                    _candidate(name, row, score, ends)
                    for (name, row), score in zip(rows, of_query[there].tolist(), strict=True)
                )
            )
        hits = read_hits(version, manifest, found)
        for candidates, of_query in zip(found, hits, strict=True):
            for candidate, hit in zip(candidates, of_query, strict=True):
                if candidate.id != hit.id:
                    raise IntegrityError(
                        f"{self.folder}: has {candidate.id!r} where {version.url} has {hit.id!r}; "
                        f"{ANEW}, or search with --exact"
                    )
        return hits

    def _enough(self, queries: NDArray[np.float32], k: int) -> Found:
        """Searches with more effort where that finds fewer rows than there are."""
        usual = self.index.effort
        found = self.index.search(queries, int(k))
        for effort in self.index.efforts:
            if (found[0] >= 0).all():
                break
            if effort > self.index.effort:
                self.index.effort = effort
                found = self.index.search(queries, int(k))
        self.index.effort = usual
        return found


def _candidate(name: str, row: int, score: float, ends: NDArray[np.int64]) -> Candidate:
    part = int(np.searchsorted(ends, row, side="right"))
    first = int(ends[part - 1]) if part else 0
    return Candidate(-score, name, part, row - first)


def open_index(
    version: Version, manifest: Manifest, index: str | os.PathLike[str] | None = None
) -> OpenIndex | None:
    """Opens an index of a version.

    Args:
        version: The version.
        manifest: Its manifest.
        index: The index's folder; unless given, the one that stands in the version's own folder.

    Returns:
        The index. None where none is given and there is none in the version that can be used; if
        there is one that cannot, the log says why.

    Raises:
        ConfigError: The folder that is given holds no index of this version, or its library is not
            installed.
        IntegrityError: The index is damaged.
    """
    check_one_vector_per_row(manifest)
    if index is not None:
        return _opened(Path(index).expanduser(), version, manifest)
    if "://" in version.root:
        return None
    for target in PREFERRED:
        folder = Path(version.url) / INDEXES / target
        if not (folder / NAME).is_file():
            continue
        try:
            return _opened(folder, version, manifest)
        except (_OtherRowsError, MissingLibraryError) as error:
            _LOG.warning("all rows are compared, as an index cannot be used: %s", error)
    return None


class _OtherRowsError(ConfigError):
    """An index is of other rows than the version has."""


def _opened(folder: Path, version: Version, manifest: Manifest) -> OpenIndex:
    record = ExportRecord.read(folder)
    target = TARGETS.get(record.target)
    if target is None or not target.is_index:
        raise ConfigError(
            f"{folder}: is an export to {record.target}, which only its own library searches; give "
            f"an index of {', '.join(PREFERRED)}"
        )
    if record.contents != contents_of(manifest.parts):
        raise _OtherRowsError(
            f"{folder}: is an index of {record.version}, which has other rows than {version.url}; "
            "export this version, with --from the index it grew from"
        )
    loaded = target.index().load(folder, record.metric, record.settings)
    return OpenIndex(folder, record, loaded, Ids(folder))


def say_index(opened: OpenIndex) -> None:
    """Logs which index is searched, and how well it answers."""
    recall = opened.record.measured.recall if opened.record.measured else 0.0
    _LOG.info(
        "searched in the index %s, which had a recall@10 of %.3f when it was made; --exact "
        "compares all rows",
        opened.folder,
        recall,
    )
