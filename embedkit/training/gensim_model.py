"""gensim's word2vec, with a loss that adds up and a count of the words that were trained."""

import copy
import threading
from collections.abc import Callable, Iterable
from typing import Any

from gensim.models import Word2Vec
from gensim.models.callbacks import CallbackAny2Vec

from embedkit.training.epochs import Epoch

OnWords = Callable[[int, int], None]
"""Hears of the epoch, from 0, and of the words of it that were read by now."""


class CountingWord2Vec(Word2Vec):
    """A Word2Vec whose vectors are gensim's own, bit by bit.

    gensim adds the loss up in 32 bits, where it stops at 134,217,728 (its issue 2735), and several
    threads overwrite each other's sums (its issue 2743). Here each batch has a sum of its own.

    Attributes:
        epochs_done: What each epoch so far came to.
        failed: What a batch stumbled over; the thread that it would end would be waited for.
        on_words: Hears how far the training is, from threads of gensim's.
    """

    def __init__(self, *args: Any, on_words: OnWords, **settings: Any) -> None:
        self.on_words = on_words
        self.epochs_done: list[Epoch] = []
        self.failed: Exception | None = None
        self._counting = threading.Lock()
        self._begin()
        super().__init__(*args, **settings)

    def _begin(self) -> None:
        self._loss = 0.0
        self._trained = self._read = 0

    def _do_train_job(self, sentences: Iterable[list[str]], alpha: float, inits: Any) -> Any:
        try:
            return self._train_batch(sentences, alpha, inits)
        except Exception as error:  # noqa: BLE001 - raised again at the end of the epoch
            self.failed = error
            return 0, 0

    def _train_batch(
        self, sentences: Iterable[list[str]], alpha: float, inits: Any
    ) -> tuple[int, int]:
        # It shares the vectors and the random numbers, and nothing else that a batch changes.
        batch = copy.copy(self)
        batch.running_training_loss = 0.0
        trained, read = super(CountingWord2Vec, batch)._do_train_job(sentences, alpha, inits)
        with self._counting:
            self._loss += float(batch.running_training_loss)
            self._trained += trained
            self._read += read
            so_far = self._read
        self.on_words(len(self.epochs_done), so_far)
        return trained, read

    def end_epoch(self) -> None:
        """Notes what the epoch came to, which has ended, or raises what went wrong in it."""
        if self.failed is not None:
            raise self.failed
        self.epochs_done.append(Epoch(self._read, self._trained, self._loss))
        self._begin()


class AfterEachEpoch(CallbackAny2Vec):
    """Ends the epochs of a model.

    Args:
        check: Raises what went wrong in the epoch.
    """

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def on_epoch_end(self, model: CountingWord2Vec) -> None:
        """Notes what the epoch came to."""
        self._check()
        model.end_epoch()
