"""A version: one complete or growing dataset below a root, and the names of all it consists of."""

import os
import re
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

from embedkit.dataset.store_keys import is_local, normalize_root
from embedkit.dataset.stores import Store, open_store, refused
from embedkit.errors import ConfigError, IntegrityError
from embedkit.errors.urls import without_user
from embedkit.formats.canonical import load_json
from embedkit.lazy import lazy_property

LATEST = "LATEST"
EXPLODED = "_EXPLODED.json"
"""Stands where the words or tokens of a version have rows of their own."""

INDEXES = "_index"
"""Folder of a version for indexes of it, each in one named after its kind: a search finds them
there, they go with the version, and they are nothing of it that is checked."""

_SEALS = ("_meta/plan.json", "_meta/manifest.json", "_SUCCESS")
_MOST_NAMED = 10
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_BLOCK = re.compile(r"\d{5,}-\d{5,}")
_SPLIT = re.compile(r"\d{5,}")


@dataclass(frozen=True)
class Version:
    """A version's place; its store is opened when it is first used, in each process anew.

    Attributes:
        root: The directory or URL that holds the versions, without the secrets that opened it.
        name: The version's own folder below it.
    """

    root: str
    name: str
    _asked: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        asked = normalize_root(self.root)
        object.__setattr__(self, "_asked", asked)
        object.__setattr__(self, "root", without_user(asked))
        if not is_version_name(self.name):
            raise ConfigError(
                f"version {self.name!r}: expected at most 100 letters, digits, '.', '_' and '-', "
                f"beginning with a letter or digit, and not {LATEST}"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Leaves the open store behind when a version goes to another process."""
        return Version, (self._asked, self.name)

    def sibling(self, name: str) -> "Version":
        """Returns the version of another name below the same root."""
        return Version(self._asked, name)

    @lazy_property
    def store(self) -> Store:
        """The store at the root; all keys are relative to the root."""
        return open_store(self._asked)

    @property
    def url(self) -> str:
        """The version's own folder as a path or URL."""
        return f"{self.root}/{self.name}"

    def url_of(self, key: str) -> str:
        """Returns the path or URL of one of its keys, for a person."""
        return f"{self.root}/{key}"

    def key(self, path: str) -> str:
        """Returns the key of a path relative to the version."""
        return f"{self.name}/{path}"

    def part_key(self, block_id: str) -> str:
        """The Parquet file of a block."""
        return self.key(f"data/part-{_checked(block_id, _BLOCK)}.parquet")

    def reject_key(self, block_id: str) -> str:
        """The rejects of a block, a JSON object per line."""
        return self.key(f"rejects/{_checked(block_id, _BLOCK)}.jsonl")

    def stats_key(self, block_id: str) -> str:
        """The statistics of a block."""
        return self.key(f"_meta/stats/{_checked(block_id, _BLOCK)}.json")

    def commit_key(self, block_id: str) -> str:
        """The commit record of a block."""
        return self.key(f"_meta/commits/{_checked(block_id, _BLOCK)}.json")

    def split_key(self, split_id: str) -> str:
        """The end record of a split."""
        return self.key(f"_meta/splits/{_checked(split_id, _SPLIT)}.json")

    @property
    def plan_key(self) -> str:
        """The plan."""
        return self.key("_meta/plan.json")

    @property
    def duplicates_key(self) -> str:
        """Which input records repeat an id."""
        return self.key("_meta/duplicates.json")

    @property
    def device_key(self) -> str:
        """What the encoders of the run that began the version ran on."""
        return self.key("_meta/device.json")

    @property
    def calibration_key(self) -> str:
        """What its codes are made by, where vectors are stored as codes of 8 bits."""
        return self.key("_meta/calibration.json")

    @property
    def ranges_key(self) -> str:
        """What layers of int8 are given, where its vectors are of this precision."""
        return self.key("_meta/ranges.json")

    @property
    def heartbeat_key(self) -> str:
        """Who writes the version, while somebody does."""
        return self.key("_meta/heartbeat.json")

    @property
    def growing_key(self) -> str:
        """What is committed so far, while the version is not complete."""
        return self.key("_meta/growing.json")

    @property
    def manifest_key(self) -> str:
        """The manifest."""
        return self.key("_meta/manifest.json")

    @property
    def card_key(self) -> str:
        """The dataset card."""
        return self.key("README.md")

    @property
    def success_key(self) -> str:
        """Stands when a version is complete."""
        return self.key("_SUCCESS")

    @property
    def published_key(self) -> str:
        """Stands when a complete version was published, with its number among those."""
        return self.key("_PUBLISHED")

    def is_begun(self) -> bool:
        """Whether the version has its plan."""
        return self.store.size(self.plan_key) is not None

    def is_complete(self) -> bool:
        """Whether every record of the corpus is in the version, and the version will not change."""
        store = self.store
        return store.size(self.success_key) is not None and (
            store.size(self.manifest_key) is not None
        )

    def committed_of(self, split_id: str) -> "CommittedBlocks":
        """Which blocks of a split have their commit records, to be asked with ``in``.

        In an object store they are listed once, now, and what other attempts commit from here on
        is not among them; its block is then found committed when it is to be committed again.
        """
        prefix = self.key(f"_meta/commits/{_checked(split_id, _SPLIT)}-")
        return CommittedBlocks(self, self.store.matching(prefix))

    def split_is_done(self, split_id: str, committed: Container[str] | None = None) -> bool:
        """Whether a split has its end record and all of its blocks are committed.

        Args:
            split_id: The split.
            committed: Its committed blocks, where they are known; else they are looked for.
        """
        committed = self.committed_of(split_id) if committed is None else committed
        if f"{split_id}-00000" not in committed:
            return False
        key = self.split_key(split_id)
        try:
            blocks = int(load_json(self.store.read(key))["blocks"])
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise IntegrityError(
                f"{self.url_of(key)}: not an end record; remove it and run the same command again"
            ) from error
        return all(f"{split_id}-{seq:05d}" in committed for seq in range(blocks))


@dataclass(frozen=True)
class CommittedBlocks:
    """Blocks that have their commit records, to be asked with ``in``.

    Attributes:
        version: Their version.
        keys: The keys of the records.
    """

    version: Version
    keys: Container[str]

    def __contains__(self, block_id: object) -> bool:
        """Whether a block has its commit record."""
        return isinstance(block_id, str) and self.version.commit_key(block_id) in self.keys


def is_version_name(name: str) -> bool:
    """Whether a version can have a name."""
    return _NAME.fullmatch(name) is not None and name != LATEST


def latest(root: str) -> Version:
    """Returns the newest complete version below a root.

    Raises:
        ConfigError: There is none.
        IntegrityError: ``LATEST`` names something that is not a complete version.
    """
    root = normalize_root(root)
    name = latest_name(open_store(root))
    if name is None:
        raise ConfigError(
            f"{root}: no {LATEST} there, so no version is published yet, or it is not an embedkit "
            "output; give the path of one version, or run the job to its end"
        )
    version = Version(root, name)
    if not version.is_complete():
        raise IntegrityError(
            f"{root}/{LATEST} names {name}, which is not complete; restore that version, or run "
            "its job again"
        )
    return version


def latest_name(store: Store) -> str | None:
    """Returns the name that a root's ``LATEST`` holds, or None where there is none.

    Raises:
        IntegrityError: It holds something else than a name.
    """
    try:
        name = store.read(LATEST).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        return None
    if not is_version_name(name):
        raise IntegrityError(
            f"{store.url}/{LATEST} holds {name[:100]!r}, which names no version; write the name of "
            "a complete version into it"
        )
    return name


def find_version(path: str | os.PathLike[str]) -> Version:
    """Finds a version by its own path, or the latest one by its root's.

    A version that is still growing, or was not published, is found by its path.

    Raises:
        ConfigError: Neither is there.
        IntegrityError: ``LATEST`` names something that is not a complete version.
    """
    path = normalize_root(path)
    with refused("cannot read the dataset"):
        named = _version_named(path)
    if named is not None:
        return named
    found = find_versions(path)
    names = [
        f"{one.name} ({'complete' if one.is_complete() else 'unfinished'})"
        for one in found[:_MOST_NAMED]
    ]
    raise ConfigError(
        f"{path}: no version there is published; there are {', '.join(names)}; give the path of "
        f"one, such as {found[0].url}, or run its job to the end"
    )


def find_versions(path: str) -> list[Version]:
    """Finds what there is to be told of at a path.

    Returns:
        The version of that path; or the latest one of the root there; or, of a root where none is
        published yet, all of them in the order of their names.

    Raises:
        ConfigError: There is no version at all.
        IntegrityError: ``LATEST`` names something that is not a complete version.
    """
    path = normalize_root(path)
    with refused("cannot read the dataset"):
        named = _version_named(path)
        if named is not None:
            return [named]
        here = open_store(path)
        names = filter(is_version_name, here.folders())
        found = [Version(path, name) for name in names if _holds_version(here, f"{name}/")]
        has_data = not found and next(here.list("data/"), None) is not None
    if found:
        return found
    expected = f"expected a folder that holds {LATEST} or _meta/plan.json; check the path"
    if has_data:
        expected = (
            "it has data/ but no _meta/; copy the whole folder of a version, _SUCCESS as well"
        )
    raise ConfigError(
        f"{path}: neither a version nor a root with a complete one; {expected}, or run the job to "
        "the end"
    )


def _version_named(path: str) -> Version | None:
    """Returns the version whose own folder a path is, or the latest one of the root that it is."""
    check_directory(path)
    here = open_store(path)
    if here.size(EXPLODED) is not None:
        raise ConfigError(
            f"{path}: holds rows that explode has written, and is no version; any reader of "
            "Parquet takes its files"
        )
    if here.size(LATEST) is not None:
        return latest(path)
    parent, _, name = path.rpartition("/")
    if parent and is_version_name(name) and _holds_version(here, ""):
        return Version(parent, name)
    return None


def check_directory(path: str) -> None:
    """Checks that a path of this machine is a directory; of a URL, only its store knows.

    Raises:
        ConfigError: It is not.
    """
    if is_local(path) and not os.path.isdir(path):
        what = "it is a file" if os.path.exists(path) else "there is no such directory"
        raise ConfigError(
            f"{path}: neither a version nor a root with a complete one: {what}; check the path"
        )


def _holds_version(store: Store, folder: str) -> bool:
    return any(store.size(folder + name) is not None for name in _SEALS)


def block_order(block_id: str) -> tuple[int, int]:
    """Sorts blocks by split and place, also where ids have more digits than others."""
    split, _, seq = block_id.partition("-")
    return int(split), int(seq)


def block_of(key: str) -> str | None:
    """Returns the block that a key of a part, commit record or sidecar belongs to, if any."""
    stem = key.rpartition("/")[2].partition(".")[0].removeprefix("part-")
    return stem if _BLOCK.fullmatch(stem) else None


def split_of(key: str) -> str | None:
    """Returns the split that the key of an end record belongs to, if any."""
    stem = key.rpartition("/")[2].partition(".")[0]
    return stem if _SPLIT.fullmatch(stem) else None


def _checked(name: str, pattern: re.Pattern[str]) -> str:
    if not pattern.fullmatch(name):
        raise ConfigError(f"{name!r} is no id of a block or split; expected digits such as 00000")
    return name
