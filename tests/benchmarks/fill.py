"""What a GPU computes for nothing: the fill of streams and of padded batches, over real lengths."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.spec import MixedCalls
from embedkit.encoders.transformer.batching import (
    fixed_widths,
    token_batches,
    width_batches,
    width_of,
)
from embedkit.encoders.transformer.stream.layout import stream_lengths, streams
from embedkit.flow.encode import call_batches
from embedkit.vectors import TokenBatch
from tests.benchmarks.corpus import MAX_TOKENS, read_texts

_CALL_TOKENS = 131_072
_BUDGET = 65_536
_PROMISED = 0.02


@dataclass(frozen=True)
class Rows:
    """Rows of a table.

    Attributes:
        name: What they are.
        lengths: Tokens per row.
        longest: The model's maximum.
        block_rows: Rows of a block.
    """

    name: str
    lengths: NDArray[np.int64]
    longest: int
    block_rows: int = 8_192


def token_batch(lengths: NDArray[np.int64]) -> TokenBatch:
    """Returns rows of these lengths, whose tokens are all the same."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return TokenBatch(np.zeros(offsets[-1], np.int32), offsets)


def calls_of(rows: Rows, call_tokens: int, mixed: MixedCalls) -> Iterator[TokenBatch]:
    """Cuts rows into blocks, and these into calls, as the flow does."""
    for first in range(0, len(rows.lengths), rows.block_rows):
        block = token_batch(rows.lengths[first : first + rows.block_rows])
        for _, call in call_batches(block, call_tokens, mixed):
            yield call


def stream_shapes(rows: Rows, call_tokens: int, budget: int) -> list[tuple[int, int]]:
    """Returns length and slots of all streams."""
    lengths = stream_lengths(budget, rows.longest)
    return [
        (len(stream.input_ids), len(stream.offsets) - 1)
        for call in calls_of(rows, call_tokens, "full")
        for stream in streams(call, lengths, rows.longest, 0)
    ]


def padded_shapes(
    rows: Rows, call_tokens: int, budget: int, widths: Sequence[int]
) -> list[tuple[int, int]]:
    """Returns width and rows of all padded batches, of fixed widths where there are any."""
    shapes = []
    for call in calls_of(rows, call_tokens, False):
        lengths = call.lengths
        batches = (
            width_batches(lengths, budget, widths) if widths else token_batches(lengths, budget)
        )
        shapes += [(width_of(lengths[batch], widths), len(batch)) for batch in batches]
    return shapes


def fill(rows: Rows, computed: int) -> float:
    """Returns the share of what is computed that is fill."""
    return 1 - int(rows.lengths.sum()) / computed


def print_row(rows: Rows, call_tokens: int = _CALL_TOKENS, budget: int = _BUDGET) -> float:
    """Prints one row of the table; returns the fill of the streams."""
    calls = sum(1 for _ in calls_of(rows, call_tokens, "full"))
    found = stream_shapes(rows, call_tokens, budget)
    of_streams = fill(rows, sum(length for length, _ in found))
    lengths = ", ".join(f"{n:,}" for n in sorted({length for length, _ in found}, reverse=True))
    cells = [
        rows.name,
        f"{call_tokens:,}",
        f"{budget:,}",
        lengths,
        f"{len(found) / calls:.1f}",
        f"{len(set(found))}",
        f"{of_streams:.2%}",
    ]
    for widths in (fixed_widths(rows.longest), ()):
        shapes = padded_shapes(rows, call_tokens, budget, widths)
        computed = sum(width * number for width, number in shapes)
        cells.append(f"{fill(rows, computed):.1%} in {len(shapes) / calls:.1f}")
    print(f"| {' | '.join(cells)} |", flush=True)
    return of_streams


def add_options(parser: argparse.ArgumentParser) -> None:
    """There are none: this is arithmetic."""


def main(options: argparse.Namespace) -> None:
    """Computes and prints."""
    texts = read_texts()
    real = Rows(texts.name, texts.lengths, MAX_TOKENS)
    random = np.random.default_rng(0)
    print(
        f"\nFill: {texts.name}, {len(texts.texts):,} documents, {texts.tokens:,} tokens, and rows "
        "of other lengths. Of padded batches: the fill, and batches per call\n"
    )
    print(
        "| rows | tokens of a call | budget | stream lengths used | streams per call | shapes |"
        " fill of streams | padded to fixed widths | padded to the longest |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    worst = max(print_row(real, budget=budget) for budget in (_BUDGET, 4_096, 16_384, 131_072))
    for call_tokens in (65_536, 16_384):
        worst = max(worst, print_row(real, call_tokens))
    in_blocks = replace(real, name=f"{texts.name} in blocks of 900", block_rows=900)
    worst = max(worst, print_row(in_blocks))
    for name, lengths, longest in (
        ("128 tokens", np.full(8_192, 128), 512),
        ("200 tokens", np.full(8_192, 200), 512),
        ("512 tokens", np.full(8_192, 512), 512),
        ("8,192 tokens", np.full(1_000, 8_192), 8_192),
        ("3 to 12 tokens", random.integers(3, 13, 8_192), 512),
        ("10 to 8,192 tokens", random.integers(10, 8_193, 1_000), 8_192),
        ("5,000 to 8,192 tokens", random.integers(5_000, 8_193, 1_000), 8_192),
        ("one query of 9 tokens", np.array([9]), 512),
    ):
        print_row(Rows(name, lengths, longest))
    print(f"\nOver {texts.name} streams are at most {worst:.2%} fill (promised: < {_PROMISED:.0%})")


if __name__ == "__main__":
    main(argparse.Namespace())
