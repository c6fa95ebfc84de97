"""Which language texts are in, told by py3langid, a naive Bayes classifier of byte sequences."""

import importlib.util
import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

CHARACTERS = 256
"""Characters of a text that are looked at: some 0.5 ms of a CPU."""

UNSURE = "und"
"""Stands for texts whose language is not told: too short ones, numbers, code."""

_SURE = 0.5
"""Probability of a language from which on it is told.

Of 1,500 sentences each in English, German, Russian, Chinese and Japanese, of 21 to 76 characters on
average, 90 % or more have it, and of those more than 98.5 % in each language are told rightly.
"""

_LEFT_OUT = frozenset({"pcm", "wuu"})
"""Close to English and to Chinese: 7 % of the Chinese sentences were taken for Wu."""

_LOADING = threading.Lock()


def can_tell_languages() -> bool:
    """Whether the package of the ``languages`` extra is there."""
    return importlib.util.find_spec("py3langid") is not None


def languages_of(texts: Sequence[str]) -> list[str]:
    """Tells the languages of texts, each by itself.

    Args:
        texts: The texts, or what they begin with.

    Returns:
        For each the code of ISO 639, ``zxx`` of what is no language, or ``und``.

    Raises:
        ModuleNotFoundError: py3langid is not installed.
    """
    # Threads of one process share a model, and do not load it side by side.
    with _LOADING:
        identifier = _identifier()
    return [identifier.classify(text[:CHARACTERS])[0] for text in texts]


@lru_cache(1)
def _identifier() -> "LanguageIdentifier":
    """Loads the model, which the package holds: no network, and no pickle."""
    # It takes 0.7 s and 120 MiB, and a few rows need none.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_SURE)
    found.set_languages([label for label in found.labels if label not in _LEFT_OUT])
    return found
