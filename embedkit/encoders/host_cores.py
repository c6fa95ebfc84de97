"""How many CPU cores read, tokenize and write as fast as a GPU encodes: here and nowhere else."""

from dataclasses import dataclass

from embedkit.encoders.kinds import tokens_per_second
from embedkit.encoders.spec import ModelSpec

_READING = 0.12e-6
"""Seconds of a core per token of all but tokenizing and writing, waits of threads included."""

_TOKENIZING = 1.1e-6
"""Seconds of a core per token."""

_WRITING = 16e-9
"""Seconds of a core per component of a vector."""

_IN_PYTHON = 0.14e-6
"""Seconds per token that other threads of the process wait for Python, at most."""

CORES_OF_A_PROCESS = 9
"""How many cores the threads of one process keep busy before they only wait for Python."""

_ROW_TOKENS = 128.0
_CORES_OF_ANOTHER_KIND = 8.0


@dataclass(frozen=True)
class HostWork:
    """What CPU cores do for the tokens that a model sees, beside encoding them.

    What it takes of them is measured in tests/benchmarks/RESULTS.md; of other corpora, tokenizers
    and processors it is another.

    Attributes:
        dimension: Components of a row's vector.
        row_tokens: Tokens of a row.
        tokenizing: Seconds of a core that tokenizing takes per token that the model sees.
    """

    dimension: int
    row_tokens: float = _ROW_TOKENS
    tokenizing: float = _TOKENIZING

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second of one core that does nothing else."""
        return 1 / (_READING + self.tokenizing + _WRITING * self.dimension / self.row_tokens)

    @property
    def process_tokens_per_second(self) -> float:
        """Most tokens per second of one process, on however many cores."""
        return 1 / _IN_PYTHON


def cores_per_gpu(model: ModelSpec, gpu: str, work: HostWork | None = None) -> float:
    """Estimates how many cores keep a GPU busy; 0 where a model runs on CPUs.

    Args:
        model: The model.
        gpu: The GPU's name, as far as it is known.
        work: What is known of the corpus and this machine; else it is that of the benchmarks.
    """
    if model.placement.device == "cpu":
        return 0.0
    speed = tokens_per_second(model, gpu)
    if speed is None:
        return _CORES_OF_ANOTHER_KIND
    return speed / (work or HostWork(model.vectors.dimension)).tokens_per_second
