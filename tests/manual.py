"""The README and the manual as tests read them: snippets, names in code, links, headings."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "k8s" / "README.md",
    *sorted(DOCS.glob("*.md")),
)

_FENCE = re.compile(r"^( *)```(\S*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"<!-- (.*?): (.*?) -->\s*\Z")
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"(?<!!)\[(?:[^\][]|\[[^\]]*\])*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Snippet:
    """A block of code of a page.

    Attributes:
        page: The page's name.
        line: Where it begins.
        language: What the page says that it is.
        code: Its lines, not indented.
        note: The word and the reason of a comment before it: `checked` where it is not run.
    """

    page: str
    line: int
    language: str
    code: str
    note: tuple[str, str] | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_run(self) -> bool:
        return self.note is None


def snippets(text: str, page: str) -> list[Snippet]:
    """The blocks of a page."""
    found = []
    for block in _FENCE.finditer(text):
        before = text[: block.start()]
        note = _NOTE.search(before)
        found.append(
            Snippet(
                page,
                before.count("\n") + 1,
                block[2],
                textwrap.dedent(block[3]),
                (note[1], note[2]) if note else None,
            )
        )
    return found


def prose(text: str) -> str:
    """What of a page is no block and no comment."""
    return _COMMENT.sub("", _FENCE.sub("", text))


def spans(text: str) -> list[str]:
    """The pieces of code in a page's sentences and tables."""
    return [" ".join(one[2].split()) for one in _SPAN.finditer(prose(text))]


def links(text: str) -> list[str]:
    """Where the links of a page lead."""
    return _LINK.findall(_SPAN.sub("", prose(text)))


def anchors(text: str) -> set[str]:
    """What a link may name behind `#`: the page's headings as GitHub and the site spell them."""
    found = set()
    for heading in _HEADING.findall(prose(text)):
        words = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(words.replace(" ", "-"))
    return found


def commands(code: str) -> Iterator[str]:
    """The commands of a shell snippet, each with its comment."""
    for line in code.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield " ".join(line.split())
