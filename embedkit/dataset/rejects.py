"""The rejects of a version: what a line of them says, and how they add up."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial

from pydantic import TypeAdapter

from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.stores import in_order
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.errors.foreign import one_line
from embedkit.formats.canonical import load_json, sha256
from embedkit.records import Reject

_REJECT = TypeAdapter(Reject)

DAMAGED_FILE = "damaged_file"
"""The reason of a reject that stands for the rest of a file, and not for one record."""


def count_reasons(version: Version, records: Sequence[CommitRecord]) -> Counter[str]:
    """Counts the rejects of committed blocks that have some by their reason.

    Raises:
        IntegrityError: A file of rejects is damaged, or has other than its block's record says.
        GoneError: One is gone.
        StoreError: The store failed.
    """
    reasons: Counter[str] = Counter()
    for _, data in standing_rejects(version, records):
        reasons.update(load_json(line)["reason"] for line in data.splitlines())
    return reasons


def standing_rejects(
    version: Version, records: Iterable[CommitRecord]
) -> Iterator[tuple[CommitRecord, bytes]]:
    """Reads the rejects of committed blocks that have some, few of them in memory at a time.

    Yields:
        Each block's record and the lines of its rejects, which are as many as the record says.

    Raises:
        IntegrityError: A file of rejects is damaged, or has other than its block's record says.
        FileNotFoundError: One is gone.
        StoreError: The store failed.
    """
    for record, (key, data) in in_order(partial(_read, version), records):
        fault = fault_of_rejects(data, record)
        if fault is not None:
            raise IntegrityError(
                f"{version.url_of(key)}: {fault}; {_anew(version, record.block_id)}"
            )
        yield record, data


def _read(version: Version, record: CommitRecord) -> tuple[str, bytes]:
    key = version.reject_key(record.block_id)
    return key, version.store.read(key)


def _anew(version: Version, block_id: str) -> str:
    return (
        f"remove it and {version.url_of(version.commit_key(block_id))}, then run the same command "
        "again, which encodes its block anew"
    )


def by_frequency(reasons: Mapping[str, int]) -> dict[str, int]:
    """Returns counts by reason, most frequent first."""
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def read_rejects(version: Version, block_id: str) -> tuple[Reject, ...]:
    """Reads the rejects of a block.

    Raises:
        IntegrityError: They are gone or damaged.
        StoreError: The store failed.
    """
    key = version.reject_key(block_id)
    try:
        data = version.store.read(key)
    except FileNotFoundError as error:
        commit = version.url_of(version.commit_key(block_id))
        raise IntegrityError(
            f"{version.url_of(key)}: gone; restore it, or remove {commit}, then run the same "
            "command again, which encodes its block anew"
        ) from error
    return parsed_rejects(version, block_id, data)


def parsed_rejects(version: Version, block_id: str, data: bytes) -> tuple[Reject, ...]:
    """Takes the rejects of a block from their lines.

    Raises:
        IntegrityError: They are damaged.
    """
    try:
        return tuple(_REJECT.validate_python(load_json(line)) for line in data.splitlines())
    except ValueError as error:
        raise IntegrityError(
            f"{version.url_of(version.reject_key(block_id))}: not the rejects of its block "
            f"({one_line(error)}); {_anew(version, block_id)}"
        ) from error


def fault_of_rejects(data: bytes, record: CommitRecord) -> str | None:
    """Returns what is wrong with the rejects of a block, or None where nothing is."""
    fault = fault_of_lines(data, record.rejects)
    if fault is None and record.rejects_sha256 and sha256(data) != record.rejects_sha256:
        fault = f"its SHA-256 is not {record.rejects_sha256}, as its commit record says"
    return fault


def fault_of_lines(data: bytes, expected: int) -> str | None:
    """Returns what is wrong with so many lines of rejects, or None where nothing is."""
    lines = data.splitlines()
    if len(lines) == expected and data.endswith(b"\n") and all(map(_is_reject, lines)):
        return None
    return f"{len(lines)} lines, expected {expected} rejects as JSON"


def _is_reject(line: bytes) -> bool:
    try:
        reject = load_json(line)
    except ValueError:
        return False
    return isinstance(reject, dict) and isinstance(reject.get("reason"), str)
