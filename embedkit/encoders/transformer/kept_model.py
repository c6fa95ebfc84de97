"""What a model directory settles to, kept in this machine's cache.

All of it can be read again, but not without the transformers library, whose import takes longer
than everything else that a small job does.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from embedkit.caches import code_state, files_of, machine_cache
from embedkit.config import ModelConfig
from embedkit.encoders.spec import Placement
from embedkit.encoders.transformer.spec import TransformerSpec

_TOPIC = "models"
NOWHERE = Placement("", "", "", 0)
"""Of a model of which it is not settled yet where and how it runs."""

_OF_PLACES = {"batch_tokens", "device", "encoder_threads", "precision"}
"""Settings that are looked at when it is settled where a model is to run."""

_LOGGERS = "embedkit"


@dataclass(frozen=True)
class ReadModel:
    """What the files of a model say, wherever it is to run.

    Attributes:
        spec: The model, ``NOWHERE`` as yet.
        can_stream: Whether its architecture can do without padding.
        said: What was logged of it: the logger, the level and the line.
    """

    spec: TransformerSpec
    can_stream: bool
    said: tuple[tuple[str, int, str], ...] = ()


def kept_or_read(
    root: Path, revision: str | None, config: ModelConfig, read: Callable[[], ReadModel]
) -> ReadModel:
    """Returns what a model's files say, as it was kept or as it is read now.

    What is logged of a model is logged each time.

    Args:
        root: The model directory.
        revision: The hub's commit hash, or None for a directory of the user's own.
        config: The model and the job's wishes.
        read: Reads them.
    """
    made_of = _made_of(root, revision, config)
    if made_of is None:
        return read()
    found = machine_cache().read(_TOPIC, made_of)
    if found is not None:
        kept: ReadModel = _codec().validate_json(bytes(found))
        for logger, level, line in kept.said:
            logging.getLogger(logger).log(level, "%s", line)
        return kept
    with _lines_of_this_thread() as said:
        made = read()
    # Of an adapter another directory is a part as well.
    if made.spec.identity.base is None:
        made = replace(made, said=tuple(said))
        written = _codec().dump_json(made)
        if _codec().validate_json(written) == made:
            machine_cache().write(_TOPIC, made_of, written)
    return made


def _made_of(root: Path, revision: str | None, config: ModelConfig) -> dict[str, Any] | None:
    files = None if config.tokenizer is not None else files_of(root)
    if files is None:
        return None
    code = code_state("tokenizers", "transformers", "safetensors", "onnxruntime")
    # A job is one as well, with much besides that no model depends on.
    settings = config.model_dump(mode="json", include=ModelConfig.model_fields.keys() - _OF_PLACES)
    return {
        "directory": str(root),
        "revision": revision,
        "settings": settings,
        "files": files,
        "code": code,
    }


@cache
def _codec() -> TypeAdapter[ReadModel]:
    return TypeAdapter(ReadModel)


class _Lines(logging.Handler):
    def __init__(self, lines: list[tuple[str, int, str]]) -> None:
        super().__init__()
        self._lines = lines
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append((record.name, record.levelno, record.getMessage()))


@contextmanager
def _lines_of_this_thread() -> Iterator[list[tuple[str, int, str]]]:
    """Yields what this thread logs in the body, as far as anybody is to hear of it."""
    lines: list[tuple[str, int, str]] = []
    handler = _Lines(lines)
    logger = logging.getLogger(_LOGGERS)
    logger.addHandler(handler)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
