"""DocumentBlocks to TokenBlocks."""

from collections.abc import Iterator
from dataclasses import dataclass

import apache_beam as beam

from embedkit.records import DocumentBlock, TokenBlock
from embedkit.tokens.pairs import PairTokenizer, load_row_tokenizer, tokenize_rows
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.transforms.blocks import BlockTransform


class _Tokenize(beam.DoFn):
    def __init__(self, spec: TokenizerSpec) -> None:
        self._spec = spec
        self._tokenizer: TextTokenizer | PairTokenizer

    def setup(self) -> None:
        self._tokenizer = load_row_tokenizer(self._spec)

    def process(self, block: DocumentBlock) -> Iterator[TokenBlock]:
        yield tokenize_rows(block, self._tokenizer)


@dataclass
class TokenizeText(BlockTransform):
    """DocumentBlocks -> TokenBlocks.

    Attributes:
        tokenizer: The model's tokenizer, maximum length and prompt.
    """

    tokenizer: TokenizerSpec

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        """One step."""
        tokenize = beam.ParDo(_Tokenize(self.tokenizer)).with_output_types(TokenBlock)
        return blocks | "Tokenize" >> tokenize
