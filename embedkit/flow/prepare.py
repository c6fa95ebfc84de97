"""A job made ready to run: its model, its plan and its version, all settled and picklable."""

import importlib.metadata
import json
import logging
from collections.abc import Callable, Set
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from embedkit import __version__
from embedkit.collector import no_collections
from embedkit.config import (
    CorpusConfig,
    EngineConfig,
    JobConfig,
    ModelConfig,
    OutputConfig,
    RecordConfig,
    granularity_fault,
    pairs_fault,
    storage_fault,
)
from embedkit.corpus.candidates import CandidateSplitter
from embedkit.corpus.chunks import Chunker
from embedkit.corpus.plan import Plan, plan_inputs
from embedkit.dataset.calibration import (
    StandingCalibration,
    restore_calibration,
    take_calibration,
)
from embedkit.dataset.heartbeat import join
from embedkit.dataset.layer_ranges import read_ranges, take_ranges
from embedkit.dataset.mend import mend
from embedkit.dataset.plan_file import VersionPlan, create_or_check_plan, standing_plan
from embedkit.dataset.recipe import (
    fingerprint,
    fingerprint_of_first_release,
    numerics_of,
    recipe_of,
    version_name,
)
from embedkit.dataset.removal import check_not_removed, is_there
from embedkit.dataset.schema import PartOptions
from embedkit.dataset.stores import probe
from embedkit.dataset.version import Version, is_version_name
from embedkit.encoders.kinds import read_job_model
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError, StoreError
from embedkit.flow.block_size import with_block_size
from embedkit.flow.fitted_model import fitted_model
from embedkit.flow.idle_settings import Circumstances, idle_settings
from embedkit.flow.near_duplicates import fault_of_setting
from embedkit.flow.reuse import Reuse, find_reuse
from embedkit.hashes.digests import digest
from embedkit.lazy import lazy_property
from embedkit.quantization import CALIBRATED
from embedkit.tokens.chunking import make_chunker
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.tokens.windows import LateChunker

_LOG = logging.getLogger("embedkit")
_CHUNKING = ("chunk", "chunk_tokens", "chunk_overlap", "late_chunking")
_NOT_IN_ROWS = frozenset(
    {"inputs", "base", "follow_symlinks", "max_decompressed_bytes", *_CHUNKING}
)
_OF_PARTS = frozenset({"vector_dtype", "store_text", "store_tokens", "excerpts"})
"""Settings of the output that decide what is in a part."""

_OF_FIRST_RELEASE = frozenset(
    {
        "text_column", "text_template", "id_column", "metadata_columns", "max_record_bytes",
        "block_rows", "block_bytes", "format", "compression", "text_unit", "split_bytes",
        "vector_dtype", "store_text",
    }
)  # fmt: skip
"""Settings that name a version whatever their values are; later ones do if they are not neutral."""


@dataclass(frozen=True)
class ChunkerFactory:
    """Makes the job's chunker in whatever process calls it.

    Attributes:
        corpus: Holds the chunking settings.
        tokenizer: The tokenizer whose tokens count.
    """

    corpus: RecordConfig
    tokenizer: TokenizerSpec

    def __call__(self) -> Chunker | None:
        """Returns the chunker, or None where documents stay whole."""
        if self.corpus.candidates_column is not None:
            return CandidateSplitter()
        tokenizer = load_tokenizer(self.tokenizer)
        room = tokenizer.max_content_tokens
        chunker = make_chunker(self.corpus, tokenizer.tokenizer, room)
        if chunker is None or not self.corpus.late_chunking:
            return chunker
        stable = self.corpus.chunk.startswith("stable-")
        return LateChunker(chunker.spans, tokenizer.tokenizer, room, stable)


