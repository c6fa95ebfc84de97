"""A complete version is held against what its job asks, and its report says what came of it."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

from embedkit import __version__
from embedkit.dataset.manifest import Manifest
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow.page import write_page
from embedkit.flow.prepare import Draft
from embedkit.flow.verdict import REPORT_JSON, read_report
from embedkit.reports.account import RunAccount
from embedkit.reports.report import report_json
from embedkit.reports.sections.evaluation import with_evaluation

_LOG = logging.getLogger("embedkit")


class Evaluate(Protocol):
    """Holds complete versions against what a job asks."""

    @property
    def asked(self) -> str:
        """Hash of what is asked."""
        ...

    def __call__(self, version: Version, manifest: Manifest, show_texts: bool) -> dict[str, Any]:
        """Returns the figures of a version by their names."""
        ...


def evaluated(
    draft: Draft, manifest: Manifest, account: RunAccount, evaluate: Evaluate | None
) -> RunAccount:
    """Has a complete version evaluated and its report say so, unless that says it already.

    Args:
        draft: The version, which is complete and has its report.
        manifest: Its manifest.
        account: What the run did.
        evaluate: Holds the version against what is asked; None where nothing is.

    Returns:
        The account with the figures.

    Raises:
        ConfigError: The version cannot be held against that.
        InputError: Labels do not go with the version.
        IntegrityError: The report is damaged, or a part is.
        StoreError: The store failed; the same call again is safe.
    """
    if evaluate is None or not manifest.rows:
        return account
    version = draft.version
    report = read_report(version)
    if not report:
        raise IntegrityError(
            f"{version.url_of(version.key(REPORT_JSON))}: gone or damaged; run the same command "
            "again, which writes it anew"
        )
    found = report.get("evaluation")
    if _is_due(report, evaluate):
        _LOG.info("evaluating version %s", version.name)
        figures = evaluate(version, manifest, draft.shows_texts)
        found = {"asked": evaluate.asked, **figures}
        report = with_evaluation(report, found)
        # The page first: that all of it was said is known by report.json.
        write_page(version, report)
        version.store.replace(version.key(REPORT_JSON), report_json(report))
    return replace(account, evaluation=found)


def needs_another_report(version: Version, evaluate: Evaluate | None) -> bool:
    """Tells whether a version is to be evaluated whose report another release made.

    The page is rendered once more from ``report.json`` then, which must say all that the page shows
    by now.

    Raises:
        StoreError: The store failed.
    """
    if evaluate is None:
        return False
    report = read_report(version)
    made_with = report.get("dataset", {}).get("libraries", {}).get("embedkit")
    is_of_another = "verdict" not in report or made_with != __version__
    return is_of_another and _is_due(report, evaluate)


def _is_due(report: Mapping[str, Any], evaluate: Evaluate) -> bool:
    found = report.get("evaluation")
    return not isinstance(found, dict) or found.get("asked") != evaluate.asked
