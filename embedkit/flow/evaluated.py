"""A complete version is held against what its job asks, and its report says what came of it."""

import logging
from dataclasses import replace
from typing import Any, Protocol

from embedkit.dataset.manifest import Manifest
from embedkit.dataset.version import Version
from embedkit.errors import IntegrityError
from embedkit.flow.prepare import Draft
from embedkit.flow.verdict import REPORT_HTML, REPORT_JSON, read_report
from embedkit.reports.account import RunAccount
from embedkit.reports.render import render_html
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
    if not isinstance(found, dict) or found.get("asked") != evaluate.asked:
        _LOG.info("evaluating version %s", version.name)
        figures = evaluate(version, manifest, draft.options.excerpts)
        found = {"asked": evaluate.asked, **figures}
        report = with_evaluation(report, found)
        version.store.replace(version.key(REPORT_JSON), report_json(report))
        version.store.replace(version.key(REPORT_HTML), render_html(report).encode())
    return replace(account, evaluation=found)
