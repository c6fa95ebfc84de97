"""How much text blocks and splits have where words or tokens get vectors, which take most room."""

from typing import Final, TypeVar

from embedkit.config import CorpusConfig, RecordConfig
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

    Where rows have any number of vectors, ``block_bytes`` and ``split_bytes`` become smaller,
    unless they have other values than their defaults. It depends on the model and the settings
    alone, so a job finds the blocks that an earlier try of it has committed.

    Args:
        records: The settings.
        model: The model, every ``auto`` resolved.
    """
    if not model.vectors.many:
        return records
    spans = model.tokenizer.spans
    only_some = spans is not None and bool(spans.words)
    each = _BYTES_PER_WANTED_VECTOR if only_some else _BYTES_PER_VECTOR
    most = max(1, BLOCK_VECTOR_BYTES // (4 * model.vectors.dimension) * each)
    sizes = {"block_bytes": most}
    if isinstance(records, CorpusConfig):
        # While a worker writes a block, others need to have some to encode: to the end, and of
        # small corpora as well.
        sizes["split_bytes"] = most
    defaults = {name: type(records).model_fields[name].get_default() for name in sizes}
    smaller = {
        name: size
        for name, size in sizes.items()
        if getattr(records, name) == defaults[name] and size < defaults[name]
    }
    return records.model_copy(update=smaller) if smaller else records
