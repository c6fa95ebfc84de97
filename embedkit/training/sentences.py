"""Texts as lists of words, as gensim takes them."""

from collections.abc import Callable, Iterable, Iterator

from embedkit.tokens.whole_words import MARK, word_tokenizer

MOST_WORDS = 10_000
"""gensim leaves out what follows in a sentence, without a word (its issue 2880)."""

_MOST_CHARACTERS = 1 << 16

SplitWords = Callable[[str], list[str]]


def word_splitter(lower_case: bool) -> SplitWords:
    """Returns what splits texts as the tokenizer of a model of words does.

    Args:
        lower_case: Whether texts are lower-cased first.
    """
    tokenizer = word_tokenizer([], lower_case)
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer

    def split(text: str) -> list[str]:
        normal = text if normalizer is None else normalizer.normalize_str(text)
        pieces = (piece.removeprefix(MARK) for piece, _ in pre_tokenizer.pre_tokenize_str(normal))
        return [piece for piece in pieces if piece]

    return split


class Sentences:
    """The words of each text, as often as they are asked for.

    gensim reads them in a thread of its own, and where that one fails the others wait for good. So
    what goes wrong ends the sentences, and is raised by ``check``.

    Args:
        texts: The texts; one without a word is left out, and one of more than ``MOST_WORDS`` gives
            several sentences.
        split: Returns the words of a text.
    """

    def __init__(self, texts: Iterable[str], split: SplitWords) -> None:
        self._texts = texts
        self._split = split
        self._failed: Exception | None = None

    def __iter__(self) -> Iterator[list[str]]:
        """Reads them once more."""
        try:
            for text in self._texts:
                yield from self._of(text)
        except Exception as error:  # noqa: BLE001 - raised again where somebody hears of it
            self._failed = error

    def _of(self, text: str) -> Iterator[list[str]]:
        words: list[str] = []
        for piece in _pieces(text):
            words += self._split(piece)
            while len(words) > MOST_WORDS:
                yield words[:MOST_WORDS]
                del words[:MOST_WORDS]
        if words:
            yield words

    def check(self) -> None:
        """Raises what ended the sentences before their end, if anything did."""
        if self._failed is not None:
            raise self._failed


def _pieces(text: str) -> Iterator[str]:
    """Cuts a long text at blanks, as a list of all of its words takes far more than the text."""
    start = 0
    while len(text) - start > _MOST_CHARACTERS:
        end = max(text.rfind(blank, start, start + _MOST_CHARACTERS) for blank in " \n\t")
        if end <= start:
            break
        yield text[start:end]
        start = end
    yield text[start:]
