"""Refuses tokenizers that take far more time or memory for a text than any real one."""

import json
import math
from collections.abc import Iterator
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import WordLevel, WordPiece

from embedkit.errors import ConfigError

_MOST_WORD_CHARS = 10_000
_MOST_GROWTH = 64
_MOST_AFFIX_CHARS = 64
_GROWING = {"Replace": "content", "Prepend": "prepend"}


def check_tokenizer(directory: str, tokenizer: Tokenizer) -> None:
    """Refuses a tokenizer whose time or memory grows out of all proportion with a text.

    Args:
        directory: The model directory, for messages.
        tokenizer: The tokenizer.

    Raises:
        ConfigError: It would.
    """
    model = tokenizer.model
    longest = getattr(model, "max_input_chars_per_word", 0)
    if longest > _MOST_WORD_CHARS:
        raise ConfigError(
            f"{directory}: the tokenizer's max_input_chars_per_word is {longest:,}, and time grows "
            f"with the square of it; expected at most {_MOST_WORD_CHARS:,}"
        )
    unknown = getattr(model, "unk_token", None) or ""
    if isinstance(model, (WordPiece, WordLevel)) and model.token_to_id(unknown) is None:
        raise ConfigError(
            f"{directory}: the tokenizer's vocabulary lacks its own token for unknown words, "
            f"{unknown!r}; download the model again"
        )
    for name in ("continuing_subword_prefix", "end_of_word_suffix"):
        affix = getattr(model, name, None) or ""
        if len(affix) > _MOST_AFFIX_CHARS:
            raise ConfigError(
                f"{directory}: the tokenizer's {name} has {len(affix):,} characters, which are put "
                f"to every character of a text; expected at most {_MOST_AFFIX_CHARS}"
            )
    steps = [*_steps(_state(tokenizer.normalizer)), *_steps(_state(tokenizer.pre_tokenizer))]
    if math.prod(map(_growth, steps)) > _MOST_GROWTH:
        raise ConfigError(
            f"{directory}: the tokenizer may make a text more than {_MOST_GROWTH} times as long by "
            "what it puts in the place of characters; take one that does not"
        )


def _state(step: Any) -> dict[str, Any]:
    state: dict[str, Any] = {} if step is None else json.loads(step.__getstate__())
    return state


def _steps(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if state.get("type") != "Sequence":
        yield state
    for inner in (*state.get("normalizers", ()), *state.get("pretokenizers", ())):
        yield from _steps(inner)


def _growth(step: dict[str, Any]) -> int:
    """Returns how many times as long a text of some length may become, at least 1."""
    if step.get("type") == "ByteLevel":
        # Each byte becomes a character, which has two bytes for the next such step.
        return 2
    return max(1, len(step.get(_GROWING.get(step.get("type", ""), ""), "")))
