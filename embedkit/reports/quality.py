"""What is measured of every block while its vectors are in memory, and how blocks add up."""

import base64
import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import datasketches
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embedkit.records import EmbeddingBlock, Nulled, Reject, add_nulled
from embedkit.reports.histogram import Histogram
from embedkit.reports.moments import Moments
from embedkit.reports.sample import Sample, SampledRow

MOST_EXAMPLES = 5
"""Rejects of one reason that a report shows."""

_SKETCH_LG_K = 11
_ROWS_AT_ONCE = 1024


@dataclass(frozen=True, eq=False)
class BlockStatistics:
    """Statistics of one block, or of several added in block order.

    A monoid: ``empty()`` and ``+``. Counts, histograms, examples, the sample and the distinct count
    come out the same however a sequence of blocks is grouped; ``norms`` and ``direction_sum`` are
    sums of float64 and agree to 12 digits, and to the bit for the same order from the left.

    Attributes:
        documents: Input records accounted for, rejects included.
        embedded: Documents that became rows.
        rows: Rows, which are documents or chunks of them.
        rejects: Records that could not be embedded, by reason.
        examples: The first rejects of each reason.
        tokens: Tokens that the model saw, after truncation.
        n_tokens: Tokens before truncation.
        truncated: Rows that were longer than the model sees.
        longest: Tokens of the longest row before truncation.
        lengths: Tokens per row before truncation.
        norms: Length of the finite vectors.
        norm_histogram: The same as a histogram.
        non_finite: Rows whose vector holds a NaN or an infinity.
        zero: Rows whose vector is zero.
        direction_sum: Sum of the finite, non-zero vectors, each scaled to length 1, float64, shape
            (dimension,); shape (0,) where there is none.
        distinct: Theta sketch of the text hashes, serialized.
        sample: The rows with the smallest hash of id.
        nulled: Metadata values that did not fit their columns and became null, by column.
    """

    documents: int
    embedded: int
    rows: int
    rejects: dict[str, int]
    examples: dict[str, tuple[Reject, ...]]
    tokens: int
    n_tokens: int
    truncated: int
    longest: int
    lengths: Histogram
    norms: Moments
    norm_histogram: Histogram
    non_finite: int
    zero: int
    direction_sum: NDArray[np.float64]
    distinct: bytes
    sample: Sample
    nulled: tuple[Nulled, ...] = ()

    @classmethod
    def empty(cls) -> Self:
        """Returns the statistics of no block."""
        return cls(
            documents=0,
            embedded=0,
            rows=0,
            rejects={},
            examples={},
            tokens=0,
            n_tokens=0,
            truncated=0,
            longest=0,
            lengths=Histogram.empty(),
            norms=Moments(),
            norm_histogram=Histogram.empty(),
            non_finite=0,
            zero=0,
            direction_sum=np.empty(0),
            distinct=_sketch(np.empty(0, np.uint64)),
            sample=Sample.empty(),
        )

    @classmethod
    def of_rejects(cls, documents: int, rejects: Sequence[Reject]) -> Self:
        """Returns the statistics of a block without rows."""
        return replace(
            cls.empty(),
            documents=documents,
            rejects=dict(Counter(reject.reason for reject in rejects)),
            examples=_examples(rejects),
        )

    def with_examples(self, change: Callable[[Reject], Reject]) -> "BlockStatistics":
        """Returns the statistics with every example of a reject changed."""
        examples = {reason: tuple(map(change, found)) for reason, found in self.examples.items()}
        return replace(self, examples=examples)

    def with_lines(self, line_of: Callable[[SampledRow], int | None]) -> "BlockStatistics":
        """Returns the statistics with another line for every row of the sample."""
        rows = tuple(replace(row, line=line_of(row)) for row in self.sample.rows)
        return replace(self, sample=replace(self.sample, rows=rows))

    @classmethod
    def of(cls, block: EmbeddingBlock, max_tokens: int, excerpts: bool = True) -> Self:
        """Measures one block.

        Args:
            block: The block as it is committed.
            max_tokens: Tokens of a row that the model saw at most.
            excerpts: Whether the beginnings of sampled texts are kept.
        """
        rows = block.rows
        n_tokens = rows.column("n_tokens").to_numpy().astype(np.int64)
        norms, direction_sum = _lengths_and_directions(block.vectors.matrix)
        finite = norms[np.isfinite(norms)]
        return cls(
            documents=block.documents,
            embedded=pc.count_distinct(rows.column("doc_id")).as_py() - block.continues,
            rows=rows.num_rows,
            rejects=dict(Counter(reject.reason for reject in block.rejects)),
            examples=_examples(block.rejects),
            tokens=int(np.minimum(n_tokens, max_tokens).sum()),
            n_tokens=int(n_tokens.sum()),
            truncated=pc.sum(rows.column("truncated")).as_py() or 0,
            longest=int(n_tokens.max(initial=0)),
            lengths=Histogram.of(n_tokens),
            norms=Moments.of(finite),
            norm_histogram=Histogram.of(finite),
            non_finite=rows.num_rows - len(finite),
            zero=int((finite == 0).sum()),
            direction_sum=direction_sum,
            distinct=_sketch(hash64(rows.column("text_hash"))),
            sample=Sample.of(block, excerpts),
            nulled=block.nulled,
        )

    def __add__(self, other: Self) -> Self:
        """Returns the statistics of this sequence of blocks followed by the other."""
        return type(self)(
            documents=self.documents + other.documents,
            embedded=self.embedded + other.embedded,
            rows=self.rows + other.rows,
            rejects=dict(Counter(self.rejects) + Counter(other.rejects)),
            examples=_examples(
                reject
                for examples in (self.examples, other.examples)
                for rejects in examples.values()
                for reject in rejects
            ),
            tokens=self.tokens + other.tokens,
            n_tokens=self.n_tokens + other.n_tokens,
            truncated=self.truncated + other.truncated,
            longest=max(self.longest, other.longest),
            lengths=self.lengths + other.lengths,
            norms=self.norms + other.norms,
            norm_histogram=self.norm_histogram + other.norm_histogram,
            non_finite=self.non_finite + other.non_finite,
            zero=self.zero + other.zero,
            direction_sum=_add_vectors(self.direction_sum, other.direction_sum),
            distinct=_union(self.distinct, other.distinct),
            sample=self.sample + other.sample,
            nulled=add_nulled((*self.nulled, *other.nulled)),
        )

    @property
    def tokens_lost(self) -> int:
        """Tokens that truncation kept from the model."""
        return self.n_tokens - self.tokens

    @property
    def distinct_texts(self) -> float:
        """Estimated number of distinct texts: exact up to 2,048, within 5 % (2 sigma) above."""
        return float(_read_sketch(self.distinct).get_estimate())

    @property
    def mean_cosine(self) -> float | None:
        """Mean cosine over all pairs of two different rows, exact; None for fewer than two.

        The squared length of a sum of n unit vectors is n plus twice the sum of its pairs' cosines.
        """
        count = self.norms.count - self.zero
        if count < 2:
            return None
        return float((self.direction_sum @ self.direction_sum - count) / (count * (count - 1)))

    def to_json(self) -> bytes:
        """Serializes; equal statistics give equal bytes."""
        data = {name: getattr(self, name) for name in self.__dataclass_fields__}
        data["examples"] = {
            reason: [asdict(reject) for reject in rejects]
            for reason, rejects in self.examples.items()
        }
        data["nulled"] = [asdict(nulled) for nulled in self.nulled]
        for name in ("lengths", "norms", "norm_histogram", "sample"):
            data[name] = data[name].to_dict()
        directions = self.direction_sum.astype("<f8").tobytes()
        data["direction_sum"] = base64.b64encode(directions).decode()
        data["distinct"] = base64.b64encode(self.distinct).decode()
        return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Reads back what ``to_json`` wrote."""
        fields: dict[str, Any] = json.loads(data)
        fields["examples"] = {
            reason: tuple(Reject(**reject) for reject in rejects)
            for reason, rejects in fields["examples"].items()
        }
        fields["nulled"] = tuple(Nulled(**nulled) for nulled in fields.get("nulled", ()))
        fields["lengths"] = Histogram.from_dict(fields["lengths"])
        fields["norm_histogram"] = Histogram.from_dict(fields["norm_histogram"])
        fields["norms"] = Moments.from_dict(fields["norms"])
        fields["sample"] = Sample.from_dict(fields["sample"])
        directions = base64.b64decode(fields["direction_sum"])
        fields["direction_sum"] = np.frombuffer(directions, "<f8").astype(np.float64)
        fields["distinct"] = base64.b64decode(fields["distinct"])
        return cls(**fields)


def hash64(text_hashes: pa.Array) -> NDArray[np.uint64]:
    """Returns the first 64 bits of hexadecimal text hashes, uint64, shape (n,).

    Args:
        text_hashes: Strings of 32 hexadecimal digits each, without nulls.
    """
    digits = "".join(text_hashes.to_pylist())
    return np.frombuffer(bytes.fromhex(digits), dtype=">u8")[::2].astype(np.uint64)


def _lengths_and_directions(
    vectors: NDArray[Any],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Norms in float64, NaN for rows that are not finite, and the sum of the unit vectors.

    einsum without BLAS: its sums do not depend on how many threads there are.
    """
    norms = np.empty(len(vectors))
    directions = np.zeros(vectors.shape[1])
    for start in range(0, len(vectors), _ROWS_AT_ONCE):
        rows = vectors[start : start + _ROWS_AT_ONCE].astype(np.float64)
        lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
        lengths[~np.isfinite(lengths)] = np.nan
        norms[start : start + _ROWS_AT_ONCE] = lengths
        usable = lengths > 0
        if not usable.all():
            rows, lengths = rows[usable], lengths[usable]
        directions += np.einsum("i,ij->j", 1 / lengths, rows)
    return norms, directions if (norms > 0).any() else np.empty(0)


def _add_vectors(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    if not len(left) or not len(right):
        return left if len(left) else right
    return left + right


def _examples(rejects: Iterable[Reject]) -> dict[str, tuple[Reject, ...]]:
    examples: dict[str, tuple[Reject, ...]] = {}
    for reject in rejects:
        shown = examples.get(reject.reason, ())
        if len(shown) < MOST_EXAMPLES:
            examples[reject.reason] = (*shown, reject)
    return examples


def _sketch(hashes: NDArray[np.uint64]) -> bytes:
    sketch = datasketches.update_theta_sketch(_SKETCH_LG_K)
    for value in hashes.view(np.int64).tolist():
        sketch.update(value)
    # Trimmed to its nominal size it holds exactly the smallest hashes, in whatever order they came.
    sketch.trim()
    data: bytes = sketch.compact().serialize()
    return data


def _union(left: bytes, right: bytes) -> bytes:
    union = datasketches.theta_union(_SKETCH_LG_K)
    union.update(_read_sketch(left))
    union.update(_read_sketch(right))
    data: bytes = union.get_result().serialize()
    return data


def _read_sketch(data: bytes) -> datasketches.compact_theta_sketch:
    return datasketches.compact_theta_sketch.deserialize(data)
