"""The folder of an output, which has its name when all is written."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from embedkit.dataset.version import INDEXES, Version
from embedkit.errors import ConfigError, StoreError
from embedkit.errors.urls import public_url
from embedkit.search.export.record import NAME


def default_output(version: Version, target: str) -> Path:
    """Returns where an index of a version stands unless it is said.

    Raises:
        ConfigError: The version is in an object store, where no library opens an index.
    """
    if "://" in version.root:
        raise ConfigError(
            f"{version.url}: is no local directory; give --output, a local directory for the index"
        )
    return Path(version.url) / INDEXES / target


def checked_output(version: Version, output: str, force: bool) -> Path:
    """Checks that a folder can be made, before hours are spent on what is to be in it.

    Args:
        version: The version that is exported.
        output: The folder.
        force: Whether an earlier export may be replaced.

    Raises:
        ConfigError: It is no local directory, stands already, or is in a version.
    """
    if "://" in output:
        raise ConfigError(
            f"output {public_url(output)}: exports are written to a local directory; name one, and "
            "copy it from there"
        )
    folder = Path(output).expanduser().absolute()
    inside = "://" not in version.root and folder.is_relative_to(Path(version.url).absolute())
    if inside and folder.parent != Path(version.url).absolute() / INDEXES:
        raise ConfigError(
            f"output {folder}: is in the version itself; write elsewhere, or leave --output out"
        )
    if not folder.exists() and not folder.is_symlink():
        return folder
    if folder.is_symlink() or not folder.is_dir():
        raise ConfigError(f"output {folder}: exists and is no directory; name another")
    if not any(folder.iterdir()):
        return folder
    if not (folder / NAME).is_file():
        raise ConfigError(
            f"output {folder}: holds other files than an export; name a new directory"
        )
    if not force:
        raise ConfigError(
            f"output {folder}: holds an export already; give --force to replace it, or name "
            "another directory"
        )
    return folder


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Gives a folder to write into, which gets its name when all went well, and goes if not.

    What stands there is put aside in the moment before; of a process that was killed in between
    both are there, beside the name.

    Raises:
        StoreError: The disk failed.
    """
    # Not the process's number, which is the same in each container.
    token = secrets.token_hex(6)
    draft, aside = (folder.with_name(f"{folder.name}.{token}.{end}") for end in ("tmp", "old"))
    try:
        draft.mkdir(parents=True)
        yield draft
        _put(draft, folder, aside)
    except OSError as error:
        where = error.filename or folder
        raise StoreError(
            f"{where}: cannot be written ({error.strerror or error}); make room or see to its "
            "rights, then run the same command again"
        ) from error
    finally:
        for leftover in (draft, aside):
            shutil.rmtree(leftover, ignore_errors=True)


def _put(draft: Path, folder: Path, aside: Path) -> None:
    if not folder.exists():
        draft.rename(folder)
        return
    folder.rename(aside)
    try:
        draft.rename(folder)
    except OSError:
        aside.rename(folder)
        raise
