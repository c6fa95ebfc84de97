"""A whole job, and which settings of its parts do not go together."""

from typing import Self

from pydantic import model_validator

from embedkit.config.corpus import CorpusConfig, RecordConfig
from embedkit.config.engine import EngineConfig
from embedkit.config.evaluation import EvaluationConfig
from embedkit.config.model import ModelConfig
from embedkit.config.output import OutputConfig
from embedkit.config.settings import reserved_columns


def granularity_fault(model: ModelConfig, records: RecordConfig) -> str | None:
    """Says why records that are cut into such rows cannot get vectors of such things, if so."""
    of = model.granularity
    if of == "document" and records.chunk != "none":
        return (
            f"granularity: document, but with chunk {records.chunk} each chunk gets a vector; "
            "leave one of the two out"
        )
    if of == "chunk" and records.chunk == "none":
        return "granularity: chunk, but documents stay whole; say how to cut them, as chunk tokens"
    if of in ("word", "token"):
        return _taken(records, "embeddings", "words or tokens get vectors")
    return None


def _taken(records: RecordConfig, column: str, where: str) -> str | None:
    names = {name.rpartition(":")[0] or name for name in records.metadata_columns}
    taken = sorted(reserved_columns(column) & names)
    if not taken:
        return None
    return (
        f"metadata_columns: {', '.join(taken)} is a column of embedkit's own where {where}; "
        "rename it in the input or leave it out"
    )


def pairs_fault(records: RecordConfig, output: OutputConfig) -> str | None:
    """Says why records that are pairs cannot be scored with such settings, if so."""
    if records.query_column is None:
        fault = "candidates_column: candidates are of a query; name its column as query_column"
        return None if records.candidates_column is None else fault
    if records.candidates_column is not None and records.text_template is not None:
        return "candidates_column: text_template makes the text already; leave one of them out"
    if records.chunk != "none":
        return "chunk: pairs of a query and a text are scored whole; leave it out"
    if output.vector_dtype != "float32":
        return "vector_dtype: scores are float32; leave it out"
    return _taken(records, "score", "pairs get scores")


def storage_fault(vector_dtype: str, of: str | None, dimension: int | None = None) -> str | None:
    """Says why vectors of such things cannot be stored so, if so.

    Args:
        vector_dtype: See ``OutputConfig``.
        of: What each of them is of, see ``ModelConfig.granularity``.
        dimension: Components of each, where they are known.
    """
    if vector_dtype in ("float32", "float16"):
        return None
    if of in ("word", "token"):
        return (
            f"vector_dtype: {vector_dtype} is for one vector per document or chunk, and {of}s get "
            "vectors; take float32 or float16"
        )
    if vector_dtype == "binary" and dimension is not None and dimension % 8:
        return (
            "vector_dtype: binary puts eight components into a byte, and vectors have "
            f"{dimension}; choose another number of dimensions, or int8"
        )
    return None


class JobConfig(CorpusConfig, ModelConfig, OutputConfig, EngineConfig):
    """A whole job: what to read, how to embed it, where to write it, what runs it."""

    @model_validator(mode="after")
    def _granularity(self) -> Self:
        fault = granularity_fault(self, self) or storage_fault(self.vector_dtype, self.granularity)
        if fault:
            raise ValueError(fault)
        return self


def evaluation_fault(job: JobConfig, evaluation: EvaluationConfig) -> str | None:
    """Says why the version of a job cannot be held against what is asked, if its settings tell."""
    if not evaluation.asks:
        return "evaluation: asks nothing; give sts, retrieval, known_items or storage"
    if job.granularity in ("word", "token") or job.query_column is not None:
        what = "pairs get scores" if job.query_column is not None else "words or tokens get vectors"
        return f"evaluation: needs one vector per document or chunk, and {what}; leave it out"
    if evaluation.storage and job.vector_dtype not in ("float32", "float16"):
        return (
            "evaluation: storage compares floats with fewer bytes, and vector_dtype is "
            f"{job.vector_dtype}; leave one of the two out"
        )
    if evaluation.known_items == "sentence" and not job.store_text:
        return "evaluation: known_items of sentence needs stored texts; give store_text: true"
    column = evaluation.known_item_column
    names = {name.rpartition(":")[0] or name for name in job.metadata_columns}
    if column is not None and column not in names:
        return f"evaluation: known_items of {column} needs that column; add it to metadata_columns"
    return None
