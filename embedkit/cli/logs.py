"""What the command line prints: log lines, the progress display, summaries and tables."""

import json
import logging
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

import typer
from rich.console import Console

from embedkit.engines.display import Bar, Display, Lines, Nothing, clock
from embedkit.errors import EmbedkitError, error_in_traceback
from embedkit.errors.escapes import escaped
from embedkit.errors.urls import without_secrets

if TYPE_CHECKING:
    # These load pyarrow, which --help need not wait for.
    from embedkit.reports.account import RunAccount
    from embedkit.search.exact import Hit


_HARMLESS = frozenset("\n\t\u200c\u200d")
"""Control and format characters that a terminal may get: the last two join letters and emojis."""
_UNSHOWN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """Writes control characters as their escapes, as a name may hold commands to a terminal.

    Args:
        text: What is to be printed; its line ends and tabs stay.
    """
    return escaped(text, _UNSHOWN, _HARMLESS)


def say(text: str) -> None:
    """Prints a result to stdout, fit for a terminal."""
    typer.echo(visible(text))


class _PlainLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(without_secrets(super().format(record)))


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
        }
        if hasattr(record, "progress"):
            line["progress"] = record.progress
        if record.exc_info:
            line["traceback"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(line)


class _ToStderr(logging.StreamHandler[TextIO]):
    """Writes to whatever stderr is by then, as a progress bar keeps other lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        # Not setStream, which flushes the stream before, that may be closed.
        self.stream = sys.stderr
        super().emit(record)


def set_up_logs(form: Literal["text", "json"]) -> None:
    """Sends log lines to stderr, as text or as one JSON object each."""
    handler = _ToStderr(sys.stderr)
    plain = _PlainLines("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    handler.setFormatter(_JsonLines() if form == "json" else plain)
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("embedkit").setLevel(logging.INFO)
    # Beam warns of optional packages that embedkit does not need.
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    # It logs the traceback of what it also raises.
    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
    handler.addFilter(_is_not_said_in_one_line)
    logging.captureWarnings(True)
    sys.stderr = _WithoutBeamTracebacks(sys.stderr)


class _WithoutBeamTracebacks:
    """A stream that passes over the tracebacks that Beam prints besides logging them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._passed_over = False

    def write(self, text: str) -> int:
        # `print` writes the end of its line by itself.
        self._passed_over = (self._passed_over and text == "\n") or (
            text.startswith("Traceback") and "apache_beam/runners/worker" in text
        )
        return len(text) if self._passed_over else self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _is_not_said_in_one_line(record: logging.LogRecord) -> bool:
    """Holds back Beam's tracebacks, pages long, of errors whose one line ends the run."""
    if not record.name.startswith("apache_beam"):
        return True
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, EmbedkitError) and not error_in_traceback(record.getMessage())


def say_error(message: str) -> None:
    """Writes the one line of an error to stderr, as JSON where log lines are."""
    line = without_secrets(" ".join(message.splitlines()))
    if any(isinstance(one.formatter, _JsonLines) for one in logging.getLogger().handlers):
        logging.getLogger("embedkit").error(line)
    else:
        sys.stderr.write(f"embedkit: {visible(line)}\n")


def display_named(name: Literal["auto", "bar", "lines", "none"]) -> Display:
    """Returns a progress display; auto draws a bar where stderr is a terminal."""
    if name == "none":
        return Nothing()
    if name == "bar" or (name == "auto" and sys.stderr.isatty()):
        return Bar(Console(stderr=True))
    return Lines()


def summary(result: "RunAccount") -> str:
    """Returns what a person wants to know after a run."""
    if result.already_complete:
        head = f"version {result.version} is complete already, nothing to encode"
    else:
        head = f"version {result.version}: encoded {result.tokens_encoded:,} tokens"
        if result.tokens_per_second is not None:
            head += (
                f" in {clock(result.encode_seconds)} ({result.tokens_per_second:,.0f} tokens/s, "
                f"encoders {result.encoder_busy_share:.0%} busy)"
            )
    resumed = f", {result.rows_resumed:,} of them resumed" if result.rows_resumed else ""
    mark = []
    if result.trial is not None:
        mark.append(f"  a trial of the first {result.trial:,} documents; LATEST stays where it was")
    elif not result.rows:
        mark.append("  no rows; LATEST names it only while there is no other")
    taken = []
    if result.reused is not None:
        taken.append(_taken_over(result, result.reused.versions))
    if result.not_reused is not None:
        taken.append(f"  {result.not_reused}")
    reasons = [f"{count:,} {reason}" for reason, count in result.reject_reasons.items()]
    rejected = [f"  rejected: {', '.join(reasons)}"] if reasons else []
    if result.reject_reasons.get("damaged_file"):
        rejected.append(
            "  behind each damaged_file the rest of the file is missing, a loss of unknown size, "
            "unless its reject says that only garbage follows"
        )
    nulled = [f"  {result.nulled:,} metadata values did not fit their columns and became null"]
    worth = []
    if result.evaluation is not None:
        worth.append(f"  {', '.join(_worth(result.evaluation))}")
    unknown = []
    if result.unknown_share is not None:
        unknown.append(f"  {result.unknown_share:.1%} of tokens are not in the model's vocabulary")
    return "\n".join(
        [
            head,
            *mark,
            f"  {result.documents:,} documents -> {result.rows:,} rows{resumed}, "
            f"{result.rejects:,} rejects",
            *taken,
            *rejected,
            *(nulled if result.nulled else []),
            f"  {result.truncated_share:.1%} of rows were longer than the model sees",
            *unknown,
            *worth,
            *_judged(result),
            f"  dataset {result.dataset}",
            f"  report  {result.report}",
        ]
    )


