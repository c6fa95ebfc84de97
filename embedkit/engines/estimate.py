"""How large a job is, told from a sample before anything is run."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.config import CorpusConfig, JobConfig, pairs_fault
from embedkit.corpus.chunks import Chunker, windows_of
from embedkit.corpus.plan import Split, estimate, plan_inputs
from embedkit.dataset.committed import CommitRecord, committed
from embedkit.encoders.hardware import HERE, Machine, processor_name, usable_cores
from embedkit.encoders.host_cores import HostWork
from embedkit.encoders.kinds import read_job_model, tokens_per_second
from embedkit.encoders.spec import ModelSpec
from embedkit.engines.display import clock
from embedkit.engines.gpu_estimate import GpuEstimate, gpu_estimate
from embedkit.engines.progress import Expected
from embedkit.engines.sizing import Fleet, Sizing, SizingOptions, size_run
from embedkit.engines.workload import PerDocument, workload_of
from embedkit.errors import ConfigError
from embedkit.errors.wrong_kinds import check_kind
from embedkit.flow.block_size import with_block_size
from embedkit.flow.prepare import (
    ChunkerFactory,
    Job,
    reused_by_job,
    version_of_job,
    warn_of_idle_settings,
)
from embedkit.quantization import StoredAs
from embedkit.reports.phrasing import size
from embedkit.tokens.tokenization import load_tokenizer

_START_SECONDS = {"plain": 5.0, "local": 13.0, "ray": 13.0}
"""From the command to the first call, of a small model on two cores."""

_TIMED_TOKENS = 5_000
_TIMED_CHARACTERS = 1 << 18
"""What is timed of a sample, in which a call or two of a tokenizer do not count."""


@dataclass(frozen=True)
class Estimate:
    """A job's size.

    Attributes:
        files: Input files.
        skipped_files: Files of input directories that are no input.
        bytes: Their bytes as stored.
        splits: Ranges that workers take.
        rows: Rows, estimated.
        tokens: Tokens that the model would see, estimated.
        truncated_share: Share of the sample's rows that are longer than the model sees.
        seconds: Time of a run on this machine, its start-up included and what is committed left
            out, estimated; None where the encoder's speed is not known, as on a GPU.
        model: The model.
        device: What would run it.
        committed_rows: Rows that an earlier run of the job has committed.
        start_seconds: How much of the time the start-up takes.
        rejects: Records that cannot be embedded, estimated.
        records: All records, estimated.
        gpu: What GPUs need; None where the model runs on CPUs.
        vectors: Vectors, one for each row, word or token, estimated.
        vector_bytes: What they take on disk, which no compression makes much smaller.
        sizing: What a whole run takes on the encoders that were asked about; None where none were.
        reuses: Name of the version whose rows are taken over where they are equal, which tokens and
            seconds know nothing of; empty without one.
    """

    files: int
    skipped_files: int
    bytes: int
    splits: int
    rows: int
    tokens: int
    truncated_share: float
    seconds: float | None
    model: str
    device: str
    committed_rows: int = 0
    start_seconds: float = 0.0
    rejects: int = 0
    records: int = 0
    gpu: GpuEstimate | None = None
    vectors: int = 0
    vector_bytes: int = 0
    sizing: Sizing | None = None
    reuses: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the estimate as JSON values.

        It has no ``gpu`` where the model runs on CPUs, no ``sizing`` where none was asked for, and
        no ``reuses`` where nothing is taken over.
        """
        said = asdict(replace(self, sizing=None))
        said["sizing"] = self.sizing.to_dict() if self.sizing else None
        optional = ("gpu", "sizing", "reuses")
        return {name: value for name, value in said.items() if name not in optional or value}

    def to_text(self) -> str:
        """Returns the estimate for a person."""
        took = "not estimated"
        if self.seconds is not None:
            took = f"about {clock(self.seconds)}, {clock(self.start_seconds)} of it to start,"
        committed = [f"committed  {self.committed_rows:,} rows"] if self.committed_rows else []
        rejects = (
            [f"rejects    about {self.rejects:,} of {self.records:,} records"]
            if self.rejects
            else []
        )
        skipped = f", and {self.skipped_files:,} skipped" if self.skipped_files else ""
        return "\n".join(
            [
                f"files      {self.files:,}{skipped}",
                f"bytes      {self.bytes:,}",
                f"splits     {self.splits:,}",
                f"rows       about {self.rows:,}",
                *rejects,
                *committed,
                f"tokens     about {self.tokens:,}",
                f"vectors    about {self.vectors:,}, {size(self.vector_bytes)} on disk",
                *self._reuse_text(),
                f"truncated  about {self.truncated_share:.1%} of rows",
                f"time       {took} on {self.device}",
                *(self.gpu.to_text() if self.gpu else []),
                f"model      {self.model}",
                *(self.sizing.to_text() if self.sizing else []),
            ]
        )

    def _reuse_text(self) -> list[str]:
        if not self.reuses:
            return []
        return [f"reuse      equal rows of version {self.reuses} are taken over, tokens are of all"]


