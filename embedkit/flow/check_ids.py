"""Repeated ids found by the workers of an engine, before anything is embedded.

    splits -> hashes of their ids, kept beside the plan -> which repeat -> the splits that hold
    those, read once more -> the records that are rejects, kept beside the plan

A worker looks at one split at a time. Whoever runs the workers merges hashes and reads no input.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.config import CorpusConfig
from embedkit.corpus.duplicates import (
    Hashes,
    IdHashes,
    Suspect,
    find_suspects,
    id_hashes,
    later_ones,
)
from embedkit.corpus.splits import Plan, Split
from embedkit.dataset.id_files import (
    files_of_split,
    hashed_splits,
    read_duplicates,
    read_hashes,
    remove_hashes,
    take_hashes,
    write_duplicates,
    write_hashes,
)
from embedkit.dataset.version import Version, latest_name
from embedkit.errors import IntegrityError
from embedkit.flow.map_splits import MapSplits
from embedkit.hashes.digests import digest

_LOG = logging.getLogger("embedkit")
_ROUNDS = 3
"""Times that splits are read whose files are torn as soon as they are written."""

_SHAPE_IDS = (
    "id_column", "max_record_bytes", "format", "compression", "encoding", "text_unit",
    "delimiter", "quote", "escape", "columns", "max_record_lines",
)  # fmt: skip
"""Settings that decide which records a file has, and which ids."""


@dataclass(frozen=True)
class IdLook:
    """What a worker is to look at.

    Attributes:
        split: A split.
        hashes: Hashes of ids that occur more than once; None where the split's hashes are wanted.
    """

    split: Split
    hashes: Hashes | None = None


@dataclass(frozen=True)
class LookAtIds:
    """Looks at the ids of a split in whatever process calls it; picklable.

    Attributes:
        corpus: How its files are read.
        version: Where the hashes are kept.
    """

    corpus: CorpusConfig
    version: Version

    def __call__(self, look: IdLook) -> list[Suspect]:
        """Writes the hashes of a split beside the plan, or returns the records with some hashes.

        Raises:
            InputError: A file cannot be read, or is not the one that was planned.
            StoreError: The store failed.
        """
        if look.hashes is not None:
            return find_suspects(look.split, self.corpus, look.hashes)
        key = ids_key(look.split, self.corpus)
        write_hashes(self.version, look.split.split_id, key, id_hashes(look.split, self.corpus))
        return []


def check_ids_by_workers(
    plan: Plan,
    corpus: CorpusConfig,
    version: Version,
    map_splits: MapSplits,
    earlier: Version | None = None,
) -> Plan:
    """Notes in each split the records that repeat an id, found by workers.

    What an earlier run has found is not looked for again, be it all or some splits; nor are the
    hashes of a split that the version published last, or the one given, has as it is now.

    Args:
        plan: The plan that the version was begun with.
        corpus: How its files are read.
        version: The version.
        map_splits: Reaches the workers.
        earlier: The version that something else is taken over from, if any.

    Raises:
        InputError: So many ids repeat that the column holds none, or a file cannot be read.
        IntegrityError: What is written does not stay as it was written.
        StoreError: The store failed.
    """
    if (known := with_known_duplicates(plan, corpus, version)) is not None:
        return known
    keys = {split.split_id: ids_key(split, corpus) for split in plan.splits}
    look_at = LookAtIds(corpus, version)
    take_published_hashes(plan, corpus, version, earlier)
    suspects = _suspects(plan, keys, look_at, map_splits)
    held = [split for split in plan.splits if split.split_id in suspects]
    found = map_splits(look_at, [IdLook(split, suspects[split.split_id]) for split in held])
    names = [split.split_id for split in held]
    duplicates = later_ones(zip(names, found, strict=True))
    write_duplicates(version, _all_keys(keys), duplicates)
    return plan.with_duplicates(duplicates)


def with_known_duplicates(plan: Plan, corpus: CorpusConfig, version: Version) -> Plan | None:
    """Returns a plan with its ids checked where they were before; else None.

    Raises:
        StoreError: The store failed.
    """
    if plan.ids_checked:
        return plan
    keys = {split.split_id: ids_key(split, corpus) for split in plan.splits}
    duplicates = read_duplicates(version, _all_keys(keys))
    return None if duplicates is None else plan.with_duplicates(duplicates)


def take_published_hashes(
    plan: Plan, corpus: CorpusConfig, version: Version, earlier: Version | None = None
) -> None:
    """Takes the hashes of splits that have not changed over from the version published last.

    Args:
        plan: The plan of a version.
        corpus: How its files are read.
        version: The version.
        earlier: A version that is asked first, if any.

    Raises:
        StoreError: The store failed.
    """
    names = [earlier.name] if earlier is not None else []
    try:
        names.append(latest_name(version.store) or version.name)
    except IntegrityError:
        # Publishing says what is wrong with it.
        pass
    keys = {split.split_id: ids_key(split, corpus) for split in plan.splits}
    for name in dict.fromkeys(names):
        if name == version.name:
            continue
        done = hashed_splits(version, keys)
        left = {split: key for split, key in keys.items() if split not in done}
        if left:
            take_hashes(version, version.sibling(name), left)


def ids_key(split: Split, corpus: CorpusConfig) -> str:
    """Returns what tells the ids of a split from those of another, or of files that changed."""
    settings = (f"{name}={getattr(corpus, name)!r}" for name in _SHAPE_IDS)
    return digest(*settings, *split.facts)[:16]


def _all_keys(keys: dict[str, str]) -> str:
    return digest(*(part for pair in keys.items() for part in pair))


def _suspects(
    plan: Plan, keys: dict[str, str], look_at: LookAtIds, map_splits: MapSplits
) -> dict[str, Hashes]:
    """Returns the hashes that occur more than once, by the splits that hold them."""
    version = look_at.version
    for _ in range(_ROUNDS):
        done = hashed_splits(version, keys)
        left = [split for split in plan.splits if split.split_id not in done]
        if left:
            if done:
                _LOG.info("%d of %d splits were looked at before", len(done), len(plan.splits))
            for _ in map_splits(look_at, [IdLook(split) for split in left]):
                pass
            done = hashed_splits(version, keys)
        with IdHashes() as merged:
            files = [file for split in plan.splits for file in done.get(split.split_id, ())]
            torn = []
            for file, hashes in read_hashes(version, files):
                if hashes is None:
                    torn.append(file)
                else:
                    merged.add(file.split_id, hashes)
            if not torn and len(done) == len(plan.splits):
                return merged.suspects(look_at.corpus)
        for file in torn:
            remove_hashes(version, file)
            _LOG.warning("%s: torn; made anew", version.url_of(file.path(version)))
    raise IntegrityError(
        f"{version.url_of(version.key('_meta/ids'))}: does not keep what is written there; check "
        "the output store, then run the same command again"
    )


def kept_hashes(split: Split, corpus: CorpusConfig, version: Version) -> Iterator[Hashes]:
    """Yields the hashes of a split's ids; they are kept beside the plan, or taken from there.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
        IntegrityError: What was kept is torn.
        StoreError: The store failed.
    """
    key = ids_key(split, corpus)
    files = files_of_split(version, split.split_id, key)
    if files is None:
        LookAtIds(corpus, version)(IdLook(split))
        files = files_of_split(version, split.split_id, key)
    for file, hashes in read_hashes(version, files or ()):
        if hashes is None:
            raise IntegrityError(
                f"{version.url_of(file.path(version))}: not the hashes that were written; remove "
                "it and run the same command again"
            )
        yield hashes
