"""The command line as a process, which hears of signals before it loads anything heavy."""

from typing import NoReturn

from embedkit.exits import run_to_exit


def main() -> NoReturn:
    """Runs the command line; the process's exit code says what a scheduler should do."""
    run_to_exit(_command_line)


def _command_line() -> int | None:
    from embedkit.cli import command_line

    return command_line()


if __name__ == "__main__":
    main()
