"""Removes small files that a power cut has torn, so that they are made anew.

A block counts because of its commit record, so a block of which anything is torn loses its record
and is encoded again; the files of it that are whole are found and used. Only what cannot be read
at all is taken away: a file that says something else than it should may be of another release, or
of somebody's making, and is an error that names it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from embedkit.dataset.committed import CommitRecord, checked_record, standing_record
from embedkit.dataset.device import record_device
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.parquet import read_table
from embedkit.dataset.publication import keep_number, mend_number
from embedkit.dataset.rejects import fault_of_lines, fault_of_rejects
from embedkit.dataset.stores import read_all, read_if_there
from embedkit.dataset.version import Version, block_of, block_order
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import load_json, sha256


def mend(version: Version) -> list[str]:
    """Takes away the torn files of a version that its job can make anew.

    To be called before work on the version begins, by the one process that begins it.

    Args:
        version: A version that has its plan.

    Returns:
        What was torn, a line per file.

    Raises:
        IntegrityError: A file can be read, but is not what embedkit wrote.
        StoreError: The store failed.
    """
    mending = _Mending(version)
    mending.marks()
    mending.damage_of_complete()
    if not version.is_complete():
        records = mending.commits()
        mending.remove_torn("_meta/splits/")
        mending.committed_blocks(records)
        mending.leftovers()
    return mending.found


def is_object(data: bytes) -> bool:
    """Whether bytes are a JSON object."""
    return _object(data) is not None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        said = load_json(data)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def fault_of_statistics(data: bytes, record: CommitRecord) -> str | None:
    """Returns what is wrong with the statistics of a block, or None where nothing is."""
    said = _object(data)
    if said is None:
        return "not a JSON object"
    if record.stats_sha256 and sha256(data) != record.stats_sha256:
        return f"its SHA-256 is not {record.stats_sha256}, as its commit record says"
    for name in ("documents", "rows"):
        if said.get(name, getattr(record, name)) != getattr(record, name):
            return f"{said[name]!r} {name}, but its commit record says {getattr(record, name)}"
    return None


def fault_of_text(data: bytes) -> str | None:
    """Returns what is wrong with a card or a page, or None where it is there to its end."""
    try:
        text = data.decode().rstrip(" ")
    except UnicodeDecodeError:
        return "not UTF-8"
    return None if text.endswith(("\n", "</html>")) else "cut short"


def lists_others(manifest: Manifest, records: Iterable[CommitRecord]) -> bool:
    """Whether a manifest says other than the commit records of its version do.

    A run of the same job that took a block for torn may commit it once more, behind another's back
    who completed the version meanwhile.
    """
    rejects, parts = 0, {}
    for record in records:
        rejects += record.rejects
        if record.part is not None:
            parts[record.part] = record.sha256
    return rejects != manifest.rejects or parts != {
        part.path: part.sha256 for part in manifest.parts
    }


def _emptied_alone(records: Mapping[str, CommitRecord]) -> Iterator[str]:
    """Yields blocks whose document was rejected whole, where its first block does not say so now.

    It was taken back since, and will have its rows once more.
    """
    before, is_rejected = (-1, -1), False
    for block, record in records.items():
        split, seq = block_order(block)
        if not record.continues:
            is_rejected = bool(record.rejects and not record.rows)
        elif before != (split, seq - 1):
            is_rejected = False
        if record.continues and not (record.rows or record.rejects or is_rejected):
            yield block
        before = split, seq


_Faults = dict[str, list[tuple[str, str]]]
"""The files of a block with what is wrong with each."""


class _Mending:
    """Finds what is torn and takes it away."""

    def __init__(self, version: Version) -> None:
        self._version = version
        self._store = version.store
        self.found: list[str] = []

    def marks(self) -> None:
        """A version without its marks is completed again, from what is committed."""
        version = self._version
        for key in (version.manifest_key, version.success_key):
            if self._is_torn(key):
                self._begin_anew(key, "not a JSON object")
        # The mark is looked for first, as another run may create the manifest and the mark now.
        if self._store.size(version.success_key) is not None and (
            self._store.size(version.manifest_key) is None
        ):
            # The checksum in it is that of the manifest which was there.
            self._remove(version.success_key, None)
        for key in (version.device_key, version.calibration_key, version.ranges_key):
            if self._is_torn(key):
                self._remove(key, "not a JSON object")
        fault = mend_number(version)
        if fault is not None:
            self.found.append(fault)

    def damage_of_complete(self) -> None:
        """Makes a complete version one to be completed again, where a file of it is torn or gone.

        Which is what can be told without reading parts and statistics.
        """
        version = self._version
        if not version.is_complete():
            return
        manifest = read_manifest(version)
        is_damaged = self._is_damaged(manifest)
        if "device_name" in manifest.description and (is_damaged or self.found):
            record_device(version, manifest.description["device_name"])
        if is_damaged:
            self._begin_anew(version.manifest_key, None)

    def _is_damaged(self, manifest: Manifest) -> bool:
        ends = list(self._store.list(self._version.key("_meta/splits/")))
        if len(ends) < manifest.splits or not all(
            is_object(data) for _, data in read_all(self._store, ends)
        ):
            return True
        records, torn = self._read_commits()
        if torn or len(records) < manifest.blocks or lists_others(manifest, records.values()):
            return True
        return bool(self._torn_blocks(records, by_size=True)) or any(self._needless(records))

    def _read_commits(self) -> tuple[dict[str, CommitRecord], list[str]]:
        """Returns the commit records in block order, and the keys of those that are torn."""
        records: dict[str, CommitRecord] = {}
        torn: list[str] = []
        keys = self._store.list(self._version.key("_meta/commits/"))
        for key, data in read_all(self._store, keys):
            block = block_of(key)
            try:
                if block is not None:
                    records[block] = checked_record(self._version, block, key, data)
                    continue
            except IntegrityError:
                if is_object(data):
                    raise
            if not is_object(data):
                torn.append(key)
        return dict(sorted(records.items(), key=lambda item: block_order(item[0]))), torn

    def _begin_anew(self, key: str, fault: str | None) -> None:
        """Takes the marks of a complete version away, that one last."""
        keep_number(self._version)
        self._remove(self._version.success_key, None)
        self._remove(key, fault)

    def remove_torn(self, folder: str) -> None:
        """Takes away the files of a folder that are no JSON."""
        keys = self._store.list(self._version.key(folder))
        for key, data in read_all(self._store, keys):
            if not is_object(data):
                self._remove(key, "not a JSON object")

    def commits(self) -> dict[str, CommitRecord]:
        """Takes away the commit records that are no JSON; returns the others."""
        records, torn = self._read_commits()
        for key in torn:
            self._remove(key, "not a JSON object")
        return records

    def committed_blocks(self, records: Mapping[str, CommitRecord]) -> None:
        """Takes back the commit of every block of which something is torn."""
        torn_blocks = self._torn_blocks(records)
        for block, torn in torn_blocks.items():
            if not self._stands(records[block]):
                continue
            # First, as a block without a record is only one that is not done yet.
            self._remove(self._version.commit_key(block), None)
            for key, fault in torn:
                self._remove(key, fault)
        whole = {block: one for block, one in records.items() if block not in torn_blocks}
        for block, key in list(self._needless(whole)):
            if self._stands(records[block]):
                self._remove(key, "of a block that has no such file")
        for block in list(_emptied_alone(whole)):
            if self._stands(records[block]):
                self._remove(self._version.commit_key(block), None)
                self._remove(self._version.stats_key(block), None)
                del whole[block]
        self._manifest_of_others(whole)

    def _manifest_of_others(self, records: Mapping[str, CommitRecord]) -> None:
        """Takes away a manifest that was written before a block of its parts was taken back."""
        key = self._version.manifest_key
        data = read_if_there(self._store, key)
        if data is None:
            return
        manifest = Manifest.from_json(data, self._version.url_of(key))
        if lists_others(manifest, records.values()) and not self._version.is_complete():
            self._remove(key, "lists other parts than are committed")

    def _stands(self, record: CommitRecord) -> bool:
        """Whether a record is still the one that was read, as another run may change it."""
        return standing_record(self._version, record.block_id) == record

    def _torn_blocks(self, records: Mapping[str, CommitRecord], by_size: bool = False) -> _Faults:
        """Returns the keys and faults of each block of which something is torn.

        Args:
            records: The commit records.
            by_size: Whether statistics are only asked for their size.
        """
        version = self._version
        faults: _Faults = {}
        parts = {version.key(one.part): one for one in records.values() if one.part is not None}
        self._check_sizes(faults, parts, lambda record: record.size)
        if by_size:
            statistics = {version.stats_key(block): one for block, one in records.items()}
            self._check_sizes(faults, statistics, lambda record: record.stats_size)
        else:
            self._check(faults, records, version.stats_key, fault_of_statistics)
        with_rejects = {block: record for block, record in records.items() if record.rejects}
        self._check(faults, with_rejects, version.reject_key, fault_of_rejects)
        return faults

    def _needless(self, records: Mapping[str, CommitRecord]) -> Iterator[tuple[str, str]]:
        """Yields blocks and keys of files that their records know nothing of.

        An attempt at a block may leave them whose document was rejected whole meanwhile.
        """
        version = self._version
        for folder, without in (
            ("data/", {block for block, record in records.items() if record.part is None}),
            ("rejects/", {block for block, record in records.items() if not record.rejects}),
        ):
            for key in self._store.list(version.key(folder)) if without else ():
                block = block_of(key)
                if block in without:
                    yield block, key

    def _check_sizes(
        self,
        faults: _Faults,
        files: dict[str, CommitRecord],
        size_of: Callable[[CommitRecord], int],
    ) -> None:
        if not files:
            return
        sizes = dict(self._store.sizes(next(iter(files)).rpartition("/")[0] + "/"))
        for key, record in files.items():
            size, expected = sizes.get(key), size_of(record)
            # Records of the first release do not say how large their statistics are.
            if not size or (expected and size != expected):
                fault = "gone" if size is None else f"{size} bytes, expected {expected}"
                faults.setdefault(record.block_id, []).append((key, fault))

    def leftovers(self) -> None:
        """Takes away what is torn of blocks that are not committed."""
        version = self._version
        done = set(map(block_of, self._store.list(version.key("_meta/commits/"))))

        def left(folder: str) -> Iterable[str]:
            found = self._store.list(version.key(folder))
            return [key for key in found if block_of(key) is not None and block_of(key) not in done]

        for key, data in read_all(self._store, left("_meta/stats/")):
            if not is_object(data):
                self._remove(key, "not a JSON object")
        for key, data in read_all(self._store, left("rejects/")):
            fault = fault_of_lines(data, max(1, len(data.splitlines())))
            if fault is not None:
                self._remove(key, fault)
        for key in left("data/"):
            part = read_if_there(self._store, key)
            if part is None:
                continue
            try:
                read_table(part, version.url_of(key))
            except IntegrityError as error:
                self._remove(key, str(error).removeprefix(f"{version.url_of(key)}: "))

    def _check(
        self,
        faults: _Faults,
        records: Mapping[str, CommitRecord],
        key_of: Callable[[str], str],
        fault_of: Callable[[bytes, CommitRecord], str | None],
    ) -> None:
        present = set(self._store.list(key_of("00000-00000").rpartition("/")[0] + "/"))
        there = {key_of(block): record for block, record in records.items()}
        for key in there.keys() - present:
            faults.setdefault(there[key].block_id, []).append((key, "gone"))
        for key, data in read_all(self._store, [key for key in there if key in present]):
            fault = fault_of(data, there[key])
            if fault is not None:
                faults.setdefault(there[key].block_id, []).append((key, fault))

    def _is_torn(self, key: str) -> bool:
        try:
            return not is_object(self._store.read(key))
        except FileNotFoundError:
            return False

    def _remove(self, key: str, fault: str | None) -> None:
        if key.startswith(self._version.key("_meta/commits/")):
            # It says that all it names is committed.
            self._store.remove(self._version.growing_key)
        self._store.remove(key)
        if fault is not None:
            self.found.append(f"{self._version.url_of(key)}: {fault}; made anew")
