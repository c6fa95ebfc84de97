"""``embedkit export``: a version as an index, or as files that another system loads."""

import json
from typing import Annotated, Literal

import typer

from embedkit.cli.arguments import Json, Root
from embedkit.cli.logs import say, set_up_logs

export = typer.Typer(rich_markup_mode="rich")
_ENDS = (
    "Exit codes: 0 done; 2 a bad setting, input or surroundings, which another try cannot help; "
    "4 stopped or failed, nothing was written, and the same command may succeed."
)


@export.command("export", epilog=_ENDS)
def export_command(
    root: Root,
    *,
    target: Annotated[
        Literal["faiss", "usearch", "hnsw", "npy", "lance", "pgvector", "qdrant", "opensearch"],
        typer.Option(
            "--to",
            metavar="TARGET",
            help="What to write. \\[one of: faiss, usearch, hnsw, npy, lance, pgvector, qdrant, "
            "opensearch]",
        ),
    ],
    version: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Name of a version below ROOT; the newest unless given."
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Directory to make; an index of faiss, usearch or hnsw goes into the version's "
            "own folder _index unless it is given.",
        ),
    ] = None,
    recall: Annotated[
        float,
        typer.Option(metavar="SHARE", help="The recall@10 for which an index's effort is chosen."),
    ] = 0.95,
    earlier: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="INDEX",
            help="An index of an earlier version, or that version: vectors that it has are not "
            "added again.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", metavar="", help="Replace an earlier export in DIR.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write an index of a version, or files that another system loads.

    DIR gets export.json, which says what version it is of and, of an index, how well it answers:
    recall@10 against exact search and the time of a query, with rows of the version as queries.
    """
    from embedkit.search.export.export import export_version

    set_up_logs("text")
    path = root if version is None else f"{root.rstrip('/')}/{version}"
    done = export_version(path, target, output, recall=recall, earlier=earlier, force=force)
    say(json.dumps(done.to_dict()) if as_json else done.to_text())
