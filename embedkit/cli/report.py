"""``embedkit report``: the report of a version, made anew."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from embedkit.cli.arguments import Json, Root
from embedkit.cli.logs import say, set_up_logs

if TYPE_CHECKING:
    # They load pyarrow, which --help need not wait for.
    from embedkit.dataset.version import Version
    from embedkit.reports.report import Report

report = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 no such version, or it is not complete; 4 a file of it is damaged or "
    "gone, or the command was stopped or failed, and may succeed."
)


@report.command("report", epilog=_ENDS)
def report_command(
    root: Root,
    *,
    report_text: Annotated[
        bool | None,
        typer.Option(
            "--report-text/--no-report-text",
            help="Whether it shows texts, where the version's job allows it; as the report that "
            "stands does unless given.",
            show_default=False,
            metavar="",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the report of a complete version anew, as another release would write it.

    It takes the version alone, neither its model nor its inputs. Times, gates and what came of an
    evaluation are those of the report that stands.
    """
    from embedkit.flow.report_anew import make_report_anew

    set_up_logs("text")
    version, made = make_report_anew(root, report_text)
    say(json.dumps(made) if as_json else _text(version, made))


def _text(version: "Version", made: "Report") -> str:
    from embedkit.flow.verdict import REPORT_HTML

    place = version.url_of(version.key(REPORT_HTML))
    return f"{made['verdict']['sentence']}\n  {place}"
