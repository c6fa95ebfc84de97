"""Loads the tokenizer of a model, and tokenizes blocks of documents with it."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import normalizers

from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.records import (
    SPANS_FIELD,
    TOKEN_FIELDS,
    TOKENS_FIELD,
    UNKNOWN_FIELD,
    WINDOW,
    DocumentBlock,
    Reject,
    TokenBlock,
)
from embedkit.tokens.bare import BareTokenizer, bare_tokenizer
from embedkit.tokens.characters import is_seen
from embedkit.tokens.kept_tokenizer import FastTokenizer, keep_tokenizer, kept_tokenizer
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenizer_limits import check_tokenizer
from embedkit.tokens.transformers_library import quiet_transformers, transformers_library
from embedkit.tokens.window_tokens import window_tokens

_VOCABULARIES = ("tokenizer.json", "vocab.json", "*.txt", "*.model", "*.tiktoken")
NOTHING_SAID = (
    "the tokenizer finds nothing in this text but white space and marks that it drops, such as "
    "control or zero-width characters, or characters that nobody sees; leave the record out"
)
NOT_KNOWN = (
    "no word of this text has a vector; take vectors of its language and subject, or leave the "
    "record out"
)


def load_tokenizer(spec: TokenizerSpec) -> TextTokenizer:
    """Loads a model's fast tokenizer; no code from the directory runs.

    Args:
        spec: Where it is, and how the model uses it.

    Raises:
        ConfigError: The directory holds no tokenizer that can be read, or the maximum length
            leaves no room for text.
    """
    if spec.bare:
        return _of_bare(bare_tokenizer(Path(spec.directory, "tokenizer.json")), spec)
    kept = kept_tokenizer(spec.directory)
    if kept is None:
        kept = fast_tokenizer(read_tokenizer(spec.directory))
        keep_tokenizer(spec.directory, kept)
    return text_tokenizer(kept, spec)


def fast_tokenizer(loaded: Any) -> FastTokenizer:
    """Returns what a tokenizer of the transformers library comes to.

    Args:
        loaded: What ``read_tokenizer`` returned.
    """
    tokenizer = loaded.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if getattr(tokenizer.model, "dropout", None):
        # It is for training: the same text would have other tokens each time.
        tokenizer.model.dropout = None
    tokenizer.encode_special_tokens = loaded.split_special_tokens
    return FastTokenizer(
        tokenizer,
        pad_id=loaded.pad_token_id or 0,
        special_ids=frozenset(loaded.all_special_ids),
        truncate_left=loaded.truncation_side == "left",
        unknown_id=_unknown_id(loaded),
    )


def text_tokenizer(fast: FastTokenizer, spec: TokenizerSpec) -> TextTokenizer:
    """Makes a model's tokenizer ready for use.

    Args:
        fast: The tokenizer.
        spec: How the model uses it.

    Raises:
        ConfigError: The maximum length leaves no room for text.
    """
    tokenizer = fast.tokenizer
    if spec.lower_case:
        tokenizer.normalizer = _lower_cased(tokenizer.normalizer)
    return TextTokenizer(
        tokenizer,
        spec,
        pad_id=fast.pad_id,
        special_ids=fast.special_ids,
        truncate_left=fast.truncate_left,
        unknown_id=fast.unknown_id,
    )


@lru_cache(maxsize=4)
def _of_bare(bare: BareTokenizer, spec: TokenizerSpec) -> TextTokenizer:
    # All threads share one, with the words that it met.
    return TextTokenizer(
        bare.tokenizer, spec, truncate_left=bare.truncate_left, unknown_id=bare.unknown_id
    )


def read_tokenizer(directory: str) -> Any:
    """Reads a tokenizer with the transformers library, quietly.

    Args:
        directory: Directory that holds the tokenizer's files.

    Returns:
        A ``transformers`` tokenizer that is backed by a ``tokenizers.Tokenizer``.

    Raises:
        ConfigError: There is none, or it cannot be read.
    """
    auto_tokenizer = transformers_library().AutoTokenizer
    # Without its vocabulary the library would make up a tokenizer that knows no word.
    if not any(file for pattern in _VOCABULARIES for file in Path(directory).glob(pattern)):
        raise ConfigError(
            f"{directory}: no tokenizer in it; the directory needs tokenizer.json as the model's "
            "authors publish it"
        )
    try:
        with quiet_transformers():
            loaded = auto_tokenizer.from_pretrained(
                directory, trust_remote_code=False, local_files_only=True
            )
            # Looked up now, as strange special tokens fail only then.
            _ = loaded.all_special_ids, loaded.pad_token_id
    # The library raises whatever its parsers raise, a bare Exception for a broken tokenizer.json.
    except Exception as error:
        what = one_line(error, only_first=True)
        raise ConfigError(
            f"{directory}: the tokenizer cannot be read ({what}); download the model again"
        ) from error
    if not getattr(loaded, "is_fast", False):
        raise ConfigError(
            f"{directory}: {type(loaded).__name__} has no fast tokenizer; save the model once with "
            "a tokenizer.json"
        )
    check_tokenizer(directory, loaded.backend_tokenizer)
    return loaded


def tokenize_text(block: DocumentBlock, tokenizer: TextTokenizer) -> TokenBlock:
    """Tokenizes the texts of a block.

    Args:
        block: Rows of ``DOCUMENT_SCHEMA``.
        tokenizer: The model's tokenizer.

    Returns:
        The rows with ``TOKEN_FIELDS`` after their own columns, and behind these, if the tokenizer
        has rules for them, ``SPANS_FIELD`` and perhaps ``TOKENS_FIELD``, and where unknown text is
        counted ``UNKNOWN_FIELD``. A document without a token that says anything is a reject
        ``no_tokens`` instead, as all of them would have one vector, or ``out_of_vocabulary`` if
        unknown words have none; of other documents, chunks without one are left out, as white space
        is. Chunks that are read in windows get ``WINDOW_SPAN`` in the place of their windows.
    """
    rows = block.rows
    if WINDOW.name in rows.schema.names:
        tokens, said = window_tokens(rows, tokenizer)
        lost = _without_tokens(rows, said, np.zeros_like(said))
        return block.into(TokenBlock, tokens, block.rejects + tuple(map(block.numbered, lost)))
    column = rows.column("text")
    fields, of_more = list(TOKEN_FIELDS), []
    if tokenizer.spans is None:
        ids, offsets, n_tokens = tokenizer.encode(text.as_py() for text in column)
    else:
        texts = column.to_pylist()
        ids, offsets, n_tokens, spans = tokenizer.encode_with_spans(texts)
        fields.append(SPANS_FIELD)
        of_more.append(spans.column())
        if tokenizer.spans.rules.token_texts:
            fields.append(TOKENS_FIELD)
            of_more.append(tokenizer.spans.names(texts, ids, offsets, spans))
    blank = tokenizer.blank_rows(ids, offsets)
    unknown = tokenizer.unknown_rows(ids, offsets) & ~blank
    for row in np.flatnonzero(unknown):
        # What the model does not know is text all the same, if anybody can see it.
        blank[row] = not is_seen(column[row].as_py())
    unknown &= ~blank & tokenizer.spec.drops_unknown
    columns = [
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids), type=TOKEN_FIELDS[0].type),
        pa.array(n_tokens),
        pa.array(n_tokens > tokenizer.max_tokens),
    ]
    if tokenizer.spec.bare:
        fields.append(UNKNOWN_FIELD)
        of_more.append(pa.array(tokenizer.count_unknown(ids, offsets)))
    schema = pa.schema([*rows.schema, *fields], rows.schema.metadata)
    tokens = pa.RecordBatch.from_arrays([*rows.columns, *columns, *of_more], schema=schema)
    rejects = block.rejects
    said = ~(blank | unknown)
    if not said.all():
        rejects += tuple(map(block.numbered, _without_tokens(rows, said, unknown)))
        tokens = tokens.filter(pa.array(said))
    return block.into(TokenBlock, tokens, rejects)


def _without_tokens(
    rows: pa.RecordBatch, said: NDArray[np.bool_], unknown: NDArray[np.bool_]
) -> tuple[Reject, ...]:
    ids = rows.column("doc_id")
    lost = pc.invert(pc.is_in(ids, value_set=ids.filter(pa.array(said))))
    of_words = pc.is_in(ids, value_set=ids.filter(pa.array(unknown)))
    return (
        *Reject.of_rows(rows.filter(pc.and_not(lost, of_words)), "no_tokens", NOTHING_SAID),
        *Reject.of_rows(rows.filter(pc.and_(lost, of_words)), "out_of_vocabulary", NOT_KNOWN),
    )


def _unknown_id(loaded: Any) -> int | None:
    """Returns the id of text that a tokenizer does not know, where that is its only use."""
    found: int | None = loaded.unk_token_id
    others = (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id)
    return None if found in others else found


def _lower_cased(normalizer: Any) -> Any:
    steps: list[Any] = [normalizer]
    if isinstance(normalizer, normalizers.Sequence):
        steps = [normalizer[place] for place in range(len(normalizer))]
    steps = [step for step in steps if step is not None]
    if any(isinstance(step, normalizers.Lowercase) for step in steps):
        return normalizer
    return normalizers.Sequence([normalizers.Lowercase(), *steps])
