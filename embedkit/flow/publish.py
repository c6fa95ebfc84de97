"""Whether a complete version may be published, and what ``LATEST`` names where it may not."""

from dataclasses import replace

from embedkit.config import OutputConfig
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.publication import is_published, name_where_none_is, point_latest, publish
from embedkit.dataset.rejects import DAMAGED_FILE
from embedkit.dataset.version import Version
from embedkit.flow.prepare import Draft
from embedkit.reports.account import RunAccount
from embedkit.reports.phrasing import noun


def publish_or_refuse(draft: Draft, manifest: Manifest, account: RunAccount) -> RunAccount:
    """Publishes a complete version if the draft's output allows it.

    A trial never is, and neither is a version without rows, whatever may be rejected; but where
    there is no other, ``LATEST`` names a version all of whose documents were allowed to be.

    Args:
        draft: The version, which is complete.
        manifest: Its manifest.
        account: What the run did.

    Returns:
        The account with whether the version is published, and why this run did not.

    Raises:
        IntegrityError: A file that says what is published is damaged.
        StoreError: The store failed; the same call again is safe.
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
    return replace(account, published=published, refusal=refusal)


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
