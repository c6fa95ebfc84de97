"""Whether a version may go live, in one sentence: by its gates, its losses and its findings."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from embedkit.config import Gate
from embedkit.reports.gates import GateResult, check_gate
from embedkit.reports.phrasing import noun


@dataclass(frozen=True)
class Verdict:
    """Whether a version may go live.

    Attributes:
        may_go_live: Whether it may, for all that its report tells. A version that only findings
            speak against is published all the same, which its sentence says.
        level: ``error`` where it may not, ``warning`` where something needs a look, else ``note``.
        sentence: The same for a person, and why.
        loss: Why it is not published whatever its gates say; None where nothing keeps it back.
        errors: Findings of that level.
        warnings: Findings of that level.
    """

    may_go_live: bool
    level: Literal["error", "warning", "note"]
    sentence: str
    loss: str | None
    errors: int
    warnings: int


def judged(
    report: Mapping[str, Any], gates: Sequence[Gate] = (), loss: str | None = None
) -> dict[str, Any]:
    """Returns a report with its ``gates`` and its ``verdict``.

    Args:
        report: What ``build_report`` gave, or ``report.json`` read back.
        gates: The gates that it is to pass.
        loss: Why the version is not published whatever its gates say.
    """
    findings = report.get("findings", [])
    counts = {f"{one}s": _count(findings, one) for one in ("error", "warning")}
    # Gates see no verdict of an earlier run, but how many findings there are.
    figures = {**report, "verdict": counts, "gates": []}
    results = [check_gate(gate, figures) for gate in gates]
    verdict = _verdict(findings, results, loss, counts)
    return {**report, "verdict": asdict(verdict), "gates": list(map(asdict, results))}


def failed_gates(results: Sequence[Mapping[str, Any]]) -> str:
    """Says which gates failed and by how much; nothing where none did.

    Args:
        results: The ``gates`` of a report.
    """
    failed = [one for one in results if not one["passed"]]
    said = "; ".join(f"{one['expression']}: {one['why']}" for one in failed)
    return f"gate {said}" if len(failed) == 1 else f"gates {said}" if failed else ""


def _verdict(
    findings: Sequence[Mapping[str, Any]],
    results: Sequence[GateResult],
    loss: str | None,
    counts: dict[str, int],
) -> Verdict:
    failed = failed_gates([asdict(one) for one in results])
    error = _first(findings, "error")
    if failed or loss:
        reasons = "; ".join(one for one in (failed, loss, error) if one)
        return Verdict(False, "error", f"May not go live: {reasons}.", loss, **counts)
    if error:
        sentence = f"Should not go live, though no gate keeps it back: {error}."
        return Verdict(False, "error", sentence, None, **counts)
    passed = f"; {_all(len(results))} passed" if results else ""
    warning = _first(findings, "warning")
    if warning:
        return Verdict(True, "warning", f"May go live, but: {warning}{passed}.", None, **counts)
    sentence = f"May go live: every record is accounted for, and nothing found amiss{passed}."
    return Verdict(True, "note", sentence, None, **counts)


def _all(gates: int) -> str:
    return "the one gate" if gates == 1 else f"all {gates} gates"


def _count(findings: Sequence[Mapping[str, Any]], level: str) -> int:
    return sum(one["level"] == level for one in findings)


def _first(findings: Sequence[Mapping[str, Any]], level: str) -> str:
    """Returns the first sentence of the first finding of a level, and how many more there are."""
    texts = [str(one["text"]) for one in findings if one["level"] == level]
    if not texts:
        return ""
    sentence = texts[0].partition(". ")[0].rstrip(".")
    more = len(texts) - 1
    return sentence + (f", and {noun(more, f'more {level}')}" if more else "")
