"""Pairs of a query and a text to token ids, exactly as ``CrossEncoder`` feeds them to a model."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import Tokenizer

from embedkit.errors import ConfigError
from embedkit.hashes.digests import digest
from embedkit.records import SECOND_FIELD, TOKEN_FIELDS, DocumentBlock, Reject, TokenBlock
from embedkit.tokens.pair_rules import PairRules
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenization import NOTHING_SAID, load_tokenizer, tokenize_text

_PROBES = (("a", "b"), ("the", "one"), ("0", "1"), ("A b", "c"))


class PairTokenizer:
    """A model's tokenizer for pairs of texts; any threads may share it.

    Attributes:
        texts: The tokenizer for one text.
        rules: How pairs become rows.
        max_tokens: Tokens of a pair that the model sees.
        max_content_tokens: Tokens left for both texts beside special tokens.
    """

    def __init__(self, texts: TextTokenizer, rules: PairRules) -> None:
        self.texts = texts
        self.rules = rules
        self.max_tokens = texts.max_tokens
        parts, second = _frame(texts.tokenizer, texts.spec.directory)
        self._special = [np.array(part, dtype=np.int32) for part in parts]
        self._specials = sum(map(len, parts))
        # Special tokens between the texts may be of either.
        self._second = len(parts[0]) + len(parts[1]) + second
        self.max_content_tokens = self.max_tokens - self._specials
        if self.max_content_tokens < 2:
            raise ConfigError(
                f"{texts.spec.directory}: max_tokens is {self.max_tokens}, which beside "
                f"{self._specials} special tokens leaves no room for two texts; give more "
                "max_tokens"
            )

    def encode(self, queries: Sequence[str], texts: Sequence[str]) -> "PairTokens":
        """Tokenizes pairs.

        Where a pair is too long, tokens of the longer text are left out until both are of one
        length, then of both, as truncation ``longest_first`` does.

        Args:
            queries: The first text of each pair.
            texts: The second.
        """
        return self.join(self.contents_of(queries), self.texts.contents(list(texts)))

    def join(self, firsts: "Contents", others: "Contents") -> "PairTokens":
        """Joins the tokens of two texts each, see ``encode``."""
        left = self.texts.truncate_left
        before, between, behind = self._special
        kept = longest_first(firsts[2], others[2], self.max_content_tokens)
        first, other = _cut(firsts, kept[0], left), _cut(others, kept[1], left)
        rows = len(kept[0])
        pieces = (
            (np.tile(before, rows), np.full(rows, len(before))),
            (first, kept[0]),
            (np.tile(between, rows), np.full(rows, len(between))),
            (other, kept[1]),
            (np.tile(behind, rows), np.full(rows, len(behind))),
        )
        offsets = np.zeros(rows + 1, dtype=np.int32)
        np.cumsum(kept[0] + kept[1] + self._specials, out=offsets[1:])
        ids = np.empty(offsets[-1], dtype=np.int32)
        starts = offsets[:-1].astype(np.int64)
        for values, lengths in pieces:
            ids[_ranges(starts, lengths)] = values
            starts = starts + lengths
        seconds = (self._second + kept[0]).astype(np.int32) if self.rules.typed else None
        n_tokens = (firsts[2] + others[2] + self._specials).astype(np.int32)
        return PairTokens(ids, offsets, seconds, n_tokens)

    def count(self, queries: Sequence[str], texts: Sequence[str]) -> list[int]:
        """Counts each pair's tokens before truncation, special tokens included."""
        counts = self.contents_of(queries)[2] + self.texts.contents(list(texts))[2]
        return [int(count) + self._specials for count in counts]

    def contents_of(self, queries: Sequence[str]) -> "Contents":
        """Tokenizes texts of which many are equal, as those of neighbouring pairs are."""
        numbers: dict[str, int] = {}
        places = np.array([numbers.setdefault(one, len(numbers)) for one in queries], np.intp)
        ids, offsets, counts = self.texts.contents(list(numbers))
        lengths = np.diff(offsets)[places]
        ends = np.append(np.int32(0), np.cumsum(lengths, dtype=np.int32))
        return ids[_ranges(offsets[:-1][places], lengths)], ends, counts[places]


class PairTokens(NamedTuple):
    """Tokens of pairs.

    Attributes:
        input_ids: The ids of all pairs one after the other, int32, shape (tokens,).
        offsets: The ends of the pairs' ids among them, int32, shape (pairs + 1,), beginning with 0.
        seconds: The place in its row of the first token that belongs to the second text, int32,
            shape (pairs,); None where the model has no token types.
        n_tokens: Tokens of each pair before the cut, int32, shape (pairs,).
    """

    input_ids: NDArray[np.int32]
    offsets: NDArray[np.int32]
    seconds: NDArray[np.int32] | None
    n_tokens: NDArray[np.int32]


Contents = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]
"""Tokens of texts as ``TextTokenizer.contents`` returns them."""