def vector_bytes(vectors: int, dimension: int, dtype: str) -> int:
    """Returns the bytes of so many vectors.

    Args:
        vectors: How many there are.
        dimension: Components of each.
        dtype: How they are stored, see ``StoredAs``.
    """
    stored = StoredAs(dtype, dimension)
    return vectors * stored.width * np.dtype(stored.number).itemsize


class _Counter:
    """Counts what the model would see of texts, and what it would not.

    Args:
        model: The model.
        chunker: Cuts the texts, or None.
        with_vectors: Whether the vectors are counted too, of which texts may have any number.
    """

    def __init__(
        self, model: ModelSpec, chunker: Chunker | None, with_vectors: bool = False
    ) -> None:
        self._model = model
        self._tokenizer = load_tokenizer(model.tokenizer)
        self._chunker = chunker
        self._kept: list[str] = []
        self._room = _TIMED_CHARACTERS
        self.documents = self.rows = self.truncated = self.tokens = self.vectors = 0.0
        self._with_vectors = with_vectors

    def __call__(self, texts: list[str], weights: NDArray[np.float64]) -> list[int]:
        tokens = []
        most = self._tokenizer.max_tokens
        for weight, (rows, chunks) in zip(weights.tolist(), self._rows_of(texts), strict=True):
            counts, vectors = self._counts(rows, chunks)
            tokens.append(sum(min(count, most) for count in counts))
            self.documents += weight
            self.rows += weight * chunks
            self.vectors += weight * vectors
            self.truncated += weight * sum(count > most for count in counts)
            self.tokens += weight * tokens[-1]
        for text in texts:
            if self._room > 0:
                self._kept.append(text)
                self._room -= len(text)
        return tokens

    def _counts(self, rows: list[str], chunks: int) -> tuple[list[int], int]:
        """Returns the tokens of what is encoded of a text, and how many vectors it has."""
        if not self._with_vectors or not self._model.vectors.many:
            return self._tokenizer.count(rows), chunks
        _, _, counts, spans = self._tokenizer.encode_with_spans(rows)
        return counts.tolist(), int(spans.offsets[-1])

    def _rows_of(self, texts: list[str]) -> list[tuple[list[str], int]]:
        """Returns what is encoded of each text, and how many rows come of it."""
        if self._chunker is None:
            return [([text], 1) for text in texts]
        spans = self._chunker.spans(texts)
        # Of neighbours that are read in one window, each has the same.
        read = windows_of(self._chunker, texts, spans) or spans
        return [
            ([text[start:end] for start, end in dict.fromkeys(parts)], len(chunks))
            for text, chunks, parts in zip(texts, spans, read, strict=True)
        ]

    def host_work(self) -> HostWork | None:
        """Returns what cores have to do for such texts, as far as the sample tells; None on CPUs.

        Texts are timed when they are tokenized once more: most words of a corpus were met before,
        of which some tokenizers make use.
        """
        return None if self._model.placement.device == "cpu" else self.timed_work()

    def timed_work(self) -> HostWork:
        """Returns the same whatever runs the model."""
        self._tokenize_kept()
        start = time.process_time()
        tokens = self._tokenize_kept()
        seconds = time.process_time() - start
        if not tokens or (tokens < _TIMED_TOKENS and self._room > 0):
            return HostWork(self._model.vectors.dimension)
        return HostWork(self._model.vectors.dimension, self.tokens / self.rows, seconds / tokens)

    def per_document(self, config: JobConfig) -> PerDocument:
        """Returns what becomes of a document, on average.

        Args:
            config: Says what is stored of it.
        """
        documents, vectors = self.documents or 1.0, self._model.vectors
        return PerDocument(
            rows=self.rows / documents,
            vectors=self.vectors / documents,
            bytes_per_vector=vector_bytes(1, vectors.dimension, config.vector_dtype),
            one_vector=not vectors.many and vectors.column == "embedding",
            text_share=self._zstd_share() if config.store_text else 0.0,
        )

    def _zstd_share(self) -> float:
        """Returns how large texts are as zstd packs them, as a share; of none it is 1."""
        data = "".join(self._kept).encode()
        return len(pa.compress(data, codec="zstd", asbytes=True)) / len(data) if data else 1.0

    def _tokenize_kept(self) -> int:
        rows = [row for found, _ in self._rows_of(self._kept) for row in found]
        return len(self._tokenizer.encode(rows)[0])


