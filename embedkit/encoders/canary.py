"""Canary texts: a few fixed texts whose vectors every encoder must give, or it is not used.

They are computed once, by the same model in float32 on a CPU. A broken card or driver, lost
weights or a backend that pools otherwise show before an encoder has made a single row.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from embedkit.encoders.base import Encoder
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import CanaryError, EmbedkitError
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

Asked = Literal["auto", "always", "never"]

CANARY_TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Models of language turn texts into vectors, and those of like texts point the same way.",
    "def add(a, b): return a + b",
    "Zürich, Москва and 東京 are cities; the largest of them has 14.2 million people.",
)

_LOG = logging.getLogger("embedkit")
_MOST_WEIGHTS = 2 << 30
"""Bytes of weights up to which a CPU is asked without being told to."""

_OF_TORCH = frozenset({"torch", "openvino"})
_FARTHEST = {"float8": 0.5}
_USUALLY_FARTHEST = 0.25
"""Greatest distance from what a vector should be, as a share of its length.

16 bits cost a few hundredths of it, while another pooling or other weights are off by 0.5 or more.
"""


_REMEDY = (
    "this encoder is not used, as its device, its driver or its backend computes wrong; try "
    "another one, or give --canaries never"
)


@dataclass(frozen=True)
class Canaries:
    """What every encoder of a model is to give; picklable.

    Attributes:
        batch: The texts as tokens.
        vectors: What they should be, float32, shape (texts, dimension).
        farthest: Greatest distance of a vector from that, as a share of its length.
    """

    batch: TokenBatch
    vectors: NDArray[np.float32]
    farthest: float

    def check(self, encoder: Encoder) -> None:
        """Has an encoder encode the texts.

        Raises:
            CanaryError: It gives other vectors, or none.
        """
        found = encoder.encode(self.batch)
        if found.shape != self.vectors.shape:
            raise CanaryError(
                f"{encoder.device}: vectors of shape {found.shape} instead of "
                f"{self.vectors.shape} for the canary texts; {_REMEDY}"
            )
        lengths = np.linalg.norm(self.vectors, axis=1)
        distances = np.linalg.norm(found - self.vectors, axis=1) / np.where(lengths, lengths, 1)
        wrong = ~(distances <= self.farthest)
        if wrong.any():
            far = float(distances[wrong].max())
            what = f"{far:.2f} of its length from" if np.isfinite(far) else "not a number for"
            raise CanaryError(
                f"{encoder.device}: {wrong.sum()} of {len(wrong)} canary texts get a vector that "
                f"is {what} the one of a CPU in float32, more than {self.farthest:g}; {_REMEDY}"
            )


def wants_canaries(model: ModelSpec, asked: Asked) -> bool:
    """Whether the encoders of a model are to be tried on canary texts.

    By themselves, those on GPUs are, of weights that any machine's memory has room for. Rows that
    get several vectors, or are pairs of texts, have none.

    Args:
        model: The model.
        asked: The job's setting.
    """
    vectors = model.vectors
    if asked == "never" or vectors.of != "row" or vectors.in_windows:
        return False
    if asked == "always":
        return True
    if model.placement.device == "cpu":
        return False
    files = map(model.identity.file, model.identity.weights)
    return sum(file.stat().st_size for file in files) <= _MOST_WEIGHTS


def canaries_for(
    model: ModelSpec, asked: Asked, load: Callable[[ModelSpec], Encoder]
) -> Canaries | None:
    """Computes what the encoders of a job are to give, unless nobody told a CPU that it must.

    Args:
        model: The model, of encoders that are to be tried.
        asked: The job's setting.
        load: Loads a model.

    Returns:
        None where a CPU cannot run the model and the setting is ``auto``.

    Raises:
        EmbedkitError: It cannot, and the setting is ``always``.
    """
    try:
        return canaries_of(model, load)
    except (EmbedkitError, MemoryError, RuntimeError) as error:
        if asked == "always":
            raise
        _LOG.warning("encoders are tried on no canary texts, as a CPU could not: %s", error)
        return None


def canaries_of(model: ModelSpec, load: Callable[[ModelSpec], Encoder]) -> Canaries:
    """Computes what a model gives for the canary texts, in float32 on the CPU.

    Args:
        model: The model, wherever it is to run.
        load: Loads a model.

    Raises:
        ConfigError: The weights are not those of the model.
        EncoderError: The files are not what they were when the job was planned.
    """
    ids, offsets, _ = load_tokenizer(model.tokenizer).encode(CANARY_TEXTS)
    batch = TokenBatch(ids, offsets)
    placed = model.placement
    backend = "torch" if placed.backend in _OF_TORCH else placed.backend
    exact = replace(placed, backend=backend, device="cpu", precision="float32", unpadded=False)
    vectors = load(replace(model, placement=exact)).encode(batch)
    farthest = _FARTHEST.get(placed.precision, _USUALLY_FARTHEST)
    return Canaries(batch, vectors, farthest)
