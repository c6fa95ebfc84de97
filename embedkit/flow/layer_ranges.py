"""What layers of int8 are given, measured with a sample of the corpus before anything is encoded.

Some of the texts with the smallest hashes are encoded in float32, and what each layer is given is
written to the version; so every encoder, on any machine and in any later try, rounds alike. Others
of them are encoded both ways, and say what that costs.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import islice
from threading import BoundedSemaphore

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embedkit.corpus.splits import Split
from embedkit.dataset.layer_ranges import RangesRecord, create_ranges
from embedkit.encoders.base import Encoder
from embedkit.encoders.kinds import load_encoder, load_observed
from embedkit.encoders.local_client import LocalClient, SharedEncoder
from embedkit.errors import ConfigError
from embedkit.flow.calibrate import sampled_rows
from embedkit.flow.codes import cosines_of
from embedkit.flow.encode import encode_tokens
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.prepare import Draft
from embedkit.records import DocumentBlock
from embedkit.tokens.pairs import load_row_tokenizer, tokenize_rows

_MEASURED = 300
_COMPARED = 100
_USUAL_COSINE = 0.98
_LOG = logging.getLogger("embedkit")


@dataclass(frozen=True)
class SampledRows:
    """Rows of a sample, measured where a worker would read a split.

    Attributes:
        split: Any split of the corpus.
        rows: Rows of a DocumentBlock.
    """

    split: Split
    rows: pa.RecordBatch


@dataclass(frozen=True)
class MeasureRanges:
    """Measures a model in whatever process calls it; picklable.

    Attributes:
        draft: The version, without its splits.
        call_tokens: Most tokens of one call to an encoder.
    """

    draft: Draft
    call_tokens: int

    def __call__(self, item: SampledRows) -> RangesRecord:
        """Encodes rows in float32, and the last of them in int8 as well.

        Raises:
            ConfigError: No layer was given anything, or the model cannot run in int8.
            EncoderError: The model's files are not what they were.
        """
        count = item.rows.num_rows
        compared = min(_COMPARED, count // 4)
        measured, others = item.rows.slice(0, count - compared), item.rows.slice(count - compared)
        others = others if compared else measured
        model = self.draft.model
        observed = load_observed(model)
        self._encoded(measured, observed)
        ranges = observed.ranges()
        if not ranges:
            raise ConfigError(
                "precision is int8, but the sampled texts show no linear layer anything; take "
                "precision float32"
            )
        exact = self._encoded(others, observed)
        rounded = self._encoded(others, load_encoder(model.with_ranges(ranges)))
        cosines = cosines_of(exact, rounded)
        return RangesRecord(
            ranges=ranges,
            rows=measured.num_rows,
            compared=len(cosines),
            mean_cosine=float(cosines.mean()) if len(cosines) else None,
            least_cosine=float(cosines.min()) if len(cosines) else None,
        )

    def _encoded(self, rows: pa.RecordBatch, encoder: Encoder) -> NDArray[np.float32]:
        model = self.draft.model
        block = DocumentBlock("00000", 0, rows.num_rows, True, (), rows)
        found = encode_tokens(
            tokenize_rows(block, load_row_tokenizer(model.tokenizer)),
            LocalClient(SharedEncoder(encoder, BoundedSemaphore(1))),
            self.call_tokens,
            mixed_calls=model.mixed_calls,
            vectors=model.vectors,
        )
        return found.vectors.stacked


def measure_ranges(
    draft: Draft, texts: Mapping[str, str], map_splits: MapSplits, call_tokens: int
) -> None:
    """Measures what layers are given and writes it, unless another was faster; says what it costs.

    Args:
        draft: The version.
        texts: Beginnings of whole texts by the hashes of them, see ``TextSample``.
        map_splits: Reaches a worker.
        call_tokens: Most tokens of one call to an encoder.

    Raises:
        ConfigError: There is no text, or the model cannot run in int8.
        EncoderError: The model's files are not what they were.
        StoreError: The store failed.
    """
    if not texts:
        raise ConfigError(
            "precision is int8, but the inputs have no text to measure the model with; take "
            "precision float32"
        )
    most = _MEASURED + _COMPARED
    rows = sampled_rows(draft, dict(islice(texts.items(), most)), most).slice(0, most)
    sampled = SampledRows(draft.plan.splits[0], rows)
    measure = MeasureRanges(replace(draft, plan=draft.plan.without_splits()), call_tokens)
    for found in map_splits(measure, [sampled]):
        _say(found)
        create_ranges(draft.version, found)


def _say(found: RangesRecord) -> None:
    if found.mean_cosine is None:
        return
    level = logging.INFO if found.mean_cosine >= _USUAL_COSINE else logging.WARNING
    _LOG.log(
        level,
        "int8: cosine with float32 %.4f on average and %.4f at least, of %d vectors%s",
        found.mean_cosine,
        found.least_cosine,
        found.compared,
        "" if level == logging.INFO else "; that is much, --precision float32 loses nothing",
    )
