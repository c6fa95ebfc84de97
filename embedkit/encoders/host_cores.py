"""How many CPU cores read, tokenize and write as fast as a GPU encodes: here and nowhere else."""

from dataclasses import dataclass

from embedkit.encoders.kinds import tokens_per_second
from embedkit.encoders.spec import ModelSpec

_READING = 0.08e-6
"""Seconds of a core per token of all but tokenizing and writing."""

_TOKENIZING = 1.1e-6
"""Seconds of a core per token by the tokenizers library, text after text."""

_TOKENIZING_IN_PYTHON = 0.08e-6
"""Of them, those in which no other thread of the process runs Python; at most, of any tokenizer."""

_WRITING = 16e-9
"""Seconds of a core per component of a vector."""

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
        """Tokens per second of one process at most, on however many cores."""
        in_python = _READING + min(self.tokenizing, _TOKENIZING_IN_PYTHON)
        return max(1 / in_python, self.tokens_per_second)


@dataclass(frozen=True)
class HostCores:
    """How many cores have something to do.

    Attributes:
        per_gpu: Cores that keep a GPU busy; 0 where a model runs on CPUs.
        per_cpu_encoder: Cores that keep an encoder on CPUs busy that outruns them; else 0.
        per_process: Cores that the threads of one process can use, as they take turns in Python.
    """

    per_gpu: float = 0.0
    per_process: float = 1.0
    per_cpu_encoder: float = 0.0


def host_cores(model: ModelSpec, gpu: str, work: HostWork | None = None) -> HostCores:
    """Estimates how many cores have something to do beside the encoders of a model.

    Args:
        model: The model.
        gpu: The GPU's name, as far as it is known.
        work: What is known of the corpus and this machine; else it is that of the benchmarks.
    """
    on_cpu = model.placement.device == "cpu"
    if on_cpu and not model.outruns_host:
        return HostCores()
    work = work or HostWork(model.vectors.dimension)
    speed, core = tokens_per_second(model, gpu), work.tokens_per_second
    needed = _CORES_OF_ANOTHER_KIND if speed is None else speed / core
    per_process = work.process_tokens_per_second / core
    return HostCores(0.0, per_process, needed) if on_cpu else HostCores(needed, per_process)
