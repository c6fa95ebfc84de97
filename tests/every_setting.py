"""A value of every setting that is not its default."""

from typing import Any, Literal, get_args, get_origin

from embedkit.config import JobConfig

OTHER = {
    "reuse": "v-of-yesterday",
    "inputs": ("a.jsonl", "s3://bucket/b*.jsonl"),
    "format": "jsonl",
    "compression": "gzip",
    "text_unit": "file",
    "text_column": "body",
    "text_template": "{title}. {body}",
    "query_column": "question",
    "candidates_column": "answers",
    "id_column": "key",
    "metadata_columns": ("stars:int64", "title"),
    "base": "/data",
    "delimiter": ";",
    "quote": "'",
    "escape": "\\",
    "columns": ("a", "b"),
    "encoding": "latin-1",
    "max_record_bytes": 1001,
    "max_decompressed_bytes": 1002,
    "split_bytes": 1003,
    "block_rows": 1004,
    "block_bytes": 1005,
    "chunk": "tokens",
    "chunk_tokens": 64,
    "chunk_overlap": 8,
    "model": "some/model@main",
    "tokenizer": "other/tokenizer",
    "prompt": "passage: ",
    "prompt_name": "document",
    "route": "document",
    "max_tokens": 100,
    "pooling": "cls+mean",
    "normalize": False,
    "dimensions": 128,
    "granularity": "word",
    "word_pattern": "[a-z]+",
    "words": ("bat", "bank"),
    "layers": "-4..-1:sum",
    "backend": "torch",
    "onnx_file": "onnx/model_O3.onnx",
    "device": "cpu",
    "precision": "bfloat16",
    "batch_tokens": 1006,
    "encoder_threads": 2,
    "output": "gs://bucket/out",
    "version": "v-1",
    "vector_dtype": "float16",
    "store_text": True,
    "max_reject_share": 0.25,
    "excerpts": True,
    "report_text": False,
    "near_duplicates": "0.9",
    "fail_on": ("truncated_share>0.2", "drift.centroid_cosine?<0.98"),
}
"""Other values than the defaults, of all settings that are no engine's."""


def other(name: str) -> Any:
    """A value of a setting that is not its default."""
    field = JobConfig.model_fields[name]
    if name in OTHER:
        return OTHER[name]
    if get_origin(field.annotation) is Literal:
        return next(one for one in get_args(field.annotation) if one != field.default)
    if field.annotation is bool:
        return not field.default
    return {"encoders": "2..3", "ray_address": "host:6379"}.get(name, 3)


def all_other() -> JobConfig:
    job = JobConfig(**{name: other(name) for name in JobConfig.model_fields})
    for name, field in JobConfig.model_fields.items():
        assert getattr(job, name) != field.get_default(), name
    return job


def as_yaml(job: JobConfig) -> dict[str, Any]:
    values = {name: getattr(job, name) for name in JobConfig.model_fields}
    return {
        name: list(value)
        if isinstance(value, tuple)
        else value
        if isinstance(value, str | int | float | bool)
        else str(value)
        for name, value in values.items()
    }
