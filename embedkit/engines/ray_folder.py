"""Where a Ray of this machine keeps its sockets and logs."""

import os
import tempfile
from pathlib import Path

from embedkit.errors import ConfigError

# A socket's path has 107 bytes at most, of which Ray adds 64.
_LONGEST = 43


def ray_folder() -> str:
    """Returns a folder that Ray can use: a short path, and this user's to write to.

    Raises:
        ConfigError: There is none.
    """
    refused = []
    named = [os.environ.get(name) for name in ("RAY_TMPDIR", "TMPDIR")]
    for place in dict.fromkeys([*filter(None, named), "/tmp", "/dev/shm"]):
        # On a machine of many users, another one may have made the first.
        for name in ("ray", f"ray-{os.getuid()}"):
            folder = Path(place).absolute() / name
            if (reason := _why_not(folder)) is None:
                return str(folder)
            refused.append(f"{folder}: {reason}")
    raise ConfigError(
        "Ray finds no folder for its sockets and logs ("
        + "; ".join(dict.fromkeys(refused))
        + f"); set RAY_TMPDIR to one that can be written, of at most {_LONGEST - 4} bytes"
    )


def _why_not(folder: Path) -> str | None:
    if len(os.fsencode(folder)) > _LONGEST:
        return "too long a path"
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0" * 4096)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None
