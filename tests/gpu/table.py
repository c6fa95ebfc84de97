"""The results as tables in Markdown: ``python tests/gpu/table.py build/gpu/results.json``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Found = dict[str, Any]

WANTED_SHARES = {("BERT-large", "128 tokens"): 0.70, ("BERT-base", "128 tokens"): 0.62}
"""Of the matrix rate, by model and rows, in the form that encoders take by themselves."""

WANTED_RATIOS = {("MiniLM-L6", "WikiText-2"): 2.5}
WANTED_BUSY = {("MiniLM-L6", "WikiText-2"): 0.95}
MODELS = ("MiniLM-L6", "MiniLM-L12", "BERT-base", "BERT-large")
ROWS = ("WikiText-2", "128 tokens")
_KERNELS = 8
_DEFAULT = "by default"
_PEER = "sentence-transformers"


def as_text(results: Found) -> str:
    """Returns all tables of a run's results."""
    steps = {step["name"]: step for step in results["steps"]}
    parts = [
        _machine(steps.get("machine", {}).get("found", {}), results),
        _checks(steps),
        _said(steps),
        _rates(steps.get("device rates", {}).get("found", {})),
        _encoders(steps),
        _quality(steps.get("Cranfield", {}).get("found", {})),
        _profiles(steps),
    ]
    return "\n\n".join(part for part in parts if part)


def _machine(found: Found, results: Found) -> str:
    memory = f", {found['memory'] / 2**30:.0f} GiB" if "memory" in found else ""
    device = f"{found.get('device', found.get('processor', 'unknown'))}{memory}"
    known = {"device", "processor", "memory", "clocks"}
    versions = ", ".join(f"{name} {said}" for name, said in found.items() if name not in known)
    return f"{device}; {versions}; {results['begun']}, {results.get('seconds', 0):.0f} s in all"


def _checks(steps: Found) -> str:
    failed = [f"- **{name}**: {step['error']}" for name, step in steps.items() if "error" in step]
    passed = [name for name, step in steps.items() if "error" not in step and ", " not in name]
    return "\n".join([f"Passed: {', '.join(passed) or 'nothing'}.", *failed])


def _rates(found: Found) -> str:
    said = [
        f"{name} {rate / 1e12:,.1f} {'TB/s' if name == 'copy' else 'TFLOP/s'}"
        for name, rate in found.items()
        if isinstance(rate, float)
    ]
    return f"Rates of the device: {'; '.join(said)}." if said else ""


def measured(steps: Found) -> Iterator[tuple[str, str, Found]]:
    """Yields model, form and figures of every encoder that was measured."""
    for name, step in steps.items():
        model, comma, form = name.partition(", ")
        if comma and any(rows in step["found"] for rows in ROWS):
            yield model, form, step["found"]


def _encoders(steps: Found) -> str:
    every = sorted(measured(steps), key=lambda entry: MODELS.index(entry[0]))
    peers = {
        (model, rows): found[rows]["tokens_per_second"]
        for model, form, found in every
        for rows in ROWS
        if form == _PEER and rows in found
    }
    lines = [
        _row(model, form, rows, found, peers.get((model, rows)))
        for model, form, found in every
        for rows in ROWS
        if rows in found
    ]
    if not lines:
        return ""
    head = (
        "| model | form | rows | tokens/s (least to most) | of the matrix rate | by "
        "sentence-transformers | busy | fill | cosine with float32: least (mean) | peak GiB | "
        "load + warm-up, s |"
    )
    return "\n".join([head, "|" + "---|" * 11, *lines])


def _row(model: str, form: str, rows: str, found: Found, peer: float | None) -> str:
    said = found[rows]
    place = (model, rows) if form == _DEFAULT else None
    fallen = " (padded batches)" if found.get("streaming") is False and form != "padded" else ""
    cells = [model, form + fallen, rows, _speed(said), "", "", "", "", "", "", ""]
    if form == _PEER:
        cells[4] = (
            f"{said['attention']}, {said['batch_rows']} rows; {said['of_texts']:,.0f} of texts"
        )
        return f"| {' | '.join(cells)} |"
    cells[4] = _wanted(said["share_of_matrix_rate"], ".0%", WANTED_SHARES.get(place))
    if peer:
        ratio = said["tokens_per_second"] / peer
        cells[5] = _wanted(ratio, ".2f", WANTED_RATIOS.get(place))
    if "busy" in said:
        cells[6] = _wanted(said["busy"], ".1%", WANTED_BUSY.get(place))
    cells[7] = f"{said['fill']:.1%}"
    if "agreement" in found:
        close = found["agreement"]
        cells[8] = f"{close['least_cosine']:.6f} ({close['mean_cosine']:.6f})"
    if "peak_bytes" in said:
        cells[9] = f"{said['peak_bytes'] / 2**30:.1f}"
    cells[10] = f"{found['load_seconds']:.1f} + {said['warm_up_seconds']:.1f}"
    return f"| {' | '.join(cells)} |"


def _speed(said: Found) -> str:
    spread = f" ({said['least']:,.0f} to {said['most']:,.0f})" if "least" in said else ""
    return f"{said['tokens_per_second']:,.0f}{spread}"


def _wanted(value: float, form: str, least: float | None) -> str:
    said = format(value, form)
    if least is None:
        return said
    return (
        f"{said} (wanted: >= {format(least, form)}{'' if value >= least else ': **not reached**'})"
    )


def _quality(found: Found) -> str:
    lines = [
        f"| {precision} | {said['ndcg_at_10']:.5f} | "
        f"{said['ndcg_at_10'] - found['float32']['ndcg_at_10']:+.5f} | "
        f"{said['least_cosine']:.6f} ({said['mean_cosine']:.6f}) |"
        for precision, said in found.items()
        if isinstance(said, dict)
    ]
    if not lines:
        return ""
    head = "| precision | Cranfield nDCG@10 | less float32's | cosine with it: least (mean) |"
    return "\n".join([head, "|" + "---|" * 4, *lines])


def _profiles(steps: Found) -> str:
    parts = []
    for model, form, found in measured(steps):
        rows = "WikiText-2" if model.startswith("MiniLM") else "128 tokens"
        profile = found.get(rows, {}).get("profile")
        if form != _DEFAULT or not profile:
            continue
        kinds = ", ".join(f"{name} {share:.0%}" for name, share in profile["kinds"].items())
        lines = [f"Where the device's time goes in {model} on {rows}: {kinds}.", ""]
        lines += ["| kernel | share | calls |", "|---|---|---|"]
        lines += [
            f"| `{one['name'].replace('|', '/')}` | {one['share']:.1%} | {one['count']} |"
            for one in profile["kernels"][:_KERNELS]
        ]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _said(steps: Found) -> str:
    every = [line for step in steps.values() for line in step.get("said", [])]
    return "\n".join(
        ["The package said:", *(f"- {line}" for line in dict.fromkeys(every))] if every else []
    )


if __name__ == "__main__":
    print(as_text(json.loads(Path(sys.argv[1]).read_text())))
