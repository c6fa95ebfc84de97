"""A model as a job uses it: what its rows ask of it, and what it cannot do for them."""

from collections.abc import Collection
from dataclasses import replace

from embedkit.config import OutputConfig, RecordConfig
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError
from embedkit.records import UNKNOWN_FIELD
from embedkit.tokens.chunking import chunk_size


def fitted_model(
    model: ModelSpec, records: RecordConfig, output: OutputConfig, metadata: Collection[str]
) -> ModelSpec:
    """Fits a model to the rows of a job.

    Args:
        model: The model, every ``auto`` resolved.
        records: How records become rows.
        output: What is written of them.
        metadata: Names of the columns that are carried along.

    Raises:
        ConfigError: It cannot make what is asked for of such rows.
    """
    room = model.tokenizer.max_content_tokens
    if records.chunk != "none" and room is not None:
        chunk_size(records, room)
    if model.tokenizer.bare and UNKNOWN_FIELD.name in metadata:
        raise ConfigError(
            f"metadata_columns: {UNKNOWN_FIELD.name} is a column of embedkit's own where vectors "
            "are static; rename it in the input or leave it out"
        )
    return _with_windows(_with_pairs(_with_token_texts(model, output), records, output), records)


def _with_token_texts(model: ModelSpec, output: OutputConfig) -> ModelSpec:
    """Returns the model with words or tokens kept beside their vectors where the output wants it.

    That is no part of the recipe, which the vectors are the same without.
    """
    spans = model.tokenizer.spans
    if spans is None or spans.token_texts == output.store_tokens:
        return model
    spans = replace(spans, token_texts=output.store_tokens)
    return replace(model, tokenizer=replace(model.tokenizer, spans=spans))


def _with_pairs(model: ModelSpec, records: RecordConfig, output: OutputConfig) -> ModelSpec:
    """Returns the model with what it needs to know of the columns of pairs, where rows are such.

    The query is text, which stands in the rows where the text does, or as metadata.
    """
    pairs = model.tokenizer.pairs
    if pairs is None or records.query_column is None:
        return model
    keep = output.store_text or records.keeps_query
    listed = records.candidates_column is not None
    pairs = replace(pairs, query_column=records.query_column, keep_query=keep, of_lists=listed)
    return replace(model, tokenizer=replace(model.tokenizer, pairs=pairs))


def _with_windows(model: ModelSpec, records: RecordConfig) -> ModelSpec:
    """Returns the model with word of it that chunks are read in windows, where they are."""
    if records.chunk == "none" or not records.late_chunking:
        return model
    of = model.vectors.of
    if model.vectors.many:
        raise ConfigError(
            f"late_chunking: pools chunks, but with granularity {of} each {of} gets a vector; "
            "leave one of the two out"
        )
    if not model.pools_spans:
        raise ConfigError(
            f"late_chunking: {model.identity.model_id} makes no vector of the tokens of a part of "
            "a text; take a model that pools by mean, or leave late_chunking out"
        )
    return replace(model, vectors=replace(model.vectors, in_windows=True))
