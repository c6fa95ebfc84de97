"""The command line, called in this process."""

import json
from dataclasses import dataclass
from typing import Any

from running import one_line
from typer.testing import CliRunner

from embedkit.cli.app import app
from embedkit.errors import EmbedkitError


@dataclass
class Answer:
    """What a command gave back."""

    code: int
    out: str
    error: str

    @property
    def json(self) -> Any:
        return json.loads(one_line(self.out))


def call(*arguments: str) -> Answer:
    """Calls the command line in this process."""
    result = CliRunner().invoke(app, arguments, standalone_mode=False)
    if result.exception is None:
        return Answer(result.return_value or 0, result.stdout, "")
    if not isinstance(result.exception, EmbedkitError):
        raise result.exception
    return Answer(result.exception.exit_code, result.stdout, one_line(str(result.exception)))