def _judged(result: "RunAccount") -> list[str]:
    """Returns the verdict, and each gate's outcome."""
    if result.verdict is None:
        return []
    outcome = {True: "passed", False: "failed"}
    gates = [
        f"  gate {one['expression']} {outcome[one['passed']]}: {one['why']}" for one in result.gates
    ]
    return [f"  {result.verdict['sentence']}", *gates]


def _worth(evaluation: Mapping[str, Any]) -> Iterable[str]:
    """Says what a version is worth: a figure of each file and folder."""
    for name, one in evaluation.get("sts", {}).items():
        if one["spearman"] is not None:
            yield f"{name}: spearman {one['spearman']:.4f}"
    judged = dict(evaluation.get("retrieval", {}))
    if "known_items" in evaluation:
        judged["known items"] = evaluation["known_items"]
    yield from (f"{name}: ndcg@10 {one['ndcg@10']:.4f}" for name, one in judged.items())
    if not evaluation.get("sts") and not judged:
        yield "evaluated, see the report"


def _taken_over(result: "RunAccount", versions: Iterable[str]) -> str:
    removed = "" if result.rows_removed is None else f", {result.rows_removed:,} removed"
    return (
        f"  {result.rows_reused:,} rows as in version {' and '.join(versions)} "
        f"({result.tokens_saved:,} tokens saved), {result.rows_encoded:,} encoded; "
        f"{result.rows_added:,} added, {result.rows_changed:,} changed{removed}"
    )


def table(described: Mapping[str, Any]) -> str:
    """Returns a mapping as aligned lines; nested mappings come last, indented."""
    nested = {name: value for name, value in described.items() if isinstance(value, Mapping)}
    plain = {name: value for name, value in described.items() if name not in nested}
    width = max(map(len, plain), default=0)
    lines = [f"{name:<{width}}  {_shown(value)}" for name, value in plain.items()]
    for name, value in nested.items():
        lines.append(f"{name}:")
        lines.extend(f"  {line}" for line in table(value).splitlines())
    return "\n".join(lines)


def columns(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns rows as aligned columns under their names; texts at the end are of any width."""
    names = list(rows[0])
    lines = [names, *([_shown(row[name]) for name in names] for row in rows)]
    # A number stands under the others' last digits.
    right = [any(type(row[name]) is int for row in rows) for name in names]
    widths = [max(len(line[place]) for line in lines) for place in range(len(names))]
    if not right[-1]:
        widths[-1] = 0
    return "\n".join(
        "  ".join(
            cell.rjust(width) if number else cell.ljust(width)
            for cell, width, number in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    )


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return "-" if value in (None, "") else str(value)


def hits_text(hits: Sequence["Hit"]) -> str:
    """Returns search results as lines: score, id, place, and the text's beginning where stored.

    The score of a cross-encoder comes first where there is one, with the other in brackets.
    """
    if not hits:
        return "no rows"
    lines = []
    for rank, hit in enumerate(hits, 1):
        # An id of several lines would look like several hits.
        name, source = (one.replace("\n", "\\n") for one in (hit.id, hit.source))
        place = hit.place or f"row_index {hit.row_index}"
        score = f"{hit.score:.4f}"
        if hit.rerank_score is not None:
            score = f"{hit.rerank_score:.4f}  [{score}]"
        lines.append(f"{rank:>3}  {score}  {name}  ({source}, {place})")
        if hit.text:
            shown = " ".join(hit.text.split())
            lines.append(f"     {shown[:160]}{'…' if len(shown) > 160 else ''}")
    return "\n".join(lines)
