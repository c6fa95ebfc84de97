"""Tokenizers as the transformers library loads them, kept in this machine's cache.

That library alone takes seconds to import; all that is needed of it for a tokenizer is in these.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from embedkit.caches import code_state, files_of, machine_cache

_TOPIC = "tokenizers"


@dataclass(frozen=True)
class FastTokenizer:
    """A fast tokenizer, and what the transformers library knows of it besides.

    Attributes:
        tokenizer: The tokenizer itself, without padding and truncation.
        pad_id: Id that fills up the shorter rows of a batch.
        special_ids: The ids of its special tokens.
        truncate_left: Whether what is too long loses its beginning, and not its end.
        unknown_id: The id of text that it does not know, where that is its only use.
    """

    tokenizer: Tokenizer
    pad_id: int
    special_ids: frozenset[int]
    truncate_left: bool
    unknown_id: int | None


def kept_tokenizer(directory: str) -> FastTokenizer | None:
    """Returns the tokenizer of a directory as it was kept, or None where it has changed since.

    Args:
        directory: Directory that holds the tokenizer's files.
    """
    made_of = _made_of(directory)
    found = None if made_of is None else machine_cache().read(_TOPIC, made_of)
    if found is None:
        return None
    kept = json.loads(bytes(found))
    tokenizer = Tokenizer.from_str(kept["tokenizer"])
    tokenizer.encode_special_tokens = kept["encode_special_tokens"]
    return FastTokenizer(
        tokenizer,
        pad_id=kept["pad_id"],
        special_ids=frozenset(kept["special_ids"]),
        truncate_left=kept["truncate_left"],
        unknown_id=kept["unknown_id"],
    )


def keep_tokenizer(directory: str, fast: FastTokenizer) -> None:
    """Keeps the tokenizer of a directory.

    Args:
        directory: Directory that holds the tokenizer's files.
        fast: The tokenizer, before anything is changed for a model.
    """
    made_of = _made_of(directory)
    if made_of is None:
        return
    kept = {
        "tokenizer": fast.tokenizer.to_str(),
        "encode_special_tokens": fast.tokenizer.encode_special_tokens,
        "pad_id": fast.pad_id,
        "special_ids": sorted(fast.special_ids),
        "truncate_left": fast.truncate_left,
        "unknown_id": fast.unknown_id,
    }
    machine_cache().write(_TOPIC, made_of, json.dumps(kept).encode())


def _made_of(directory: str) -> dict[str, Any] | None:
    files = files_of(Path(directory))
    if files is None:
        return None
    code = code_state("tokenizers", "transformers")
    return {"directory": directory, "files": files, "code": code}
