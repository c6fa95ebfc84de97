"""All benchmarks, one after the other: ``python -m tests.benchmarks [NAME ...]``."""

import argparse

from tests.benchmarks import (
    chunks,
    cluster,
    fill,
    finish,
    float8,
    host,
    ids,
    memory,
    near_duplicates,
    nightly,
    record,
    speed,
    static,
    tokens,
)

_ALL = {
    "speed": speed,
    "tokens": tokens,
    "host": host,
    "memory": memory,
    "cluster": cluster,
    "ids": ids,
    "fill": fill,
    "static": static,
    "chunks": chunks,
}
# They take an hour, 350,000 files, and what changes with its code alone, so only by their names.
_NAMED = {
    "record": record,
    "finish": finish,
    "float8": float8,
    "nightly": nightly,
    "near": near_duplicates,
}


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
    for name in options.names or _ALL:
        (_ALL | _NAMED)[name].main(options)


if __name__ == "__main__":
    main()
