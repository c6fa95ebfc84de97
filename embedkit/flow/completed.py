"""The account of a run that finds its version complete, which happens in no time."""

from collections.abc import Iterable
from dataclasses import replace

from embedkit.dataset.committed import CommitRecord, committed_blocks, ended_splits
from embedkit.dataset.heartbeat import leave
from embedkit.dataset.manifest import Manifest, read_manifest, restore_card
from embedkit.dataset.mend import fault_of_text, is_object
from embedkit.dataset.plan_file import read_plan, standing_plan
from embedkit.dataset.processes import processes
from embedkit.dataset.version import Version
from embedkit.errors import GoneError
from embedkit.flow.account import with_version
from embedkit.flow.evaluated import Evaluate, evaluated, needs_another_report
from embedkit.flow.line_numbers import LineNumbers
from embedkit.flow.prepare import Draft
from embedkit.flow.publish import publish_or_refuse
from embedkit.flow.verdict import REPORT_HTML, REPORT_JSON, read_report
from embedkit.reports.account import RunAccount


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


def _restore_texts(draft: Draft, manifest: Manifest, evaluate: Evaluate | None) -> None:
    """Writes the report and the card of a complete version anew where they are gone or torn.

    So it does with a report that is to say more than the release foresaw that made it, or that
    shows texts which it is not to show any more.
    """
    version = draft.version
    if _is_torn(version, version.card_key):
        from embedkit.dataset.card import dataset_card

        restore_card(version, dataset_card(version, manifest))
    stands = not any(_is_torn(version, version.key(path)) for path in (REPORT_JSON, REPORT_HTML))
    if stands and not (manifest.rows and needs_another_report(version, evaluate)):
        if not draft.output.report_text and read_report(version).get("texts", True):
            from embedkit.flow.report_anew import make_report_anew

            make_report_anew(version.url, texts=False)
        return
    # What a version that stands as it was left need not wait for.
    from embedkit.flow.gather import gather, processes_for
    from embedkit.flow.report import write_report

    blocks = committed_blocks(version)
    account = RunAccount(rows_resumed=manifest.rows, tokens_resumed=manifest.tokens_encoded)
    account = account_with_version(account, draft, manifest)
    numbers = line_numbers(draft)
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
    account = account_with_version(account, draft, manifest)
    account = evaluated(draft, manifest, account, evaluate)
    return publish_or_refuse(draft, manifest, account)


def line_numbers(draft: Draft) -> LineNumbers:
    """Returns the numbers of lines that the files of a version's splits have.

    Raises:
        GoneError: It is no longer known how a split ended.
    """
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


def account_with_version(account: RunAccount, draft: Draft, manifest: Manifest) -> RunAccount:
    """Returns the account of a run with what the version holds now."""
    known = with_version(account, draft.version, manifest, draft.plan)
    return replace(known, not_reused=draft.not_reused)
