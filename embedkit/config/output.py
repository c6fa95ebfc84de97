"""What is written and where, and what a version must be to be published."""

import math
import re
from dataclasses import dataclass
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from embedkit.config.settings import Settings

_GATE = re.compile(r"\s*([^\s<>=!?]+)(\??)\s*(<=|>=|==|!=|<|>)\s*([^\s<>=!]+)\s*")
_LIKE_GATE = "expected a figure of report.json, one of < <= > >= == != and a number, such as"


@dataclass(frozen=True, slots=True)
class Gate:
    """A condition on a figure of the report under which a version is not published.

    Attributes:
        path: The figure: names and places in lists, joined by dots, as in ``rejects.share``.
        operator: How it is compared with the limit.
        limit: What it is compared with.
        optional: Whether a version may be published whose report does not have the figure.
    """

    path: str
    operator: str
    limit: float
    optional: bool = False

    @classmethod
    def parse(cls, expression: str) -> Self:
        """Reads an expression such as ``truncated_share>0.2``.

        Raises:
            ValueError: It is none.
        """
        found = _GATE.fullmatch(expression)
        try:
            limit = float(found[4]) if found else math.nan
        except ValueError:
            limit = math.nan
        if found is None or not all(found[1].split(".")) or not math.isfinite(limit):
            raise ValueError(f"{_LIKE_GATE} 'truncated_share>0.2'; a shell needs the quotes")
        return cls(found[1], found[3], limit, bool(found[2]))

    def __str__(self) -> str:
        return f"{self.path}{'?' if self.optional else ''}{self.operator}{self.limit:.12g}"


def _gate(expression: str) -> str:
    Gate.parse(expression)
    return expression


_VersionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]


def _near_duplicates(value: object) -> object:
    """Reads ``auto``, ``on``, ``off`` or a least cosine; to YAML two of them are true and false."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value in ("auto", "on", "off"):
        return value
    try:
        cosine = float(str(value))
    except ValueError:
        cosine = 0.0
    if not 0 < cosine <= 1:
        raise ValueError("expected auto, on, off, or a cosine above 0 and at most 1, such as 0.95")
    return str(cosine)


class OutputConfig(Settings):
    """What is written, and where."""

    output: str = Field(description="Root directory or URL under which versions are written.")
    version: _VersionName | None = Field(
        None, description="Name of the version; derived from the job and its inputs unless given."
    )
    vector_dtype: Literal["float32", "float16", "int8", "uint8", "binary"] = Field(
        "float32",
        description="How vectors are stored; Spark cannot read float16. int8 and uint8 are codes "
        "by the range of each component in a sample, binary is a bit for each component's sign.",
    )
    store_text: bool = Field(False, description="Whether the text is stored beside its vector.")
    store_tokens: bool = Field(
        False, description="Whether words or tokens are stored beside their vectors."
    )
    excerpts: bool | None = Field(
        None,
        description="Whether rejects and the report show the beginnings of texts; as store-text "
        "unless given.",
    )
    report_text: bool = Field(
        True,
        description="Whether the report shows what excerpts allows: beginnings of texts, and terms "
        "made of them.",
    )
    reuse: _VersionName = Field(
        "latest",
        description="Earlier version whose vectors of unchanged texts are taken over: latest, the "
        "name of one, or off.",
    )
    reuse_scope: Literal["source", "global"] = Field(
        "source",
        description="Where an unchanged text is looked for: source is the same input file, global "
        "all of the version, for files that were renamed or cut anew.",
    )
    reuse_numerics: Literal["any", "same"] = Field(
        "any",
        description="Whether vectors are taken over that another device, backend or precision "
        "made.",
    )
    verify_inputs: bool = Field(
        False,
        description="Whether unchanged files are read all the same, and every text compared, "
        "instead of trusting their size and etag.",
    )
    near_duplicates: Annotated[
        str,
        BeforeValidator(_near_duplicates),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "string", "pattern": "^(auto|on|off|0?\\.[0-9]*[1-9][0-9]*|1)$"},
                    {"type": "boolean"},
                    {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
                ]
            }
        ),
    ] = Field(
        "auto",
        description="Whether near duplicates are looked for among all rows, as on, off, or the "
        "least cosine of two of them; auto does where faiss is installed and most rows are new, "
        "or rows are few.",
    )
    max_reject_share: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01,
        description="Share of rejected records above which a finished version is not published: "
        "LATEST stays where it was, and the run exits with 3.",
    )
    allow_damaged_files: bool = Field(
        False,
        description="Whether a version is published although an input is damaged, so that the rest "
        "of that file, of whatever size, is missing.",
    )
    publish_anyway: bool = Field(
        False,
        description="Whether a version is published although more was rejected than is allowed.",
    )
    fail_on: tuple[Annotated[str, AfterValidator(_gate)], ...] = Field(
        (),
        description="Gate on a figure of report.json, such as 'truncated_share>0.2': where it "
        "holds, LATEST stays where it was, and the run exits with 5.",
    )

    @property
    def gates(self) -> tuple[Gate, ...]:
        """The gates that ``fail_on`` names, each once."""
        return tuple(dict.fromkeys(map(Gate.parse, self.fail_on)))
