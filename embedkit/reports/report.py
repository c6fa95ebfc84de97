"""The report of a version as plain data: ``report.json``, and what ``report.html`` shows."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, TypedDict

import numpy as np

from embedkit.reports.account import RunAccount
from embedkit.reports.bars import cosine_edges, length_edges, norm_bars
from embedkit.reports.duplicates import TextDuplicates
from embedkit.reports.findings import MANY_REJECTS, Finding, findings, run_findings
from embedkit.reports.quality import BlockStatistics
from embedkit.reports.sample import SampledRow
from embedkit.reports.similarity import Similarity, sample_similarity

FORMAT = 1
"""Number of this form of the report; it grows when a field changes its meaning or goes."""

_QUANTILES = (
    ("p1", 0.01),
    ("p25", 0.25),
    ("p50", 0.5),
    ("p75", 0.75),
    ("p95", 0.95),
    ("p99", 0.99),
)
_NEAR_COPY = 0.95


class Report(TypedDict):
    """The sections of a report. All but ``run`` are the same bytes for the same dataset.

    Attributes:
        format: ``FORMAT``.
        dataset: What the manifest says of the vectors: version, model, revision, weights_hash,
            fingerprint, dimension, pooling, normalized, prompt, max_tokens, backend, precision,
            device, libraries and whatever else it was given.
        inputs: ``files`` and ``bytes``.
        counts: ``documents`` read, those ``embedded`` and ``rejected``, ``rows``, the ``checks``
            (name, expected, found, ok), and whether all of them hold: ``reconciled``; ``lines`` of
            text, JSONL, CSV and TSV files: all ``lines``, those ``blank``, of ``headers`` and
            ``continued`` from the line before, and those that ``records`` begin with, or None.
        rejects: ``total``, ``share`` of documents, and ``reasons``: reason, count and up to five
            ``examples`` (source, row_index, line, doc_id, detail, excerpt, and for a person
            ``place``), most frequent first.
        metadata: ``nulled``: ``column``, ``count`` and first ``example`` of the metadata values
            that did not fit their columns and became null.
        truncation: ``max_tokens``, ``rows`` longer than that, ``row_share``, ``tokens_lost`` and
            ``token_share`` of all tokens.
        tokens: ``total`` before and ``seen`` after truncation, ``mean``, ``shortest`` and
            ``longest`` row, ``quantiles``, and ``bars`` with the counts of truncated rows beside.
        norms: Moments (``mean``, ``deviation``, ``low``, ``high``, None without a row),
            ``quantiles``, ``bars`` or None where all are equal, rows ``non_finite`` and ``zero``.
        duplicates: ``rows`` that repeat an earlier text, their ``share``, ``texts`` that repeat,
            the ``top`` of them, and ``exact``; when that is false ``rows`` is an estimate from a
            sketch and the others are None or empty.
        similarity: Rows ``sampled`` and ``compared``, ``copies`` and ``unusable`` set aside,
            ``mean_cosine`` of all pairs of the dataset, quantiles and counts of the sample's
            ``nearest`` neighbours and of all its ``pairs`` over common ``edges``, ``near_copies``
            (share of rows with a neighbour at ``near_copy_cosine`` or closer) and the ``closest``
            pairs.
        findings: What needs a reader's eye, worst first: ``level`` and ``text``.
        run: What differs between two runs that wrote the same bytes, see ``RunAccount``, and
            ``findings`` of their own.
    """

    format: int
    dataset: dict[str, Any]
    inputs: dict[str, int]
    counts: dict[str, Any]
    rejects: dict[str, Any]
    metadata: dict[str, Any]
    truncation: dict[str, Any]
    tokens: dict[str, Any]
    norms: dict[str, Any]
    duplicates: dict[str, Any]
    similarity: dict[str, Any]
    findings: list[Finding]
    run: dict[str, Any]


Place = Callable[[str, int, int | None], str]


def plain_place(source: str, row_index: int, line: int | None) -> str:
    """Says where a record stands where it is not known what its place counts."""
    return f"row_index {row_index}" if line is None else f"line {line}"


def build_report(
    statistics: BlockStatistics,
    dataset: Mapping[str, Any],
    account: RunAccount,
    duplicates: TextDuplicates | None = None,
    place: Place = plain_place,
) -> Report:
    """Builds the report of a version.

    Args:
        statistics: All blocks' statistics, added in block order.
        dataset: What the manifest says of the vectors, see ``Report.dataset``; JSON values only.
            ``max_tokens`` must be there.
        account: What the commit protocol says was read and written, against which the statistics
            are held, and what the run measured of itself.
        duplicates: Exact duplicates of text; None leaves an estimate.
        place: Says for a person where a record stands, given its source, ``row_index`` and, where
            that is known, its line.
    """
    report = Report(
        format=FORMAT,
        dataset=dict(dataset),
        inputs={"files": account.files, "bytes": account.bytes},
        counts=_counts(statistics, account),
        rejects=_rejects(statistics, place),
        metadata={"nulled": [asdict(nulled) for nulled in statistics.nulled]},
        truncation=_truncation(statistics, dataset["max_tokens"]),
        tokens=_tokens(statistics, dataset["max_tokens"]),
        norms=_norms(statistics),
        duplicates=_duplicates(statistics, duplicates, place),
        similarity=_similarity(statistics, place),
        findings=[],
        run={**account.of_the_run(), "findings": run_findings(account)},
    )
    report["findings"] = findings(report)
    return report


def report_json(report: Report) -> bytes:
    """Serializes a report, indented and in its own order."""
    return (json.dumps(report, indent=1, allow_nan=False) + "\n").encode()


def _counts(statistics: BlockStatistics, account: RunAccount) -> dict[str, Any]:
    rejected = sum(statistics.rejects.values())
    compared = [
        (
            "documents read = embedded + rejected",
            account.documents,
            statistics.embedded + rejected,
        ),
        ("documents read = documents of all blocks", account.documents, statistics.documents),
        ("rows written = rows measured", account.rows, statistics.rows),
        ("rejects written = rejects counted", account.rejects, rejected),
    ]
    lines = account.lines
    if lines is not None and lines.lines:
        compared.append(
            ("lines in = records + blanks + headers + continued", lines.lines, lines.accounted)
        )
    checks = [
        {"name": name, "expected": expected, "found": found, "ok": expected == found}
        for name, expected, found in compared
    ]
    return {
        "documents": account.documents,
        "embedded": statistics.embedded,
        "rejected": rejected,
        "rows": statistics.rows,
        "checks": checks,
        "reconciled": all(check["ok"] for check in checks),
        "lines": asdict(lines) if lines is not None and lines.lines else None,
    }


def _rejects(statistics: BlockStatistics, place: Place) -> dict[str, Any]:
    total = sum(statistics.rejects.values())
    by_count = sorted(statistics.rejects.items(), key=lambda item: (-item[1], item[0]))
    return {
        "total": total,
        "share": _share(total, statistics.documents),
        "many": _share(total, statistics.documents) >= MANY_REJECTS
        or "damaged_file" in statistics.rejects,
        "reasons": [
            {
                "reason": reason,
                "count": count,
                "examples": [
                    {
                        **asdict(reject),
                        "place": place(reject.source, reject.row_index, reject.line),
                    }
                    for reject in statistics.examples.get(reason, ())
                ],
            }
            for reason, count in by_count
        ],
    }


def _truncation(statistics: BlockStatistics, max_tokens: int) -> dict[str, Any]:
    return {
        "max_tokens": max_tokens,
        "rows": statistics.truncated,
        "row_share": _share(statistics.truncated, statistics.rows),
        "tokens_lost": statistics.tokens_lost,
        "token_share": _share(statistics.tokens_lost, statistics.n_tokens),
    }


def _tokens(statistics: BlockStatistics, max_tokens: int) -> dict[str, Any]:
    lengths = statistics.lengths
    edges = length_edges(lengths, statistics.longest)
    return {
        "total": statistics.n_tokens,
        "seen": statistics.tokens,
        "mean": _share(statistics.n_tokens, statistics.rows),
        "shortest": int(lengths.quantile(0)),
        "longest": statistics.longest,
        "quantiles": {name: int(lengths.quantile(share)) for name, share in _QUANTILES},
        "bars": {
            "edges": edges.astype(int).tolist(),
            "counts": lengths.between(edges).tolist(),
            "truncated": lengths.above(max_tokens).between(edges).tolist(),
        },
    }


def _norms(statistics: BlockStatistics) -> dict[str, Any]:
    moments, histogram = statistics.norms, statistics.norm_histogram
    known = moments.count > 0
    return {
        "mean": moments.mean if known else None,
        "deviation": moments.deviation if known else None,
        "low": moments.low if known else None,
        "high": moments.high if known else None,
        "quantiles": {name: histogram.quantile(share) for name, share in _QUANTILES},
        "bars": norm_bars(histogram),
        "non_finite": statistics.non_finite,
        "zero": statistics.zero,
    }


def _duplicates(
    statistics: BlockStatistics, exact: TextDuplicates | None, place: Place
) -> dict[str, Any]:
    if exact is None:
        rows = max(0, round(statistics.rows - statistics.distinct_texts))
        share = _share(rows, statistics.rows)
        return {"exact": False, "rows": rows, "share": share, "texts": None, "top": []}
    sampled = {row.text_hash: row.text for row in statistics.sample.rows}
    top = [asdict(text) for text in exact.top]
    for text in top:
        text["text"] = text["text"] or sampled.get(text["text_hash"]) or None
        text["place"] = place(text["source"], text["row_index"], text["line"])
    return {
        "exact": True,
        "rows": exact.rows,
        "share": _share(exact.rows, statistics.rows),
        "texts": exact.texts,
        "top": top,
    }


def _similarity(statistics: BlockStatistics, place: Place) -> dict[str, Any]:
    found = sample_similarity(statistics.sample)
    edges = cosine_edges(found.pairs)
    return {
        "sampled": found.sampled,
        "compared": len(found.nearest),
        "copies": found.copies,
        "unusable": found.unusable,
        "siblings": found.siblings,
        "mean_cosine": statistics.mean_cosine,
        "nearest": _cosines(found.nearest, edges),
        "pairs": _cosines(found.pairs, edges),
        "edges": edges.tolist(),
        "near_copy_cosine": _NEAR_COPY,
        "near_copies": _share(int((found.nearest >= _NEAR_COPY).sum()), len(found.nearest)),
        "closest": _closest(found, place),
    }


def _cosines(cosines: np.ndarray[Any, np.dtype[np.float64]], edges: Any) -> dict[str, Any]:
    counts, _ = np.histogram(cosines, bins=edges)
    quantiles = (
        {name: round(float(np.quantile(cosines, share)), 6) for name, share in _QUANTILES}
        if len(cosines)
        else {}
    )
    return {"quantiles": quantiles, "counts": counts.tolist()}


def _closest(found: Similarity, place: Place) -> list[dict[str, Any]]:
    def told(row: SampledRow) -> dict[str, Any]:
        return {
            "id": row.id,
            "text": row.text,
            "source": row.source,
            "row_index": row.row_index,
            "line": row.line,
            "place": place(row.source, row.row_index, row.line),
            "n_tokens": row.n_tokens,
        }

    return [
        {"cosine": pair.cosine, "left": told(pair.left), "right": told(pair.right)}
        for pair in found.closest
    ]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
