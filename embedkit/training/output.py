"""Where a trained model goes, and what is said of its training."""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.encoders.static.directory import new_directory
from embedkit.errors import ConfigError
from embedkit.errors.urls import public_url
from embedkit.training.texts import CorpusAccount

MANIFEST = "training.json"
"""The file of a model's directory that says how it was trained."""

_LOG = logging.getLogger("embedkit")


@dataclass(frozen=True)
class Trained:
    """A model that was written.

    Attributes:
        directory: Its directory.
        manifest: What ``training.json`` in there says.
    """

    directory: str
    manifest: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Returns it for programs."""
        return {"directory": self.directory, **self.manifest}

    def to_text(self) -> str:
        """Returns it in lines for people."""
        corpus = self.manifest["corpus"]
        lines = [f"{self.directory}: {self.manifest['words']:,} words"]
        if corpus:
            rejected = sum(corpus["rejects"].values())
            lines.append(
                f"  {corpus['texts']:,} texts of {corpus['files']:,} files, {rejected:,} rejects"
            )
        if epochs := self.manifest.get("epochs"):
            losses = ", ".join(f"{one['loss_of_a_word']:.3f}" for one in epochs)
            lines.append(f"  loss of a word in each epoch: {losses}")
        lines.append(f"  embedkit run INPUT... --model {self.directory} --output ROOT")
        return "\n".join(lines)


def check_output(output: str) -> Path:
    """Checks that a directory can be made, before hours are spent on what is to be in it.

    Raises:
        ConfigError: It is there and not empty, or no local directory.
    """
    if "://" in output:
        raise ConfigError(
            f"output {public_url(output)}: a model is written to a local directory; name one"
        )
    directory = Path(output).expanduser()
    try:
        if directory.is_dir() and not any(directory.iterdir()):
            return directory
        exists = directory.exists() or directory.is_symlink()
    except OSError as error:
        raise ConfigError(f"output {output}: cannot be used: {error.strerror}") from error
    if exists:
        raise ConfigError(f"output {output}: exists already; remove it, or name another directory")
    return directory


@contextmanager
def new_model(directory: Path, manifest: Mapping[str, Any]) -> Iterator[Path]:
    """Gives an empty directory to write a model into, which gets its name when all is written.

    Args:
        directory: The name.
        manifest: What its ``training.json`` is to say.

    Raises:
        ConfigError: Something stands at the name already.
        StoreError: The disk failed.
    """
    with new_directory(directory) as draft:
        yield draft
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (draft / MANIFEST).write_text(text + "\n", encoding="utf-8")


def warn_of_rejects(account: CorpusAccount) -> None:
    """Logs how many records could not be used, and the first of them."""
    for reason, count in account.rejects.items():
        first = next((one for one in account.shown if one.reason == reason), None)
        where = ""
        if first is not None:
            line = first.line or first.line_in_range
            place = f"line {line}" if line else f"row_index {first.row_index}"
            where = f", such as {first.source}, {place}: {first.detail}"
        _LOG.warning("%d records left out: %s%s", count, reason, where)
