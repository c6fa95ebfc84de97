"""All that an encoder needs to know of static vectors before it maps them into memory."""

from dataclasses import dataclass
from typing import ClassVar

from embedkit.encoders.spec import ModelSpec

_CALLS_AT_ONCE = 8


@dataclass(frozen=True)
class StaticSpec(ModelSpec):
    """Vectors that are looked up by token, and how those of a text become one.

    Attributes:
        pooling: ``mean``, ``idf`` or ``sif``, with ``-pc`` behind where the first principal
            component is taken out.
        unknown_id: Id that has no part in a text's vector, where there is one.
        statistics_hash: SHA-256 of what the pooling needs beside the vectors; empty for ``mean``.
    """

    kind: ClassVar[str] = "static"
    pooling: str
    unknown_id: int | None
    statistics_hash: str = ""

    @property
    def calls_at_once(self) -> int:
        """Several, as all they share is read-only."""
        return _CALLS_AT_ONCE

    @property
    def outruns_host(self) -> bool:
        """A lookup takes less time than finding what to look up."""
        return True

    def description(self) -> dict[str, str]:
        """Returns what only this kind says of its vectors, for the manifest and the parts."""
        unknown = "left out" if self.tokenizer.drops_unknown else "a token like others"
        return {"pooling": self.pooling, "unknown": unknown}

    def own_ingredients(self) -> dict[str, str | int | bool]:
        """Returns what only this kind knows of all that changes a vector, by name."""
        statistics = {"statistics": self.statistics_hash} if self.statistics_hash else {}
        return {"pooling": self.pooling, **statistics}
