"""Runs a pipeline written in Beam YAML: what ``embedkit beam-yaml`` does.

    python -m pipelines.beam_yaml PIPELINE.yaml [--VARIABLE VALUE ...] [Beam's own options]

A variable is what the file has in double braces. Without a `--runner`, it runs in this process.
"""

import logging
import sys

from embedkit.cli.exits import run_to_exit
from embedkit.cli.logs import set_up_logs
from embedkit.engines.beam_yaml import run_yaml
from embedkit.errors import ConfigError


def main() -> None:
    """Runs the pipeline that the command line names."""
    set_up_logs("text")
    logging.getLogger().setLevel(logging.INFO)
    if len(sys.argv) < 2:
        raise ConfigError("name a pipeline: python -m pipelines.beam_yaml PIPELINE.yaml")
    run_yaml(sys.argv[1], sys.argv[2:])


if __name__ == "__main__":
    run_to_exit(main)
