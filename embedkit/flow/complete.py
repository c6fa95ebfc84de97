"""From committed blocks to a complete version: manifest, report, card."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial

from embedkit.config import CorpusConfig
from embedkit.dataset.calibration import described_calibration, read_calibration
from embedkit.dataset.card import dataset_card
from embedkit.dataset.committed import CommitRecord, committed, committed_blocks, ended_splits
from embedkit.dataset.device import recorded_device
from embedkit.dataset.finalize import finalize
from embedkit.dataset.hash_runs import remove_runs
from embedkit.dataset.heartbeat import leave
from embedkit.dataset.manifest import Manifest, Part, read_manifest, restore_card, seal
from embedkit.dataset.mend import fault_of_text, is_object, lists_others
from embedkit.dataset.plan_file import read_plan, standing_plan
from embedkit.dataset.processes import processes
from embedkit.dataset.removal import check_not_removed
from embedkit.dataset.version import Version
from embedkit.errors import GoneError, ResumableError
from embedkit.flow.account import with_version
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.evaluated import Evaluate, evaluated, needs_another_report
from embedkit.flow.gather import Gathered, gather, processes_for
from embedkit.flow.large_documents import reject_whole_documents
from embedkit.flow.line_numbers import LineNumbers
from embedkit.flow.prepare import Draft
from embedkit.flow.publish import publish_or_refuse
from embedkit.flow.report import write_report
from embedkit.flow.report_anew import make_report_anew
from embedkit.flow.scratch import remove_scratch
from embedkit.flow.survey import Survey
from embedkit.flow.verdict import REPORT_HTML, REPORT_JSON, read_report
from embedkit.quantization import QUANTIZED
from embedkit.reports.account import RunAccount
from embedkit.reports.sections import quantization


def begin_account(committed: Iterable[CommitRecord], already_complete: bool = False) -> RunAccount:
    """Begins the account of a run with what earlier tries of its version have committed.

    Args:
        committed: Their commit records.
        already_complete: Whether they had completed it.
    """
    rows = tokens = 0
    for record in committed:
        rows += record.rows
        tokens += record.tokens_encoded
    return RunAccount(rows_resumed=rows, tokens_resumed=tokens, already_complete=already_complete)


def complete_version(
    draft: Draft,
    account: RunAccount,
    splits: Sequence[str] | None = None,
    survey: Survey | None = None,
    evaluate: Evaluate | None = None,
) -> RunAccount:
    """Completes a version, or finds it complete; called twice, or twice at once, it does so once.

    Its report and card are written, and it is published, unless more was rejected than the
    draft's output allows or a gate failed: it is complete then all the same, and the account says
    why.

    Args:
        draft: The version, all of its splits done.
        account: What the run found and did.
        splits: The version's splits, where they are others than the plan's.
        survey: What its blocks say, where they were read before.
        evaluate: Holds the complete version against what the job asks, before it is published.

    Returns:
        The account with what the version holds.

    Raises:
        ResumableError: Something is missing yet.
        IntegrityError: The version does not add up.
    """
    version = draft.version
    if version.is_complete():
        manifest = read_manifest(version)
        _check_committed(version, manifest)
        account = _with_version(account, draft, manifest)
        account = evaluated(draft, manifest, account, evaluate)
        return publish_or_refuse(draft, manifest, account)
    if splits is None:
        splits = [split.split_id for split in draft.plan.splits]
    device = recorded_device(version) or account.device or draft.model.placement.device
    described = {**draft.description, "device_name": device}
    if draft.calibration is not None and read_calibration(version) is not None:
        described["calibration"] = described_calibration(version)
    blocks = committed_blocks(version)
    with processes(1 if survey else processes_for(len(blocks))) as each:
        if survey is None and draft.records.has_many_rows:
            reject_whole_documents(version, blocks, each)
        totals = survey.totals if survey else None
        earlier = partial(_earlier_parts, draft)
        manifest = finalize(version, splits, described, each, totals, earlier)
        numbers = _line_numbers(draft)
        manifest = numbers.described(manifest)
        if isinstance(draft.records, CorpusConfig):
            manifest = replace(manifest, input_format=draft.records.format)
        account = _with_version(account, draft, manifest)
        if survey:
            gathered = survey.gathered()
        else:
            gathered = gather(version, blocks, manifest.parts, each)
        manifest = _with_loss(manifest, gathered)
        write_report(draft, manifest, gathered, account, numbers)
    remove_runs(version)
    remove_scratch(version)
    check_not_removed(version)
    manifest = seal(version, manifest, partial(dataset_card, version))
    account = evaluated(draft, manifest, account, evaluate)
    return publish_or_refuse(draft, manifest, account)


def _with_loss(manifest: Manifest, gathered: Gathered) -> Manifest:
    """Returns a manifest that says how far codes are from the vectors they were made of."""
    loss = gathered.statistics.get(quantization.SECTION)
    if loss is None or manifest.description.get("vector_dtype") not in QUANTIZED:
        return manifest
    said = {**manifest.description, "quantization": loss.figures()}
    return replace(manifest, description=said)


def _check_committed(version: Version, manifest: Manifest) -> None:
    """Checks that a version which another run completed is still what that one listed.

    Raises:
        ResumableError: It is not, as blocks were committed once more since.
    """
    if lists_others(manifest, committed(version).values()):
        raise ResumableError(
            f"{version.url_of(version.manifest_key)}: another run completed the version while this "
            "one committed blocks of it once more; run the same command again, which puts it right"
        )


def _earlier_parts(draft: Draft, name: str) -> tuple[Part, ...] | None:
    reuse = draft.reuse
    if reuse is None or reuse.version.name != name or not reuse.version.is_begun():
        return None
    return EarlierRows(reuse).parts


def _line_numbers(draft: Draft) -> LineNumbers:
    plan = draft.plan
    if not plan.splits:
        # A worker that completes a version does not carry them.
        plan = standing_plan(draft.version, read_plan(draft.version))
    ends = ended_splits(draft.version)
    for split in plan.splits:
        if split.split_id not in ends:
            key = draft.version.split_key(split.split_id)
            raise GoneError(
                f"{draft.version.url_of(key)}: gone; run the same command again to resume"
            )
    return LineNumbers.of(plan.splits, ends)


def _with_version(account: RunAccount, draft: Draft, manifest: Manifest) -> RunAccount:
    """Returns the account of a run with what the version holds now."""
    known = with_version(account, draft.version, manifest, draft.plan)
    return replace(known, not_reused=draft.not_reused)


def _restore_texts(draft: Draft, manifest: Manifest, evaluate: Evaluate | None) -> None:
    """Writes the report and the card of a complete version anew where they are gone or torn.

    So it does with a report that is to say more than the release foresaw that made it, or that
    shows texts which it is not to show any more.
    """
    version = draft.version
    if _is_torn(version, version.card_key):
        restore_card(version, dataset_card(version, manifest))
    stands = not any(_is_torn(version, version.key(path)) for path in (REPORT_JSON, REPORT_HTML))
    if stands and not (manifest.rows and needs_another_report(version, evaluate)):
        if not draft.output.report_text and read_report(version).get("texts", True):
            make_report_anew(version.url, texts=False)
        return
    blocks = committed_blocks(version)
    account = RunAccount(rows_resumed=manifest.rows, tokens_resumed=manifest.tokens_encoded)
    account = _with_version(account, draft, manifest)
    numbers = _line_numbers(draft)
    with processes(processes_for(len(blocks))) as each:
        gathered = gather(version, blocks, manifest.parts, each)
    write_report(draft, manifest, gathered, account, numbers)


def _is_torn(version: Version, key: str) -> bool:
    try:
        data = version.store.read(key)
    except FileNotFoundError:
        return True
    if key.endswith(".json"):
        return not is_object(data)
    return fault_of_text(data) is not None


def account_of_complete(draft: Draft, evaluate: Evaluate | None = None) -> RunAccount:
    """Returns the account of a run that found its version complete and had nothing to encode.

    A report or card that is gone or torn is written anew, and a report of another release where it
    is to say what came of an evaluation.

    Args:
        draft: The version.
        evaluate: Holds it against what the job asks, unless its report says already what came of
            that.

    Raises:
        ConfigError: The version cannot be held against that.
        InputError: Labels do not go with the version.
        IntegrityError: A file that this needs is damaged.
        StoreError: The store failed.
    """
    manifest = read_manifest(draft.version)
    leave(draft.version)
    _restore_texts(draft, manifest, evaluate)
    account = RunAccount(
        rows_resumed=manifest.rows,
        tokens_resumed=manifest.tokens_encoded,
        already_complete=True,
        encode_seconds=0.0,
        encoder_busy_share=0.0,
    )
    account = _with_version(account, draft, manifest)
    account = evaluated(draft, manifest, account, evaluate)
    return publish_or_refuse(draft, manifest, account)
