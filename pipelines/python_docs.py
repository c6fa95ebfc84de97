"""A real corpus that is on every machine: the documentation of Python's standard library."""

import gzip
import importlib
import inspect
import io
import json
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from pydoc_data.topics import topics
from types import ModuleType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

# Importing these opens a window or a browser, prints, or runs a test suite.
_LEFT_OUT = frozenset({"antigravity", "idlelib", "lib2to3", "test", "this", "turtledemo"})
_SHARDS = 6
_PARQUET_SHARDS = 2


def documents() -> list[dict[str, str]]:
    """Returns the docstrings of public modules, classes, functions and methods, and the topics.

    Returns:
        Mappings of ``name`` (unique), ``kind``, ``module`` and ``text``, in the order of names.
    """
    found: dict[str, dict[str, str]] = {}
    for module in _modules():
        for name, kind, thing in _members(module):
            doc = inspect.getdoc(thing)
            if doc and name not in found:
                found[name] = _document(name, kind, module.__name__, doc)
    for topic, text in topics.items():
        name = f"topic:{topic}"
        found[name] = _document(name, "topic", "", text)
    return [found[name] for name in sorted(found)]


def _document(name: str, kind: str, module: str, doc: str) -> dict[str, str]:
    title = name.removeprefix("topic:")
    text = f"{title}\n\n{doc.strip()}"
    return {"name": name, "kind": kind, "module": module, "text": text}


def _modules() -> Iterator[ModuleType]:
    for name in sorted(sys.stdlib_module_names):
        if name.startswith("_") or name in _LEFT_OUT:
            continue
        module = _import(name)
        if module is None:
            continue
        yield module
        for entry in pkgutil.iter_modules(getattr(module, "__path__", ())):
            if not entry.name.startswith(("_", "test")):
                inner = _import(f"{name}.{entry.name}")
                if inner is not None:
                    yield inner


def _import(name: str) -> ModuleType | None:
    silent = io.StringIO()
    with warnings.catch_warnings(), redirect_stdout(silent), redirect_stderr(silent):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, SystemExit, OSError):
            # Modules of other platforms, and those whose C library is not installed.
            return None


def _members(module: ModuleType) -> Iterator[tuple[str, str, Any]]:
    yield module.__name__, "module", module
    public = getattr(module, "__all__", None)
    for name in sorted(vars(module) if public is None else public):
        if name.startswith("_"):
            continue
        # Asked for by name: a module may load what it lists only then.
        thing = getattr(module, name, None)
        if public is None and getattr(thing, "__module__", module.__name__) != module.__name__:
            continue
        place = f"{module.__name__}.{name}"
        if inspect.isclass(thing):
            yield place, "class", thing
            for inner, method in sorted(vars(thing).items()):
                if not inner.startswith("_") and callable(method):
                    yield f"{place}.{inner}", "method", method
        elif inspect.isroutine(thing):
            yield place, "function", thing


def write_corpus(folder: Path) -> int:
    """Writes the documents as shards of gzipped JSON lines and of Parquet.

    A shard that already has the same content is left as it is, so that a second run of a job over
    them is recognised as the same job.

    Args:
        folder: Where the shards go; made if absent.

    Returns:
        The number of documents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = documents()
    for shard in range(_SHARDS):
        part = rows[shard::_SHARDS]
        if shard < _PARQUET_SHARDS:
            sink = io.BytesIO()
            pq.write_table(pa.Table.from_pylist(part), sink)
            _write(folder / f"docs-{shard}.parquet", sink.getvalue())
        else:
            lines = "".join(json.dumps(row) + "\n" for row in part)
            _write(folder / f"docs-{shard}.jsonl.gz", gzip.compress(lines.encode(), mtime=0))
    return len(rows)


def _write(path: Path, data: bytes) -> None:
    if not path.exists() or path.read_bytes() != data:
        path.write_bytes(data)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    print(f"{write_corpus(target):,} documents in {target}")
