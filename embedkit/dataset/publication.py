"""Publishing: complete versions of a root get numbers, and ``LATEST`` names the highest.

A version is complete when it is sealed, and published when it has a number. Numbers are taken by
creating ``.numbers/<number>`` if absent, so no two versions ever have the same one; what
``LATEST`` says follows from them, whoever wrote it last.
"""

from functools import partial

from embedkit.dataset.removal import check_not_removed
from embedkit.dataset.stores import Store, create, read_found, read_if_there
from embedkit.dataset.version import LATEST, Version, is_version_name, latest_name
from embedkit.errors import IntegrityError, RemovedError, StoreError
from embedkit.formats.canonical import canonical_json, load_json

_NUMBERS = ".numbers/"
_MOST_AT_ONCE = 1000
_RESUME = "run the same command again to resume"


def publish(version: Version) -> None:
    """Gives a complete version its number, and makes it the latest one unless a newer one is.

    A version that was published before keeps its number.

    Raises:
        IntegrityError: The version is not complete, or a file that says so is damaged.
        RemovedError: The version is being removed.
        StoreError: The store failed; the same call again is safe.
    """
    _check_complete(version)
    if not is_published(version):
        number = {"number": _new_number(version)}
        create(version.store, version.published_key, canonical_json(number))
    point_latest(version)
    _check_complete_still(version)


def publish_above_all(version: Version) -> None:
    """Makes a complete version the latest one, whatever was published after it.

    It gets a new number, unless it has the highest. So whoever publishes another one at the same
    time gets a number before or after it, and ``LATEST`` names the later of the two.

    Raises:
        IntegrityError: The version is not complete, or a file that says so is damaged.
        RemovedError: The version is being removed.
        StoreError: The store failed; the same call again is safe.
    """
    _check_complete(version)
    if newest_published(version) != version.name:
        number = _new_number(version)
        highest = 0
        while number > highest:
            highest = number
            version.store.replace(version.published_key, canonical_json({"number": number}))
            # Whoever did the same may have got a higher one, and have said so just before.
            number = _highest_of(version)
    point_latest(version)
    _check_complete_still(version)


def _highest_of(version: Version) -> int:
    """Returns the highest number that a version has taken, 0 where it has none."""
    store = version.store
    taken = reversed(_taken(store))
    return next((number for number in taken if _name_at(store, number) == version.name), 0)


def _check_complete(version: Version) -> None:
    if not version.is_complete():
        raise IntegrityError(f"{version.url}: not complete; {_RESUME}")


def _check_complete_still(version: Version) -> None:
    if not version.is_complete():
        # What was written just now would make a later version of that name a published one.
        for key in (version.published_key, *numbers_by_name(version.store).get(version.name, ())):
            version.store.remove(key)
        raise RemovedError(
            f"{version.url}: removed by embedkit prune just now; run the same command again, which "
            "begins the version anew"
        )


def name_where_none_is(version: Version) -> bool:
    """Lets ``LATEST`` name a complete version that is not published, where it names none.

    So the first version of a root can be looked at by its root, and gives way to the first that
    is published.

    Returns:
        Whether ``LATEST`` names it now.

    Raises:
        IntegrityError: The version is not complete, or ``LATEST`` is damaged.
        RemovedError: The version is being removed.
        StoreError: The store failed; the same call again is safe.
    """
    _check_complete(version)
    create(version.store, LATEST, f"{version.name}\n".encode())
    named = latest_name(version.store) == version.name
    if named:
        _check_not_removed(version)
    return named


def is_published(version: Version) -> bool:
    """Whether a version has been the latest one, or could be.

    Raises:
        IntegrityError: A file that says so is damaged.
        StoreError: The store failed.
    """
    return number_of(version) > 0


def number_of(version: Version) -> int:
    """Returns the place of a version among the published ones of its root, 0 where it is not.

    Raises:
        IntegrityError: A file that says so is damaged.
        StoreError: The store failed.
    """
    # Versions of the first release have their number in ``_SUCCESS`` itself, and another one where
    # they were published once more.
    first = _number_in(version, version.success_key, optional=True)
    said = _number_in(version, version.published_key) if version.is_complete() else 0
    return max(first, said)


