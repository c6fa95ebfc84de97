"""Where words and their vectors are: a directory of static vectors, or a version of words."""

import os
from pathlib import Path

from embedkit.encoders.static.layout import is_static
from embedkit.encoders.static.vectors import open_vectors
from embedkit.errors import ConfigError
from embedkit.errors.wrong_kinds import as_path
from embedkit.search.words import WordVectors

_OF_MODELS = ("modules.json", "config.json", "model.safetensors")


def open_words(place: str | os.PathLike[str]) -> WordVectors:
    """Opens words and their vectors.

    Args:
        place: A directory of static vectors, as ``embedkit convert`` and ``embedkit train`` write
            them; or the root of a dataset whose rows have vectors of words, or one version of it,
            which is read once: a word's vector is the mean of those of its occurrences then.

    Raises:
        ConfigError: There is neither, or the version does not have its words.
        IntegrityError: A part of the version is damaged.
    """
    place = as_path("place", place)
    directory = Path(place)
    if is_static(directory) or any((directory / name).is_file() for name in _OF_MODELS):
        return open_vectors(directory)
    if "://" not in place and not directory.is_dir():
        raise ConfigError(f"{place}: no such directory, of static vectors or a dataset")
    # What a version needs takes a second to load, and static vectors need none of it.
    from embedkit.dataset.version import find_version
    from embedkit.search.version_words import mean_words

    return mean_words(find_version(place))
