"""Threads of generators: waited for at the end, and never where a generator is abandoned."""

import ast
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import embedkit
from embedkit.dataset.stores import in_order
from embedkit.flow.read import read_ahead
from embedkit.threads import GeneratorThreads


def read(held: threading.Event, done: list[int], number: int) -> int:
    if number:
        held.wait(30)
    done.append(number)
    return number


def some_of_a_store(held: threading.Event, done: list[int]) -> Iterator[Any]:
    return in_order(lambda number: read(held, done, number), range(50), 1)


def blocks(held: threading.Event, done: list[int]) -> Iterator[Any]:
    return read_ahead(read(held, done, number) + 1 for number in range(50))  # type: ignore[arg-type]


@pytest.mark.parametrize("begin", [some_of_a_store, blocks])
def test_who_closes_a_generator_early_does_not_wait_for_its_threads(begin):
    held, done = threading.Event(), []
    generator = begin(held, done)
    next(generator)
    closing = threading.Thread(target=generator.close, daemon=True)
    closing.start()
    closing.join(10)
    closed, before = not closing.is_alive(), len(done)
    held.set()
    closing.join(10)
    assert closed
    assert before < 50


def test_who_reads_to_the_end_or_fails_waits_for_its_threads():
    done: list[int] = []
    with GeneratorThreads(1) as threads:
        for number in range(5):
            threads.submit(done.append, number)
    assert done == list(range(5))
    with pytest.raises(ZeroDivisionError), GeneratorThreads(1) as threads:
        for number in range(5):
            threads.submit(done.append, number)
        raise ZeroDivisionError
    assert len(done) == 10


def generators_over(tree: ast.AST, pool: str) -> Iterator[str]:
    """The functions that yield while a pool of threads is open which waits wherever it is left."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        if any("contextmanager" in ast.unparse(one) for one in function.decorator_list):
            continue
        for inner in ast.walk(function):
            if isinstance(inner, ast.With) and any(
                ast.unparse(item.context_expr).startswith(f"{pool}(") for item in inner.items
            ):
                if any(isinstance(one, ast.Yield | ast.YieldFrom) for one in ast.walk(inner)):
                    yield function.name


def test_no_generator_of_the_package_waits_for_threads_where_it_is_left():
    found: dict[str, set[str]] = {"ThreadPoolExecutor": set(), "GeneratorThreads": set()}
    for path in Path(embedkit.__file__).parent.rglob("*.py"):
        tree = ast.parse(path.read_text())
        for pool, names in found.items():
            names.update(generators_over(tree, pool))
    assert found["ThreadPoolExecutor"] == set()
    assert {"in_order", "read_ahead"} < found["GeneratorThreads"]
