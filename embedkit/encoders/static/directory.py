"""Writes a model directory of word vectors, as sentence-transformers reads it."""

import json
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.static.pooling import COUNTS, STATISTICS
from embedkit.encoders.static.tensor_file import MatrixFile
from embedkit.errors import ConfigError, StoreError
from embedkit.tokens.whole_words import is_lower_case, word_tokenizer

MATRIX = "model.safetensors"
TENSOR = "embedding.weight"
TOKENIZER = "tokenizer.json"

_MODULE = {
    "idx": 0,
    "name": "0",
    "path": "",
    # The name that every release of sentence-transformers knows.
    "type": "sentence_transformers.models.StaticEmbedding",
}
_MODEL: dict[str, Any] = {
    "model_type": "SentenceTransformer",
    "prompts": {"query": "", "document": ""},
    "default_prompt_name": None,
    "similarity_fn_name": "cosine",
}


def write_directory(
    directory: Path,
    matrix: NDArray[Any],
    words: Sequence[str],
    *,
    counts: NDArray[np.int64] | None = None,
    lower_case: bool | None = None,
) -> None:
    """Writes a model directory of word vectors, whole or not at all.

    Args:
        directory: Where it goes; nothing may be there yet, or an empty directory.
        matrix: One vector per word, shape (words, components).
        words: The words, each once, none of them empty.
        counts: How often each word occurs in the corpus that the vectors were made from.
        lower_case: Whether texts are lower-cased before their words are looked up; where None, they
            are if no word has an upper-case letter.

    Raises:
        ConfigError: The directory holds something, or the words do not fit the matrix.
        StoreError: It could not be written.
    """
    if len(matrix) != len(words):
        raise ConfigError(f"{directory}: {len(matrix)} vectors, but {len(words)} words")
    with new_directory(directory) as draft:
        with MatrixFile(draft / MATRIX, TENSOR, matrix.shape[1]) as rows:
            rows.append(matrix)
            rows.append(np.zeros((1, matrix.shape[1])))
        write_words(draft, words, counts, lower_case)


def write_words(
    draft: Path,
    words: Sequence[str],
    counts: NDArray[np.int64] | None = None,
    lower_case: bool | None = None,
) -> None:
    """Writes all files of a model directory but the matrix, see ``write_directory``.

    Args:
        draft: The directory that is being written.
        words: The words.
        counts: How often each occurs.
        lower_case: Whether texts are lower-cased.
    """
    from safetensors.numpy import save_file

    lower_case = is_lower_case(words) if lower_case is None else lower_case
    word_tokenizer(words, lower_case).save(str(draft / TOKENIZER), pretty=False)
    if counts is not None:
        save_file({COUNTS: np.ascontiguousarray(counts, np.int64)}, draft / STATISTICS)
    for name, held in (("modules.json", [_MODULE]), ("config_sentence_transformers.json", _MODEL)):
        (draft / name).write_text(json.dumps(held, indent=2) + "\n", encoding="utf-8")


@contextmanager
def new_directory(directory: Path) -> Iterator[Path]:
    """Gives a directory to write into that gets its own name when all went well, else goes.

    Raises:
        ConfigError: Something stands at the name already.
        StoreError: The disk failed.
    """
    if directory.is_symlink() or (directory.exists() and not _is_empty(directory)):
        raise ConfigError(
            f"{directory}: it exists and is no empty directory; name another, or remove it"
        )
    # Not the process's number, which is the same in each container, nor is what was killed gone.
    place = directory.absolute()
    draft = place.with_name(f".{place.name}.{secrets.token_hex(6)}.tmp")
    try:
        draft.mkdir(parents=True)
        yield draft
        # safetensors writes files that nobody else may read, such as workers of another user.
        readable = draft.stat().st_mode & 0o666
        for file in filter(Path.is_file, draft.iterdir()):
            file.chmod(readable)
        draft.rename(directory)
    except OSError as error:
        raise StoreError(f"{directory}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and not any(directory.iterdir())
