"""All benchmarks, one after the other: ``python -m tests.benchmarks [NAME ...]``.

Those that are guarded are compared with the history of this kind of machine; where all of them ran,
it gets a row.
"""

import argparse
from collections.abc import Collection

from tests.benchmarks import (
    chunks,
    cluster,
    fill,
    finish,
    fleet,
    float8,
    history,
    host,
    ids,
    memory,
    near_duplicates,
    nightly,
    raylets,
    record,
    scale,
    speed,
    start,
    static,
    throughput,
    tokens,
)

_ALL = {
    "speed": speed,
    "start": start,
    "tokens": tokens,
    "throughput": throughput,
    "host": host,
    "memory": memory,
    "cluster": cluster,
    "ids": ids,
    "fill": fill,
    "static": static,
    "chunks": chunks,
}
# They take an hour, a million files, and what changes with its code alone, so only by their names.
_NAMED = {
    "record": record,
    "finish": finish,
    "float8": float8,
    "nightly": nightly,
    "near": near_duplicates,
    "scale": scale,
    "raylets": raylets,
    "fleet": fleet,
}
_GUARDED = {"speed", "start", "host"}


def main() -> None:
    """Runs the chosen benchmarks, all unless some are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_ALL | _NAMED)}")
    for benchmark in (_ALL | _NAMED).values():
        benchmark.add_options(parser)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in _ALL | _NAMED]
    if unknown:
        parser.error(f"{unknown[0]!r} is no benchmark; expected {', '.join(_ALL | _NAMED)}")
    try:
        # Before an hour of measuring, not after it.
        history.read_history(history.HISTORY)
        _run(options.names or _ALL, options)
    except history.HistoryError as error:
        parser.exit(1, f"{error}\n")


def _run(names: Collection[str], options: argparse.Namespace) -> None:
    found = [(_ALL | _NAMED)[name].main(options) for name in names]
    measured = [one for one in found if isinstance(one, history.Measured)]
    if measured:
        whole = _GUARDED <= set(names)
        print("", *history.guard(measured, history.HISTORY, record=whole), sep="\n")


if __name__ == "__main__":
    main()
