"""How much text a block has where words or tokens get vectors, so that these take little memory."""

from typing import Final, TypeVar

from embedkit.config import RecordConfig
from embedkit.encoders.spec import ModelSpec

BLOCK_VECTOR_BYTES: Final = 64 << 20
"""Bytes that the vectors of a block take in memory, about."""

_BYTES_PER_VECTOR = 4
"""Bytes of text per token or word; of English it has some more."""

_BYTES_PER_WANTED_VECTOR = 32
"""The same where only words of a list get vectors."""

_Records = TypeVar("_Records", bound=RecordConfig)


def with_block_size(records: _Records, model: ModelSpec) -> _Records:
    """Returns settings with which the vectors of a block take some ``BLOCK_VECTOR_BYTES``.

    Where rows have any number of vectors, ``block_bytes`` becomes smaller, unless it has another
    value than its default. It depends on the model and the settings alone, so a job finds the
    blocks that an earlier try of it has committed.

    Args:
        records: The settings.
        model: The model, every ``auto`` resolved.
    """
    default = RecordConfig.model_fields["block_bytes"].get_default()
    if not model.vectors.many or records.block_bytes != default:
        return records
    spans = model.tokenizer.spans
    only_some = spans is not None and bool(spans.words)
    each = _BYTES_PER_WANTED_VECTOR if only_some else _BYTES_PER_VECTOR
    most = BLOCK_VECTOR_BYTES // (4 * model.vectors.dimension) * each
    return records.model_copy(update={"block_bytes": max(1, min(default, most))})