@dataclass(frozen=True)
class Draft:
    """A version to be made, settled before anything runs; picklable.

    Attributes:
        records: How records become rows.
        output: How the version is written.
        model: The model, every ``auto`` resolved.
        plan: The splits.
        version: Where the dataset goes.
        fingerprint: Hash of the vectors' recipe and precision.
        description: What the manifest and every part say of the vectors.
        reuse: The earlier version that vectors of unchanged texts are taken over from, if any.
        not_reused: Why none are taken over from the earlier version there is, for a person.
    """

    records: RecordConfig
    output: OutputConfig
    model: ModelSpec
    plan: Plan
    version: Version
    fingerprint: str
    description: dict[str, Any]
    reuse: Reuse | None
    not_reused: str | None = field(default=None, kw_only=True)

    @property
    def reuses(self) -> str | None:
        """Name of the earlier version, which must stay while this one is made."""
        return None if self.reuse is None else self.reuse.version.name

    @lazy_property
    def options(self) -> PartOptions:
        """How parts are written."""
        return part_options(self.output, self.description)

    @lazy_property
    def calibration(self) -> StandingCalibration | None:
        """What codes of 8 bits are made by; it must stand when the first block is encoded."""
        if self.output.vector_dtype not in CALIBRATED:
            return None
        return StandingCalibration(self.version)

    @property
    def shows_texts(self) -> bool:
        """Whether the report shows the beginnings of texts."""
        return self.options.excerpts and self.output.report_text

    @property
    def make_chunker(self) -> Callable[[], Chunker | None] | None:
        """Makes the chunker, or is None where documents stay whole."""
        if not self.records.has_many_rows:
            return None
        return ChunkerFactory(self.records, self.model.tokenizer)


_Draft = TypeVar("_Draft", bound=Draft)


@dataclass(frozen=True)
class Job(Draft):
    """A whole job, settled: the draft of its version, and what runs it.

    Attributes:
        config: The job as it was asked for, with the size of blocks settled.
    """

    config: JobConfig


def vector_ingredients(model: ModelSpec, corpus: RecordConfig | None = None) -> dict[str, Any]:
    """Returns all that changes a vector, by name: the model's part and the chunking."""
    chunking = {} if corpus is None else {name: getattr(corpus, name) for name in _CHUNKING}
    return {**model.vector_ingredients(), **chunking}


def describe_vectors(
    model: ModelSpec, model_config: ModelConfig, fingerprint: str, ingredients: dict[str, Any]
) -> dict[str, Any]:
    """Returns what the manifest and the parts say of the vectors.

    Args:
        model: The model, resolved.
        model_config: The model as it was asked for.
        fingerprint: Hash of recipe and precision.
        ingredients: All that plays a part in a vector, by name.
    """
    vectors = model.vectors
    of_others: dict[str, str] = {} if vectors.column == "embedding" else {"column": vectors.column}
    if vectors.many:
        of_others["granularity"] = vectors.of
    if model.tokenizer.pairs is not None:
        of_others["query_column"] = model.tokenizer.pairs.query_column
    for_queries = dict(model.tokenizer.prompts).get("query")
    return {
        "model": model_config.model,
        "revision": model.identity.revision,
        "weights_hash": model.identity.weights_hash,
        "recipe": recipe_of(ingredients),
        "fingerprint": fingerprint,
        "dimension": model.vectors.dimension,
        **of_others,
        "normalized": model.vectors.normalize,
        "prompt": model.tokenizer.prompt,
        **({"query_prompt": for_queries} if for_queries else {}),
        "max_tokens": model.tokenizer.max_tokens,
        "metric": model.vectors.metric,
        "backend": model.placement.backend,
        "precision": model.placement.precision,
        "device": model.placement.device,
        **model.description(),
        "numerics": numerics_of(ingredients),
        "ingredients": ingredients,
        "libraries": {
            "embedkit": __version__,
            **{name: importlib.metadata.version(name) for name in ("pyarrow", *model.libraries)},
        },
    }


def part_options(output: OutputConfig, description: dict[str, Any]) -> PartOptions:
    """Returns how parts are written, with the description in each file's metadata."""
    metadata = {
        f"embedkit.{name}": value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in description.items()
    }
    return PartOptions(
        dimension=description["dimension"],
        vector_dtype=output.vector_dtype,
        store_text=output.store_text,
        excerpts=output.store_text if output.excerpts is None else output.excerpts,
        file_metadata=metadata,
        column=description.get("column", "embedding"),
    )


def prepare(config: JobConfig, model: ModelSpec | None = None) -> Job:
    """Settles a job: reads the model's files, plans the corpus, and opens or joins its version.

    Args:
        config: The job.
        model: The model, where it was settled already: on the node that is to run it.

    Raises:
        ConfigError: The model, the output or a setting cannot be used.
        InputError: An input cannot be used.
    """
    model = model or read_job_model(config, config)
    config = with_block_size(config, model)
    plan = plan_inputs(config)
    warn_of_idle_settings(config, model, plan)
    draft = begin_version(config, model, plan, config, config)
    return Job(**{one.name: getattr(draft, one.name) for one in fields(draft)}, config=config)


