"""From committed blocks to a complete version: manifest, report, card."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from embedkit.config import CorpusConfig
from embedkit.dataset.calibration import described_calibration, read_calibration
from embedkit.dataset.card import dataset_card
from embedkit.dataset.committed import committed, committed_blocks
from embedkit.dataset.device import recorded_device
from embedkit.dataset.finalize import finalize
from embedkit.dataset.hash_runs import remove_runs
from embedkit.dataset.layer_ranges import described_ranges
from embedkit.dataset.manifest import Manifest, Part, read_manifest, seal
from embedkit.dataset.mend import lists_others
from embedkit.dataset.processes import processes
from embedkit.dataset.removal import check_not_removed
from embedkit.dataset.version import Version
from embedkit.errors import ResumableError
from embedkit.flow.completed import account_with_version, line_numbers
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.evaluated import Evaluate, evaluated
from embedkit.flow.gather import Gathered, gather, processes_for
from embedkit.flow.large_documents import reject_whole_documents
from embedkit.flow.prepare import Draft, with_standing_ranges
from embedkit.flow.publish import publish_or_refuse
from embedkit.flow.report import write_report
from embedkit.flow.scratch import remove_scratch
from embedkit.flow.survey import Survey
from embedkit.quantization import QUANTIZED
from embedkit.reports.account import RunAccount
from embedkit.reports.sections import quantization


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
    draft = with_standing_ranges(draft)
    version = draft.version
    if version.is_complete():
        manifest = read_manifest(version)
        _check_committed(version, manifest)
        account = account_with_version(account, draft, manifest)
        account = evaluated(draft, manifest, account, evaluate)
        return publish_or_refuse(draft, manifest, account)
    if splits is None:
        splits = [split.split_id for split in draft.plan.splits]
    device = recorded_device(version) or account.device or draft.model.placement.device
    described = {**draft.description, "device_name": device}
    if draft.calibration is not None and read_calibration(version) is not None:
        described["calibration"] = described_calibration(version)
    if (ranges := described_ranges(version)) is not None:
        described["int8"] = ranges
    blocks = committed_blocks(version)
    with processes(1 if survey else processes_for(len(blocks))) as each:
        if survey is None and draft.records.has_many_rows:
            reject_whole_documents(version, blocks, each)
        totals = survey.totals if survey else None
        earlier = partial(_earlier_parts, draft)
        manifest = finalize(version, splits, described, each, totals, earlier)
        numbers = line_numbers(draft)
        manifest = numbers.described(manifest)
        if isinstance(draft.records, CorpusConfig):
            manifest = replace(manifest, input_format=draft.records.format)
        account = account_with_version(account, draft, manifest)
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
