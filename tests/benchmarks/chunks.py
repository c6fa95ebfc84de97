"""What an edit of a long document costs: chunks with new texts, by kind of chunk; and speed."""

import argparse
import random
import re
import time
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from embedkit.config import RecordConfig
from embedkit.corpus.chunks import Chunker
from embedkit.tokens.chunking import make_chunker
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from tests.benchmarks.corpus import MAX_TOKENS, MODEL, read_texts
from tests.benchmarks.machine import describe_machine, wait_until_quiet

_DOCUMENTS = 100
_TOKENS = 64
_SMALLEST, _LARGEST = 6_000, 60_000
"""Tokens of a document, so that it has more than a hundred chunks and up to a thousand."""

_PROMISED = 0.02
_KINDS = ("sentences", "stable-sentences", "paragraphs", "stable-paragraphs")
_WORD = re.compile(r"\w+")
_SENTENCE = "This sentence was not here yesterday. "


@dataclass
class Cost:
    """What chunks of one kind cost.

    Attributes:
        chunks: Chunks of each document.
        edited: New texts of each document, and the chunks it has then, by edit.
        seconds: Of cutting all documents once.
        tokens: Tokens of all chunks.
    """

    chunks: list[int] = field(default_factory=list)
    edited: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0


def long_documents(chosen: random.Random) -> list[str]:
    """Returns documents of 6,000 to 60,000 tokens, of paragraphs of the corpus in any order."""
    texts = read_texts()
    paragraphs = list(zip(texts.texts, texts.lengths.tolist(), strict=True))
    documents = []
    for _ in range(_DOCUMENTS):
        size = _SMALLEST * (_LARGEST / _SMALLEST) ** chosen.random()
        chosen.shuffle(paragraphs)
        taken, tokens = [], 0
        for text, count in paragraphs:
            taken.append(text.strip())
            tokens += count
            if tokens > size:
                break
        documents.append("\n\n".join(taken))
    return documents


def edits_of(text: str, chosen: random.Random) -> dict[str, str]:
    """Returns a document with a sentence at its top, and without some text further on."""
    inside = text.index(" ", chosen.randrange(len(text) // 2)) + 1
    removed = chosen.randrange(10, 300)
    return {
        "a sentence at the top": _SENTENCE + text,
        "text removed inside": text[:inside] + text[inside + removed :],
    }


def measure(chunker: Chunker, documents: list[str]) -> Cost:
    """Cuts all documents, and each again after each edit."""
    tokenizer = load_tokenizer(TokenizerSpec(MODEL, MAX_TOKENS))
    chosen = random.Random(1)
    cost = Cost()
    for text in documents:
        start = time.perf_counter()
        [spans] = chunker.spans([text])
        cost.seconds += time.perf_counter() - start
        known = {text[a:b] for a, b in spans}
        cost.chunks.append(len(spans))
        cost.tokens += sum(tokenizer.count([text[a:b] for a, b in spans]))
        for name, edited in edits_of(text, chosen).items():
            [spans] = chunker.spans([edited])
            new = sum(edited[a:b] not in known for a, b in spans)
            cost.edited.setdefault(name, []).append((new, len(spans)))
    return cost


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none of its own."""


def paragraph_at_the_top(chunker: Chunker, stops: bool) -> tuple[list[int], int]:
    """Returns the new texts of four documents below a new paragraph, and all of their chunks."""
    chosen = random.Random(1)
    paragraphs = [text.strip() for text in read_texts().texts]
    new, chunks = [], 0
    for _ in range(4):
        inserted, *others = chosen.sample(paragraphs, len(paragraphs))
        text, edited = "\n\n".join(others)[:130_000], f"{inserted}\n\n"
        if not stops:
            text, edited = (" ".join(_WORD.findall(one)) + " " for one in (text, edited))
        edited += text
        [spans] = chunker.spans([text])
        known = {text[a:b] for a, b in spans}
        [spans] = chunker.spans([edited])
        new.append(sum(edited[a:b] not in known for a, b in spans))
        chunks += len(spans)
    return new, chunks


def print_paragraphs(tokenizer: Tokenizer) -> None:
    """Prints what a paragraph at the top costs, with stops and without any."""
    print("\n| --chunk, 254 tokens | text | new texts of each document | of all chunks |")
    print("|---|---|---|---|")
    for stops in (True, False):
        for kind in ("sentences", "stable-sentences"):
            config = RecordConfig.model_validate({"chunk": kind, "chunk_tokens": 254})
            chunker = make_chunker(config, tokenizer, MAX_TOKENS)
            if chunker is None:
                raise AssertionError(kind)
            new, chunks = paragraph_at_the_top(chunker, stops)
            name = "prose" if stops else "the same without punctuation"
            each = ", ".join(map(str, new))
            print(f"| {kind} | {name} | {each} | {sum(new) / chunks:.1%} |")


def main(options: argparse.Namespace) -> None:
    """Measures and prints."""
    chosen = random.Random(0)
    documents = long_documents(chosen)
    size = sum(map(len, documents))
    print(
        f"\nChunks after an edit: {len(documents)} documents of {read_texts().name}, {size:,} "
        f"characters, {_TOKENS} tokens at most. {describe_machine()}\n"
    )
    tokenizer = load_tokenizer(TokenizerSpec(MODEL, MAX_TOKENS)).tokenizer
    wait_until_quiet(options.wait)
    names: list[str] = []
    for kind in _KINDS:
        config = RecordConfig.model_validate({"chunk": kind, "chunk_tokens": _TOKENS})
        chunker = make_chunker(config, tokenizer, MAX_TOKENS)
        if chunker is None:
            raise AssertionError(kind)
        cost = measure(chunker, documents)
        if not names:
            names = list(cost.edited)
            print(
                "| --chunk | chunks of a document | tokens of a chunk | "
                + " | ".join(f"{name}: new texts (most of a document)" for name in names)
                + " | characters/s |"
            )
            print("|---" * (len(names) + 4) + "|")
        shares = []
        for name in names:
            new, chunks = (sum(one) for one in zip(*cost.edited[name], strict=True))
            most = max(few for few, _ in cost.edited[name])
            shares.append(f"{new / chunks:.2%} ({most})")
        print(
            f"| {kind} | {min(cost.chunks)} to {max(cost.chunks)} | "
            f"{cost.tokens / sum(cost.chunks):.0f} | {' | '.join(shares)} | "
            f"{size / cost.seconds:,.0f} |"
        )
    print_paragraphs(tokenizer)
    print(f"\nPromised of a sentence at the top, of stable chunks: at most {_PROMISED:.0%}")


if __name__ == "__main__":
    main(argparse.Namespace(wait=0))
