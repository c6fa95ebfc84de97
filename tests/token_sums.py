"""A stand-in for a model on streams: each row's sum of ids and number of tokens."""

import numpy as np
import torch

from embedkit.vectors import TokenBatch


def random_batch(seed: int, rows: int, longest: int) -> TokenBatch:
    """Returns rows of random lengths and ids."""
    random = np.random.default_rng(seed)
    return TokenBatch.from_lists(
        random.integers(1, 50, size=length).tolist()
        for length in random.integers(1, longest + 1, size=rows)
    )


def expected(batch: TokenBatch) -> np.ndarray:
    """Returns what both stand-ins give for a batch."""
    sums = np.concatenate([[0], np.cumsum(batch.input_ids)])[batch.offsets]
    return np.stack([np.diff(sums), batch.lengths], axis=1).astype(np.float32)


class Sums:
    """A network over streams that has memory for some tokens only, and remembers its shapes."""

    def __init__(self, room: int | None = None) -> None:
        self.room = room
        self.error: Exception | None = None
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, ids, places, offsets, longest):
        self.shapes.append((len(ids), len(offsets) - 1))
        if self.error is not None:
            raise self.error
        if self.room is not None and len(ids) > self.room:
            raise torch.OutOfMemoryError("out of memory, on purpose")
        sums = torch.cat([torch.zeros_like(ids[:1]), ids]).cumsum(0)[offsets.long()]
        return torch.stack([sums.diff(), offsets.diff()], dim=1).float()


class Padded:
    """A backend that gives the same, and remembers the lengths of its rows."""

    device = "none"

    def __init__(self) -> None:
        self.computed_tokens = 0
        self.device_seconds = None
        self.lengths: list[int] = []

    def run(self, batch: TokenBatch) -> np.ndarray:
        self.lengths += batch.lengths.tolist()
        self.computed_tokens += len(batch) * int(batch.lengths.max())
        return expected(batch)
