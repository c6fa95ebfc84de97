"""Tells whether a tokenizer belongs to a model, as far as that can be told without a corpus."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from embedkit.encoders.transformer.architecture import input_embeddings
from embedkit.encoders.weights import tensor_rows, tensor_shapes

COMMON = (
    "the of and to in a is that for it as was with be by on not he his but at are this have from "
    "or had an they which one you were all her she there would their we him been has when who "
    "will no more if out so up said what its about than into them can only other time new some "
    "could these two may first then do any like my now over such our man me even most made after "
    "also did many off before must well back through years much where your way down should "
    "because long each just state those people too mr how little good world make very year still "
    "see work life day same under last right being while might old great another water house "
    "city school money music table paper letter river station market summer winter"
)
"""Words that nearly every English text has; a tokenizer that a model was trained with gives them
ids that the training has seen often."""

_ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
_LEAST_SAME = 0.99
_MOST_FACTOR = 2.0
"""Common words have half to all of the usual norm: 0.76 of the median row in all-MiniLM-L6-v2,
whose rows that no text has trained have 0.37 of it."""
_MOST_EMPTY = 0.01
_ROWS = 512


@dataclass(frozen=True)
class Norms:
    """Lengths of the rows of a model's embedding matrix.

    Attributes:
        used: Median over the rows that the tokenizer gives to common words.
        usual: What it should be near to.
        of_own: Whether ``usual`` is that of the same words by the model's own tokenizer, and not
            that of rows from all over the matrix.
        empty: Share of the rows used that are zero or not finite.
    """

    used: float
    usual: float
    of_own: bool
    empty: float

    @property
    def is_strange(self) -> bool:
        """Whether rows are used that the model was hardly trained with for these words."""
        near = self.usual / _MOST_FACTOR <= self.used <= self.usual * _MOST_FACTOR
        return self.empty > _MOST_EMPTY or not near

    def __str__(self) -> str:
        other = "by the model's own tokenizer" if self.of_own else "over all rows"
        empty = f", {self.empty:.0%} of them zero or not finite" if self.empty else ""
        return (
            f"embeddings of common English words have a median norm of {self.used:.3g}{empty} "
            f"({self.usual:.3g} {other})"
        )


@dataclass(frozen=True)
class TokenizerMatch:
    """What was found of a tokenizer beside a model.

    Attributes:
        specials: Special tokens whose ids are not the model's, a phrase each.
        tokens: Tokens of its vocabulary.
        same: Those of them that the model's own tokenizer has under the same id; None where the
            model has no tokenizer.
        same_of_words: The same as a share of the tokens of common words.
        norms: Lengths of the embeddings used; None where the weights hold no such matrix.
    """

    specials: tuple[str, ...]
    tokens: int
    same: int | None
    same_of_words: float
    norms: Norms | None

    @property
    def mismatch(self) -> str:
        """Why the tokenizer does not belong to the model; empty where nothing speaks against it."""
        return "; ".join(self._reasons())

    def _reasons(self) -> Iterator[str]:
        share = 1.0 if self.same is None else self.same / max(self.tokens, 1)
        strange = self.norms is not None and self.norms.is_strange
        if not (self.specials or share < _LEAST_SAME or self.same_of_words < _LEAST_SAME):
            if strange:
                yield str(self.norms)
            return
        if self.specials:
            yield ", ".join(self.specials)
        if self.same is not None:
            yield (
                f"{self.same:,} of its {self.tokens:,} tokens ({share:.1%}) and "
                f"{self.same_of_words:.0%} of those of common English words are the model's own of "
                "that id"
            )
        if self.norms is not None:
            yield str(self.norms)


def match_tokenizer(
    loaded: Any, own: Any | None, config: Any, directory: Path, weights: Sequence[Path]
) -> TokenizerMatch:
    """Compares a tokenizer with a model's own one and with its configuration and embeddings.

    Args:
        loaded: The tokenizer, whose ids are all in the model's range.
        own: The model's own tokenizer; None where it has none.
        config: The model's configuration.
        directory: The model's directory, for messages.
        weights: Its safetensors files.

    Raises:
        ConfigError: No model can be built from the configuration.
    """
    ids = _ids_of_words(loaded)
    vocabulary = _vocabulary(loaded)
    same, same_of_words = None, 1.0
    if own is not None:
        known, names = _vocabulary(own), {number: token for token, number in vocabulary.items()}
        same = sum(known.get(token) == number for token, number in vocabulary.items())
        agreeing = sum(known.get(names.get(number, "")) == number for number in ids)
        same_of_words = agreeing / max(len(ids), 1)
    return TokenizerMatch(
        specials=tuple(_other_specials(loaded, own, config)),
        tokens=len(vocabulary),
        same=same,
        same_of_words=same_of_words,
        norms=_norms(ids, own, config, directory, weights),
    )


def _ids_of_words(loaded: Any) -> list[int]:
    ids: list[int] = loaded.backend_tokenizer.encode(COMMON, add_special_tokens=False).ids
    return ids


def _vocabulary(loaded: Any) -> Mapping[str, int]:
    found: Mapping[str, int] = loaded.backend_tokenizer.get_vocab(with_added_tokens=True)
    return found


def _other_specials(loaded: Any, own: Any | None, config: Any) -> Iterator[str]:
    for role in _ROLES:
        name = f"{role}_token_id"
        theirs = getattr(loaded, name, None)
        expected = getattr(own, name, None)
        if expected is None:
            expected = getattr(config, name, None)
        # Decoders may end texts with any of several.
        allowed = expected if isinstance(expected, list) else [expected]
        if theirs is not None and expected is not None and theirs not in allowed:
            yield f"its {role} token is {theirs}, the model's {expected}"


def _norms(
    ids: Sequence[int], own: Any | None, config: Any, directory: Path, weights: Sequence[Path]
) -> Norms | None:
    import torch

    found = _embedding_tensor(config, directory, weights)
    if found is None or not ids:
        return None
    file, name, rows = found
    step = max(1, rows // _ROWS)
    others = range(0, rows, step) if own is None else _ids_of_words(own)
    wanted = sorted({*ids, *others})
    lengths = torch.linalg.vector_norm(tensor_rows(file, name, wanted), dim=1)
    of_row = dict(zip(wanted, lengths.tolist(), strict=True))
    used = [of_row[number] for number in set(ids)]
    empty = sum(not 0 < length < float("inf") for length in used)
    return Norms(
        used=median(used),
        usual=median(of_row[number] for number in set(others)),
        of_own=own is not None,
        empty=empty / len(used),
    )


def _embedding_tensor(
    config: Any, directory: Path, weights: Sequence[Path]
) -> tuple[Path, str, int] | None:
    """Finds the matrix in the weights, whose names may have a prefix more or less."""
    wanted, shape = input_embeddings(config, directory)
    named = [
        (not f".{name}".endswith(f".{wanted}"), name, file)
        for file in weights
        for name, found in tensor_shapes(file).items()
        if found == shape
    ]
    if not named:
        return None
    _, name, file = min(named)
    return file, name, shape[0]
