"""A commented job file for an input and a model, to begin with."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from embedkit.config import ModelConfig
from embedkit.corpus.suggestion import Suggestion, suggest
from embedkit.encoders.kinds import read_model
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError, MissingSettingError
from embedkit.errors.urls import holds_secret, public_url, without_user

SCHEMA_FILE = "embedkit.schema.json"
"""Where the hint in a job file says that its schema is, beside it."""

_MOST_COLUMNS = 50


def write_job_file(path: Path, inputs: Sequence[str], model: str, output: str) -> None:
    """Writes a job file that fits an input and a model.

    Args:
        path: The file, which must not exist.
        inputs: The inputs, some of whose records are looked at.
        model: The model, whose files are read.
        output: Where the job is to write.

    Raises:
        ConfigError: The file exists or cannot be written, or the model cannot be used.
        InputError: An input cannot be used.
    """
    if path.exists():
        raise ConfigError(f"{path}: exists already; remove it, or name another with --job")
    missing, spec = _read(model)
    text = job_file(inputs, suggest(inputs), model, missing, spec, output)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists already; name another with --job") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def _read(model: str) -> tuple[dict[str, str], ModelSpec]:
    """Reads a model, and returns the settings that it needs besides."""
    config = ModelConfig(model=model)
    try:
        return {}, read_model(config)
    except MissingSettingError as error:
        missing = {error.setting: error.usual}
        return missing, read_model(config.model_copy(update=missing))


def job_file(
    inputs: Sequence[str],
    found: Suggestion,
    model: str,
    missing: Mapping[str, str],
    spec: ModelSpec,
    output: str,
) -> str:
    """Returns the job file's text.

    Args:
        inputs: The inputs.
        found: What they suggest.
        model: The model as it was named.
        missing: Settings that the model needs and does not name, with usual values.
        spec: The model's files.
        output: Where the job is to write.
    """
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        f"# For completion in editors: embedkit schema > {SCHEMA_FILE}",
        "# Then: embedkit plan THIS_FILE; embedkit run THIS_FILE --limit 100; embedkit run "
        "THIS_FILE",
        "",
        f"# {found.files:,} {'file' if found.files == 1 else 'files'}, of "
        f"{' and '.join(found.formats)}; files, directories, globs or URLs.",
        "inputs:",
        *(f"  - {_quoted(public_url(one))}" for one in inputs),
        *_secrets_left_out([*inputs, output]),
        *_columns(found),
        "",
        "# A directory or a hub id; what it sees of a text, and what the vectors are:",
        f"# {spec.tokenizer.max_tokens:,} tokens, {spec.vectors.dimension:,} dimensions.",
        f"model: {_quoted(model)}",
        *_missing_and_prompts(missing, spec),
        "",
        "# Versions are written below it; LATEST there names the newest.",
        f"output: {_quoted(without_user(output))}",
        "# Documents that are longer than the model sees: cut off, unless they are cut into "
        "chunks.",
        "# chunk: sentences",
        "# The text beside its vector, for searches that show it:",
        "# store_text: true",
        "# More rejects than this share of the documents, and LATEST stays where it was.",
        "# max_reject_share: 0.01",
        "# Every other setting: embedkit run --help",
    ]
    return "\n".join(lines) + "\n"


def _secrets_left_out(urls: Sequence[str]) -> list[str]:
    kinds = {url.partition(":")[0].lower() for url in urls if holds_secret(url)}
    lines = []
    if kinds.intersection(("s3", "s3a")):
        lines.append("# Give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment.")
    if kinds.difference(("s3", "s3a")):
        lines.append(
            "# Give the URL with its secret on the command line: embedkit run THIS_FILE URL"
        )
    return ["# The secrets of URLs are left out here.", *lines] if lines else []


def _columns(found: Suggestion) -> list[str]:
    if set(found.formats) == {"text"}:
        return ["# One document is a line, paragraph or file.", "text_unit: line"]
    names = [_quoted(name) for name in found.columns[:_MOST_COLUMNS]]
    more = ", ..." if len(found.columns) > _MOST_COLUMNS else ""
    lines = [f"# Columns: {', '.join(names) or 'none found'}{more}"]
    if found.delimiter is not None:
        lines.append(f"delimiter: {_quoted(found.delimiter)}")
    if found.text is None:
        lines.append("# No column looks like a text; name it.")
    lines.append(f"text_column: {_quoted(found.text or 'text')}")
    if found.id is None:
        lines += [
            "# No column looks like a unique id; without one ids come of the place in the file.",
            "# id_column: id",
        ]
    else:
        lines.append(f"id_column: {_quoted(found.id)}")
    others = [name for name in found.columns if name not in (found.text, found.id)]
    shown = ", ".join(map(_quoted, others[:_MOST_COLUMNS])) or '"title", "stars:int64"'
    return [*lines, "# To carry along:", f"# metadata_columns: [{shown}]"]


def _missing_and_prompts(missing: Mapping[str, str], spec: ModelSpec) -> list[str]:
    lines = []
    for name, usual in missing.items():
        lines += [
            f"# The model names no {name}; its own documentation says which is right.",
            f"{name}: {_quoted(usual)}",
        ]
    known = [name for name, text in spec.tokenizer.prompts if text]
    if known:
        names = ", ".join(map(_quoted, known))
        lines += [
            f"# The model knows prompts: {names}; choose the one for documents, if any.",
            f"# prompt_name: {_quoted(known[0])}",
        ]
    return lines


def _quoted(text: str) -> str:
    """Returns a text as a JSON string, which is one of YAML too and stays on its line."""
    return json.dumps(text, ensure_ascii=True)