def warn_of_idle_settings(config: JobConfig, model: ModelSpec, plan: Plan) -> None:
    """Logs a warning for each setting that was given and decides nothing in this job."""
    files = [piece for split in plan.splits for piece in split.ranges]
    at = Circumstances(
        formats={file.format for file in files},
        compressions={file.compression for file in files},
        device=model.placement.device,
    )
    for sentence in idle_settings(config, at):
        _LOG.warning(sentence)


@no_collections()
def begin_version(
    model_config: ModelConfig,
    model: ModelSpec,
    plan: Plan,
    records: RecordConfig,
    output: OutputConfig,
) -> Draft:
    """Opens or joins the version of a plan, and settles all that is written into it.

    The version's name is derived from the recipe and precision of its vectors, the inputs and the
    settings that shape rows, so the same job finds what it has already written, on whatever device,
    and another job writes elsewhere.

    Args:
        model_config: The model as it was asked for.
        model: The model, every ``auto`` resolved.
        plan: The splits.
        records: How records become rows.
        output: Where the version goes; it must name it where the plan has no input files.

    Raises:
        ConfigError: The output or a setting cannot be used, or the version was begun otherwise.
        StoreError: The store failed.
    """
    # All that can be refused is refused before the first byte is written.
    if fault := granularity_fault(model_config, records) or pairs_fault(records, output):
        raise ConfigError(fault)
    if fault := fault_of_setting(output.near_duplicates):
        raise ConfigError(fault)
    records = with_block_size(records, model)
    model = fitted_model(model, records, output, dict(plan.metadata))
    if fault := storage_fault(output.vector_dtype, model.vectors.of, model.vectors.dimension):
        raise ConfigError(fault)
    identity = _identity(model, plan, records, output)
    named = _versions(identity, records, output)
    _check_root(named[-1])
    probe(named[-1].store)
    version = _begun(named)
    check_not_removed(version)
    # A name that was derived from the job tells that a plan which cannot be read was this one.
    derived = output.version is None
    ours = replace(identity, corpus=plan.to_dict())
    standing = create_or_check_plan(version, ours, renew=derived)
    if not version.is_complete():
        join(version)
    for torn in mend(version):
        _LOG.warning("%s", torn)
    # To read what was written here once more takes as long as planning does.
    if standing is not ours:
        plan = standing_plan(version, standing).with_secrets(plan)
    description = describe_vectors(model, model_config, standing.fingerprint, identity.vectors)
    description |= {"vector_dtype": output.vector_dtype, "stores_text": output.store_text}
    if (trial := _trial(records)) is not None:
        description["trial"] = trial
    if output.vector_dtype in CALIBRATED:
        restore_calibration(version)
    refusals: list[str] = []
    reuse = None
    if not version.is_complete():
        found = find_reuse(version, ours, output, plan, refusals.append)
        reuse = _calibrated(version, _held(version, found), output, refusals)
    draft = Draft(
        records,
        output,
        model,
        plan,
        version,
        standing.fingerprint,
        description,
        reuse,
        not_reused=next(iter(refusals), None),
    )
    return with_standing_ranges(draft)


def _check_root(version: Version) -> None:
    """Refuses a version inside another, whose path would be a dataset's root from then on."""
    outer, _, name = version.root.rpartition("/")
    if not is_version_name(name):
        return
    # What else is wrong with the place, its probe says.
    with suppress(StoreError):
        if version.store.size("_meta/plan.json") is None or version.is_begun():
            return
        raise ConfigError(f"output {version.root}: a version of a dataset; give its root, {outer}")


def with_standing_ranges(draft: _Draft) -> _Draft:
    """Returns a draft that knows what layers of int8 are given, where its version says so.

    It says what the one says that vectors are taken over from, unless it was begun with others.

    They are no part of the recipe: the sample that shows them is of the inputs, and nothing of a
    version is named by what is measured once it was begun.

    Raises:
        IntegrityError: What says it is damaged.
        StoreError: The store failed.
    """
    if not draft.model.needs_ranges:
        return draft
    if draft.reuse is not None:
        take_ranges(draft.version, draft.reuse.version)
    found = read_ranges(draft.version)
    if found is None:
        return draft
    ranges = {"ranges": found.digest}
    description = {**draft.description, "numerics": {**draft.description["numerics"], **ranges}}
    reuse = draft.reuse
    if reuse is not None and reuse.numerics is not None:
        reuse = replace(reuse, numerics={**reuse.numerics, **ranges})
    model = draft.model.with_ranges(found.ranges)
    return replace(draft, model=model, description=description, reuse=reuse)


