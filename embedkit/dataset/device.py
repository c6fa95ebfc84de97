"""Keeps the name of what a version's encoders ran on."""

from embedkit.dataset.stores import create
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.formats.canonical import canonical_json, load_json


def record_device(version: Version, name: str) -> None:
    """Notes the device before anything is encoded; of a resumed version, nothing is changed.

    Raises:
        StoreError: The store failed; the same call again is safe.
    """
    create(version.store, version.device_key, canonical_json({"device_name": name}))


def recorded_device(version: Version) -> str | None:
    """Returns the device that was noted, or None where none was.

    Raises:
        IntegrityError: The note is damaged.
        StoreError: The store failed.
    """
    key = version.device_key
    try:
        return str(load_json(version.store.read(key))["device_name"])
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError(
            f"{version.url_of(key)}: not what embedkit wrote; remove it and run the same command "
            "again"
        ) from error
