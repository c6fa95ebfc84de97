"""What the host path does for a fixed corpus, counted: reading, tokenizing, writing.

The encoder costs nothing. ``python -m tests.benchmarks.host_work`` prints what a machine counts.
"""

import gc
import json
import os
import random
import string
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from unittest.mock import patch

from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece

from embedkit.config import JobConfig
from embedkit.encoders.spec import ModelIdentity, ModelSpec, Placement, VectorSpec
from embedkit.flow.embed import embed_splits
from embedkit.flow.prepare import Job, prepare
from embedkit.reports.sections import languages
from embedkit.tokens.text_tokenizer import TokenizerSpec
from tests.benchmarks.cards import FreeClient
from tests.benchmarks.counter import KernelCounter, count_instructions, counted_calls

_DOCUMENTS = 1_000
_VOCABULARY = 2_000
_DIMENSION = 384
_MAX_TOKENS = 256


@dataclass(frozen=True)
class HostWork:
    """What the host path did for the corpus.

    Attributes:
        tokens: Tokens of all its rows.
        calls: Calls of functions by part of the package, see ``Calls``.
        allocations: Blocks of memory that Arrow allocated.
        allocated_bytes: Their bytes.
        instructions: Instructions, None where the machine does not count them.
        why_none: Why it does not.
    """

    tokens: int
    calls: dict[str, int]
    allocations: int
    allocated_bytes: int
    instructions: int | None
    why_none: str = ""

    @property
    def instructions_per_token(self) -> float | None:
        """Instructions per token, None where they were not counted."""
        return None if self.instructions is None else self.instructions / self.tokens


class _NoModel(ModelSpec):
    """A model of which nothing but its tokenizer is there: others take seconds to read."""

    kind: ClassVar[str] = "none"


def write_corpus(folder: Path) -> Path:
    """Writes the corpus, a file of JSONL of made-up words, a few of which are frequent."""
    draw = random.Random(0)
    words = [
        "".join(draw.choices(string.ascii_lowercase, k=draw.randint(2, 9)))
        for _ in range(_VOCABULARY)
    ]
    weights = [1 / place for place in range(1, _VOCABULARY + 1)]
    folder.mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file:
        for _ in range(_DOCUMENTS):
            text = " ".join(draw.choices(words, weights, k=draw.randint(20, 120)))
            file.write(json.dumps({"text": f"{text}."}) + "\n")
    return folder


def _write_model(folder: Path) -> ModelSpec:
    """Writes a tokenizer like BERT's, that knows letters and pairs of letters."""
    letters = string.ascii_lowercase
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", ".", *letters]
    pieces += [f"##{one}" for one in letters] + [a + b for a in letters for b in letters]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return _NoModel(
        identity=ModelIdentity(str(folder), "none", None, (), "w", "c", "t"),
        tokenizer=TokenizerSpec(str(folder), _MAX_TOKENS, bare=True),
        vectors=VectorSpec(_DIMENSION, normalize=True, metric="cosine"),
        placement=Placement("numpy", "cpu", "float32", 64),
    )


def _run(job: Job, client: FreeClient) -> int:
    """Takes the corpus to its commit records; returns the tokens of all rows."""
    # An extra, which is there on some machines, and takes longer with a block than all else.
    with patch.object(languages, "can_tell_languages", lambda: False):
        return sum(one.tokens for one in embed_splits(job.plan.splits, job, client))


class _Jobs:
    """Makes jobs that do the same, each with a version and a tokenizer of its own.

    Args:
        folder: An empty folder, for all that there is.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._corpus = write_corpus(folder / "corpus")
        self._made = 0

    def next(self) -> Job:
        self._made += 1
        # A tokenizer keeps the words that it met, so another run would find them.
        model = _write_model(self._folder / f"model-{self._made}")
        config = JobConfig(
            inputs=(str(self._corpus),),
            model=model.identity.directory,
            output=str(self._folder / f"output-{self._made}"),
        )
        return prepare(config, model)


def measure_host_work(folder: Path) -> HostWork:
    """Runs the host path once unmeasured, and once for each kind of count.

    Args:
        folder: An empty folder, for the corpus and what is made of it.
    """
    jobs, client = _Jobs(folder), FreeClient(_DIMENSION)
    # What is loaded at first use is of start-up.
    tokens = _run(jobs.next(), client)
    job = jobs.next()
    # Else what others left would be finalized, and counted, in the middle of it.
    gc.collect()
    with counted_calls() as calls:
        _run(job, client)
    job, instructions, why = jobs.next(), None, ""
    try:
        with KernelCounter() as counter:
            instructions = count_instructions(lambda: _run(job, client), counter)
    except OSError as error:
        why = str(error)
    parts = dict(sorted(calls.by_part.items()))
    return HostWork(tokens, parts, calls.allocations, calls.allocated_bytes, instructions, why)


def _run_often(passes: int) -> None:
    """Runs the host path so often, for a program that counts from outside."""
    with tempfile.TemporaryDirectory() as name:
        jobs, client = _Jobs(Path(name)), FreeClient(_DIMENSION)
        for _ in range(passes):
            print(_run(jobs.next(), client))


def main() -> None:
    """Prints the counts."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    with tempfile.TemporaryDirectory() as name:
        work = measure_host_work(Path(name))
    print(f"{work.tokens:,} tokens; calls by part of the package: {json.dumps(work.calls)}")
    print(f"{work.allocations:,} blocks of Arrow's memory, {work.allocated_bytes:,} bytes")
    print(
        f"no instructions counted: {work.why_none}"
        if work.instructions is None
        else f"{work.instructions:,} instructions, {work.instructions_per_token:,.0f} per token"
    )


if __name__ == "__main__":
    main() if len(sys.argv) == 1 else _run_often(int(sys.argv[1]))
