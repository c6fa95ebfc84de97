"""All benchmarks, one after the other: ``python -m tests.benchmarks [NAME ...]``."""

import argparse

from tests.benchmarks import cluster, host, memory, speed

_ALL = {"speed": speed, "host": host, "memory": memory, "cluster": cluster}


def main() -> None:
    """Runs the chosen benchmarks, all unless some are named."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(_ALL)}")
    for benchmark in _ALL.values():
        benchmark.add_options(parser)
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in _ALL]
    if unknown:
        parser.error(f"{unknown[0]!r} is no benchmark; expected {', '.join(_ALL)}")
    for name in options.names or _ALL:
        _ALL[name].main(options)


if __name__ == "__main__":
    main()
