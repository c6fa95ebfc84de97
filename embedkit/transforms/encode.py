"""TokenBlocks to EmbeddingBlocks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apache_beam as beam

from embedkit.encoders.base import EncoderClient
from embedkit.encoders.spec import MixedCalls, VectorSpec
from embedkit.flow.earlier_rows import EarlierRows
from embedkit.flow.encode import encode_tokens
from embedkit.quantization import Calibration
from embedkit.records import TokenBlock
from embedkit.transforms.blocks import BlockTransform
from embedkit.vectors import EmbeddingBlock


class _Encode(beam.DoFn):
    def __init__(
        self,
        connect: Callable[[], EncoderClient],
        call_tokens: int,
        vector_dtype: str,
        mixed_calls: MixedCalls,
        vectors: VectorSpec | None,
        earlier: EarlierRows | None,
        calibration: Callable[[], Calibration] | None,
    ) -> None:
        self._connect = connect
        self._call_tokens = call_tokens
        self._vector_dtype = vector_dtype
        self._mixed_calls = mixed_calls
        self._vectors = vectors
        self._earlier = earlier
        self._calibration = calibration
        self._client: EncoderClient | None = None

    def setup(self) -> None:
        # Where there is an earlier version, it may have all that this worker is given.
        if self._earlier is None:
            self._client = self._connect()

    def process(self, block: TokenBlock) -> Iterator[EmbeddingBlock]:
        if self._client is None:
            self._client = self._connect()
        yield encode_tokens(
            block,
            self._client,
            self._call_tokens,
            self._vector_dtype,
            self._mixed_calls,
            self._vectors,
            self._earlier,
            self._calibration,
        )


@dataclass
class EncodeTokens(BlockTransform):
    """TokenBlocks -> EmbeddingBlocks.

    Attributes:
        connect: Picklable; called once per worker, returns the client that reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.
        vector_dtype: ``float32``, ``float16``, ``int8``, ``uint8`` or ``binary``.
        mixed_calls: Whether a call has rows of all lengths, see ``ModelSpec.mixed_calls``.
        vectors: What the vectors are; one of each row unless given.
        earlier: Has vectors of texts that did not change; needs ``vectors``.
        calibration: Picklable; returns what codes of 8 bits are made by.
    """

    connect: Callable[[], EncoderClient]
    call_tokens: int = 131_072
    vector_dtype: str = "float32"
    mixed_calls: MixedCalls = False
    vectors: VectorSpec | None = None
    earlier: EarlierRows | None = None
    calibration: Callable[[], Calibration] | None = None

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """One step, fused with its neighbours: vectors are not moved between workers."""
        encode = _Encode(
            self.connect,
            self.call_tokens,
            self.vector_dtype,
            self.mixed_calls,
            self.vectors,
            self.earlier,
            self.calibration,
        )
        return blocks | "Encode" >> beam.ParDo(encode).with_output_types(EmbeddingBlock)
