"""What became of texts that were embedded in memory."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.errors import ConfigError


class TextReject(NamedTuple):
    """Why a text has no vector.

    Attributes:
        reason: A short snake_case word, the same that a run's rejects have: ``missing_column``,
            ``wrong_type``, ``empty_text``, ``nul_byte``, ``invalid_json`` (half a surrogate pair),
            ``too_long``, ``no_tokens``, ``out_of_vocabulary`` or ``non_finite_vector``.
        detail: One line: what is wrong and what to do about it.
    """

    reason: str
    detail: str


class SpanVectors(NamedTuple):
    """The vectors of the words or tokens of one text.

    Attributes:
        vectors: In their order, float32, shape (spans, dimension).
        spans: Where each of them begins and ends in the text, in characters, int32, shape
            (spans, 2).
    """

    vectors: NDArray[np.float32]
    spans: NDArray[np.int32]


@dataclass(frozen=True)
class EmbeddedTexts:
    """The vectors of some texts, and what could not be embedded of them.

    Attributes:
        vectors: In the order of the texts, float32, shape (texts, dimension). A text that was
            rejected has NaN in all places. Of words or tokens those of all texts one after the
            other, shape (spans, dimension), and none of a rejected text.
        rejects: Why, by the text's place.
        spans: Of words or tokens, the characters of each in its text, int32, shape (spans, 2);
            else None.
        offsets: Of words or tokens, text i has those from ``offsets[i]`` up to
            ``offsets[i + 1]``, int64, shape (texts + 1,); else None.
    """

    vectors: NDArray[np.float32]
    rejects: Mapping[int, TextReject]
    spans: NDArray[np.int32] | None = None
    offsets: NDArray[np.int64] | None = None

    @classmethod
    def of_spans(
        cls, texts: Sequence[SpanVectors | None], rejects: Mapping[int, TextReject], width: int
    ) -> Self:
        """Takes the vectors of each text's words or tokens.

        Args:
            texts: Those of each text, None of a rejected one.
            rejects: Why, by the text's place.
            width: Components of a vector.
        """
        found = [one for one in texts if one is not None]
        counts = [0 if one is None else len(one.spans) for one in texts]
        none = SpanVectors(np.empty((0, width), np.float32), np.empty((0, 2), np.int32))
        vectors, spans = zip(none, *found, strict=True)
        offsets = np.cumsum([0, *counts], dtype=np.int64)
        return cls(np.concatenate(vectors), rejects, np.concatenate(spans), offsets)

    def __len__(self) -> int:
        """Returns the number of texts."""
        return len(self.vectors) if self.offsets is None else len(self.offsets) - 1

    def __iter__(self) -> Iterator[NDArray[np.float32] | SpanVectors | TextReject]:
        """Yields each text's vector, float32, shape (dimension,), or its reject.

        Of words or tokens their vectors and spans together.
        """
        if self.spans is None or self.offsets is None:
            for place, vector in enumerate(self.vectors):
                yield self.rejects.get(place, vector)
            return
        for place, (start, end) in enumerate(pairwise(self.offsets.tolist())):
            found = SpanVectors(self.vectors[start:end], self.spans[start:end])
            yield self.rejects.get(place, found)

    def as_columns(self) -> tuple[pa.ListArray, pa.StringArray]:
        """Returns vectors and reasons as Arrow columns, each null where the other is not.

        The vectors are lists, not lists of a fixed size: of those, pyarrow up to 25 writes nulls
        to Parquet, but does not read them.

        Raises:
            ConfigError: They are of words or tokens, of which a text has many.
        """
        if self.offsets is not None:
            raise ConfigError(
                "as_columns: a text has many vectors of words or tokens; go through the texts, "
                "each of which gives its vectors and spans"
            )
        good = np.ones(len(self), dtype=np.bool_)
        good[list(self.rejects)] = False
        offsets = np.concatenate([[0], np.cumsum(good)]).astype(np.int32) * self.vectors.shape[1]
        vectors = pa.ListArray.from_arrays(
            pa.array(offsets), pa.array(self.vectors[good].reshape(-1)), mask=pa.array(~good)
        )
        found = (self.rejects.get(place) for place in range(len(self)))
        reasons = pa.array((None if one is None else one.reason for one in found), pa.string())
        return vectors, reasons
