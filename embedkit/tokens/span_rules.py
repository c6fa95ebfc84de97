"""Which spans of a text get vectors of their own."""

from dataclasses import dataclass
from typing import Literal

from embedkit.config import ModelConfig
from embedkit.errors import ConfigError


@dataclass(frozen=True)
class SpanRules:
    """Which spans of a text get vectors of their own; small, picklable and hashable.

    Attributes:
        of: ``token`` or ``word``.
        word_pattern: Regular expression whose matches are the words; those of the tokenizer's own
            pre-tokenizer where empty.
        words: The words of which occurrences are kept, in any case where given in lower case; all
            words where empty.
        special_tokens: Whether special tokens get vectors as well.
        token_texts: Whether the tokens, or words, themselves are kept beside their vectors.
    """

    of: Literal["word", "token"]
    word_pattern: str = ""
    words: tuple[str, ...] = ()
    special_tokens: bool = False
    token_texts: bool = False

    def ingredients(self) -> dict[str, str | int | bool]:
        """Returns all of it that decides which vectors there are, by name; what is neutral not."""
        given: dict[str, str | int | bool] = {
            "word_pattern": self.word_pattern,
            "words": ",".join(self.words),
            "special_tokens": self.special_tokens,
        }
        return {"granularity": self.of, **{name: one for name, one in given.items() if one}}


def span_rules(config: ModelConfig) -> SpanRules | None:
    """Returns which spans of a text get vectors, as a job asks for it; None for the whole text.

    Raises:
        ConfigError: Words are given, but all of them are white space.
    """
    if config.granularity == "token":
        return SpanRules("token", special_tokens=config.special_tokens)
    if config.granularity == "word":
        words = tuple(sorted({word.strip() for word in config.words} - {""}))
        if config.words and not words:
            raise ConfigError("words: there is no word in it; give some as a,b,c, or leave it out")
        return SpanRules("word", word_pattern=config.word_pattern or "", words=words)
    return None
