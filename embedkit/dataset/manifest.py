"""The manifest of a complete version, and the ``_SUCCESS`` that seals it."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, model_validator

from embedkit.dataset.record import check_rows
from embedkit.dataset.removal import check_still_there, while_it_stands
from embedkit.dataset.schema import FORMAT
from embedkit.dataset.sources import SourceRange
from embedkit.dataset.stores import create
from embedkit.dataset.version import Version
from embedkit.errors import ConfigError, IntegrityError
from embedkit.formats.canonical import (
    canonical_json,
    checksum_holds,
    load_json,
    sha256,
    with_checksum,
)
from embedkit.formats.json_record import Count, Digest, JsonRecord
from embedkit.formats.reused import ReusedRows

REQUIRED = ("dimension", "metric", "normalized")
"""What a description must say, because readers of the vectors depend on it."""

COUNTS = (
    "documents", "rows", "rejects", "tokens", "n_tokens", "tokens_encoded", "truncated", "nulled",
    "n_unknown",
)  # fmt: skip
"""What commit records and manifests count."""

_SETTLED = (*COUNTS, "id_digest", "size", "parts", "splits", "blocks")
_MOST_COMPONENTS = 1 << 31
CHANGED = "changed after the version was completed, or _SUCCESS was"
MANIFEST_ANEW = "restore it, or remove it and run the version's job again, which writes it anew"

_PART = re.compile(r"data/part-\d{5,}-\d{5,}\.parquet")
_RESUME = "run the same command again to resume"


def _complete(description: dict[str, Any]) -> dict[str, Any]:
    missing = [name for name in REQUIRED if name not in description]
    if missing:
        raise ValueError(f"no {', '.join(missing)}")
    dimension, metric, normalized = map(description.get, REQUIRED)
    if type(dimension) is not int or not 0 < dimension < _MOST_COMPONENTS:
        raise ValueError(f"a dimension of {dimension!r}")
    if type(metric) is not str or type(normalized) is not bool:
        raise ValueError(f"metric {metric!r}, normalized {normalized!r}")
    return description


def _part_path(path: str) -> str:
    if not _PART.fullmatch(path):
        raise ValueError("a part with another name than parts have")
    return path


@dataclass(frozen=True)
class Part(JsonRecord):
    """A Parquet file of a version.

    Attributes:
        path: Relative to the version.
        size: In bytes.
        sha256: As hex.
        rows: Number of rows.
        sources: The rows by input file; empty where these are too many to be named, and in
            versions of the first release, whose parts themselves tell.
        source_range: The input files, where they are too many to be named.
    """

    path: Annotated[str, AfterValidator(_part_path)]
    size: Count
    sha256: str
    rows: Count
    # What another release says of the same part.
    sources: dict[str, Count] = field(default_factory=dict, compare=False)
    source_range: SourceRange | None = field(default=None, compare=False)

    @model_validator(mode="after")
    def _has_room(self) -> Self:
        check_rows(self.rows, self.size)
        return self


@dataclass(frozen=True)
class Manifest(JsonRecord):
    """What a complete version is.

    Attributes:
        version: The version's name.
        description: What made the vectors: model, fingerprint, dimension, metric, normalized, ...
        documents: Input records, each of them in a part or among the rejects.
        rows: Rows of all parts.
        rejects: Input records that could not be embedded.
        tokens: Tokens of all rows as the model saw them.
        n_tokens: Tokens of all rows before truncation.
        tokens_encoded: Tokens that were sent to encoders for all blocks.
        truncated: Rows that were longer than the model sees.
        size: Bytes of all parts.
        id_digest: Digest of the set of all ids.
        splits: Number of splits.
        blocks: Number of blocks.
        parts: The parts in block order.
        reject_reasons: The rejects by their reason; versions of the first release have none.
        nulled: Metadata values that did not fit their columns and became null.
        n_unknown: Tokens as the model saw them that stand for unknown text; 0 where these are not
            counted.
        lines: What the lines of text, JSONL, CSV and TSV files were, see ``LineCounts``; versions
            of the first release have none.
        input_format: The format that the inputs were said to have, which tells what ``row_index``
            counts; empty where there were no files, and in versions of the first release.
        line_ranges: Of each file of lines that was read in several ranges, where each begins, and
            the lines of the file before it, which turns ``line_in_range`` into a line of the file.
        reused: How its rows stand to those of earlier versions; None where they were compared with
            none.
        format: Format of the version.
    """

    version: str
    description: Annotated[dict[str, Any], AfterValidator(_complete)]
    documents: Count
    rows: Count
    rejects: Count
    tokens: Count
    n_tokens: Count
    tokens_encoded: Count
    truncated: Count
    size: Count
    id_digest: Digest
    splits: Count
    blocks: Count
    parts: tuple[Part, ...]
    reject_reasons: dict[str, Count] = field(default_factory=dict)
    nulled: Count = 0
    n_unknown: Count = 0
    lines: dict[str, Count] = field(default_factory=dict)
    input_format: str = ""
    line_ranges: dict[str, list[list[Count]]] = field(default_factory=dict)
    reused: ReusedRows | None = None
    format: Literal["1"] = FORMAT

    def to_json(self) -> bytes:
        """Serializes the manifest in one way only."""
        return canonical_json(self.to_dict())

    @classmethod
    def from_json(cls, data: bytes, name: str) -> Self:
        """Reads a manifest.

        Raises:
            IntegrityError: It is not a manifest of this format.
        """
        try:
            return cls.parse(data)
        except ValueError as error:
            raise IntegrityError(
                f"{name}: not a manifest of format {FORMAT} ({error}); {MANIFEST_ANEW}"
            ) from error


def shared_parts(earlier: Sequence[Part], later: Sequence[Part]) -> set[str]:
    """Returns the checksums of parts that two versions have, each of them once.

    The id, text, place, vector and metadata of each row in them are equal, whatever part it is, and
    an id is once in a version, so that no other part has anything to do with these rows.
    """
    counted = [
        Counter((part.sha256, part.size, part.rows) for part in side) for side in (earlier, later)
    ]
    return {one[0] for one, count in counted[0].items() if count == 1 and counted[1].get(one) == 1}


def seal(version: Version, manifest: Manifest, make_card: Callable[[Manifest], str]) -> Manifest:
    """Makes a version complete; from here on it does not change.

    Args:
        version: A version whose reports, if any, have been written.
        manifest: What ``finalize`` returned.
        make_card: Makes the dataset card of the manifest that stands, which may be that of another
            run, with the model elsewhere or on another device.

    Returns:
        The manifest that stands. Of a version that is complete already, nothing is changed.

    Raises:
        IntegrityError: Another manifest of other parts stands.
        StoreError: The store failed; the same call again is safe.
    """
    if not version.is_complete():
        store = version.store
        create(store, version.manifest_key, manifest.to_json())
        data = store.read(version.manifest_key)
        standing = Manifest.from_json(data, version.url_of(version.manifest_key))
        if any(getattr(standing, name) != getattr(manifest, name) for name in _SETTLED):
            other = "says other counts" if standing.parts == manifest.parts else "lists other parts"
            raise IntegrityError(
                f"{version.url_of(version.manifest_key)}: {other} than are committed; "
                f"remove it, then {_RESUME}"
            )
        card = make_card(standing).encode()
        store.replace(version.card_key, card)
        # The first release kept its numbers here, and reads this one when it publishes.
        success = {"manifest_sha256": sha256(data), "number": 0, "card_sha256": sha256(card)}
        create(store, version.success_key, canonical_json(with_checksum(success)))
    return read_manifest(version)


def read_manifest(version: Version) -> Manifest:
    """Reads the manifest of a complete version.

    Raises:
        ConfigError: The version is not complete.
        IntegrityError: The manifest is damaged.
        RemovedError: The version is removed at this moment.
        StoreError: The store failed.
    """
    with while_it_stands(version):
        if not version.is_complete():
            check_still_there(version)
            raise ConfigError(f"{version.url}: not complete yet; run its job to the end first")
        data = version.store.read(version.manifest_key)
        return checked_manifest(version, data, read_success(version))


def checked_manifest(version: Version, data: bytes, success: dict[str, Any]) -> Manifest:
    """Reads a manifest that was read from its version, and holds it against ``_SUCCESS``.

    Raises:
        IntegrityError: It is damaged.
    """
    manifest = Manifest.from_json(data, version.url_of(version.manifest_key))
    if success.get("manifest_sha256") != sha256(data):
        raise IntegrityError(f"{version.url_of(version.manifest_key)}: {CHANGED}; {MANIFEST_ANEW}")
    return manifest


def read_success(version: Version) -> dict[str, Any]:
    """Reads the ``_SUCCESS`` of a complete version.

    Raises:
        IntegrityError: It is damaged.
        StoreError: The store failed.
    """
    return checked_success(version, version.store.read(version.success_key))


def checked_success(version: Version, data: bytes) -> dict[str, Any]:
    """Reads a ``_SUCCESS`` that was read from its version.

    Raises:
        IntegrityError: It is damaged.
    """
    try:
        success = load_json(data)
        if isinstance(success["manifest_sha256"], str) and checksum_holds(success):
            return dict(success)
        raise ValueError("not what was written")
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{version.url_of(version.success_key)}: not what embedkit wrote; remove it and run "
            "the version's job again, which writes it anew"
        ) from error


def restore_card(version: Version, card: str) -> None:
    """Writes the card of a complete version anew, and its checksum into ``_SUCCESS``.

    Raises:
        IntegrityError: ``_SUCCESS`` is damaged.
        StoreError: The store failed; the same call again is safe.
    """
    success = read_success(version)
    version.store.replace(version.card_key, card.encode())
    if "card_sha256" in success and success["card_sha256"] != sha256(card.encode()):
        # By another release, which writes other cards.
        changed = success | {"card_sha256": sha256(card.encode())}
        version.store.replace(version.success_key, canonical_json(with_checksum(changed)))
