"""Whether a complete version may be published, and what ``LATEST`` names where it may not."""

from dataclasses import replace

from embedkit.config import OutputConfig
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.publication import is_published, name_where_none_is, point_latest, publish
from embedkit.dataset.version import Version
from embedkit.errors import GatesFailedError, RejectsExceededError
from embedkit.flow.prepare import Draft
from embedkit.flow.verdict import judge_again, too_much_lost
from embedkit.reports.account import RunAccount
from embedkit.reports.verdict import failed_gates


def publish_or_refuse(draft: Draft, manifest: Manifest, account: RunAccount) -> RunAccount:
    """Publishes a complete version if the draft's output allows it and its gates are passed.

    A trial never is, and neither is a version without rows, whatever may be rejected; but where
    there is no other, ``LATEST`` names a version all of whose documents were allowed to be.

    Args:
        draft: The version, which is complete and has its report.
        manifest: Its manifest.
        account: What the run did.

    Returns:
        The account with the verdict, whether the version is published, and why this run did not.

    Raises:
        IntegrityError: A file that says what is published is damaged.
        StoreError: The store failed; the same call again is safe.
    """
    version = draft.version
    report = judge_again(draft, manifest)
    failed = failed_gates(report["gates"])
    refusal = why_not_published(version, manifest, draft.output, failed)
    may_be = refusal is None and manifest.rows > 0 and "trial" not in manifest.description
    if may_be:
        publish(version)
    published = may_be or is_published(version)
    if refusal is not None:
        if published:
            point_latest(version)
            refusal += "; it was published before"
        elif manifest.rows and not failed and name_where_none_is(version):
            refusal += "; LATEST names it while there is no other"
        else:
            refusal += "; LATEST stays where it was"
    elif not published and "trial" not in manifest.description:
        name_where_none_is(version)
    return replace(
        account,
        published=published,
        refusal=refusal,
        verdict=report["verdict"],
        gates=tuple(report["gates"]),
    )


def why_not_published(
    version: Version, manifest: Manifest, output: OutputConfig, failed: str = ""
) -> str | None:
    """Returns why a complete version is not published, or None where it may be.

    Args:
        version: The version.
        manifest: Its manifest.
        output: What may be lost.
        failed: Which gates failed and by how much, see ``failed_gates``.
    """
    lost = too_much_lost(manifest, output)
    stays = f"version {version.name} is complete, but not published"
    if failed:
        what = failed if lost is None else f"{failed}; {lost[0]}"
        return (
            f"{what}; {stays}; see {version.url}/report, then mend the inputs or settings, or "
            f"publish it by hand: embedkit publish {version.url}"
        )
    if lost is None:
        return None
    return f"{lost[0]}; {stays}; {lost[1].format(rejects=f'{version.url}/rejects')}"


def raise_where_refused(account: RunAccount) -> None:
    """Ends a run whose version is complete, but not published.

    Raises:
        GatesFailedError: A gate failed, whatever else kept it from being published.
        RejectsExceededError: More was lost than the job allows.
    """
    if account.refusal is None:
        return
    if any(not gate["passed"] for gate in account.gates):
        raise GatesFailedError(account.refusal)
    raise RejectsExceededError(account.refusal)
