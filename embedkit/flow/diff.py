"""What differs between two versions: their rows by id, and their recipes."""

import logging
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.manifest import Manifest, Part, read_manifest, shared_parts
from embedkit.dataset.parquet import RESTORE
from embedkit.dataset.plan_file import read_plan
from embedkit.dataset.removal import while_it_stands
from embedkit.dataset.row_digests import row_digests
from embedkit.dataset.row_join import (
    ADDED,
    CHANGED,
    METADATA,
    MOVED,
    RE_ENCODED,
    REMOVED,
    join_rows,
)
from embedkit.dataset.rows import parts_of, read_rows, schema_of
from embedkit.dataset.schema import value_column
from embedkit.dataset.stores import in_order
from embedkit.dataset.version import Version, find_version
from embedkit.errors import ConfigError, IntegrityError, ResumableError
from embedkit.errors.foreign import one_line
from embedkit.flow.line_numbers import LineNumbers, place_of
from embedkit.flow.reuse import changes
from embedkit.hashes.local_files import zeros_in_file
from embedkit.records import LINE_FIELD

_LOG = logging.getLogger("embedkit")

_Comparable = Literal["bytes", "never equal", "none"]

Difference = Literal["added", "removed", "changed", "moved", "re_encoded", "metadata"]
"""What may be said of a row."""

_FLAGS: dict[Difference, int] = {
    "added": ADDED,
    "removed": REMOVED,
    "changed": CHANGED,
    "moved": MOVED,
    "re_encoded": RE_ENCODED,
    "metadata": METADATA,
}
_READERS = 4
_SHOWN = ("id", "source", "row_index", LINE_FIELD.name)


@dataclass(frozen=True)
class DifferentRow:
    """A row that is not as it was.

    Attributes:
        differences: What is said of it: one, or ``moved`` and ``re_encoded``.
        id: Its id.
        source: Its input file, in the later version unless it is removed.
        row_index: The record's place in it.
        place: The same for a person, such as ``line 12``.
    """

    differences: tuple[Difference, ...]
    id: str
    source: str
    row_index: int
    place: str

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        return {**asdict(self), "differences": list(self.differences)}


@dataclass(frozen=True)
class ComparedVersion:
    """One of two versions that are compared.

    Attributes:
        version: The version.
        manifest: Its manifest; None where it is not complete, so that what is committed counts.
        parts: Its parts.
    """

    version: Version
    manifest: Manifest | None = field(repr=False)
    parts: Sequence[Part] = field(repr=False)

    @classmethod
    def of(cls, version: Version) -> "ComparedVersion":
        """Reads what a version consists of.

        Raises:
            ResumableError: It changes at this moment.
            IntegrityError: A file that says so is damaged.
            StoreError: The store failed.
        """
        if version.is_complete():
            manifest = read_manifest(version)
            return cls(version, manifest, manifest.parts)
        try:
            with while_it_stands(version):
                return cls(version, None, parts_of(version))
        except FileNotFoundError as error:
            raise ResumableError(
                f"{version.url}: changed while it was read ({one_line(error)}); run the same "
                "command again"
            ) from error

    @property
    def rows(self) -> int:
        """Its rows."""
        return sum(part.rows for part in self.parts)

    def ingredients(self) -> Mapping[str, Any] | None:
        """Returns all that plays a part in its vectors, or None where it does not say."""
        try:
            vectors = read_plan(self.version).vectors
        except FileNotFoundError:
            vectors = {}
        if not vectors and self.manifest is not None:
            found = self.manifest.description.get("ingredients")
            vectors = found if isinstance(found, dict) else {}
        return vectors or None

    def to_dict(self) -> dict[str, Any]:
        """Returns what it is as JSON values."""
        return {
            "version": self.version.name,
            "url": self.version.url,
            "complete": self.manifest is not None,
            "rows": self.rows,
        }