def _chunker(config: CorpusConfig, model: ModelSpec) -> Chunker | None:
    return ChunkerFactory(config, model.tokenizer)() if config.has_many_rows else None


def plan_job(
    config: JobConfig, machine: Machine = HERE, sizing: SizingOptions | None = None
) -> Estimate:
    """Estimates a job from its plan and a sample of its documents; nothing is encoded or written.

        >>> from embedkit import JobConfig, plan_job
        >>> found = plan_job(JobConfig(inputs=("docs.jsonl",), model="model", output="planned"))
        >>> found.files, found.splits, found.rows
        (1, 1, 3)

    Args:
        config: The job.
        machine: What is to run it, if that is not this machine.
        sizing: The run that it is to be sized for; ``Estimate.sizing`` has the answer.

    Raises:
        ConfigError: A setting or the model cannot be used, or a run is to be sized whose encoders
            are of unknown speed.
        InputError: An input cannot be used.
    """
    check_kind("config", config, JobConfig)
    if fault := pairs_fault(config, config):
        raise ConfigError(fault)
    model = read_job_model(config, config, machine)
    config = with_block_size(config, model)
    plan = plan_inputs(config)
    warn_of_idle_settings(config, model, plan)
    counter = _Counter(model, _chunker(config, model), with_vectors=True)
    found = estimate(plan, config, counter)
    vectors = round(counter.vectors)
    device = model.placement.device
    if device == "cpu":
        gpu, speed = None, tokens_per_second(model)
    else:
        gpu = gpu_estimate(config, model, machine.find_gpu(), counter.host_work())
        speed = gpu.job_tokens_per_second if gpu else None
    version = version_of_job(config, model, plan)
    before = committed(version).values()
    reused = reused_by_job(version, config, model, plan)
    left = max(0, found.tokens - sum(record.tokens for record in before))
    start = _START_SECONDS[config.engine]
    sized = None
    if sizing is not None:
        work = workload_of(plan, found, config, counter.per_document(config), sizing.documents)
        here = speed if gpu is None else gpu.tokens_per_second / config.encoders_per_gpu
        fleet = _fleet(config, gpu, sizing, here, counter.timed_work())
        sized = size_run(work, fleet, sizing, start)
    return Estimate(
        files=plan.files,
        skipped_files=plan.skipped_files,
        bytes=plan.total_bytes,
        splits=len(plan.splits),
        rows=round(counter.rows),
        tokens=found.tokens,
        truncated_share=counter.truncated / (counter.rows or 1.0),
        seconds=None if speed is None else start + left / speed,
        model=model.identity.model_id,
        device=processor_name() if device == "cpu" else device,
        committed_rows=sum(record.rows for record in before),
        start_seconds=start,
        rejects=found.records - found.documents,
        records=found.records,
        gpu=gpu,
        vectors=vectors,
        vector_bytes=vector_bytes(vectors, model.vectors.dimension, config.vector_dtype),
        sizing=sized,
        reuses=reused.name if reused else "",
    )


def _fleet(
    config: JobConfig,
    gpu: GpuEstimate | None,
    sizing: SizingOptions,
    speed: float | None,
    host: HostWork,
) -> Fleet:
    """Returns the fleet that a run is to be sized for.

    Args:
        config: The job.
        gpu: What GPUs need; None on CPUs.
        sizing: The run.
        speed: Tokens per second of an encoder, as far as that is known without being told.
        host: What cores have to do.

    Raises:
        ConfigError: How fast its encoders are was not said and is not known.
    """
    given = sizing.tokens_per_second is not None
    speed = sizing.tokens_per_second if given else speed
    if speed is None:
        raise ConfigError(
            "nothing is known of the speed of this model on this device; measure what one encoder "
            "does and give it as --tokens-per-second"
        )
    here = gpu.gpus * config.encoders_per_gpu if gpu else 1
    encoders = config.encoders.most if config.encoders else here
    return Fleet.of(config, encoders, speed, given, host, usable_cores())


def expected_work(
    job: Job, splits: Sequence[Split], before: Mapping[str, CommitRecord]
) -> Expected:
    """Estimates what is left of a job, for its progress display.

    Args:
        job: The job.
        splits: The splits that are left to do, wholly or in part.
        before: What is committed already.
    """
    counter = _Counter(job.model, _chunker(job.config, job.model))
    found = estimate(job.plan.with_splits(splits), job.config, counter)
    left = {split.split_id for split in splits}
    partly = [record for name, record in before.items() if name.rpartition("-")[0] in left]
    finished = sum(record.documents for record in before.values())
    return Expected(
        documents=finished - sum(record.documents for record in partly) + found.records,
        tokens=max(0, found.tokens - sum(record.tokens for record in partly)),
        tokens_before=sum(record.tokens for record in before.values()),
        host=counter.host_work(),
    )
