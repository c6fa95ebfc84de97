"""Writes the manual's page of the report's figures, from the docstrings of what holds them.

Run as ``python -m pipelines.figures_page docs/figures.md``, as ``make docs`` does.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from embedkit.reports.account import EncoderWork, RunAccount
from embedkit.reports.drift.figures import ALIKE
from embedkit.reports.gates import SHORT_NAMES
from embedkit.reports.section import Section
from embedkit.reports.sections import SECTIONS
from embedkit.reports.verdict import Verdict

_HEAD = """\
# Figures of the report

Every entry of `report/report.json`, by section; [the report](report.md) says how to read them. A path
such as `rejects.share` is what a [gate](gates.md) names. `[]` stands for the entries of a list, which
a gate names by their place from 0 or by their name: `groups.source.worst_reject_share`. What is null
is not known or has no meaning for the version. This page is made from the figures' own descriptions.

## What stands before the sections

| figure | |
|---|---|
| `format` | Number of this form of the report; it grows when a field changes its meaning or goes. |
| `texts` | Whether the report shows beginnings of texts. |
| `sections` | The names of the sections that it has. |
| `findings[].level` | `error` (the dataset should not be used as it is), `warning` (it may serve worse than it could) or `note`. |
| `findings[].text` | What needs a look, and what can be done; see [findings](exit-codes.md#findings). |
| `gates[].expression` | A gate. |
| `gates[].figure` | Its figure; null where there is none. |
| `gates[].limit` | What it was compared with. |
| `gates[].passed` | Whether a version may be published for all that this gate says. |
| `gates[].by` | How far the figure of a failed gate is from its limit. |
| `gates[].why` | What is to be said of it, for a person. |
"""  # noqa: E501 - a row of a table is a line
_SHORT = """\
## Short names

What gates may also call some figures:

| short | figure |
|---|---|
"""
_ELSEWHERE = {
    "See ``RunAccount``, and ``findings`` of their own.": "What this run did, as below, and "
    "`findings` of their own, which are no findings of the version.",
}
_OF_THE_ACCOUNT = "See `RunAccount`."
_THE_SAME = "The same."


def figures_page() -> str:
    """Returns the page, in Markdown."""
    lines = [_HEAD, *_rows(Verdict, "verdict.")]
    for section in SECTIONS:
        lines += ["", f"## Section {section.name}", "", _about(section), "", *_table(section)]
    lines += ["", _SHORT + "\n".join(_row(one, f"`{path}`") for one, path in SHORT_NAMES.items())]
    return "\n".join(lines).replace("\n\n| `verdict.may", "\n| `verdict.may") + "\n"


def _about(section: Section[Any, Any]) -> str:
    module = inspect.getmodule(section.figures)
    return _plain(inspect.getdoc(module) or "")


def _table(section: Section[Any, Any]) -> Iterator[str]:
    yield "| figure | |"
    yield "|---|---|"
    yield from _rows(get_type_hints(section.figures)["return"], "")
    if section.name == "run":
        yield from _rows_of_the_run()


def _rows(kind: type, above: str) -> Iterator[str]:
    """Yields a row for each figure of a class and of those that it is made of."""
    hints, said = get_type_hints(kind), _attributes(kind)
    for one in fields(kind):
        path, hint = f"{above}{one.name}", hints[one.name]
        inner = _dataclass_in(hint)
        if said.get(one.name) == _OF_THE_ACCOUNT:
            yield _row(path, _of_property(one.name))
        elif one.name in said:
            yield _row(path, said[one.name])
        if inner is not None:
            named = "[]" if "list[" in str(hint) or "tuple[" in str(hint) else ""
            key = ".NAME" if "dict[" in str(hint) else named
            yield from _rows(inner, f"{path}{key}.")


def _rows_of_the_run() -> Iterator[str]:
    said = _attributes(RunAccount)
    for name in RunAccount().of_the_run():
        if name == "dataset":
            yield _row(f"run.{name}", said["title"])
        elif name in said:
            yield _row(f"run.{name}", said[name])
        else:
            yield _row(f"run.{name}", _of_property(name))
    yield from _rows(EncoderWork, "run.by_encoder[].")
    yield _row("run.findings", "Notes on the run, such as that it was resumed.")


def _of_property(name: str) -> str:
    return _plain(inspect.getdoc(getattr(RunAccount, name)) or "")


def _row(path: str, said: str) -> str:
    return f"| `{path}` | {said.replace('|', '&#124;')} |"


def _dataclass_in(hint: Any) -> type | None:
    if is_dataclass(hint):
        return hint if isinstance(hint, type) else None
    found = (_dataclass_in(one) for one in get_args(hint))
    return next((one for one in found if one is not None), None)


def _attributes(kind: type) -> dict[str, str]:
    """Returns what docstrings say of a class's fields, those of its bases among them."""
    found: dict[str, str] = {}
    before = ""
    for base in reversed(kind.__mro__):
        if not is_dataclass(base):
            continue
        section = (inspect.getdoc(base) or "").partition("Attributes:\n")[2]
        name = ""
        for line in section.splitlines():
            new = re.match(r"    (\w+): (.*)", line)
            if new:
                name = new[1]
                found[name] = new[2]
            elif name and line.strip():
                found[name] += f" {line.strip()}"
    for name, said in found.items():
        before = before if said == _THE_SAME else said
        found[name] = _plain(before)
    return found


def _plain(said: str) -> str:
    """Returns a docstring's words in Markdown."""
    text = _ELSEWHERE.get(said, said).replace("``ALIKE``", f"{ALIKE:g}")
    return re.sub(r"\bNone\b", "null", text.replace("``", "`")).replace("<", "&lt;")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(figures_page(), encoding="utf-8")
