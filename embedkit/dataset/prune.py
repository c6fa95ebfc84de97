"""Which versions of a root may go, and their removal, that a kill anywhere leaves recognisable.

A version is claimed first and looked at again then, as its writer, who has to say that he writes,
looks for claims after that. Its marks go first, so no reader takes it for complete any more; its
plan goes last, and then the claim, so the next prune finds what this one left.
"""

import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from embedkit.dataset.heartbeat import ALIVE_SECONDS, Heard, last_heard
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.plan_file import read_plan
from embedkit.dataset.publication import number_of, numbers_by_name, point_elsewhere
from embedkit.dataset.removal import Removal, claim_removal, removals
from embedkit.dataset.store_keys import is_local, normalize_root
from embedkit.dataset.stores import READERS, refused
from embedkit.dataset.version import LATEST, Version, is_version_name, latest_name
from embedkit.errors import ConfigError, IntegrityError, RemovedError
from embedkit.lazy import lazy_property

_OURS = re.compile(
    r"data/part-\d{5,}-\d{5,}\.parquet|(_index|_meta|rejects|report)/.+|README\.md|_SUCCESS|"
    r"_PUBLISHED"
)
_MOST_LOOKS = 5


@dataclass(frozen=True)
class Policy:
    """Which versions are to stay.

    Attributes:
        keep: So many of the newest published versions stay.
        written_before: The others go if they were written before that, in seconds since the epoch;
            None, whenever they were, but then versions that are not published stay.
        alive: A version whose writer was heard of within so many seconds stays.
    """

    keep: int = 1
    written_before: float | None = None
    alive: float = ALIVE_SECONDS

    def __post_init__(self) -> None:
        if self.keep < 1:
            raise ConfigError("keep: at least 1, as readers of the root need a version")