def _held(version: Version, reuse: Reuse | None) -> Reuse | None:
    """Sees to it that the earlier version stays while vectors are taken over from it."""
    join(version, None if reuse is None else reuse.version.name)
    if reuse is None or is_there(reuse.version):
        return reuse
    _LOG.warning("nothing is taken over from version %s: it is removed now", reuse.version.name)
    return None


def _calibrated(
    version: Version, reuse: Reuse | None, output: OutputConfig, refusals: list[str]
) -> Reuse | None:
    """Takes the calibration of codes over with them, before any is made."""
    if output.vector_dtype not in CALIBRATED or reuse is None:
        return reuse
    why_not = take_calibration(version, reuse.version)
    if why_not is None:
        return reuse
    refusal = f"nothing is taken over from version {reuse.version.name}: {why_not}"
    _LOG.warning(refusal)
    refusals.append(refusal)
    return None


def _identity(
    model: ModelSpec, plan: Plan, records: RecordConfig, output: OutputConfig
) -> VersionPlan:
    """Returns what tells a version from others, and what its name is derived from."""
    ingredients = vector_ingredients(model, records)
    shape = _shape_of_rows(records, output)
    if not plan.inputs_digest:
        shape["splits"] = len(plan.splits)
    return VersionPlan(
        fingerprint=fingerprint(ingredients),
        vectors=ingredients,
        job=shape,
        job_digest=digest(json.dumps(shape, sort_keys=True)),
        inputs_digest=plan.inputs_digest,
    )


def _versions(identity: VersionPlan, records: RecordConfig, output: OutputConfig) -> list[Version]:
    """Returns the version of the name that was given, or those of names derived from an identity.

    The last one is to be begun; one before it has the name that the first release derived.
    """
    names = (
        [output.version]
        if output.version
        else [
            version_name(one, identity.inputs_digest, identity.job_digest)
            for one in (fingerprint_of_first_release(identity.vectors), identity.fingerprint)
        ]
    )
    trial = _trial(records)
    if trial is not None:
        # Named after its size, so that the whole corpus may have the name that was given.
        names = [f"{name}-trial-{trial}" for name in names]
    return [Version(output.output, name) for name in names]


def _begun(versions: list[Version]) -> Version:
    *earlier, last = versions
    return next((version for version in earlier if version.is_begun()), last)


def _trial(records: RecordConfig) -> int | None:
    return records.limit if isinstance(records, CorpusConfig) else None


def version_of_job(config: JobConfig, model: ModelSpec, plan: Plan) -> Version:
    """Returns the version that a job writes, without writing anything.

    Raises:
        StoreError: The store failed.
    """
    config = with_block_size(config, model)
    return _begun(_versions(_identity(model, plan, config, config), config, config))


def reused_by_job(
    version: Version, config: JobConfig, model: ModelSpec, plan: Plan
) -> Version | None:
    """Returns the version whose vectors a job takes over where rows are equal; None without one.

    Args:
        version: The one that the job writes.
        config: The job.
        model: The model.
        plan: The splits.

    Raises:
        ConfigError: The version that was named is not there.
        IntegrityError: What says so is damaged.
        StoreError: The store failed.
    """
    if version.is_complete():
        return None
    config = with_block_size(config, model)
    found = find_reuse(version, _identity(model, plan, config, config), config)
    return None if found is None else found.version


def _shape_of_rows(records: RecordConfig, output: OutputConfig) -> dict[str, Any]:
    """Returns the settings that decide which rows a version has, and what is said of each."""
    others = {**ModelConfig.model_fields, **OutputConfig.model_fields, **EngineConfig.model_fields}
    of_rows = type(records).model_fields.keys() - others.keys() - _NOT_IN_ROWS
    return _not_neutral(records, of_rows) | _not_neutral(output, _OF_PARTS)


def _not_neutral(settings: RecordConfig | OutputConfig, names: Set[str]) -> dict[str, Any]:
    fields = type(settings).model_fields
    used = {
        name
        for name in names
        if name in _OF_FIRST_RELEASE or getattr(settings, name) != fields[name].get_default()
    }
    return settings.model_dump(mode="json", include=used)
