"""Turns a text corpus into an embedding dataset with Apache Beam and Ray.

``run_job`` makes a dataset, ``open_version`` reads one; ``EmbedCorpus``, ``ReadCorpus`` and
``ReadVersion`` are transforms for Beam pipelines of your own. What is listed here is loaded when it
is first used, so importing embedkit itself loads neither Beam nor Ray, torch or pyarrow.

    >>> from embedkit import JobConfig, open_version, run_job
    >>> settings = {"inputs": ["docs.jsonl"], "id_column": "id", "model": "model"}
    >>> result = run_job(JobConfig(**settings, output="made", engine="plain"))
    >>> result.rows, result.rejects
    (3, 0)
    >>> [hit.id for hit in open_version("made").search("rain", k=1)]
    ['rain']
"""

import logging
from importlib import import_module
from typing import Any

from embedkit.forks import note_forks

__version__ = "0.2.0"

# Where each name is at home; __init__.pyi tells type checkers the same. None of them is the name of
# a package of embedkit's, as importing that would put it in the place of the name: what is called
# search lies behind open_version and search_text.
_HOMES = {
    "actors.beam_runner": ("RayBeamRunner",),
    "actors.local_ray": ("LocalRay",),
    "actors.map_batches": ("EmbedBatches",),
    "actors.ray_data": ("ray_dataset",),
    "config": (
        "CorpusConfig",
        "EvaluationConfig",
        "JobConfig",
        "ModelConfig",
        "OutputConfig",
        "RecordConfig",
    ),
    "dataset.version_list": ("list_versions",),
    "encoders.kinds": ("read_model",),
    "engines.estimate": ("plan_job",),
    "engines.run": ("run_job",),
    "errors": ("EmbedkitError",),
    "flow.compare": ("compare_versions",),
    "flow.diff": ("diff_versions",),
    "flow.embed_batches": ("EmbedExamples", "part_rejects"),
    "flow.embed_texts": ("TextEmbedder",),
    "flow.publish_by_hand": ("publish_version",),
    "flow.rejected": ("list_rejects",),
    "records": ("DocumentBlock",),
    "reports.account": ("RunAccount",),
    "search.evaluate.evaluate": ("evaluate_version",),
    "search.exact": ("Hit",),
    "search.export.export": ("export_version",),
    "search.query": ("encode_query", "search_text"),
    "search.projection": ("project_words",),
    "search.reader": ("VersionReader", "open_version"),
    "search.word_sources": ("open_words",),
    "search.senses": ("word_senses",),
    "search.words": ("combined_words", "ranked_by_centrality", "similar_words"),
    "training.config": ("DistillConfig", "Word2VecConfig"),
    "training.distillation": ("distill_static",),
    "training.word2vec": ("train_word2vec",),
    "transforms.embed_corpus": ("EmbedCorpus",),
    "transforms.ml_transform": ("TextEmbeddings",),
    "transforms.read": ("ReadCorpus",),
    "transforms.read_version": ("ReadVersion",),
    "transforms.run_inference": ("EncoderHandler", "PartRejects"),
    "vectors": ("vectors_of",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


_OF_OTHER_PACKAGES = (
    "apache_beam/io/gcp/internal/clients/bigquery/",
    "apache_beam/yaml/yaml_ml.py",
)


def _is_of_what_we_need(record: logging.LogRecord) -> bool:
    of_others = any(one in record.pathname for one in _OF_OTHER_PACKAGES)
    return not of_others or record.levelno > logging.WARNING


# Importing Beam warns of packages that embedkit does not need, through the root logger, whose
# level is everybody's. Here, as whatever imports Beam in a run, on any machine, imports this first.
logging.getLogger().addFilter(_is_of_what_we_need)
# A fork cannot tell any more what its parent had when it loads more of embedkit than this.
note_forks()
