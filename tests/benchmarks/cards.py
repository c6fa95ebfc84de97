"""GPUs that are not there: their assumed rates, and a client that takes as long as one would."""

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.gpus import published_rates
from embedkit.encoders.transformer.speed import TransformerShape, gpu_tokens_per_second
from embedkit.vectors import TokenBatch

PRODUCTS = 790e12
"""Operations per second of a large bfloat16 product on an H100 or H200."""

MODELS = {
    "MiniLM-L6": TransformerShape(layers=6, hidden=384, inner=1536),
    "BERT-base": TransformerShape(layers=12, hidden=768, inner=3072),
}


@dataclass(frozen=True)
class CardRate:
    """A rate that a card is assumed to have.

    Attributes:
        model: The model, one of ``MODELS``.
        tokens_per_second: The rate.
        why: Where it comes from.
    """

    model: str
    tokens_per_second: float
    why: str


def card_rates(given: float | None = None) -> list[CardRate]:
    """Returns the rates to reckon with: the one that was given, or those that are assumed."""
    if given is not None:
        return [CardRate(model, given, "given") for model in MODELS]
    share = 0.62
    reached = share * PRODUCTS / MODELS["BERT-base"].flops
    return [
        CardRate("MiniLM-L6", 2e6, "a round figure"),
        CardRate("BERT-base", reached, f"{share:.0%} of {PRODUCTS / 1e12:.0f} TFLOP/s"),
        *(
            CardRate(
                model,
                gpu_tokens_per_second(shape, "bfloat16", published_rates(card)),
                f"what `embedkit plan` takes for a {card}",
            )
            for card in ("L4", "A100", "H100", "H200")
            for model, shape in MODELS.items()
        ),
    ]


class FreeClient:
    """Answers every call at once, with rows of one array of unit vectors made beforehand."""

    def __init__(self, dimension: int, rows: int = 16_384) -> None:
        random = np.random.default_rng(0)
        vectors = random.standard_normal((rows, dimension), dtype=np.float32)
        self._vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Yields as many rows as each batch has."""
        for batch in batches:
            yield self._vectors[: len(batch)]


class CardClient(FreeClient):
    """Answers as one card would that several threads share: a call at a time, two of each queued.

    It sleeps meanwhile, and so takes no core's time.

    Args:
        dimension: Components of a vector.
        tokens_per_second: The card's rate.
    """

    def __init__(self, dimension: int, tokens_per_second: float) -> None:
        super().__init__(dimension)
        self._rate = tokens_per_second
        self._lock = threading.Lock()
        self._first: float | None = None
        self._free = self._busy = 0.0

    @property
    def busy_share(self) -> float:
        """Share of its time, from the first call to the end of the last, that the card computed."""
        return self._busy / (self._free - self._first) if self._first else 0.0

    def encode_all(self, batches: Iterable[TokenBatch]) -> Iterator[NDArray[np.float32]]:
        """Yields as many rows as each batch has, when the card would have computed them."""
        queued: deque[tuple[float, int]] = deque()
        for batch in batches:
            queued.append((self._end_of(len(batch.input_ids)), len(batch)))
            if len(queued) > 1:
                yield self._answer(*queued.popleft())
        while queued:
            yield self._answer(*queued.popleft())

    def _end_of(self, tokens: int) -> float:
        with self._lock:
            start = max(time.perf_counter(), self._free)
            self._first = self._first or start
            self._busy += tokens / self._rate
            self._free = start + tokens / self._rate
            return self._free

    def _answer(self, end: float, rows: int) -> NDArray[np.float32]:
        time.sleep(max(0.0, end - time.perf_counter()))
        return self._vectors[:rows]
