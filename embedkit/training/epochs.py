"""What the epochs of a training came to, and how far it is."""

import logging
import time
from dataclasses import dataclass

_LOG = logging.getLogger("embedkit")


@dataclass(frozen=True, slots=True)
class Epoch:
    """One reading of a corpus.

    Attributes:
        words: Words that were read.
        trained: Those that have a vector and were not left out at random as too frequent.
        loss: Loss of all of them together.
    """

    words: int
    trained: int
    loss: float

    @property
    def loss_of_a_word(self) -> float:
        """Loss of a word that was trained, on average."""
        return self.loss / self.trained if self.trained else 0.0


class Progress:
    """A log line every 30 seconds.

    Args:
        epochs: How many epochs there are.
        words: Words of each.
    """

    interval = 30.0

    def __init__(self, epochs: int, words: int) -> None:
        self._epochs = epochs
        self._words = words
        self._began = self._said = time.monotonic()

    def __call__(self, epoch: int, words: int) -> None:
        """Says how far it is, if the last line is some time ago.

        Args:
            epoch: The epoch, from 0.
            words: The words of it that were read.
        """
        now = time.monotonic()
        if now - self._said < self.interval:
            return
        self._said = now
        done = epoch * self._words + words
        rate = done / (now - self._began)
        left = max(0, self._epochs * self._words - done) / rate if rate else 0.0
        _LOG.info(
            "epoch %d of %d, %.0f %% trained, %.0f words/s, %d s left",
            epoch + 1,
            self._epochs,
            100 * done / max(1, self._epochs * self._words),
            rate,
            left,
            extra={"progress": {"epoch": epoch + 1, "words": done, "words_per_second": rate}},
        )
