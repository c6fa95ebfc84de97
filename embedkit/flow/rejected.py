"""The rejects of a version as a person looks for them: by reason, and where each stands."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from embedkit.dataset.committed import commit_records, committed_blocks
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.plan_file import read_plan
from embedkit.dataset.rejects import by_frequency, parsed_rejects, standing_rejects
from embedkit.dataset.removal import while_it_stands
from embedkit.dataset.version import Version, block_of, block_order, find_version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.flow.line_numbers import LineNumbers, place_of
from embedkit.records import Reject


@dataclass(frozen=True)
class PlacedReject:
    """A reject, and where its record stands.

    Attributes:
        reject: The reject, with the number of its line in the file where that is known.
        place: The same for a person, such as ``line 12``.
    """

    reject: Reject
    place: str

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**asdict(self.reject), "place": self.place}


@dataclass(frozen=True)
class VersionRejects:
    """What a version could not embed. Of one that is not complete, what is committed counts.

    Attributes:
        version: The version.
        complete: Whether it is complete.
        documents: Its input records, rejects included; None where it is not complete.
        reasons: The rejects by their reason, most frequent first.
    """

    version: Version
    complete: bool
    documents: int | None
    reasons: dict[str, int]
    _manifest: Manifest | None = field(repr=False)

    @property
    def rejects(self) -> int:
        """How many they are."""
        return sum(self.reasons.values())

    def to_dict(self) -> dict[str, Any]:
        """Returns the counts as JSON values."""
        return {
            "version": self.version.name,
            "url": self.version.url,
            "complete": self.complete,
            "documents": self.documents,
            "rejects": self.rejects,
            "reasons": self.reasons,
        }

    def records(self, reason: str | None = None) -> Iterator[PlacedReject]:
        """Returns the rejects in the order of the input, few of them in memory at a time.

        Args:
            reason: Of which reason; of all unless given.

        Raises:
            ConfigError: None has that reason.
            IntegrityError: A file of rejects, when it is its turn, is found gone or damaged.
            StoreError: The store failed.
        """
        if reason is not None and reason not in self.reasons:
            there = f"there are {', '.join(self.reasons)}" if self.reasons else "there are none"
            raise ConfigError(f"{self.version.url}: no rejects of reason {reason!r}; {there}")
        return self._records(reason)

    def _records(self, reason: str | None) -> Iterator[PlacedReject]:
        numbers, input_format = self._lines()
        count = 0
        for reject in _read(self.version, self.complete):
            count += 1
            if reason in (None, reject.reason):
                yield _placed(reject, numbers, input_format)
        if count != self.rejects and self.complete:
            raise IntegrityError(
                f"{self.version.url}: {count} rejects, but its manifest says {self.rejects}; "
                "'embedkit validate' names the file"
            )

    def _lines(self) -> tuple[LineNumbers, str]:
        if self._manifest is not None:
            return LineNumbers.of_version(self._manifest), self._manifest.input_format
        try:
            input_format = str(read_plan(self.version).job.get("format") or "")
        except FileNotFoundError:
            input_format = ""
        return LineNumbers(None, {}), input_format


def list_rejects(path: str | os.PathLike[str]) -> VersionRejects:
    """Counts the rejects of a version by their reason, and lists them.

        >>> from embedkit import list_rejects
        >>> rejects = list_rejects("embeddings")
        >>> rejects.reasons
        {'duplicate_id': 1, 'empty_text': 1, 'invalid_json': 1}
        >>> for one in rejects.records("duplicate_id"):
        ...     print(one.reject.source, one.place, one.reject.doc_id)
        articles-1.jsonl line 7 doc-00001

    Args:
        path: A version's path, or its root's for the latest one; a path or URL.

    Raises:
        ConfigError: There is no such version.
        IntegrityError: A file of it is damaged.
        StoreError: The store failed.
    """
    version = find_version(path)
    complete = version.is_complete()
    manifest = read_manifest(version) if complete else None
    if manifest is not None and sum(manifest.reject_reasons.values()) == manifest.rejects:
        reasons = manifest.reject_reasons
    else:
        # A version that is not complete, or of the first release, counts none of them.
        reasons = dict(Counter(reject.reason for reject in _read(version, complete)))
    documents = None if manifest is None else manifest.documents
    return VersionRejects(version, complete, documents, by_frequency(reasons), manifest)


def _read(version: Version, complete: bool) -> Iterator[Reject]:
    keys = version.store.list(version.key("rejects/"))
    blocks = sorted(filter(None, map(block_of, keys)), key=block_order)
    if not complete:
        committed = set(committed_blocks(version))
        blocks = [block for block in blocks if block in committed]
    try:
        with while_it_stands(version):
            for record, data in standing_rejects(version, commit_records(version, blocks)):
                yield from parsed_rejects(version, record.block_id, data)
    except FileNotFoundError as error:
        raise IntegrityError(
            f"{version.url}: a file that belongs to its rejects is gone ({one_line(error)}); "
            "restore it, or run the version's job again, which makes it anew"
        ) from error


def _placed(reject: Reject, numbers: LineNumbers, input_format: str) -> PlacedReject:
    reject = numbers.true_line(reject)
    place = place_of(reject.source, reject.row_index, reject.line, input_format)
    return PlacedReject(reject, place)
