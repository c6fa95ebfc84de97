"""Settings that were given and decide nothing, said before somebody relies on them."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from embedkit.config import JobConfig


@dataclass(frozen=True)
class Circumstances:
    """What decides, beside the settings themselves, whether a setting has an effect.

    Attributes:
        formats: Formats of the input files.
        compressions: Their compressions.
        device: Where the model runs, ``cpu`` or ``cuda``.
    """

    formats: Collection[str]
    compressions: Collection[str]
    device: str


@dataclass(frozen=True)
class _Rule:
    names: tuple[str, ...]
    idle: Callable[[JobConfig, Circumstances], bool]
    reason: str


_RULES = (
    _Rule(
        ("text_column",),
        lambda job, _: job.text_template is not None,
        "--text-template makes the text",
    ),
    _Rule(("text_column",), lambda _, at: set(at.formats) == {"text"}, "plain text has no columns"),
    _Rule(("text_unit",), lambda _, at: "text" not in at.formats, "no input is a plain text file"),
    _Rule(
        ("delimiter", "quote", "escape", "columns", "max_record_lines"),
        lambda _, at: not {"csv", "tsv"} & set(at.formats),
        "no input is a CSV or TSV file",
    ),
    _Rule(
        ("max_reject_share", "allow_damaged_files"),
        lambda job, _: job.publish_anyway,
        "with --publish-anyway any loss is allowed",
    ),
    _Rule(
        ("report_text",),
        lambda job, _: job.excerpts is False or not (job.excerpts or job.store_text),
        "there are none without --store-text or --excerpts",
    ),
    _Rule(
        ("chunk_tokens", "chunk_overlap", "late_chunking"),
        lambda job, _: job.chunk == "none",
        "documents stay whole without --chunk",
    ),
    _Rule(
        ("word_pooling", "word_pattern", "words"),
        lambda job, _: job.granularity != "word",
        "it is of --granularity word",
    ),
    _Rule(
        ("special_tokens",),
        lambda job, _: job.granularity != "token",
        "it is of --granularity token",
    ),
    _Rule(
        ("store_tokens",),
        lambda job, _: job.granularity not in ("word", "token"),
        "it is of --granularity word and token",
    ),
    _Rule(
        ("pooling",),
        lambda job, _: job.granularity in ("word", "token"),
        "no vector is made of a whole text",
    ),
    _Rule(
        ("max_decompressed_bytes",),
        lambda _, at: set(at.compressions) == {"none"},
        "no input is compressed",
    ),
    _Rule(
        ("reuse_scope", "reuse_numerics", "verify_inputs"),
        lambda job, _: job.reuse == "off",
        "nothing is taken over with --reuse off",
    ),
    _Rule(("onnx_file",), lambda job, _: job.backend != "onnx", "it is of --backend onnx"),
    _Rule(
        ("allow_tokenizer_mismatch",),
        lambda job, _: job.tokenizer is None,
        "the model's own tokenizer is taken without --tokenizer",
    ),
    _Rule(("encoder_threads",), lambda _, at: at.device == "cuda", "the model runs on a GPU"),
    _Rule(
        ("ray_address", "encoder_cpus", "encoder_wait", "max_lost_workers"),
        lambda job, _: job.engine != "ray",
        "it is of --engine ray",
    ),
    _Rule(
        ("encoder_cpus",),
        lambda job, at: job.engine == "ray" and at.device == "cuda",
        "encoders run on GPUs",
    ),
    _Rule(
        ("encoders", "workers", "calls_in_flight", "encoder_timeout"),
        lambda job, _: job.engine == "plain",
        "--engine plain is one process with one encoder",
    ),
    _Rule(
        ("encoders_per_gpu",),
        lambda job, at: at.device == "cpu" or job.engine == "plain",
        "encoders share no GPU",
    ),
    _Rule(
        ("encoders",),
        lambda job, _: (
            job.engine == "local"
            and job.encoders is not None
            and job.encoders.least < job.encoders.most
        ),
        "on one machine all of them start at once, so its MIN does not count",
    ),
)


def idle_settings(job: JobConfig, at: Circumstances) -> Iterator[str]:
    """Says which settings of a job were given and have no effect, a sentence each.

    Args:
        job: The job; only what differs from a default counts as given.
        at: What else decides it.
    """
    for rule in _RULES:
        for name in rule.names:
            value = getattr(job, name)
            given = name in job.model_fields_set
            if given and value != JobConfig.model_fields[name].get_default() and rule.idle(job, at):
                yield f"--{name.replace('_', '-')} {value} has no effect: {rule.reason}"
