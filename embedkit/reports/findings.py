"""What in a report needs a reader's eye, in words."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal, TypedDict

from embedkit.reports.account import RunAccount
from embedkit.reports.phrasing import count, noun, percent, significant

MANY_REJECTS = 0.01
"""Share of rejected documents from which on a reader is warned."""

_DAMAGED_FILE = "damaged_file"
_TRUNCATED_ROWS = 0.01
_DUPLICATES = 0.01
_NEAR_COPIES = 0.1
_NARROW = 0.6
_NORM_TOLERANCE = 1e-3
_IDLE = 0.9
_SMALL_SAMPLE = 30


class Finding(TypedDict):
    """One thing to look at.

    Attributes:
        level: ``error`` (the dataset should not be used as it is), ``warning`` (it may serve
            worse than it could) or ``note``.
        text: A sentence or two, with the figures and what can be done.
    """

    level: Literal["error", "warning", "note"]
    text: str


def findings(report: Mapping[str, Any]) -> list[Finding]:
    """Reads the sections of a report that do not depend on the run; worst first."""
    found = [
        *_trial(report["dataset"]),
        *_accounting(report["counts"], report["rejects"]),
        *_vectors(report["norms"], report["counts"]["rows"], report["dataset"]),
        *_metadata(report["metadata"]),
        *_ignored_code(report["dataset"]),
        *_truncation(report["truncation"]),
        *_duplicates(report["duplicates"]),
        *_similarity(report["similarity"]),
    ]
    order = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: order[finding["level"]])


def run_findings(run: RunAccount) -> list[Finding]:
    """Reads what a run measured of itself."""
    found: list[Finding] = []
    busy = run.encoder_busy_share
    if run.tokens_encoded and busy is not None and busy < _IDLE:
        found.append(
            Finding(
                level="note",
                text=f"Encoders were busy for {percent(busy)} of the encoding "
                "time: reading, tokenizing or writing held them up, or the job was short.",
            )
        )
    if run.rows_resumed:
        found.append(
            Finding(
                level="note",
                text=f"{noun(run.rows_resumed, 'row')} had been committed before this run and "
                f"{'was' if run.rows_resumed == 1 else 'were'} taken over as they stood; "
                "the speed is that of the rest.",
            )
        )
    return found


def _trial(dataset: Mapping[str, Any]) -> Iterator[Finding]:
    if dataset.get("trial") is not None:
        yield Finding(
            level="warning",
            text=f"A trial: no more than the first {noun(dataset['trial'], 'document')} of the "
            "inputs was read, and LATEST does not name this version.",
        )


def _accounting(counts: Mapping[str, Any], rejects: Mapping[str, Any]) -> Iterator[Finding]:
    for check in counts["checks"]:
        if not check["ok"]:
            yield Finding(
                level="error",
                text=f"The accounts do not add up: {check['name']} should give "
                f"{count(check['expected'])} and gives {count(check['found'])}. "
                "Do not use this version; validate it and build it anew.",
            )
    if not counts["documents"]:
        yield Finding(level="warning", text="The inputs hold no document.")
    elif not counts["rows"]:
        yield Finding(
            level="error",
            text="Not one document could be embedded; mend what the rejects say and run again.",
        )
    reasons = [one for one in rejects["reasons"] if one["reason"] != _DAMAGED_FILE]
    damages = sum(one["count"] for one in rejects["reasons"] if one["reason"] == _DAMAGED_FILE)
    if damages:
        yield Finding(
            level="warning",
            text=f"Damage broke off the reading of an input {noun(damages, 'time')}, and the rest "
            "of each such file is missing: a loss of unknown size, unless its reject says that "
            "only garbage follows. Restore the files and build the version anew.",
        )
    lost = sum(one["count"] for one in reasons)
    if lost:
        share = lost / counts["documents"]
        yield Finding(
            level="warning" if share >= MANY_REJECTS else "note",
            text=f"{noun(lost, 'document')} ({percent(share)}) could not be "
            f"embedded, most often for {reasons[0]['reason']} ({count(reasons[0]['count'])}).",
        )


def _vectors(norms: Mapping[str, Any], rows: int, dataset: Mapping[str, Any]) -> Iterator[Finding]:
    if norms["non_finite"]:
        yield Finding(
            level="error",
            text=f"{noun(norms['non_finite'], 'vector')} of {count(rows)} hold a NaN or an "
            "infinity. Most indexes refuse or misplace them.",
        )
    if norms["zero"]:
        yield Finding(
            level="warning",
            text=f"{noun(norms['zero'], 'vector')} of {count(rows)} are zero: they have no "
            "direction, and their cosine with anything is undefined.",
        )
    if dataset.get("normalized") and norms["low"] is not None:
        off = max(abs(norms["low"] - 1), abs(norms["high"] - 1))
        if off > _NORM_TOLERANCE:
            yield Finding(
                level="error",
                text="The vectors are declared normalized, but a norm is off 1 by "
                f"{significant(off, 2)}: a dot product is not their cosine.",
            )


def _ignored_code(dataset: Mapping[str, Any]) -> Iterator[Finding]:
    if dataset.get("ignored_code"):
        yield Finding(
            level="warning",
            text="The model's directory names classes of its own, which --ignore-auto-map replaced "
            f"by the library's ({dataset['ignored_code']}): the vectors may be others than the "
            "authors'. Compare some of them.",
        )


def _metadata(metadata: Mapping[str, Any]) -> Iterator[Finding]:
    for nulled in metadata["nulled"]:
        one = nulled["count"] == 1
        yield Finding(
            level="warning",
            text=f"{noun(nulled['count'], 'value')} of the metadata column {nulled['column']!r} "
            f"{'does' if one else 'do'} not fit its type and became null; the "
            f"{'document is' if one else 'documents are'} there all the same. The first is "
            f"{nulled['example']}; --metadata-columns {nulled['column']}:string keeps them all.",
        )


def _truncation(truncation: Mapping[str, Any]) -> Iterator[Finding]:
    if truncation["row_share"] >= _TRUNCATED_ROWS:
        yield Finding(
            level="warning",
            text=f"{percent(truncation['row_share'])} of rows were longer than the model's "
            f"{count(truncation['max_tokens'])} tokens and were truncated: "
            f"{percent(truncation['token_share'])} of all tokens were not seen by the model. "
            "Consider chunking, or a model with a longer context.",
        )


def _duplicates(duplicates: Mapping[str, Any]) -> Iterator[Finding]:
    if duplicates["share"] >= _DUPLICATES:
        about = "" if duplicates["exact"] else "About "
        yield Finding(
            level="warning",
            text=f"{about}{percent(duplicates['share'])} of rows repeat the text of another row "
            "word for word: the same hit will fill several places of a search.",
        )


def _similarity(similarity: Mapping[str, Any]) -> Iterator[Finding]:
    if 0 < similarity["compared"] < _SMALL_SAMPLE:
        yield Finding(
            level="note",
            text=f"Only {noun(similarity['compared'], 'row')} could be compared: take the figures "
            "on similarity as anecdotes.",
        )
    if similarity["near_copies"] >= _NEAR_COPIES:
        yield Finding(
            level="warning",
            text=f"{percent(similarity['near_copies'])} of sampled rows have a near copy in the "
            f"sample (cosine {similarity['near_copy_cosine']} or more with a different text): "
            "templates, boilerplate or repeated records.",
        )
    mean = similarity["mean_cosine"]
    if mean is not None and mean >= _NARROW:
        yield Finding(
            level="note",
            text=f"Two rows have a cosine of {significant(mean, 2)} on average: the vectors fill a "
            "narrow cone, so compare scores with each other, never with a fixed threshold.",
        )
