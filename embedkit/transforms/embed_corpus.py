"""The whole flow as one transform."""

from collections.abc import Callable
from dataclasses import dataclass

import apache_beam as beam

from embedkit.dataset.schema import PartOptions
from embedkit.dataset.version import Version
from embedkit.encoders.base import EncoderClient
from embedkit.tokens.tokenization import TokenizerSpec
from embedkit.transforms.blocks import BlockTransform
from embedkit.transforms.encode import EncodeTokens
from embedkit.transforms.tokenize import TokenizeText
from embedkit.transforms.write import WriteEmbeddings


@dataclass
class EmbedBlocks(BlockTransform):
    """DocumentBlocks -> CommitRecords: tokenize, encode, write.

    Attributes:
        tokenizer: The model's tokenizer, maximum length and prompt.
        connect: Picklable; called once per worker, returns the client that reaches the encoders.
        call_tokens: Most tokens of one call to an encoder.
        version: Where the parts go.
        options: How they are written.
    """

    tokenizer: TokenizerSpec
    connect: Callable[[], EncoderClient]
    call_tokens: int
    version: Version
    options: PartOptions

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """The diagram of the flow, from documents on."""
        return (
            blocks
            | "TokenizeText" >> TokenizeText(self.tokenizer)
            | "EncodeTokens"
            >> EncodeTokens(self.connect, self.call_tokens, self.options.vector_dtype)
            | "WriteEmbeddings"
            >> WriteEmbeddings(self.version, self.options, self.tokenizer.max_tokens)
        )
