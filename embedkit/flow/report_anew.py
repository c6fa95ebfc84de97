"""The report of a complete version made anew from the version alone."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ValidationError

from embedkit.config import Gate, OutputConfig
from embedkit.dataset.committed import committed_blocks
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.plan_file import read_plan, standing_plan
from embedkit.dataset.processes import processes
from embedkit.dataset.publication import is_published
from embedkit.dataset.removal import while_it_stands
from embedkit.dataset.version import Version, find_version
from embedkit.errors import GoneError, IntegrityError
from embedkit.flow.account import with_version
from embedkit.flow.gather import gather, processes_for
from embedkit.flow.line_numbers import LineNumbers
from embedkit.flow.near_duplicates import known_near_duplicates, near_duplicates_of
from embedkit.flow.neighbours import KnownNeighbours
from embedkit.flow.report import put_report, report_of
from embedkit.flow.verdict import REPORT_JSON, judge, read_report
from embedkit.reports.account import RunAccount
from embedkit.reports.drift.figures import Drift
from embedkit.reports.near.figures import NearDuplicates
from embedkit.reports.report import Report, report_json
from embedkit.reports.sections.evaluation import with_evaluation, without_texts
from embedkit.reports.verdict import judged


def make_report_anew(path: str, texts: bool | None = None) -> tuple[Version, Report]:
    """Makes the report of a complete version anew: from its sidecars, parts, plan and manifest.

    Neither its model nor its inputs need be there. What only its run knew is taken over from the
    report that stands: times, how busy encoders were, which gates there were, what the job allowed
    to be lost, and what came of an evaluation.

    Args:
        path: A root, for its newest version, or the path of a version.
        texts: Whether the report shows texts, where the version's job allows it; as the one that
            stands does unless given, and none where that is gone.

    Returns:
        The version, and what its ``report.json`` says now: the bytes that it had, where this
        release wrote them.

    Raises:
        ConfigError: There is no such version, or it is not complete.
        IntegrityError: A file of the version is damaged.
        ResumableError: A file is gone, or the version is removed, or the store failed.
    """
    version = find_version(path)
    with while_it_stands(version):
        standing = _read_standing(version)
        shown = standing.texts if texts is None else texts
        report = _made(version, read_manifest(version), standing, shown)
        put_report(version, report)
    return version, json.loads(report_json(report))


class _Gate(BaseModel):
    expression: Annotated[str, AfterValidator(lambda one: str(Gate.parse(one)))]


class _Verdict(BaseModel):
    loss: str | None = None


class _Near(BaseModel):
    why: str | None = None


class _Standing(BaseModel):
    """What of a report that stands is known from nowhere else; earlier releases said less."""

    texts: bool = True
    run: dict[str, Any] = {}
    dataset: dict[str, Any] = {}
    evaluation: dict[str, Any] | None = None
    gates: list[_Gate] = []
    verdict: _Verdict | None = None
    near_duplicates: _Near = _Near()
    drift: Drift | None = None


def _read_standing(version: Version) -> _Standing:
    # Of one that is gone or torn nobody knows whether it showed texts.
    said = read_report(version) or {"texts": False}
    try:
        return _Standing.model_validate(said)
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"]))
        raise IntegrityError(
            f"{version.url_of(version.key(REPORT_JSON))}: not what embedkit wrote, at {where}; "
            "restore it, or remove it, which loses what only the run knew"
        ) from error


def _made(version: Version, manifest: Manifest, standing: _Standing, shown: bool) -> Report:
    try:
        stored = read_plan(version)
    except FileNotFoundError as error:
        raise GoneError(
            f"{version.url_of(version.plan_key)}: gone; restore it, or run the version's job again"
        ) from error
    allowed = stored.job.get("excerpts", stored.job.get("store_text", False)) is True
    texts = allowed and shown
    account = RunAccount(rows_resumed=manifest.rows, tokens_resumed=manifest.tokens_encoded)
    account = with_version(account, version, manifest, standing_plan(version, stored))
    blocks = committed_blocks(version)
    if len(blocks) != manifest.blocks:
        raise GoneError(
            f"{version.url_of(version.key('_meta/commits'))}: commit records of {len(blocks)} of "
            f"{manifest.blocks} blocks; restore them, or run the version's job again"
        )
    with processes(processes_for(len(blocks))) as each:
        gathered = gather(version, blocks, manifest.parts, each)
    near = _near_duplicates(version, manifest, standing.near_duplicates.why, texts)
    numbers = LineNumbers.of_version(manifest)
    nearest = KnownNeighbours(version, None)
    report = report_of(
        version, manifest, gathered, account, numbers, near, nearest, texts, standing.drift
    )
    report = {
        **report,
        "run": {**report["run"], **standing.run},
        # Manifests have their names sorted.
        "dataset": _in_order_of(standing.dataset, report["dataset"]),
    }
    if standing.evaluation is not None:
        found = standing.evaluation
        report = with_evaluation(report, found if texts else without_texts(found))
    return _judged(version, manifest, report, standing)


def _in_order_of(known: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Returns values in the order that their names had before."""
    names = [name for name in known if name in values] if isinstance(known, dict) else []
    ordered = {name: values[name] for name in (*names, *values)}
    return {
        name: _in_order_of(known[name], value)
        if isinstance(value, dict) and name in names
        else value
        for name, value in ordered.items()
    }


def _near_duplicates(
    version: Version, manifest: Manifest, why: str | None, texts: bool
) -> NearDuplicates | str:
    known = known_near_duplicates(version, manifest.parts, None, texts)
    if known is not None:
        return known
    if why is not None:
        # The setting, and what the run's machine had, stand nowhere else.
        return why
    taken_over = 0 if manifest.reused is None else manifest.reused.rows
    return near_duplicates_of(version, manifest.parts, "auto", texts, taken_over)


def _judged(version: Version, manifest: Manifest, report: Report, standing: _Standing) -> Report:
    """Judges a report by the gates and the losses that the one which stands was judged by."""
    if standing.verdict is not None:
        gates = [Gate.parse(one.expression) for one in standing.gates]
        return judged(report, gates, standing.verdict.loss)
    if is_published(version):
        # Without such a report, that its job allowed what was lost is known by this alone.
        return judged(report)
    return judge(OutputConfig(output=version.root), manifest, report)
