"""Every exit code, error, reason, finding and figure of the code stands on its page."""

import ast
import itertools
import json
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

from manual import DOCS, ROOT

import embedkit.errors
from embedkit.config import RESERVED_COLUMNS
from embedkit.dataset.rejects import DAMAGED_FILE
from embedkit.errors import EmbedkitError

PAGE = (DOCS / "exit-codes.md").read_text()
WORDS = " ".join(PAGE.split())
FIGURES = (DOCS / "figures.md").read_text()


def _trees(*folders: str) -> Iterator[ast.AST]:
    for folder in folders:
        for path in sorted((ROOT / "embedkit" / folder).rglob("*.py")):
            yield from ast.walk(ast.parse(path.read_text()))


@cache
def reasons() -> set[str]:
    """Words of the code that stand where a reject has its reason: before what is to be said."""
    found = set()
    for node in _trees("corpus", "tokens", "flow"):
        inner = node.elts if isinstance(node, ast.Tuple) else getattr(node, "args", [])
        inner = inner if isinstance(inner, list) else []
        for word, detail in itertools.pairwise(inner):
            named = isinstance(word, ast.Constant) and isinstance(word.value, str)
            if named and _says(detail) and re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", word.value):
                found.add(word.value)
    return found - RESERVED_COLUMNS


def _says(detail: ast.AST) -> bool:
    if isinstance(detail, ast.Name):
        return detail.id in ("detail", "what") or detail.id.isupper()
    if isinstance(detail, ast.Constant):
        return " " in str(detail.value)
    return isinstance(detail, ast.JoinedStr | ast.BinOp | ast.Call)


def findings() -> list[str]:
    """The longest piece without a figure of each sentence that a finding may be."""
    found = []
    for node in _trees("reports"):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
            (text,) = [one.value for one in node.keywords if one.arg == "text"]
            found.append(_longest(text))
        if isinstance(node, ast.FunctionDef) and node.name == "_said":
            found += [_longest(one.value) for one in ast.walk(node) if isinstance(one, ast.Return)]
    return found


def _longest(text: Any) -> str:
    pieces = [
        one.value
        for one in ast.walk(text)
        if isinstance(one, ast.Constant) and isinstance(one.value, str)
    ]
    return " ".join(max(pieces, key=len, default="").split()).strip(" ().,:;")


def errors(kind: type[EmbedkitError] = EmbedkitError) -> Iterator[type[EmbedkitError]]:
    for inner in kind.__subclasses__():
        if inner.__module__ == embedkit.errors.__name__:
            yield inner
            yield from errors(inner)


def test_every_error_stands_with_its_code():
    stated = dict(re.findall(r"^\| `(\w+Error)` \| (\d) \|", PAGE, re.MULTILINE))
    assert stated == {one.__name__: str(one.exit_code) for one in errors()}
    codes = set(re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE))
    assert codes == {"0", *stated.values()}


def test_every_reason_of_a_reject_stands_there():
    known = {DAMAGED_FILE, "empty_text", "invalid_utf8", "worker_lost", "non_finite_vector"}
    assert known <= reasons()
    assert sorted(one for one in reasons() if f"| `{one}` |" not in PAGE) == []


def test_every_finding_stands_there():
    found = findings()
    assert len(found) > 40
    assert [one for one in found if one not in WORDS] == []


def test_a_finding_that_is_not_there_is_found():
    sentence = ast.parse('f"{n} rows are made of cheese, which {m} are not."', mode="eval").body
    assert _longest(sentence) == "rows are made of cheese, which"
    assert _longest(sentence) not in WORDS


def undescribed(value: Any, path: str = "") -> Iterator[str]:
    """Figures below a path of a report that the page does not describe."""
    described = set(re.findall(r"^\| `([^`]+)` \|", FIGURES, re.MULTILINE))
    inner = (f"{path}.", f"{path}[].")
    has_inner = any(one.startswith(inner) for one in described)
    if (path in described and not has_inner) or (value is None and has_inner):
        # Whatever is below it is told there, as the model's own names are; or it is not known.
        return
    if isinstance(value, dict):
        named = any(one.startswith(f"{path}.NAME.") for one in described)
        for name, one in value.items():
            yield from undescribed(one, f"{path}.{'NAME' if named else name}".lstrip("."))
    elif isinstance(value, list):
        for one in value:
            yield from undescribed(one, f"{path}[]")
    elif path not in described:
        yield path


def test_every_figure_of_a_report_is_described(playground):
    report = json.loads((playground / "embeddings" / "v2" / "report" / "report.json").read_text())
    assert report["drift"]["version"] == "v1"
    assert sorted(set(undescribed(report))) == []
    assert list(undescribed(report | {"cheese": {"share": 0.5}})) == ["cheese.share"]


def test_every_section_is_described(playground):
    headings = re.findall(r"^## Section (\w+)$", FIGURES, re.MULTILINE)
    report = json.loads((playground / "embeddings" / "v2" / "report" / "report.json").read_text())
    assert set(report["sections"]) <= set(headings)