def mend_number(version: Version) -> str | None:
    """Makes a published version and its entry in ``.numbers`` say the same number again.

    The entry is the truth, where there is one; a file that cannot be read and has no entry goes.

    Returns:
        What was wrong, or None where nothing was.

    Raises:
        StoreError: The store failed; the same call again is safe.
    """
    fault = fault_of_number(version)
    if fault is None:
        return None
    key, what = fault
    store = version.store
    entries = [number for number in _taken(store) if _name_at(store, number) == version.name]
    try:
        said = _said_number(version)
    except IntegrityError:
        said = 0
    if entries and store.size(version.published_key) is not None:
        entry = canonical_json({"number": max(entries)})
        store.replace(version.published_key, entry)
    elif said and key == _key(said):
        store.replace(_key(said), f"{version.name}\n".encode())
    else:
        store.remove(version.published_key)
    return f"{version.url_of(key)}: {what}; made anew"


def keep_number(version: Version) -> None:
    """Keeps the number of a version of the first release, whose ``_SUCCESS`` will be removed."""
    try:
        number = _number_in(version, version.success_key, optional=True)
    except IntegrityError:
        return
    if number:
        create(version.store, version.published_key, canonical_json({"number": number}))


def fault_of_number(version: Version) -> tuple[str, str] | None:
    """Returns the key and the fault of the file that a version's number is wrong in, if any.

    A version may be copied without ``.numbers``, which it does not need.
    """
    try:
        number = _said_number(version)
    except IntegrityError:
        return version.published_key, "not a JSON object with a number"
    if not number or version.store.size(_key(number)) is None:
        has_entry = number and any(
            _name_at(version.store, one) == version.name for one in _taken(version.store)
        )
        return (version.published_key, "another number than was taken") if has_entry else None
    name = _name_at(version.store, number)
    if name == version.name:
        return None
    if name is not None and _claims(version, name, number):
        return version.published_key, f"the number of version {name}"
    return _key(number), f"does not name {version.name}, which has that number"


def _said_number(version: Version) -> int:
    """Returns what the marks say, whether the version is complete or not."""
    return max(
        _number_in(version, version.success_key, optional=True),
        _number_in(version, version.published_key),
    )


def _claims(version: Version, name: str, number: int) -> bool:
    try:
        return number_of(Version(version.root, name)) == number
    except IntegrityError:
        return False


def newest_published(version: Version) -> str | None:
    """Returns the name of the version that ``LATEST`` should give, as far as numbers tell."""
    newest = _published_after(version, 0)
    return newest[1] if newest else None


def point_latest(version: Version) -> None:
    """Points ``LATEST`` to a published version unless it names one that was published later.

    So finding an old version complete again does not bring it back, and a run that was killed
    just before it moved ``LATEST`` can be made good.

    Raises:
        IntegrityError: A file that says which version is published is damaged.
        RemovedError: The version is being removed.
        StoreError: The store failed.
    """
    store = version.store
    number = number_of(version)
    if number <= _number_of_latest(version):
        return
    newest: tuple[int, str] | None = (number, version.name)
    while newest is not None:
        store.replace(LATEST, f"{newest[1]}\n".encode())
        # Another version may have been published since LATEST was read, and been overwritten now.
        newest = _published_after(version, newest[0])
    _check_not_removed(version)


def _check_not_removed(version: Version) -> None:
    """Takes back that ``LATEST`` names a version, where another process removes it.

    That one claims it before it looks whether ``LATEST`` names it.
    """
    try:
        check_not_removed(version)
    except RemovedError:
        point_elsewhere(version)
        raise


def point_elsewhere(version: Version) -> None:
    """Lets ``LATEST``, where it names a version that is being removed, name the newest other one.

    Raises:
        StoreError: The store failed.
    """
    store = version.store
    while latest_name(store) == version.name:
        name = newest_other(version)
        if name is None:
            store.remove(LATEST)
        else:
            store.replace(LATEST, f"{name}\n".encode())


