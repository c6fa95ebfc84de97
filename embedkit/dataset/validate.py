"""Reads a version back and holds it against its manifest, one part in memory at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.dataset.committed import CommitRecord
from embedkit.dataset.identity import add_digests, digest_of, id_hashes
from embedkit.dataset.manifest import (
    CHANGED,
    COUNTS,
    MANIFEST_ANEW,
    Manifest,
    Part,
    read_success,
)
from embedkit.dataset.mend import fault_of_statistics, fault_of_text, is_object
from embedkit.dataset.parquet import RESTORE, read_table
from embedkit.dataset.part_check import PartCheck, PartFindings
from embedkit.dataset.plan_file import planned_splits, read_plan
from embedkit.dataset.publication import fault_of_number, is_published, newest_published
from embedkit.dataset.record_check import AGAIN, Records, read_records
from embedkit.dataset.rejects import fault_of_rejects
from embedkit.dataset.removal import check_still_there, while_it_stands
from embedkit.dataset.stores import read_found
from embedkit.dataset.version import (
    INDEXES,
    LATEST,
    Version,
    block_of,
    latest_name,
    split_of,
)
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import load_json, sha256
from embedkit.hashes.uniqueness import repeated

MOST_PROBLEMS = 1000
"""Problems that are listed; more are counted."""

_ANYTHING = ("report/", f"{INDEXES}/", "_meta/ids/", "_meta/near/", "_meta/reuse/")
"""Folders of a version whose files belong to no block, and may be there or not."""


@dataclass(frozen=True)
class ValidationReport:
    """What reading a version back has shown.

    Attributes:
        version: The version's path or URL.
        parts: Parts that were read.
        rows: Rows that were read.
        size: Bytes of the parts that were read.
        problems: A line per problem, naming the file and what to do about it.
    """

    version: str
    parts: int
    rows: int
    size: int
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {**asdict(self), "problems": list(self.problems), "ok": self.ok}

    def to_text(self) -> str:
        """Returns the report for a person."""
        read = f"{self.parts:,} parts, {self.rows:,} rows, {self.size:,} bytes read back"
        if self.ok:
            return f"{self.version}: {read}; all as the manifest says"
        return "\n".join([f"{self.version}: {read}; {len(self.problems)} problems", *self.problems])


def validate(version: Version) -> ValidationReport:
    """Reads every part, record and reject of a complete version and checks what is said of it.

    Checked are: the manifest and the checksum, size and row count of every part; the columns;
    every vector for finite values and, where the manifest says so, for length 1; that no id
    occurs twice in the version and the digest of all ids; rejects and counts; that no file is
    missing or does not belong; ``LATEST``.

    Args:
        version: A version; of one that is not complete, that is the only problem reported.

    Raises:
        RemovedError: The version was removed meanwhile.
        StoreError: The store failed.
    """
    check = _Check(version)
    with while_it_stands(version):
        manifest = check.manifest()
        if manifest is not None:
            records = check.records(manifest)
            check.files(manifest, records)
            check.rejects(records.commits)
            check.statistics(records.commits)
            check.sidecars(manifest)
            check.ids(manifest, repeated(check.parts(manifest, records.commits))[0])
            check.latest()
    if manifest is not None:
        check_still_there(version)
    return ValidationReport(
        version.url, check.parts_read, check.rows_read, check.bytes_read, check.problems()
    )


class _Check:
    """Collects what is wrong with a version."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._problems: list[str] = []
        self._more = 0
        self._mark: dict[str, Any] = {}
        self.parts_read = self.rows_read = self.bytes_read = 0

    def problems(self) -> tuple[str, ...]:
        more = (f"and {self._more} problems more",) if self._more else ()
        return (*self._problems, *more)

    def add(self, key: str, fault: str, remedy: str = RESTORE) -> None:
        self._say(f"{self._version.url_of(key)}: {fault}; {remedy}")

    def _say(self, line: str) -> None:
        if len(self._problems) < MOST_PROBLEMS:
            # A damaged file may say anything, line ends as well.
            self._problems.append(" ".join(line.splitlines()))
        else:
            self._more += 1

    def manifest(self) -> Manifest | None:
        """Reads the manifest; without a good one there is nothing to check against."""
        version = self._version
        if not version.is_complete():
            self._say(f"{version.url}: not complete; run its job again to resume")
            return None
        try:
            data = version.store.read(version.manifest_key)
            manifest = Manifest.from_json(data, version.url_of(version.manifest_key))
            self._mark = read_success(version)
        except IntegrityError as error:
            self._say(str(error))
            return None
        if self._mark["manifest_sha256"] != sha256(data):
            self.add(version.manifest_key, CHANGED, MANIFEST_ANEW)
        return manifest

    def records(self, manifest: Manifest) -> Records:
        """Reads the commit records and reconciles them with the splits and the manifest."""
        found = read_records(self._version, manifest)
        for problem in found.problems:
            self._say(problem)
        if found.whole:
            self._compare_counts(manifest, found)
        return found

    def _compare_counts(self, manifest: Manifest, found: Records) -> None:
        key = self._version.manifest_key
        read = sum(end.documents for end in found.ends.values())
        if read != manifest.documents:
            fault = f"{manifest.documents} documents, but the splits' end records say {read}"
            self.add(key, fault, MANIFEST_ANEW)
        for name in COUNTS:
            said = getattr(manifest, name)
            total = sum(getattr(record, name) for record in found.commits.values())
            if total != said:
                fault = f"{said} {name}, but the commit records add up to {total}"
                self.add(key, fault, MANIFEST_ANEW)

    def files(self, manifest: Manifest, records: Records) -> None:
        """Compares the listing of the version with what should be there."""
        version = self._version
        expected = {version.success_key, version.manifest_key, version.card_key, version.plan_key}
        expected.update(version.key(part.path) for part in manifest.parts)
        expected.update(map(version.split_key, records.ends))
        for block, record in records.commits.items():
            expected.update((version.commit_key(block), version.stats_key(block)))
            if record.rejects:
                expected.add(version.reject_key(block))
        found = set(version.store.list(version.key("")))
        found -= {version.published_key, version.device_key, version.duplicates_key}
        if "calibration" in manifest.description:
            expected.add(version.calibration_key)
        if "int8" in manifest.description:
            expected.add(version.ranges_key)
        # Of a worker that was late.
        found -= {version.heartbeat_key, version.growing_key}
        for key in sorted(expected - found):
            self.add(key, "gone", AGAIN)
        for key in sorted(found - expected):
            # Of what has lost its record, nothing tells which files it has.
            if (
                block_of(key) not in records.blocks
                and (block_of(key) or "").partition("-")[0] not in records.splits
                and split_of(key) not in records.splits
                and not key.startswith(tuple(map(version.key, _ANYTHING)))
            ):
                self._say(
                    f"{version.url_of(key)!r}: belongs to nothing; move it out of the version"
                )

    def rejects(self, records: dict[str, CommitRecord]) -> None:
        """Counts the rejects of every block."""
        rejecting = [record for record in records.values() if record.rejects]
        self._each(rejecting, self._version.reject_key, fault_of_rejects)

    def statistics(self, records: dict[str, CommitRecord]) -> None:
        """Reads the statistics of every block."""
        self._each(list(records.values()), self._version.stats_key, fault_of_statistics)

    def _each(
        self,
        records: Sequence[CommitRecord],
        key_of: Callable[[str], str],
        fault_of: Callable[[bytes, CommitRecord], str | None],
    ) -> None:
        keys = [key_of(record.block_id) for record in records]
        found = read_found(self._version.store, keys)
        for record, (key, data) in zip(records, found, strict=True):
            # The listing names what has to be there.
            fault = None if data is None else fault_of(data, record)
            if fault is not None:
                self.add(key, fault)

    def sidecars(self, manifest: Manifest) -> None:
        """Reads what no count depends on: the plan, the device, the number, report and card."""
        version = self._version
        with suppress(FileNotFoundError):
            self._plan(manifest)
        device = manifest.description.get("device_name")
        fault = self._fault_in(version.device_key, partial(_fault_of_device, expected=device))
        if fault is not None:
            self.add(version.device_key, fault)
        kept = {"calibration": version.calibration_key, "int8": version.ranges_key}
        for name, key in kept.items():
            expected = (manifest.description.get(name) or {}).get("sha256")
            fault = self._fault_in(key, partial(_fault_of_hash, expected=expected))
            if fault is not None:
                self.add(key, fault)
        number = fault_of_number(version)
        if number is not None:
            self.add(*number, AGAIN)
        if self._fault_in(version.key("report/report.json"), _fault_of_object) is not None:
            self.add(version.key("report/report.json"), "not a JSON object", AGAIN)
        for key in (version.card_key, version.key("report/report.html")):
            if self._fault_in(key, fault_of_text) is not None:
                self.add(key, "empty, cut short or not UTF-8", AGAIN)
            elif key == version.card_key and self._fault_in(key, self._fault_of_card):
                self.add(key, CHANGED)

    def _plan(self, manifest: Manifest) -> None:
        version = self._version
        try:
            plan = read_plan(version)
            splits = planned_splits(version)
        except IntegrityError as error:
            self._say(str(error))
            return
        stated = manifest.description.get("fingerprint")
        if plan.fingerprint != stated or splits not in (None, manifest.splits):
            self.add(version.plan_key, "the plan of another version")

    def _fault_of_card(self, data: bytes) -> str | None:
        return None if self._mark.get("card_sha256", sha256(data)) == sha256(data) else CHANGED

    def _fault_in(self, key: str, fault_of: Callable[[bytes], str | None]) -> str | None:
        try:
            return fault_of(self._version.store.read(key))
        except FileNotFoundError:
            # The listing names what has to be there.
            return None

    def parts(
        self, manifest: Manifest, records: dict[str, CommitRecord]
    ) -> Iterator[NDArray[np.uint64]]:
        """Checks every part and yields the leading halves of its ids' hashes."""
        description = manifest.description
        check = PartCheck(description["dimension"], bool(description["normalized"]))
        total, complete = add_digests([]), True
        for part in manifest.parts:
            found = self._read(check, part)
            if found is None:
                complete = False
                continue
            digest = digest_of(found.hashes)
            self._compare_with_commit(part, records.get(block_of(part.path) or ""), digest)
            total = add_digests([total, digest])
            yield found.hashes[:, 0].copy()
        if complete and total != manifest.id_digest:
            self.add(
                self._version.manifest_key,
                f"the ids of all parts have the digest {total}, expected {manifest.id_digest}",
            )

    def _read(self, check: PartCheck, part: Part) -> PartFindings | None:
        key = self._version.key(part.path)
        try:
            data = self._version.store.read(key)
            found = check.read(part, data, self._version.url_of(key))
        except FileNotFoundError:
            # The listing has named it.
            return None
        except IntegrityError as error:
            self._say(str(error))
            return None
        self.parts_read += 1
        self.rows_read += len(found.hashes)
        self.bytes_read += len(data)
        for fault in found.faults:
            self.add(key, fault)
        return found

    def _compare_with_commit(self, part: Part, record: CommitRecord | None, digest: str) -> None:
        if record is None:
            return
        key = self._version.commit_key(record.block_id)
        said = (part.path, part.size, part.sha256, part.rows)
        if (record.part, record.size, record.sha256, record.rows) != said:
            self.add(key, f"says other of {part.path} than the manifest")
        if record.id_digest != digest:
            self.add(key, f"ids of {part.path} have the digest {digest}, not {record.id_digest}")

    def ids(self, manifest: Manifest, hashes: NDArray[np.uint64]) -> None:
        """Names ids that occur more than once, among those whose hash does."""
        if not len(hashes):
            return
        places: dict[str, list[str]] = {}
        for part in manifest.parts:
            for repeat in self._ids_among(part, hashes):
                places.setdefault(repeat, []).append(part.path)
        for repeat, paths in sorted(places.items()):
            if len(paths) > 1:
                self.add(
                    self._version.key(paths[0]),
                    f"id {repeat[:100]!r} occurs {len(paths)} times, also in {paths[1]}",
                    "give the input unique ids, and build the version anew",
                )

    def _ids_among(self, part: Part, hashes: NDArray[np.uint64]) -> list[str]:
        key = self._version.key(part.path)
        try:
            data = self._version.store.read(key)
            ids = read_table(data, self._version.url_of(key), ["id"]).column("id").combine_chunks()
        except (FileNotFoundError, IntegrityError):
            # It was named when the part was checked.
            return []
        rows = np.flatnonzero(np.isin(id_hashes(ids)[:, 0], hashes))
        found: list[str] = ids.take(pa.array(rows)).to_pylist()
        return found

    def latest(self) -> None:
        """Checks that ``LATEST`` names a complete version, where this one was published."""
        version = self._version
        try:
            published = is_published(version)
            name = latest_name(version.store)
        except IntegrityError as error:
            self._say(str(error))
            return
        right = f"write {newest_published(version) or version.name} into it"
        if name is None and published:
            self.add(LATEST, "gone", right)
        elif name is not None and not Version(version.root, name).is_complete():
            self.add(LATEST, f"names {name}, which is not complete", right)


def _fault_of_device(data: bytes, expected: str | None) -> str | None:
    if not is_object(data):
        return "not a JSON object"
    said = load_json(data).get("device_name")
    if expected is None or said == expected:
        return None
    return f"says {said!r}, but the manifest {expected!r}"


def _fault_of_hash(data: bytes, expected: str | None) -> str | None:
    return None if sha256(data) == expected else CHANGED


def _fault_of_object(data: bytes) -> str | None:
    return None if is_object(data) else "not a JSON object"