@dataclass(frozen=True)
class VersionDiff:
    """What differs between two versions. Of one that is not complete, what is committed counts.

    Attributes:
        earlier: What is compared with.
        later: What is compared.
        added: Rows whose ids the earlier version does not have.
        removed: Rows of the earlier version whose ids the later one does not have.
        changed: Rows of the same id and another text.
        moved: Rows of the same id and text from another file, or another place in it.
        re_encoded: Rows of the same id and text with another vector, to the last bit; None where
            the vectors are of another kind, such as those of tokens, and not compared.
        moved_and_re_encoded: Rows that count as both.
        metadata: Rows that differ in their metadata alone.
        unchanged: Rows that do not differ at all.
        recipe_changes: What differs in the recipes, such as ``prompt was '' and is 'passage: '``;
            None where a version does not say what its recipe is.
        parts_equal: Parts that both have, to the last byte, whose rows were counted unread.
    """

    earlier: ComparedVersion
    later: ComparedVersion
    added: int
    removed: int
    changed: int
    moved: int
    re_encoded: int | None
    moved_and_re_encoded: int
    metadata: int
    unchanged: int
    recipe_changes: tuple[str, ...] | None
    parts_equal: int
    _found: tuple[NDArray[np.uint8], NDArray[np.uint8]] = field(repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Returns the counts as JSON values."""
        changes = self.recipe_changes
        return {
            "earlier": self.earlier.to_dict(),
            "later": self.later.to_dict(),
            **{name: getattr(self, name) for name in get_args(Difference)},
            "moved_and_re_encoded": self.moved_and_re_encoded,
            "unchanged": self.unchanged,
            "parts_equal": self.parts_equal,
            "recipe_changes": None if changes is None else list(changes),
        }

    def rows(self, differences: Collection[Difference] = ()) -> Iterator[DifferentRow]:
        """Returns the rows that differ: those of the later version in order, then the removed.

        Args:
            differences: Of which rows; of all of them unless given.

        Raises:
            ConfigError: There is no such difference.
            IntegrityError: A part is gone or damaged.
            StoreError: The store failed.
        """
        names = checked_differences(differences) or _FLAGS
        wanted = sum(_FLAGS[name] for name in names)
        sides = zip((self.later, self.earlier), reversed(self._found), strict=True)
        return chain.from_iterable(_rows(side, found, wanted) for side, found in sides)


def checked_differences(names: Iterable[str]) -> list[Difference]:
    """Returns the differences of some names, each once.

    Raises:
        ConfigError: There is no such difference.
    """
    wanted = list(dict.fromkeys([names] if isinstance(names, str) else names))
    unknown = [name for name in wanted if name not in _FLAGS]
    if unknown:
        raise ConfigError(f"no difference {unknown[0]!r}; expected one of {', '.join(_FLAGS)}")
    return [name for name in _FLAGS if name in wanted]


def diff_versions(earlier: str | os.PathLike[str], later: str | os.PathLike[str]) -> VersionDiff:
    """Compares two versions row by row, in memory that does not grow with them.

    Rows are compared by digests, which stand in temporary files of this machine meanwhile: 56 bytes
    for each row of both versions, and a byte for as long as the result lives. Parts that both have,
    to the last byte, are not read.

        >>> from embedkit import diff_versions
        >>> diff = diff_versions("embeddings/vadff9308c351", "embeddings/nightly")
        >>> diff.added, diff.removed, diff.unchanged
        (6, 15, 0)

    Args:
        earlier: A version's path, or its root's for the latest one; a path or URL.
        later: The same of the other one, of whatever root.

    Raises:
        ConfigError: There is no such version.
        IntegrityError: A file of one of them is damaged.
        StoreError: The store failed.
    """
    sides = [ComparedVersion.of(find_version(path)) for path in (earlier, later)]
    equal = shared_parts(*(side.parts for side in sides))
    schemas = [_schema(side, equal) for side in sides]
    vectors = _comparable(sides, schemas)
    digests = [
        _digests(side, equal, schema, vectors, number)
        for number, (side, schema) in enumerate(zip(sides, schemas, strict=True))
    ]
    found = [zeros_in_file(side.rows) for side in sides]
    names = [side.version.url for side in sides]
    unread = sum(part.rows for part in sides[1].parts if part.sha256 in equal)
    rows = sum(side.rows for side in sides) - 2 * unread
    counts: Counter[int] = Counter()
    for joined in join_rows(digests[0], digests[1], rows, (names[0], names[1])):
        found[0][joined.removed] = REMOVED
        found[1][joined.numbers] = joined.found
        counts.update({REMOVED: len(joined.removed)})
        counts.update(dict(enumerate(np.bincount(joined.found).tolist())))
    both = counts[MOVED | RE_ENCODED]
    re_encoded = counts[RE_ENCODED] + both
    return VersionDiff(
        earlier=sides[0],
        later=sides[1],
        added=counts[ADDED],
        removed=counts[REMOVED],
        changed=counts[CHANGED],
        moved=counts[MOVED] + both,
        re_encoded=None if vectors == "none" else re_encoded,
        moved_and_re_encoded=both,
        metadata=counts[METADATA],
        unchanged=counts[0] + unread,
        recipe_changes=recipe_changes(*sides),
        parts_equal=len(equal),
        _found=(found[0], found[1]),
    )


def _schema(side: ComparedVersion, equal: set[str]) -> pa.Schema:
    """Returns the columns of the parts that are read; none where there are no such parts."""
    read = [part for part in side.parts if part.sha256 not in equal]
    schema = schema_of(side.version, read[:1])
    if read and value_column(schema) not in schema.names:
        raise IntegrityError(
            f"{side.version.url}/{read[0].path}: no column {value_column(schema)!r}; {RESTORE}"
        )
    return schema


def _comparable(sides: Sequence[ComparedVersion], schemas: Sequence[pa.Schema]) -> _Comparable:
    """Tells whether vectors are read, and what is known of them where they are not."""
    if not all(schema.names for schema in schemas):
        return "bytes"
    names = [value_column(schema) for schema in schemas]
    if names[0] != names[1]:
        _LOG.warning(
            "rows are compared by their ids, texts, places and metadata, not by their vectors: %s "
            "has %r, %s has %r",
            *(
                said
                for side, name in zip(sides, names, strict=True)
                for said in (side.version.url, name)
            ),
        )
        return "none"
    kinds = [schema.field(name).type for schema, name in zip(schemas, names, strict=True)]
    return "bytes" if kinds[0].equals(kinds[1]) else "never equal"


def _digests(
    side: ComparedVersion,
    equal: set[str],
    schema: pa.Schema,
    vectors: _Comparable,
    number: int,
) -> Iterator[NDArray[np.void]]:
    def read(one: tuple[Part, int]) -> NDArray[np.void]:
        return row_digests(side.version, *one, schema, vectors == "bytes")

    for _, digests in in_order(read, _unequal(side, equal), _READERS):
        if vectors == "never equal":
            digests["vector"] = number
        yield digests


def _unequal(side: ComparedVersion, equal: set[str]) -> Iterator[tuple[Part, int]]:
    """Yields the parts that the other version does not have, with the number of their first row."""
    first = 0
    for part in side.parts:
        if part.sha256 not in equal:
            yield part, first
        first += part.rows


def recipe_changes(earlier: ComparedVersion, later: ComparedVersion) -> tuple[str, ...] | None:
    """Says what differs in the recipes of two versions; None where one does not say what its is."""
    theirs, ours = earlier.ingredients(), later.ingredients()
    return tuple(changes(ours, theirs)) if ours and theirs else None


def _rows(side: ComparedVersion, found: NDArray[np.uint8], wanted: int) -> Iterator[DifferentRow]:
    manifest = side.manifest
    numbers = LineNumbers.of_version(manifest) if manifest else LineNumbers(None, {})
    input_format = manifest.input_format if manifest else ""
    first = 0
    for part in side.parts:
        flags = found[first : first + part.rows]
        first += part.rows
        places = np.flatnonzero(flags & wanted)
        if not len(places):
            continue
        rows = read_rows(side.version, part, _SHOWN, places).to_pylist()
        for flag, row in zip(flags[places].tolist(), rows, strict=True):
            line = numbers.line_of(row["source"], row["row_index"], row.get(LINE_FIELD.name))
            yield DifferentRow(
                tuple(name for name, one in _FLAGS.items() if flag & one),
                row["id"],
                row["source"],
                row["row_index"],
                place_of(row["source"], row["row_index"], line, input_format),
            )
