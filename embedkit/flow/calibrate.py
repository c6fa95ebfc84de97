"""One calibration for all codes of a version, from a sample that does not depend on its files.

The texts with the smallest hashes are found by reading all of them once, of Parquet files the
columns of the text alone, and nothing is tokenized. They are encoded once, and the ranges of their
vectors are written before the first code is made. So every worker, engine and later try makes the
same codes, and so does the same corpus in one file or in forty.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from embedkit.config import CorpusConfig
from embedkit.corpus.chunks import chunk_documents
from embedkit.corpus.splits import Split
from embedkit.corpus.text_sample import SAMPLED, TextSample, sample_split
from embedkit.dataset.calibration import create_calibration, read_calibration
from embedkit.encoders.base import EncoderClient
from embedkit.errors import ConfigError
from embedkit.flow.encode import encode_tokens
from embedkit.flow.map_splits import MapSplits
from embedkit.flow.prepare import Draft
from embedkit.quantization import CALIBRATED, Calibration
from embedkit.records import DOCUMENT_SCHEMA, DocumentBlock
from embedkit.tokens.pairs import load_row_tokenizer, tokenize_rows

_DOCUMENTS_AT_ONCE = 16
_FIRST_SPLITS = 32
_MORE = 4
"""So many times the splits of a round are read in the next one, whose texts are then as many times
what a sample has."""


@dataclass(frozen=True)
class SampleTexts:
    """Samples the texts of a split in whatever process calls it; picklable.

    Attributes:
        corpus: How its files are read.
    """

    corpus: CorpusConfig

    def __call__(self, item: "SplitToSample") -> TextSample:
        """Reads a split.

        Raises:
            InputError: A file cannot be read, or is not the one that was planned.
        """
        return sample_split(item.split, self.corpus, item.bound)


@dataclass(frozen=True)
class SplitToSample:
    """A split that is to be sampled.

    Attributes:
        split: The split.
        bound: Hashes of texts that are wanted are below it.
    """

    split: Split
    bound: str


def needs_calibration(draft: Draft) -> bool:
    """Whether a version stores codes that nothing says yet how to make.

    Raises:
        IntegrityError: What says it is damaged.
        StoreError: The store failed.
    """
    if draft.output.vector_dtype not in CALIBRATED or draft.version.is_complete():
        return False
    return read_calibration(draft.version) is None


def sample_by_workers(draft: Draft, corpus: CorpusConfig, map_splits: MapSplits) -> TextSample:
    """Samples the texts of a corpus, its splits read by workers.

    They are read in a few rounds of more and more splits, and in each only what may be in the
    sample of all before it comes back, so that no process holds more than some samples.

    Args:
        draft: The version, with all splits of its plan.
        corpus: How its files are read.
        map_splits: Reaches the workers.

    Raises:
        InputError: A file cannot be read, or is not the one that was planned.
    """
    total, splits = TextSample(), draft.plan.splits
    start, count = 0, _FIRST_SPLITS
    while start < len(splits):
        some = [SplitToSample(split, total.bound) for split in splits[start : start + count]]
        for sample in map_splits(SampleTexts(corpus), some):
            total += sample
        start, count = start + count, count * _MORE
    return total


def calibrate(
    draft: Draft,
    texts: Mapping[str, str],
    connect: Callable[[], EncoderClient],
    call_tokens: int,
) -> None:
    """Encodes a sample and writes the ranges of its vectors, unless another was faster.

    Args:
        draft: The version.
        texts: Beginnings of whole texts by the hashes of them, see ``TextSample``; those at the
            front are taken until their chunks are ``SAMPLED``.
        connect: Returns the client that reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.

    Raises:
        ConfigError: Components are too far apart for codes.
        EncoderError: No encoder answered.
        StoreError: The store failed.
    """
    vectors = np.empty((0, draft.model.vectors.dimension), np.float32)
    if texts:
        block = DocumentBlock("00000", 0, len(texts), True, (), sampled_rows(draft, texts))
        found = encode_tokens(
            tokenize_rows(block, load_row_tokenizer(draft.model.tokenizer)),
            connect(),
            call_tokens,
            mixed_calls=draft.model.mixed_calls,
            vectors=draft.model.vectors,
        )
        vectors = found.vectors.matrix
    calibration = Calibration.of(vectors)
    if not calibration.ranges.are_coded:
        raise ConfigError(
            f"vector_dtype: {draft.output.vector_dtype} takes vectors whose components are "
            f"less far apart than {vectors.min():.3g} and {vectors.max():.3g}; take float32, or "
            "--normalize"
        )
    create_calibration(draft.version, calibration)


def sampled_rows(draft: Draft, texts: Mapping[str, str], enough: int = SAMPLED) -> pa.RecordBatch:
    """Returns the rows that documents of such texts have, chunks where the version has these.

    Args:
        draft: The version.
        texts: Beginnings of whole texts by the hashes of them.
        enough: Chunks after which no further text is chunked.
    """
    count = len(texts)
    names = pa.array(texts.keys(), pa.string())
    zeros = pa.array(np.zeros(count, np.int32))
    lengths = np.fromiter(map(len, texts.values()), np.int32, count)
    columns = {
        "id": names,
        "doc_id": names,
        "chunk_index": zeros,
        "char_start": zeros,
        "char_end": pa.array(lengths),
        "text_hash": names,
        "source": pa.array(["calibration"] * count, pa.string()),
        "row_index": pa.array(np.arange(count)),
        "text": pa.array(texts.values(), pa.string()),
    }
    documents = pa.RecordBatch.from_arrays(
        [columns[name] for name in DOCUMENT_SCHEMA.names], schema=DOCUMENT_SCHEMA
    )
    chunker = draft.make_chunker() if draft.make_chunker else None
    if chunker is None:
        return documents
    batches: list[pa.RecordBatch] = []
    for start in range(0, count, _DOCUMENTS_AT_ONCE):
        batches.append(chunk_documents(documents.slice(start, _DOCUMENTS_AT_ONCE), chunker))
        if sum(batch.num_rows for batch in batches) >= enough:
            break
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
