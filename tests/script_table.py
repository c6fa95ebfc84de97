"""Which characters are of which script of Unicode, as the package regex knows it.

``python tests/script_table.py`` writes the table that reports read.
"""

import json
from pathlib import Path

import regex
from regex import _regex_core

TABLE = Path(__file__).parents[1] / "embedkit" / "reports" / "unicode_scripts.json"
LAST = 0x32400
"""Behind the last character that has a script."""

_ALL = "".join(map(chr, (*range(0xD800), *range(0xE000, LAST))))
_NO_SCRIPT = {"Zyyy", "Zinh", "Zzzz"}
_OTHER_NAMES = {"Qaai", "Qaac", "Miao"}
_CODE = 4


def scripts() -> list[str]:
    """The scripts by their codes of ISO 15924."""
    codes = {name.title() for name in _regex_core.PROPERTIES["SCRIPT"][1] if len(name) == _CODE}
    return sorted(codes - _NO_SCRIPT - _OTHER_NAMES)


def ranges_of(script: str) -> list[list[int]]:
    """The first and the last character of each run of characters of a script."""
    found = regex.finditer(rf"\p{{Script={script}}}+", _ALL)
    runs = ((one.group()[0], one.group()[-1]) for one in found)
    return [[ord(first), ord(last)] for first, last in runs]


if __name__ == "__main__":
    table = {script: ranges for script in scripts() if (ranges := ranges_of(script))}
    rows = [f" {json.dumps(script)}: {json.dumps(ranges)}" for script, ranges in table.items()]
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n")