def longest_first(
    firsts: NDArray[np.int64], others: NDArray[np.int64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns how many tokens of each text of a pair are kept where there is room for so many.

    Args:
        firsts: Tokens of the first texts, shape (pairs,).
        others: Tokens of the second ones.
        room: Most tokens of both together.
    """
    shorter, longer = np.minimum(firsts, others), np.maximum(firsts, others)
    fits = np.where(shorter > room, shorter, np.maximum(shorter, room - shorter))
    longer = np.minimum(longer, fits)
    both = shorter + longer > room
    shorter = np.where(both, room // 2, shorter)
    longer = np.where(both, room - room // 2, longer)
    swapped = firsts > others
    return np.where(swapped, longer, shorter), np.where(swapped, shorter, longer)


def _cut(contents: Contents, most: NDArray[np.int64], left: bool) -> NDArray[np.int32]:
    ids, offsets, _ = contents
    starts = offsets[1:] - most if left else offsets[:-1]
    return ids[_ranges(starts, most)]


def _ranges(starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.int64]:
    """Returns the numbers of ranges one after the other."""
    ends = np.cumsum(lengths, dtype=np.int64)
    total = int(ends[-1]) if len(ends) else 0
    numbers: NDArray[np.int64] = np.arange(total) + np.repeat(starts - ends + lengths, lengths)
    return numbers


def _frame(tokenizer: Tokenizer, directory: str) -> tuple[list[list[int]], int]:
    """Finds the special tokens around and between two texts.

    Returns:
        Those before, between and behind them; and the place from which on tokens are of type 1,
        from where the second text begins.
    """
    for probe in _PROBES:
        whole = tokenizer.encode(*probe)
        bare = [tokenizer.encode(text, add_special_tokens=False).ids for text in probe]
        owners = whole.sequence_ids
        if not all(bare) or owners.count(0) != len(bare[0]) or owners.count(1) != len(bare[1]):
            continue
        first, second = owners.index(0), owners.index(1)
        ends = first + len(bare[0]), second + len(bare[1])
        if whole.ids[first : ends[0]] != bare[0] or whole.ids[second : ends[1]] != bare[1]:
            continue
        parts = [whole.ids[:first], whole.ids[ends[0] : second], whole.ids[ends[1] :]]
        types = whole.type_ids
        begins = types.index(1) if 1 in types else second
        rising = [int(place >= begins) for place in range(len(types))]
        if types not in (rising, [0] * len(types)) or not ends[0] <= begins <= second:
            raise ConfigError(
                f"{directory}: the tokenizer gives a pair of texts the token types {types}, "
                "expected 0 for the first text and 1 for the second"
            )
        return parts, begins - second
    raise ConfigError(
        f"{directory}: cannot tell where the tokenizer puts its special tokens around two texts; "
        "its post-processor must keep each text in one piece"
    )


def load_row_tokenizer(spec: TokenizerSpec) -> TextTokenizer | PairTokenizer:
    """Loads what makes tokens of a block's rows, which are texts, or pairs of texts.

    Args:
        spec: Where it is, and how the model uses it.

    Raises:
        ConfigError: The directory holds no tokenizer that can be read, or the maximum length
            leaves no room for text.
    """
    texts = load_tokenizer(spec)
    return texts if spec.pairs is None else PairTokenizer(texts, spec.pairs)


def tokenize_rows(block: DocumentBlock, tokenizer: TextTokenizer | PairTokenizer) -> TokenBlock:
    """Tokenizes the rows of a block, whatever they are, see ``tokenize_text``."""
    if isinstance(tokenizer, PairTokenizer):
        return tokenize_pairs(block, tokenizer)
    return tokenize_text(block, tokenizer)


def tokenize_pairs(block: DocumentBlock, tokenizer: PairTokenizer) -> TokenBlock:
    """Tokenizes the pairs of a block.

    Args:
        block: Rows of ``DOCUMENT_SCHEMA`` and a column with the query of each.
        tokenizer: The model's tokenizer.

    Returns:
        The rows with ``TOKEN_FIELDS``, and ``SECOND_FIELD`` where the model has token types, after
        their own columns, of which the query's is left out unless it is kept, and ``text_hash``
        is of both texts. A document whose text has no token that says anything is a reject
        ``no_tokens`` instead.
    """
    rules, rows = tokenizer.rules, block.rows
    texts = rows.column("text").to_pylist()
    queries = rows.column(rules.query_column).to_pylist()
    contents = tokenizer.texts.contents(texts)
    tokens = tokenizer.join(tokenizer.contents_of(queries), contents)
    silent = tokenizer.texts.silent_contents(texts, *contents[:2])
    hashes = pa.array(list(map(digest, queries, texts)), pa.string())
    place = rows.schema.get_field_index("text_hash")
    rows = rows.set_column(place, rows.schema.field(place), hashes)
    if not rules.keep_query:
        rows = rows.drop_columns([rules.query_column])
    ids = pa.ListArray.from_arrays(
        pa.array(tokens.offsets), pa.array(tokens.input_ids), type=TOKEN_FIELDS[0].type
    )
    columns = [ids, pa.array(tokens.n_tokens), pa.array(tokens.n_tokens > tokenizer.max_tokens)]
    fields = [*TOKEN_FIELDS]
    if tokens.seconds is not None:
        columns.append(pa.array(tokens.seconds))
        fields.append(SECOND_FIELD)
    for field, column in zip(fields, columns, strict=True):
        rows = rows.append_column(field, column)
    rejects = block.rejects
    if silent.any() and not rules.of_lists:
        lost = Reject.of_rows(rows.filter(pa.array(silent)), "no_tokens", NOTHING_SAID)
        rejects += tuple(map(block.numbered, lost))
        rows = rows.filter(pc.invert(pa.array(silent)))
    return block.into(TokenBlock, rows, rejects)
