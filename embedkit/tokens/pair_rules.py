"""How pairs of a query and a text become rows of tokens."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PairRules:
    """How pairs become rows of tokens; small, picklable and hashable.

    Attributes:
        typed: Whether the model tells the two texts apart by their token types.
        query_column: Column of a block's rows with the query; the text is in ``text``.
        keep_query: Whether that column stays in the rows.
        of_lists: Whether a record may have many texts, so that one that says nothing is no reason
            to reject it.
    """

    typed: bool
    query_column: str = "query"
    keep_query: bool = False
    of_lists: bool = False
