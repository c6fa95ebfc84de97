"""Models of known sizes with seeded random weights, and rows of tokens for them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from embedkit.vectors import TokenBatch

MAX_TOKENS = 256
_POSITIONS = 512
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# About what trained weights of these sizes have; at BERT's 0.02 attention would be uniform, and all
# vectors nearly one.
_WEIGHTS_STD = 0.04
_ROW_TOKENS = 8

# fmt: off
WIKITEXT_LENGTHS = (
    7, 15, 18, 20, 22, 26, 29, 33, 37, 40, 44, 47, 49, 53, 57, 59, 62, 66, 68, 71, 74, 76, 78, 80,
    82, 85, 88, 89, 92, 94, 97, 99, 101, 103, 105, 107, 109, 111, 113, 115, 116, 119, 121, 123, 125,
    128, 131, 132, 134, 136, 139, 141, 143, 145, 147, 149, 151, 153, 155, 158, 160, 162, 165, 167,
    170, 172, 175, 178, 180, 185, 188, 191, 194, 198, 201, 204, 207, 210, 212, 216, 220, 224, 228,
    233, 238, 242, 245, 251, 256, 256, 256, 256, 256, 256, 256, 256, 256, 256, 256, 256, 256,
)
"""Percentiles, from 0 to 100, of the tokens of WikiText-2's 3,678 paragraphs (validation and test),
by all-MiniLM-L6-v2's tokenizer, cut at 256."""
# fmt: on


@dataclass(frozen=True)
class Size:
    """The shape of a BERT.

    Attributes:
        hidden: Components of a token's vector.
        inner: Components within the feed-forward net.
        layers: Layers.
        heads: Attention heads.
        vocabulary: Tokens that it knows.
    """

    hidden: int
    inner: int
    layers: int
    heads: int
    vocabulary: int = 30_522

    def flops_per_token(self, lengths: NDArray[np.int64]) -> float:
        """Returns the floating-point operations of the matrix products per token.

        Per layer and token: query, key, value and output are 4 products with h x h weights, the
        feed-forward net 2 with h x f; attention multiplies n x h by h x n, and n x n by n x h, per
        row of n tokens. A multiply and an add are two operations.

        Args:
            lengths: Tokens per row, shape (rows,).
        """
        seen = float((lengths.astype(float) ** 2).sum() / lengths.sum())
        products = 4 * self.hidden**2 + 2 * self.hidden * self.inner
        return self.layers * (2 * products + 4 * seen * self.hidden)


SIZES = {
    "MiniLM-L6": Size(384, 1536, 6, 12),
    "MiniLM-L12": Size(384, 1536, 12, 12),
    "BERT-base": Size(768, 3072, 12, 12),
    "BERT-large": Size(1024, 4096, 24, 16),
}
TINY_SIZES = {
    name: Size(32, 64, 2 + number, 4, vocabulary=200) for number, name in enumerate(SIZES)
}
"""The same names, for a trial of this script on a CPU."""


def save_model(size: Size, directory: Path, device: str) -> str:
    """Saves a model as sentence-transformers does: BERT, mean pooling, normalization.

    Args:
        size: Its size.
        directory: Where to save it.
        device: Where its weights are drawn, which is quicker on a GPU.

    Returns:
        The directory.
    """
    tokenizer = _make_tokenizer(size.vocabulary)
    config = BertConfig(
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=size.inner,
        max_position_embeddings=_POSITIONS,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = BertModel(config, add_pooling_layer=False)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 or "bias" in name:
                parameter.normal_(std=_WEIGHTS_STD)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    _save_json(directory / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS})
    _save_json(directory / "modules.json", _modules("", "1_Pooling", "2_Normalize"))
    pooling = {"word_embedding_dimension": size.hidden, "pooling_mode_mean_tokens": True}
    _save_json(directory / "1_Pooling" / "config.json", pooling)
    (directory / "2_Normalize").mkdir()
    return str(directory)


def rows_of_text(rows: int) -> NDArray[np.int64]:
    """Returns lengths of rows as WikiText-2 has them, shuffled, shape (rows,)."""
    places = np.linspace(0, 100, rows)
    lengths = np.interp(places, np.arange(101), WIKITEXT_LENGTHS).round().astype(np.int64)
    return np.random.default_rng(0).permutation(lengths)


def rows_of_128(rows: int) -> NDArray[np.int64]:
    """Returns lengths of rows of 128 tokens, shape (rows,)."""
    return np.full(rows, 128, dtype=np.int64)


def token_batch(lengths: NDArray[np.int64], vocabulary: int, seed: int = 0) -> TokenBatch:
    """Makes rows of random tokens between a [CLS] and a [SEP], as far as there is room for them.

    A row has few tokens again and again, as means of many would hardly differ between rows.

    Args:
        lengths: Tokens per row, shape (rows,).
        vocabulary: Tokens that the model knows.
        seed: Of the tokens.
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int32)
    np.cumsum(lengths, out=offsets[1:])
    generator = np.random.default_rng(seed)
    first = generator.integers(len(_SPECIAL), vocabulary - _ROW_TOKENS, len(lengths))
    ids = np.repeat(first, lengths) + generator.integers(0, _ROW_TOKENS, int(offsets[-1]))
    ids = ids.astype(np.int32)
    ids[offsets[:-1]] = _SPECIAL.index("[CLS]")
    ids[offsets[1:][lengths > 1] - 1] = _SPECIAL.index("[SEP]")
    return TokenBatch(ids, offsets)


def texts_of(batch: TokenBatch) -> list[str]:
    """Returns texts that the models' tokenizer turns into a batch's rows."""
    pairs = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    return [
        " ".join(map(_word, batch.input_ids[start + 1 : end - 1].tolist())) for start, end in pairs
    ]


def _word(token: int) -> str:
    return f"w{token}"


def _make_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    words = [*_SPECIAL, *map(_word, range(len(_SPECIAL), vocabulary))]
    ids = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[(name, ids[name]) for name in ("[CLS]", "[SEP]")],
    )
    names = dict(zip(("pad", "unk", "cls", "sep", "mask"), _SPECIAL, strict=True))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=_POSITIONS,
        **{f"{name}_token": token for name, token in names.items()},
    )


def _modules(*paths: str) -> list[dict]:
    names = [path.partition("_")[2] or "Transformer" for path in paths]
    return [
        {
            "idx": place,
            "name": str(place),
            "path": path,
            "type": f"sentence_transformers.models.{name}",
        }
        for place, (path, name) in enumerate(zip(paths, names, strict=True))
    ]


def _save_json(file: Path, value: object) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value))
