"""The words of a corpus that a model is to know, as its own tokenizer parts them."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice

from tokenizers import Tokenizer, pre_tokenizers

from embedkit.training.sentences import SplitWords

_SPACE = "\u2581"
"""Stands for a blank in what some normalizers make of a text."""


def model_splitter(tokenizer: Tokenizer) -> SplitWords:
    """Returns what parts a text where a tokenizer begins new tokens whatever its vocabulary is.

    What it leaves together is parted at punctuation as well.

    Args:
        tokenizer: The tokenizer.
    """
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    at_punctuation = pre_tokenizers.BertPreTokenizer()

    def split(text: str) -> list[str]:
        normal = text if normalizer is None else normalizer.normalize_str(text)
        spans = (
            [(0, len(normal))]
            if pre_tokenizer is None
            else [span for _, span in pre_tokenizer.pre_tokenize_str(normal)]
        )
        pieces = (normal[start:end].replace(_SPACE, " ") for start, end in spans)
        return [
            word for piece in pieces for word, _ in at_punctuation.pre_tokenize_str(piece) if word
        ]

    return split


def frequent_words(texts: Iterable[str], tokenizer: Tokenizer, most: int) -> list[str]:
    """Returns the words that occur most often and are no token yet, the most frequent first.

    Args:
        texts: The texts.
        tokenizer: The tokenizer of the model.
        most: How many words, if there are so many.
    """
    split = model_splitter(tokenizer)
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(split(text))
    tokens = tokenizer.get_vocab()
    new = (word for word, _ in counts.most_common() if not _is_token(word, tokenizer, tokens))
    return list(islice(new, most))


def _is_token(word: str, tokenizer: Tokenizer, tokens: Mapping[str, int]) -> bool:
    """Tells whether a word is a token, at the beginning of a text or behind a blank."""
    if word in tokens or tokenizer.pre_tokenizer is None:
        return word in tokens
    for text in (word, f" {word}"):
        pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
        if len(pieces) == 1 and pieces[0][0] in tokens:
            return True
    return False
