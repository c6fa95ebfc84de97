"""``embedkit search``: the rows of a version nearest to a text."""

import json
from typing import Annotated

import typer

from embedkit.cli.arguments import ENDS, Json, Root
from embedkit.cli.logs import hits_text, say, set_up_logs

search = typer.Typer(rich_markup_mode="rich")


@search.command("search", epilog=ENDS)
def search_command(
    root: Root,
    text: Annotated[str, typer.Argument(help="What to look for.")],
    *,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of results.")] = 10,
    model: Annotated[
        str | None,
        typer.Option(help="The dataset's model, where it is no longer where the run found it."),
    ] = None,
    prompt_name: Annotated[
        str | None,
        typer.Option(help="Name of the model's prompt for the query; 'query' where it has one."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text put before the query, such as 'query: '.")
    ] = None,
    rerank: Annotated[
        str | None,
        typer.Option(help="A cross-encoder that puts the nearest rows in order by their texts."),
    ] = None,
    rerank_candidates: Annotated[
        int | None,
        typer.Option(
            min=1, help="Rows that it scores; 50, or as many as are wanted, unless given."
        ),
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="An index that export wrote; the one in the version's own folder, if there is "
            "one, unless given.",
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", metavar="", help="Compare all rows, and use no index.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find the rows nearest to a text; exactly, where there is no index."""
    from embedkit.search.query import search_text

    set_up_logs("text")
    hits = search_text(
        root,
        text,
        k,
        model,
        prompt_name,
        prompt,
        rerank,
        rerank_candidates=rerank_candidates,
        index=index,
        exact=exact,
    )
    say(json.dumps([hit.to_dict() for hit in hits]) if as_json else hits_text(hits))
