"""From committed blocks to a published version: statistics, report, manifest, LATEST."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa

from embedkit.config import CorpusConfig, OutputConfig
from embedkit.corpus.splits import Plan
from embedkit.dataset.card import dataset_card
from embedkit.dataset.commit import CommitRecord, ended_splits
from embedkit.dataset.device import recorded_device
from embedkit.dataset.manifest import Manifest, finalize, read_manifest, restore_card, seal
from embedkit.dataset.mend import fault_of_text, is_object
from embedkit.dataset.publication import is_published, name_where_none_is, point_latest, publish
from embedkit.dataset.rejects import DAMAGED_FILE
from embedkit.dataset.rows import read_columns
from embedkit.dataset.store_keys import one_line
from embedkit.dataset.stores import read_all
from embedkit.dataset.version import Version, block_of, block_order
from embedkit.encoders.meter import EncoderLoad, busy_share, work_by_encoder
from embedkit.errors import IntegrityError
from embedkit.flow.large_documents import reject_whole_documents
from embedkit.flow.line_numbers import LineNumbers, place_of
from embedkit.flow.prepare import Draft
from embedkit.reports.duplicates import COLUMNS, RepeatedText, text_duplicates
from embedkit.reports.phrasing import dataset_name, noun
from embedkit.reports.quality import BlockStatistics
from embedkit.reports.render import render_html
from embedkit.reports.report import Accounts, RunFigures, build_report, report_json
from embedkit.reports.sample import SampledRow

_REPORT_JSON = "report/report.json"
_REPORT_HTML = "report/report.html"


@dataclass(frozen=True)
class RunResult:
    """What a run did, as ``run --json`` prints it.

    Attributes:
        version: Name of the version.
        documents: Input records accounted for, rejects included.
        rows: Rows of the version.
        rejects: Records that could not be embedded.
        tokens: Tokens of all rows as the model sees them, after truncation.
        tokens_encoded: Tokens that this run sent to encoders; equal texts of a block count once.
        rows_reused: Rows that were committed before this run began.
        truncated_share: Share of rows that were longer than the model sees.
        encode_seconds: From the first call to an encoder to the end of the last; None, as the two
            below, where nobody measured it.
        encoder_busy_share: Share of that time that an encoder spent encoding, averaged over them.
        tokens_per_second: ``tokens_encoded`` by ``encode_seconds``.
        report: Where the HTML report is.
        published: Whether the version is one that ``LATEST`` may name.
        reject_reasons: The rejects by their reason.
        refusal: Why this run did not publish it, for who runs it; not printed.
        dataset: Where the version is; not printed.
        nulled: Metadata values that did not fit their columns and became null.
        already_complete: Whether there was nothing to encode; not printed.
        trial: How many documents a trial was to read; None, and not printed, of the whole corpus.
    """

    version: str
    documents: int
    rows: int
    rejects: int
    tokens: int
    tokens_encoded: int
    rows_reused: int
    truncated_share: float
    encode_seconds: float | None
    encoder_busy_share: float | None
    tokens_per_second: float | None
    report: str
    dataset: str
    nulled: int = 0
    already_complete: bool = False
    published: bool = True
    reject_reasons: dict[str, int] = field(default_factory=dict)
    refusal: str | None = None
    trial: int | None = None

    def to_json(self) -> str:
        """Returns one line of JSON."""
        values = asdict(self)
        if self.trial is None:
            del values["trial"]
        return json.dumps({name: values[name] for name in values if name not in _NOT_PRINTED})


_NOT_PRINTED = ("dataset", "already_complete", "refusal")


@dataclass(frozen=True)
class Figures:
    """What an engine measured.

    Attributes:
        loads: The last known load of every encoder process.
        device: The device's name.
        started: When the run began, in seconds since the epoch.
        worker_idle_share: Share of their time that workers had no split, where it was measured.
    """

    loads: tuple[EncoderLoad, ...]
    device: str
    started: float
    worker_idle_share: float | None = None

    @property
    def encode_seconds(self) -> float:
        """From the first call to an encoder to the end of the last."""
        worked = [load for load in self.loads if load.first_start]
        if not worked:
            return 0.0
        first = min(load.first_start for load in worked)
        return max(load.last_end for load in worked) - first


@dataclass(frozen=True)
class Before:
    """What a version held before a run began.

    Attributes:
        rows: Its rows.
        tokens_encoded: The tokens that were sent to encoders for them.
        complete: Whether it was complete already.
    """

    rows: int = 0
    tokens_encoded: int = 0
    complete: bool = False

    @classmethod
    def of(cls, records: Iterable[CommitRecord], complete: bool = False) -> "Before":
        """Adds up the commit records that stood then."""
        rows = tokens = 0
        for record in records:
            rows += record.rows
            tokens += record.tokens_encoded
        return cls(rows, tokens, complete)


def complete(job: Draft, before: Mapping[str, CommitRecord], figures: Figures) -> RunResult:
    """Completes a job's version: checks it, writes its report and card, and publishes it.

    A version that the job does not allow to be published is complete all the same; the result
    says why.

    Args:
        job: The job, all of its splits done.
        before: What was committed before this run began.
        figures: What the engine measured.

    Raises:
        ResumableError: Something is missing yet.
        IntegrityError: The version does not add up.
    """
    splits = [split.split_id for split in job.plan.splits]
    return complete_version(job, splits, Before.of(before.values()), figures.started, figures)


def complete_version(
    draft: Draft,
    splits: Sequence[str],
    before: Before,
    started: float,
    figures: Figures | None = None,
) -> RunResult:
    """Completes a version, or finds it complete; called twice, or twice at once, it does so once.

    It is then published, unless more was rejected than the draft's output allows.

    Args:
        draft: The version, all of its splits done.
        splits: Its splits.
        before: What it held before the run began.
        started: When the run began, in seconds since the epoch.
        figures: What the engine measured of its encoders, or None where nobody did.

    Raises:
        ResumableError: Something is missing yet.
        IntegrityError: The version does not add up.
    """
    version = draft.version
    if version.is_complete():
        manifest = read_manifest(version)
        run = _run_figures(manifest, before, started, figures)
        return _published(draft, manifest, run, before)
    if draft.records.chunk != "none":
        reject_whole_documents(version)
    device = draft.model.device if figures is None else figures.device
    device = recorded_device(version) or device
    manifest = finalize(version, splits, {**draft.description, "device_name": device})
    blocks = filter(None, map(block_of, version.store.list(version.key("_meta/commits/"))))
    run = _run_figures(manifest, before, started, figures)
    inputs = (draft.plan.files, draft.plan.total_bytes)
    run = replace(run, dataset=dataset_name(version.root))
    numbers = _line_numbers(draft)
    manifest = numbers.described(manifest)
    if isinstance(draft.records, CorpusConfig):
        manifest = replace(manifest, input_format=draft.records.format)
    write_report(version, manifest, sorted(blocks, key=block_order), inputs, run, numbers)
    manifest = seal(version, manifest, dataset_card(version, manifest))
    return _published(draft, manifest, run, before)


def _line_numbers(draft: Draft) -> LineNumbers:
    plan = draft.plan
    if not plan.splits:
        # A worker that completes a version does not carry them.
        stored = json.loads(draft.version.store.read(draft.version.plan_key))
        plan = Plan.from_json(json.dumps(stored["corpus"]))
    return LineNumbers.of(plan.splits, ended_splits(draft.version))


def _published(draft: Draft, manifest: Manifest, run: RunFigures, before: Before) -> RunResult:
    """Publishes a complete version if the draft's output allows it.

    A trial never is, and neither is a version without rows, whatever may be rejected; but where
    there is no other, ``LATEST`` names a version all of whose documents were allowed to be.
    """
    version = draft.version
    refusal = why_not_published(version, manifest, draft.output)
    may_be = refusal is None and manifest.rows > 0 and "trial" not in manifest.description
    if may_be:
        publish(version)
    published = may_be or is_published(version)
    if refusal is not None:
        if published:
            point_latest(version)
            refusal += "; it was published before"
        elif manifest.rows and name_where_none_is(version):
            refusal += "; LATEST names it while there is no other"
        else:
            refusal += "; LATEST stays where it was"
    elif not published and "trial" not in manifest.description:
        name_where_none_is(version)
    return replace(_result(version, manifest, run, before), published=published, refusal=refusal)


def why_not_published(version: Version, manifest: Manifest, output: OutputConfig) -> str | None:
    """Returns what a complete version lost more than it may, or None where it did not.

    Without rows it is too much, unless the output says that all of the documents may be rejected.
    """
    stays = f"version {version.name} is complete, but not published"
    if not manifest.rows and not (manifest.documents and output.max_reject_share == 1):
        what = (
            "the inputs hold no document"
            if not manifest.documents
            else f"{_all(manifest.documents)} rejected, see {version.url}/rejects"
        )
        return f"{what}, so there are no rows; {stays}; mend the inputs or settings"
    if output.publish_anyway:
        return None
    damages = manifest.reject_reasons.get(DAMAGED_FILE, 0)
    if damages and not output.allow_damaged_files:
        return (
            f"{noun(damages, 'input')} broke off for damage, and the rest of each such file is "
            f"missing, a loss of unknown size; {stays}; see {version.url}/rejects, which says "
            "where only garbage follows, then restore the files, or give --allow-damaged-files"
        )
    if manifest.rejects <= output.max_reject_share * manifest.documents:
        return None
    return (
        f"{manifest.rejects:,} of {noun(manifest.documents, 'document')} "
        f"{'was' if manifest.rejects == 1 else 'were'} rejected, more than "
        f"--max-reject-share {output.max_reject_share:g} allows; {stays}; see "
        f"{version.url}/rejects, then mend the inputs, or give --publish-anyway"
    )


def _all(documents: int) -> str:
    return "the one document was" if documents == 1 else f"all {documents:,} documents were"


def _run_figures(
    manifest: Manifest, before: Before, started: float, figures: Figures | None
) -> RunFigures:
    # Documents that were rejected whole since took theirs with them.
    fresh = max(0, manifest.tokens_encoded - before.tokens_encoded)
    seconds = figures.encode_seconds if figures else None
    rate = None if seconds is None else fresh / seconds if seconds else 0.0
    encoders = len({load.encoder for load in figures.loads}) if figures else 0
    return RunFigures(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        wall_seconds=time.time() - started,
        tokens_encoded=fresh,
        rows_reused=before.rows,
        encoders=encoders or None,
        by_encoder=tuple(map(asdict, work_by_encoder(figures.loads if figures else ()))),
        worker_idle_share=figures.worker_idle_share if figures else None,
        encode_seconds=seconds,
        tokens_per_second=rate,
        encoder_busy_share=busy_share(figures.loads) if figures else None,
    )


def write_report(
    version: Version,
    manifest: Manifest,
    blocks: list[str],
    inputs: tuple[int, int],
    run: RunFigures,
    numbers: LineNumbers,
) -> None:
    """Merges the statistics of all blocks in block order and writes the report, twice.

    Args:
        version: The version, every block committed.
        manifest: Its manifest.
        blocks: Its blocks, in order.
        inputs: Number of input files, and their bytes.
        run: What the run measured of itself.
        numbers: The lines of its inputs.
    """
    store = version.store

    columns = [*COLUMNS, *(["text"] if manifest.description.get("stores_text") else [])]

    def rows() -> Iterator[pa.RecordBatch]:
        return read_columns(version, manifest.parts, columns)

    repeated = text_duplicates(rows)
    top = tuple(replace(text, line=numbers.line_of(*_place(text))) for text in repeated.top)
    statistics = _statistics(version, blocks).with_examples(numbers.true_line)
    report = build_report(
        statistics.with_lines(lambda row: numbers.line_of(*_place(row))),
        {**manifest.description, "version": version.name},
        Accounts(*inputs, manifest.documents, manifest.rows, manifest.rejects, numbers.counts),
        run,
        replace(repeated, top=top),
        partial(place_of, input_format=manifest.input_format),
    )
    # Replaced, not created: a run that was killed here left a report without this run's figures.
    store.replace(version.key(_REPORT_JSON), report_json(report))
    store.replace(version.key(_REPORT_HTML), render_html(report).encode())


def _place(row: RepeatedText | SampledRow) -> tuple[str, int, int | None]:
    return row.source, row.row_index, row.line


def _statistics(version: Version, blocks: Sequence[str]) -> BlockStatistics:
    """Adds up the statistics of all blocks, in block order."""
    total = BlockStatistics.empty()
    for key, data in read_all(version.store, map(version.stats_key, blocks)):
        try:
            total += BlockStatistics.from_json(data)
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            # What is no JSON was found before; this is JSON of another shape, or with other bytes.
            raise IntegrityError(
                f"{version.url_of(key)}: not the statistics that were written "
                f"({type(error).__name__}: {one_line(error)}); remove it and "
                f"{version.url_of(version.commit_key(block_of(key) or ''))}, then run the same "
                "command again, which encodes its block anew"
            ) from error
    return total


def _restore_texts(draft: Draft, manifest: Manifest) -> None:
    """Writes the report and the card of a complete version anew where they are gone or torn."""
    version = draft.version
    if _is_torn(version, version.card_key):
        restore_card(version, dataset_card(version, manifest))
    if not any(_is_torn(version, version.key(path)) for path in (_REPORT_JSON, _REPORT_HTML)):
        return
    blocks = filter(None, map(block_of, version.store.list(version.key("_meta/commits/"))))
    inputs = (draft.plan.files, draft.plan.total_bytes)
    run = _run_figures(manifest, Before(manifest.rows, manifest.tokens_encoded), time.time(), None)
    numbers = _line_numbers(draft)
    write_report(version, manifest, sorted(blocks, key=block_order), inputs, run, numbers)


def _is_torn(version: Version, key: str) -> bool:
    try:
        data = version.store.read(key)
    except FileNotFoundError:
        return True
    if key.endswith(".json"):
        return not is_object(data)
    return fault_of_text(data) is not None


def result_of_complete(draft: Draft) -> RunResult:
    """Returns the result of a run that found its version complete and had nothing to encode.

    A report or card that is gone or torn is written anew.

    Raises:
        IntegrityError: A file that this needs is damaged.
        StoreError: The store failed.
    """
    manifest = read_manifest(draft.version)
    _restore_texts(draft, manifest)
    run = RunFigures("", 0.0, 0.0, 0, 0.0, 0.0, manifest.rows)
    return _published(draft, manifest, run, Before(manifest.rows, complete=True))


def _result(version: Version, manifest: Manifest, run: RunFigures, before: Before) -> RunResult:
    return RunResult(
        version=version.name,
        documents=manifest.documents,
        rows=manifest.rows,
        rejects=manifest.rejects,
        tokens=manifest.tokens,
        tokens_encoded=run.tokens_encoded,
        rows_reused=run.rows_reused,
        truncated_share=manifest.truncated / manifest.rows if manifest.rows else 0.0,
        encode_seconds=run.encode_seconds,
        encoder_busy_share=run.encoder_busy_share,
        tokens_per_second=run.tokens_per_second,
        report=version.url_of(version.key(_REPORT_HTML)),
        dataset=version.url,
        nulled=manifest.nulled,
        already_complete=before.complete,
        trial=manifest.description.get("trial"),
        reject_reasons=manifest.reject_reasons,
    )
