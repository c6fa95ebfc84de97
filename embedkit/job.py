"""A job made ready to run: its model, its plan and its version, all settled and picklable."""

import importlib.metadata
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from embedkit.config import CorpusConfig, JobConfig, ModelConfig
from embedkit.corpus.chunking import Chunker, make_chunker
from embedkit.corpus.plan import Plan, plan_corpus
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.stores import probe
from embedkit.dataset.version import Version, create_or_check_plan, fingerprint, version_name
from embedkit.encoders.model_files import ModelSpec, read_model
from embedkit.records import digest
from embedkit.tokens.tokenization import TokenizerSpec, load_tokenizer

_CHUNKING = ("chunk", "chunk_tokens", "chunk_overlap")
_NOT_IN_ROWS = frozenset({"inputs", "base", "max_decompressed_bytes", *_CHUNKING})


@dataclass(frozen=True)
class ChunkerFactory:
    """Makes the job's chunker in whatever process calls it.

    Attributes:
        corpus: Holds the chunking settings.
        tokenizer: The tokenizer whose tokens count.
    """

    corpus: CorpusConfig
    tokenizer: TokenizerSpec

    def __call__(self) -> Chunker | None:
        """Returns the chunker, or None where documents stay whole."""
        tokenizer = load_tokenizer(self.tokenizer)
        return make_chunker(self.corpus, tokenizer.tokenizer, tokenizer.max_content_tokens)


@dataclass(frozen=True)
class Job:
    """Everything that a run needs, settled before it starts.

    Attributes:
        config: The job as it was asked for.
        model: The model, every ``auto`` resolved.
        plan: The splits.
        version: Where the dataset goes.
        fingerprint: Hash of all that changes a vector.
        description: What the manifest and every part say of the vectors.
    """

    config: JobConfig
    model: ModelSpec
    plan: Plan
    version: Version
    fingerprint: str
    description: dict[str, Any]

    @cached_property
    def options(self) -> PartOptions:
        """How parts are written."""
        return part_options(self.config.vector_dtype, self.config.store_text, self.description)

    @property
    def make_chunker(self) -> Callable[[], Chunker | None] | None:
        """Makes the chunker, or is None where documents stay whole."""
        if self.config.chunk == "none":
            return None
        return ChunkerFactory(self.config, self.model.tokenizer)


def vector_ingredients(model: ModelSpec, corpus: CorpusConfig | None = None) -> dict[str, Any]:
    """Returns all that changes a vector, by name: the model's part and the chunking."""
    chunking = {} if corpus is None else {name: getattr(corpus, name) for name in _CHUNKING}
    return {**model.vector_ingredients(), **chunking}


def describe_vectors(
    model: ModelSpec, model_config: ModelConfig, mark: str, ingredients: dict[str, Any]
) -> dict[str, Any]:
    """Returns what the manifest and the parts say of the vectors.

    Args:
        model: The model, resolved.
        model_config: The model as it was asked for.
        mark: The fingerprint.
        ingredients: What the fingerprint is made of.
    """
    return {
        "model": model_config.model,
        "revision": model.revision,
        "weights_hash": model.weights_hash,
        "fingerprint": mark,
        "dimension": model.dimension,
        "pooling": "+".join(model.pooling),
        "normalized": model.normalize,
        "prompt": model.tokenizer.prompt,
        "max_tokens": model.tokenizer.max_tokens,
        "metric": model.metric,
        "backend": model.backend,
        "precision": model.precision,
        "device": model.device,
        "ingredients": ingredients,
        "libraries": {
            name: importlib.metadata.version(name)
            for name in ("embedkit", "pyarrow", "tokenizers", "transformers", model.backend)
        },
    }


def part_options(vector_dtype: str, store_text: bool, description: dict[str, Any]) -> PartOptions:
    """Returns how parts are written, with the description in each file's metadata."""
    metadata = {
        f"embedkit.{name}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in description.items()
    }
    return PartOptions(
        dimension=description["dimension"],
        vector_dtype=vector_dtype,
        store_text=store_text,
        file_metadata=metadata,
    )


def prepare(config: JobConfig) -> Job:
    """Settles a job: reads the model's files, plans the corpus, and opens or joins its version.

    The version's name is derived from the fingerprint, the inputs and the settings that shape
    rows, so the same job finds what it has already written, and another job writes elsewhere.

    Args:
        config: The job.

    Raises:
        ConfigError: The model, the output or a setting cannot be used.
        InputError: An input cannot be used.
    """
    model = read_model(config)
    ingredients = vector_ingredients(model, config)
    mark = fingerprint(ingredients)
    plan = plan_corpus(config)
    shape = config.model_dump(mode="json", include=set(CorpusConfig.model_fields) - _NOT_IN_ROWS)
    shape |= {"vector_dtype": config.vector_dtype, "store_text": config.store_text}
    job_digest = digest(json.dumps(shape, sort_keys=True))
    name = config.version or version_name(mark, plan.inputs_digest, job_digest)
    version = Version(config.output, name)
    identity: dict[str, Any] = {
        "fingerprint": mark,
        "job": shape,
        "job_digest": job_digest,
        "inputs_digest": plan.inputs_digest,
    }
    probe(version.store)
    identity["corpus"] = json.loads(plan.to_json())
    stored = create_or_check_plan(version, json.dumps(identity, sort_keys=True))
    plan = Plan.from_json(json.dumps(json.loads(stored)["corpus"]))
    description = describe_vectors(model, config, mark, ingredients)
    description |= {"vector_dtype": config.vector_dtype, "stores_text": config.store_text}
    return Job(config, model, plan, version, mark, description)
