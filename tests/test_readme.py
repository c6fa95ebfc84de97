"""The README's snippets of Python compile, and import all that they name."""

import ast
import builtins
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"
YOURS = {"rows", "pipeline", "clean"}
"""What a reader has: a PCollection, a pipeline, and a step of their own."""

SNIPPETS = [part.partition("```")[0] for part in README.read_text().split("```python\n")[1:]]


def test_there_are_snippets():
    assert len(SNIPPETS) >= 2


@pytest.mark.parametrize("code", SNIPPETS)
def test_a_snippet_names_nothing_that_it_does_not_import(code):
    tree = ast.parse(code)
    found: dict[str, object] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            exec(ast.unparse(node), found)
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    made = {node.id for node in names if isinstance(node.ctx, ast.Store)}
    used = {node.id for node in names if isinstance(node.ctx, ast.Load)}
    assert used - made - set(found) - YOURS - set(dir(builtins)) == set()
