"""Reads a tokenizer.json as it stands, as libraries of static vectors do: no special tokens."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import orjson
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.tokens.tokenizer_limits import check_tokenizer
from embedkit.tokens.whole_words import UNKNOWN, count_unknown, is_of_words


@dataclass(frozen=True, eq=False)
class BareTokenizer:
    """A tokenizer without special tokens, padding and truncation; leave it as it is.

    Attributes:
        tokenizer: The tokenizer itself.
        unknown_id: Id of text that it does not know, or None where it has none.
        drops_unknown: Whether Model2Vec leaves that out of a text's vector: where the tokenizer
            names a token for it, and not its id alone.
        of_words: Whether its tokens are whole words alone, see ``word_tokenizer``.
        max_tokens: To how many tokens its file says that texts are cut; None where it does not.
        truncate_left: Whether they are cut at their beginning.
    """

    tokenizer: Tokenizer
    unknown_id: int | None
    drops_unknown: bool
    of_words: bool
    max_tokens: int | None
    truncate_left: bool


def bare_tokenizer(file: Path) -> BareTokenizer:
    """Reads a tokenizer as libraries of static vectors do.

    One of whole words has a token for those that are unknown, so that they can be counted. Whoever
    asks for the same file again gets the same tokenizer, as one of many words takes long to load.

    Args:
        file: The file ``tokenizer.json``.

    Raises:
        ConfigError: It cannot be read, or takes too much of texts.
    """
    try:
        found = file.stat()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror})") from error
    return _read(os.fspath(file), (found.st_ino, found.st_size, found.st_mtime_ns))


@lru_cache(maxsize=2)
def _read(file: str, _: tuple[int, int, int]) -> BareTokenizer:
    try:
        tokenizer = Tokenizer.from_file(file)
    # The library raises a bare Exception for whatever its parser does not like.
    except Exception as error:
        raise ConfigError(
            f"{file}: the tokenizer cannot be read ({one_line(error, only_first=True)}); download "
            "the model again"
        ) from error
    check_tokenizer(file, tokenizer)
    truncation = tokenizer.truncation or {}
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.post_processor = None
    of_words = is_of_words(tokenizer) and tokenizer.token_to_id(UNKNOWN) is not None
    if of_words:
        count_unknown(tokenizer)
    unknown = getattr(tokenizer.model, "unk_token", None)
    return BareTokenizer(
        tokenizer=tokenizer,
        unknown_id=(
            _unknown_id(file, tokenizer) if unknown is None else tokenizer.token_to_id(unknown)
        ),
        drops_unknown=unknown is not None,
        of_words=of_words,
        max_tokens=truncation.get("max_length"),
        truncate_left=truncation.get("direction") == "left",
    )


def _unknown_id(file: str, tokenizer: Tokenizer) -> int | None:
    """Returns the id of unknown text where the library does not tell."""
    if not isinstance(tokenizer.model, Unigram):
        return None
    found: int | None = orjson.loads(Path(file).read_bytes())["model"].get("unk_id")
    return found
