"""Where words and their vectors are: a model directory of static vectors."""

import os
from pathlib import Path

from embedkit.encoders.static.vectors import open_vectors
from embedkit.search.words import WordVectors


def open_words(place: str | os.PathLike[str]) -> WordVectors:
    """Opens words and their vectors.

    Args:
        place: A directory of static vectors, as ``embedkit convert`` and ``embedkit train`` write
            them.

    Raises:
        ConfigError: There is no such directory, or it is damaged.
    """
    return open_vectors(Path(place).expanduser())
