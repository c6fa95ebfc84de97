"""The verdict on a version: what it lost, and what the gates of a job say of its report."""

import json
from collections.abc import Mapping
from typing import Any

from embedkit.config import OutputConfig
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.rejects import DAMAGED_FILE
from embedkit.dataset.stores import read_if_there
from embedkit.dataset.version import Version
from embedkit.flow.prepare import Draft
from embedkit.reports.phrasing import noun
from embedkit.reports.render import with_verdict
from embedkit.reports.report import report_json
from embedkit.reports.verdict import judged

REPORT_JSON = "report/report.json"
REPORT_HTML = "report/report.html"


def judge(output: OutputConfig, manifest: Manifest, report: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a report with its verdict, by an output's gates and what it allows to be lost."""
    trial = manifest.description.get("trial")
    said = None if trial is None else f"a trial of the first {noun(trial, 'document')}"
    lost = too_much_lost(manifest, output)
    return judged(report, output.gates, lost[0] if lost else said)


def judge_again(draft: Draft, manifest: Manifest) -> Mapping[str, Any]:
    """Judges a complete version by its report that stands, which then says so.

    The figures never change, so the same gates have the same outcome whoever asks, and whenever.
    Of a report that cannot be read, which ``account_of_complete`` makes anew, no figure is known.

    Returns:
        The report with its verdict.

    Raises:
        StoreError: The store failed.
    """
    version = draft.version
    standing = read_report(version)
    report = judge(draft.output, manifest, standing)
    if not standing or all(report[name] == standing.get(name) for name in ("verdict", "gates")):
        return report
    if "verdict" not in standing and not report["gates"]:
        # Of an earlier release, whose page has no place for it.
        return report
    version.store.replace(version.key(REPORT_JSON), report_json(report))
    page = read_if_there(version.store, version.key(REPORT_HTML))
    if page is not None:
        changed = with_verdict(page.decode("utf-8", "replace"), report)
        version.store.replace(version.key(REPORT_HTML), changed.encode())
    return report


def read_report(version: Version) -> dict[str, Any]:
    """Reads the ``report.json`` of a version; nothing where it is gone or torn.

    Raises:
        StoreError: The store failed.
    """
    data = read_if_there(version.store, version.key(REPORT_JSON))
    try:
        # Not the canonical form: a report is for people as well.
        said = json.loads(data or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def too_much_lost(manifest: Manifest, output: OutputConfig) -> tuple[str, str] | None:
    """Returns what a complete version lost more than it may and what can be done about it.

    Without rows it is too much, unless the output says that all of the documents may be rejected.

    Returns:
        None where it may be published for all that it lost.
    """
    if not manifest.rows and not (manifest.documents and output.max_reject_share == 1):
        if not manifest.documents:
            return "the inputs hold no document, so there are no rows", "mend the inputs"
        said = f"{_all(manifest.documents)} rejected, so there are no rows"
        return said, "see {rejects}, then mend the inputs or settings"
    if output.publish_anyway:
        return None
    damages = manifest.reject_reasons.get(DAMAGED_FILE, 0)
    if damages and not output.allow_damaged_files:
        return (
            f"{noun(damages, 'input')} broke off for damage, and the rest of each such file is "
            "missing, a loss of unknown size",
            "see {rejects}, which says where only garbage follows, then restore the files, or "
            "give --allow-damaged-files",
        )
    if manifest.rejects <= output.max_reject_share * manifest.documents:
        return None
    return (
        f"{manifest.rejects:,} of {noun(manifest.documents, 'document')} "
        f"{'was' if manifest.rejects == 1 else 'were'} rejected, more than "
        f"--max-reject-share {output.max_reject_share:g} allows",
        "see {rejects}, then mend the inputs, or give --publish-anyway",
    )


def _all(documents: int) -> str:
    return "the one document was" if documents == 1 else f"all {documents:,} documents were"