def newest_other(version: Version) -> str | None:
    """Returns the name of the newest published version of a root but a certain one, if any.

    Raises:
        StoreError: The store failed.
    """
    others = reversed(_taken(version.store))
    return next((name for name in map(partial(_other_at, version), others) if name), None)


def published_before(version: Version) -> str | None:
    """Returns the name of the version that was published last before a certain one, if any.

    Of a version that is not published it is the newest.

    Raises:
        IntegrityError: A file that says so is damaged.
        StoreError: The store failed.
    """
    own = number_of(version)
    earlier = (one for one in reversed(_taken(version.store)) if not own or one < own)
    return next((name for name in map(partial(_other_at, version), earlier) if name), None)


def _other_at(version: Version, number: int) -> str | None:
    """Returns the version that has a number, unless it is a certain one."""
    name = _name_at(version.store, number)
    if name is None or name == version.name or not _claims(version, name, number):
        return None
    return name


def numbers_by_name(store: Store) -> dict[str, list[str]]:
    """Returns the keys of the numbers that each version has taken."""
    found: dict[str, list[str]] = {}
    for key, data in read_found(store, map(_key, _taken(store))):
        if data is not None:
            found.setdefault(data.decode("utf-8", "replace").strip(), []).append(key)
    return found


def _number_of_latest(version: Version) -> int:
    """A ``LATEST`` or a version that is damaged or gone does not keep another from its place."""
    try:
        name = latest_name(version.store)
        return number_of(version.sibling(name)) if name is not None else 0
    except IntegrityError:
        return 0


def _published_after(version: Version, number: int) -> tuple[int, str] | None:
    for taken in reversed(_taken(version.store)):
        if taken <= number:
            break
        name = _name_at(version.store, taken)
        try:
            if name is not None and number_of(version.sibling(name)) == taken:
                return taken, name
        except IntegrityError:
            continue
    return None


def _new_number(version: Version) -> int:
    store = version.store
    # Before it is asked which are taken, as another run may publish this version meanwhile.
    latest = _number_of_latest(version)
    highest = max(_taken(store), default=0)
    if _name_at(store, highest) == version.name:
        # Taken by a run that was killed before it could say so.
        return highest
    first = max(highest, latest) + 1
    for number in range(first, first + _MOST_AT_ONCE):
        if create(store, _key(number), f"{version.name}\n".encode()):
            return number
        if _name_at(store, number) == version.name:
            return number
    raise StoreError(
        f"{version.url_of(_key(first))}: {_MOST_AT_ONCE} versions were completed at once; {_RESUME}"
    )


def _key(number: int) -> str:
    return f"{_NUMBERS}{number:08d}"


def _taken(store: Store) -> list[int]:
    names = (key.removeprefix(_NUMBERS) for key in store.list(_NUMBERS))
    return sorted(int(name) for name in names if name.isdecimal())


def _name_at(store: Store, number: int) -> str | None:
    if not number:
        return None
    data = read_if_there(store, _key(number))
    name = "" if data is None else data.decode("utf-8", "replace").strip()
    return name if is_version_name(name) else None


def _number_in(version: Version, key: str, optional: bool = False) -> int:
    data = read_if_there(version.store, key)
    return 0 if data is None else checked_number(version, key, data, optional)


def checked_number(version: Version, key: str, data: bytes, optional: bool = False) -> int:
    """Reads the number of a version in a file that was read from it, 0 where it has none.

    Args:
        version: The version.
        key: The file's key: of ``_PUBLISHED``, or of ``_SUCCESS``.
        data: Its bytes.
        optional: Whether it may say nothing of a number, as ``_SUCCESS`` may.

    Raises:
        IntegrityError: It is damaged.
    """
    try:
        said = load_json(data)
        number = said.get("number", 0) if optional else said["number"]
        if isinstance(number, int) and number >= 0:
            return number
        raise ValueError("no number")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise IntegrityError(
            f"{version.url_of(key)}: not what embedkit wrote; run the version's job again, which "
            "writes it anew"
        ) from error
