"""The command line as a process, which hears of signals before it loads anything heavy."""

import os
import sys


def main() -> None:
    """Runs the command line; the process's exit code says what a scheduler should do."""
    from embedkit.cli.exits import run_to_exit

    run_to_exit(_command_line)


def _command_line() -> int | None:
    from embedkit.cli.app import command_line

    return command_line()


def _leave_out_working_directory() -> None:
    """Takes the working directory off the path, onto which ``python -m`` has put it first.

    What lies there may be a corpus from anywhere, and a ``tokenizers.py`` in it would run. Where
    embedkit itself is there, not installed, it comes last instead.
    """
    try:
        here = os.getcwd()
    except FileNotFoundError:
        return
    if sys.flags.safe_path or sys.path[0] != here:
        return
    del sys.path[0]
    if os.path.dirname(os.path.dirname(os.path.abspath(__file__))) == here:
        sys.path.append(here)


if __name__ == "__main__":
    # Before anything is imported that could lie there.
    _leave_out_working_directory()
    main()
