"""Loads the tokenizer of a model, and tokenizes blocks of documents with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from tokenizers import normalizers

from embedkit.errors import ConfigError
from embedkit.errors.foreign import one_line
from embedkit.records import TOKEN_FIELDS, DocumentBlock, Reject, TokenBlock
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.text_tokens import is_seen
from embedkit.tokens.tokenizer_limits import check_tokenizer
from embedkit.tokens.transformers_library import quiet_transformers, transformers_library

_VOCABULARIES = ("tokenizer.json", "vocab.json", "*.txt", "*.model", "*.tiktoken")
NOTHING_SAID = (
    "the tokenizer finds nothing in this text but white space and marks that it drops, such as "
    "control or zero-width characters, or characters that nobody sees; leave the record out"
)


def load_tokenizer(spec: TokenizerSpec) -> TextTokenizer:
    """Loads a model's fast tokenizer; no code from the directory runs.

    Args:
        spec: Where it is, and how the model uses it.

    Raises:
        ConfigError: The directory holds no tokenizer that can be read, or the maximum length
            leaves no room for text.
    """
    return text_tokenizer(read_tokenizer(spec.directory), spec)


def text_tokenizer(loaded: Any, spec: TokenizerSpec) -> TextTokenizer:
    """Makes a model's tokenizer ready for use.

    Args:
        loaded: What ``read_tokenizer`` returned.
        spec: How the model uses it.

    Raises:
        ConfigError: The maximum length leaves no room for text.
    """
    tokenizer = loaded.backend_tokenizer
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if getattr(tokenizer.model, "dropout", None):
        # It is for training: the same text would have other tokens each time.
        tokenizer.model.dropout = None
    tokenizer.encode_special_tokens = loaded.split_special_tokens
    if spec.lower_case:
        tokenizer.normalizer = _lower_cased(tokenizer.normalizer)
    return TextTokenizer(
        tokenizer,
        spec,
        pad_id=loaded.pad_token_id or 0,
        special_ids=frozenset(loaded.all_special_ids),
        truncate_left=loaded.truncation_side == "left",
        unknown_id=_unknown_id(loaded),
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
        The rows with ``TOKEN_FIELDS`` after their own columns. A document without a token that
        says anything is a reject ``no_tokens`` instead, as all of them would have one vector; of
        other documents, chunks without one are left out, as white space is.
    """
    rows = block.rows
    ids, offsets, n_tokens = tokenizer.encode(rows.column("text").to_pylist())
    blank = tokenizer.blank_rows(ids, offsets)
    for row in np.flatnonzero(tokenizer.unknown_rows(ids, offsets) & ~blank):
        # What the model does not know is text all the same, if anybody can see it.
        blank[row] = not is_seen(rows.column("text")[row].as_py())
    columns = [
        pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids), type=TOKEN_FIELDS[0].type),
        pa.array(n_tokens),
        pa.array(n_tokens > tokenizer.max_tokens),
    ]
    schema = rows.schema
    for field in TOKEN_FIELDS:
        schema = schema.append(field)
    tokens = pa.RecordBatch.from_arrays([*rows.columns, *columns], schema=schema)
    rejects = block.rejects
    if blank.any():
        rejects += tuple(map(block.numbered, _without_tokens(rows, blank)))
        tokens = tokens.filter(pa.array(~blank))
    return block.into(TokenBlock, tokens, rejects)


def _without_tokens(rows: pa.RecordBatch, blank: NDArray[np.bool_]) -> tuple[Reject, ...]:
    said = rows.column("doc_id").filter(pa.array(~blank))
    lost = pc.invert(pc.is_in(rows.column("doc_id"), value_set=said))
    return Reject.of_rows(rows.filter(lost), "no_tokens", NOTHING_SAID)


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