@dataclass(frozen=True)
class Verdict:
    """What becomes of a version.

    Attributes:
        version: Its name.
        goes: Whether it is removed.
        why: Why it goes or stays, for a person.
        size: Bytes of all that it consists of; None where nobody looked.
        objects: How many objects those are.
    """

    version: str
    goes: bool
    why: str
    size: int | None = None
    objects: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Returns the verdict as JSON values."""
        said = {"version": self.version, "why": self.why}
        return said | ({} if self.size is None else {"size": self.size, "objects": self.objects})


@dataclass(frozen=True)
class _Root:
    """What of a root decides about its versions.

    Attributes:
        latest: The version that ``LATEST`` names.
        begun: The versions whose removal was begun.
        complete: The versions that do not change any more.
        numbers: The number of each published version.
        faults: Why that of others is not known.
        writers: The versions that somebody may be writing, with what was heard of him.
        completed: When complete versions were completed, in seconds since the epoch.
        waiting: The newest complete version that was not published, if it is newer than the one
            that ``LATEST`` names: somebody has yet to decide about it.
    """

    latest: str | None
    begun: frozenset[str]
    complete: set[str] = field(default_factory=set)
    numbers: dict[str, int] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    writers: dict[str, Heard] = field(default_factory=dict)
    completed: dict[str, float] = field(default_factory=dict)
    waiting: str | None = None

    def reusing(self, name: str) -> str | None:
        """Returns a version that takes vectors over from another one now, if any does."""
        for writer, heard in self.writers.items():
            if writer != name and (heard.beat is None or name in heard.beat.held):
                return writer
        return None


class Prune:
    """Removes the versions of a root that its policy lets go.

    Args:
        root: The directory or URL that holds the versions.
        policy: Which are to stay.
        clock: Returns the time, in seconds since the epoch.

    Raises:
        ConfigError: There is no such root.
    """

    def __init__(self, root: str, policy: Policy, clock: Callable[[], float] = time.time) -> None:
        root = normalize_root(root)
        if is_local(root) and not os.path.isdir(root):
            raise ConfigError(f"{root}: no such directory; give the root of a dataset")
        # A name that every root may have; what is asked of it is asked of the root.
        self._any = Version(root, "v")
        self._store = self._any.store
        self._policy = policy
        self._clock = clock
        self._run = secrets.token_hex(8)
        self._claimed: Mapping[str, bool] = {}
        self._complete: set[str] = set()
        self._numbers: dict[str, int] = {}
        self._completed: dict[str, float] = {}
        with refused("cannot read the dataset"):
            if self._store.size("_meta/plan.json") is not None:
                raise ConfigError(f"{root}: a version itself; give the root that holds it")

    def verdicts(self) -> list[Verdict]:
        """Says what becomes of each version, and removes nothing.

        Raises:
            ConfigError: The root holds no version, or cannot be read.
            StoreError: The store failed.
        """
        with refused("cannot read the dataset"):
            self._claimed = removals(self._store)
            names = set(filter(is_version_name, self._store.folders()))
            # Where a kill came at the very end, nothing but the claim is left.
            names |= set(filter(is_version_name, self._claimed))
        if not names and latest_name(self._store) is None:
            raise ConfigError(f"{self._any.root}: holds no version; give the root of a dataset")
        root = self._waiting(self._root(names))
        self._complete, self._numbers, self._completed = root.complete, root.numbers, root.completed
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda name: self._verdict(name, root), sorted(names)))

    def remove(self) -> Iterator[Verdict]:
        """Removes the versions that may go, each looked at once more just before.

        Yields:
            What became of each version of the root, when it has.

        Raises:
            ConfigError: The root holds no version, or cannot be read.
            StoreError: The store failed; the same call goes on.
        """
        for verdict in self.verdicts():
            # The claim of a prune that was killed keeps the writer of a version away that stays.
            is_to_be_seen = verdict.goes or verdict.version in self._claimed
            yield self._removed(verdict) if is_to_be_seen else verdict

    def _root(self, names: set[str]) -> _Root:
        """Reads what decides about versions, as it is now."""
        begun = frozenset(name for name, is_begun in removals(self._store).items() if is_begun)
        root = _Root(latest_name(self._store), begun)
        with ThreadPoolExecutor(READERS) as pool:
            looks = {name: pool.submit(self._look, name) for name in sorted(names)}
        for name, look in looks.items():
            try:
                completed, number, heard = look.result()
            except IntegrityError as error:
                root.faults[name] = str(error)
                continue
            if completed is not None:
                root.complete.add(name)
                root.completed[name] = completed
            if number:
                root.numbers[name] = number
            if heard is not None and heard.is_alive(self._clock(), self._policy.alive):
                root.writers[name] = heard
        return root

    def _root_again(self, name: str) -> _Root:
        """Reads what may have changed since the verdicts, of which one is looked at again."""
        names = set(filter(is_version_name, self._store.folders())) - self._complete
        root = self._root(names | {name})
        # Complete versions keep their numbers, or get higher ones.
        others = {one: number for one, number in self._numbers.items() if one != name}
        completed = {one: at for one, at in self._completed.items() if one != name}
        return self._waiting(
            replace(root, numbers=others | root.numbers, completed=completed | root.completed)
        )

    def _look(self, name: str) -> tuple[float | None, int, Heard | None]:
        version = self._version(name)
        completed = None
        if version.is_complete():
            # A store that does not tell has nothing of it removed by its age either.
            completed = self._store.modified(version.manifest_key) or 0.0
        return completed, number_of(version), last_heard(version)

    def _waiting(self, root: _Root) -> _Root:
        """Returns it with the version that waits to be published, if any does."""
        since = root.completed.get(root.latest or "", 0.0)
        newer = [one for one, at in root.completed.items() if at >= since and one != root.latest]
        for name in sorted(newer, key=lambda one: (root.completed[one], one), reverse=True):
            if name not in root.numbers and not self._is_trial(name):
                return replace(root, waiting=name)
        return root

    def _is_trial(self, name: str) -> bool:
        try:
            return "trial" in read_manifest(self._version(name)).description
        except (FileNotFoundError, IntegrityError):
            # Gone by now, or said of it where its own verdict is.
            return False

    def _verdict(self, name: str, root: _Root) -> Verdict:
        if name in root.begun:
            keys = [(key, size) for key, size, _ in self._ours(name)]
            why = "half removed by a prune that was stopped"
            return Verdict(name, True, why, sum(size for _, size in keys), len(keys))
        stays = (
            self._why_it_is_none(name)
            or self._why_it_is_wanted(name, root)
            or root.faults.get(name)
        )
        return Verdict(name, False, stays) if stays else self._by_its_objects(name, root)

    def _why_it_is_none(self, name: str) -> str | None:
        """Says why a folder is no version that may be removed, if it is none."""
        version = self._version(name)
        if is_local(version.root) and os.path.islink(version.url):
            return "a symbolic link"
        try:
            read_plan(version)
        except FileNotFoundError:
            try:
                data = version.store.read(version.manifest_key)
                Manifest.from_json(data, version.url_of(version.manifest_key))
            except FileNotFoundError:
                if self._is_left_over(version):
                    return None
                return "no version: it has neither a plan nor a manifest"
            except IntegrityError as error:
                return str(error)
        except IntegrityError as error:
            return str(error)
        return None

    def _is_left_over(self, version: Version) -> bool:
        """Whether nothing but marks stand there, of a process that a removal overtook."""
        marks = {version.published_key, version.heartbeat_key, version.growing_key}
        found = set(version.store.list(version.key("")))
        return bool(found) and found <= marks

    def _why_it_is_wanted(self, name: str, root: _Root) -> str | None:
        if name == root.latest:
            return f"{LATEST} names it"
        if name in root.writers:
            return f"may still be written: {self._said(root.writers[name])}"
        if (writer := root.reusing(name)) is not None:
            return f"version {writer}, which may still be written, takes vectors over from it"
        newest = sorted(root.numbers, key=lambda one: root.numbers[one])[-self._policy.keep :]
        if name in newest:
            one = "the newest" if len(newest) == 1 else f"one of the newest {len(newest)}"
            return f"{one} published"
        if name == root.waiting:
            return f"complete and newer than what {LATEST} names; publish it, or a later one, first"
        if name not in root.numbers and self._policy.written_before is None:
            return "not published; such go by their age alone, see --older-than"
        return None

    def _by_its_objects(self, name: str, root: _Root) -> Verdict:
        """Says what becomes of a version that goes if it is old, and nothing else is in it."""
        version, now = self._version(name), self._clock()
        found = list(version.store.times(version.key("")))
        foreign = next((key for key, _, _ in found if not self._is_ours(version, key)), None)
        if foreign is not None:
            path = foreign.removeprefix(version.key(""))
            return Verdict(
                name, False, f"holds {path!r}, which embedkit did not write; move it out"
            )
        times = [modified for _, _, modified in found if modified is not None]
        last = max(times, default=None)
        if not found or (last is None and name not in root.numbers):
            return Verdict(name, False, "the store does not tell when it was written")
        what = "published" if name in root.numbers else "not published"
        if not version.is_complete():
            what = "unfinished"
            if last is not None and Heard(last, None).is_alive(now, self._policy.alive):
                since = f"something of it was written {_ago(now - last)}"
                return Verdict(name, False, f"may still be written: {since}")
        before = self._policy.written_before
        if before is not None and (last is None or last >= before):
            when = "at an unknown time" if last is None else _ago(now - last)
            return Verdict(name, False, f"{what}, and written {when}, which is not long enough")
        aged = what if last is None else f"{what}, and written {_ago(now - last)}"
        return Verdict(name, True, aged, sum(size for _, size, _ in found), len(found))

    def _removed(self, verdict: Verdict) -> Verdict:
        """Removes a version, unless somebody has begun to need it."""
        name = verdict.version
        version = self._version(name)
        claimed = claim_removal(version, self._run, self._clock)
        if isinstance(claimed, str):
            return Verdict(name, False, f"another prune removes it now: {claimed}")
        again = self._verdict(name, self._root_again(name))
        if not again.goes:
            claimed.withdraw()
            return again
        try:
            self._remove(version, claimed)
        except RemovedError as error:
            return Verdict(name, False, str(error))
        return again

    def _remove(self, version: Version, removal: Removal) -> None:
        removal.begin()
        marks = [version.success_key, *self._taken.get(version.name, ())]
        for key in (*marks, version.published_key, version.manifest_key):
            removal.remove([key])
        # Who published it at this very moment may have been killed before he could take it back.
        point_elsewhere(version)
        # Its writer may have died with an object on its way.
        for _ in range(_MOST_LOOKS):
            keys = [key for key, _, _ in self._ours(version.name)]
            rest = [key for key in keys if key != version.plan_key]
            removal.remove(rest)
            if not rest:
                break
        removal.remove([version.plan_key])
        self._store.remove_empty(version.key(""))
        removal.end()

    @lazy_property
    def _taken(self) -> dict[str, list[str]]:
        """The keys of the numbers that versions have taken; who takes one later sees the claim."""
        return numbers_by_name(self._store)

    def _ours(self, name: str) -> Iterator[tuple[str, int, float | None]]:
        version = self._version(name)
        for found in version.store.times(version.key("")):
            if self._is_ours(version, found[0]):
                yield found

    def _is_ours(self, version: Version, key: str) -> bool:
        return _OURS.fullmatch(key.removeprefix(version.key(""))) is not None

    def _said(self, heard: Heard) -> str:
        if heard.beat is None:
            return "it has a heartbeat, which is torn"
        return f"host {heard.beat.host} said so {_ago(self._clock() - heard.at)}"

    def _version(self, name: str) -> Version:
        version = self._any.sibling(name)
        # One connection for all of them.
        version.__dict__["store"] = self._store
        return version


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0, seconds):.0f} s ago"
