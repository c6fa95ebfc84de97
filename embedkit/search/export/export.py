"""A version as an index or as files that another system loads."""

import logging
import os
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError
from embedkit.search.export.grow import Earlier, grow
from embedkit.search.export.ids import Ids
from embedkit.search.export.index import IndexKind, build
from embedkit.search.export.measure import measure
from embedkit.search.export.output import checked_output, default_output, new_folder
from embedkit.search.export.record import NAME, ExportRecord, Measured
from embedkit.search.export.source import Source
from embedkit.search.export.targets import target_named

RECALL = 0.95

_LOG = logging.getLogger("embedkit")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        output: The folder.
        record: What ``export.json`` in there says.
        files: Sizes in bytes of the files beside it, by their names.
    """

    output: str
    record: ExportRecord
    files: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {"output": self.output, **self.record.to_dict(), "files": self.files}

    def to_text(self) -> str:
        """Returns it for a person."""
        record = self.record
        size = sum(self.files.values())
        lines = [
            f"{record.target} of {record.version}: {record.rows:,} rows, {size:,} bytes in "
            f"{self.output}"
        ]
        if (measured := record.measured) is not None:
            lines.append(
                f"  recall@{measured.k} {measured.recall:.3f} against exact search, over "
                f"{measured.queries:,} rows as queries; {measured.milliseconds:.2f} ms a query, "
                f"exact {measured.exact_milliseconds:,.0f} ms"
            )
        if (grown := record.grown) is not None:
            how = (
                f"made anew, as {grown.rebuilt}"
                if grown.rebuilt
                else (
                    f"{grown.taken:,} entries taken over, {grown.added:,} added, {grown.removed:,} "
                    "removed"
                )
            )
            lines.append(f"  from the index of {grown.version}: {how}")
        return "\n".join(lines)


def export_version(
    path: str | os.PathLike[str],
    target: str,
    output: str | os.PathLike[str] | None = None,
    *,
    recall: float = RECALL,
    earlier: str | os.PathLike[str] | None = None,
    force: bool = False,
) -> Exported:
    """Writes an index of a version, or files of its rows that another system loads.

        >>> from embedkit import export_version
        >>> done = export_version("embeddings", "npy", "arrays")
        >>> done.record.rows, sorted(done.files)
        (15, ['ids.arrow', 'vectors.npy'])

    The version is read part by part; an index itself is in memory until it is written. All is
    written beside the output, which gets its name at the end.

    Args:
        path: The dataset's root, for its newest version, or one version of it; a path or URL.
        target: The kind: ``faiss``, ``usearch``, ``hnsw``, ``npy``, ``lance``, ``pgvector``,
            ``qdrant`` or ``opensearch``.
        output: A local directory, which is made; an index stands in the version's own folder
            ``_index`` unless it is given.
        recall: The recall@10 for which an index's effort per query is chosen.
        earlier: Folder of an index of an earlier version, or the version itself if the index is in
            its own folder: vectors that it has are not added again, and those that are gone are
            removed. Where the library cannot remove them, or little is left of it, all is made
            anew, and ``grown.rebuilt`` of the record says why.
        force: Whether an earlier export in the same place is replaced.

    Raises:
        ConfigError: There is no such version or target, the version has other than one vector per
            row or a metric that the target does not know, or the output cannot be used.
        IntegrityError: A part is gone or damaged.
        StoreError: A disk or store failed.
    """
    found = target_named(target)
    if not isinstance(recall, Real) or not 0 < recall <= 1:
        raise ConfigError(f"recall is {recall!r}, expected a share above 0 and up to 1")
    recall = float(recall)
    version = find_version(path)
    folder = _folder(version, target, output, found.is_index, force)
    source = Source.of(version)
    if earlier is not None and not found.is_index:
        raise ConfigError(f"{target} is no index that grows from an earlier one; leave --from out")
    kind = found.index() if found.is_index else found.writer()
    if source.metric not in kind.metrics:
        raise ConfigError(
            f"{version.url}: its metric is {source.metric}, and {target} knows "
            f"{', '.join(kind.metrics)}; take another target"
        )
    with new_folder(folder) as draft:
        if found.is_index:
            record = _write_index(found.index(), source, draft, target, recall, earlier)
        else:
            written = found.writer().write(source, draft, recall)
            _warn(target, recall, written.measured)
            record = _record(
                source, target, source.rows, written.settings, measured=written.measured
            )
        (draft / NAME).write_bytes(record.to_json())
        files = {
            str(file.relative_to(draft)): file.stat().st_size
            for file in sorted(draft.rglob("*"))
            if file.is_file() and file.name != NAME
        }
    return Exported(str(folder), record, files)


def _folder(
    version: Version, target: str, output: str | os.PathLike[str] | None, index: bool, force: bool
) -> Path:
    if output is None:
        if not index:
            raise ConfigError(f"{target} is written for another system; name a directory: --output")
        output = default_output(version, target)
    return checked_output(version, os.fspath(output), force)


def _write_index(
    kind: IndexKind,
    source: Source,
    draft: Path,
    target: str,
    recall: float,
    earlier: str | os.PathLike[str] | None,
) -> ExportRecord:
    grown = None
    if earlier is None:
        index = build(kind, source, draft)
    else:
        index, grown = grow(kind, source, Earlier.at(os.fspath(earlier), target, source), draft)
    measured = measure(index, Ids(draft).rows(), source, recall)
    _warn(target, recall, measured)
    index.save(draft)
    entries = len(Ids(draft))
    return _record(source, target, entries, index.settings(), measured=measured, grown=grown)


def _warn(target: str, recall: float, measured: Measured | None) -> None:
    if measured is not None and not measured.reached:
        _LOG.warning(
            "no effort of %s gives recall@10 of %.3f; it was %.3f with the most there is",
            target,
            recall,
            measured.recall,
        )


def _record(
    source: Source, target: str, entries: int, settings: dict[str, Any], **more: Any
) -> ExportRecord:
    return ExportRecord(
        target=target,
        version=source.manifest.version,
        fingerprint=str(source.manifest.description["fingerprint"]),
        contents=source.contents,
        rows=source.rows,
        dimension=source.dimension,
        metric=source.metric,
        entries=entries,
        settings=settings,
        **more,
    )
