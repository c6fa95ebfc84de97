"""Tiny models of real architectures with real tokenizers, made from configurations and a seed."""

from pathlib import Path

import torch
import transformers
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoModel, AutoModelForTextEncoding, PreTrainedTokenizerFast

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "A corpus becomes vectors, and vectors become neighbours.",
    "Rain",
    "Zürich liegt am See; Genève est au bord du lac.",
    "Every record that goes in comes out once, or is rejected with its reason and counted.",
    "  white\tspace \n around  ",
    "numbers 1 22 333 4444 55555 and symbols +-*/ (){}[] <> && || == != #hash @at",
    "The weights of a model, its tokenizer, its prompt and its pooling decide what a vector is; "
    "whoever changes one of them gets another vector, and should get another dataset as well. " * 3,
    "日本語のテキスト 中文文本 русский текст",
    "ALL CAPITALS And Mixed CaSe wOrds",
    "!",
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen",
]
"""Texts of many lengths, several of them longer than ``MAX_TOKENS``."""

MAX_TOKENS = 24

_SIZE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
}
_DEBERTA = _SIZE | {
    "max_position_embeddings": 64,
    "relative_attention": True,
    "position_buckets": 8,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "type_vocab_size": 0,
    "pad_token_id": 0,
}
CONFIGURATIONS = {
    "bert": ("BertConfig", "wordpiece", _SIZE | {"max_position_embeddings": 64}),
    "distilbert": (
        "DistilBertConfig",
        "wordpiece",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 64},
    ),
    "mpnet": ("MPNetConfig", "mpnet", _SIZE | {"max_position_embeddings": 66}),
    "deberta-v2": ("DebertaV2Config", "unigram", _DEBERTA | {"conv_kernel_size": 3}),
    "deberta-v3": ("DebertaV2Config", "unigram", _DEBERTA),
    "roberta": (
        "RobertaConfig",
        "xlm",
        _SIZE | {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1},
    ),
    "xlm-roberta": (
        "XLMRobertaConfig",
        "xlm",
        _SIZE | {"max_position_embeddings": 66, "pad_token_id": 1, "type_vocab_size": 1},
    ),
    "modernbert": (
        "ModernBertConfig",
        "bytes",
        _SIZE
        | {
            "max_position_embeddings": 128,
            "local_attention": 8,
            "global_attn_every_n_layers": 2,
            "pad_token_id": 0,
            "cls_token_id": 2,
            "sep_token_id": 3,
            "bos_token_id": 2,
            "eos_token_id": 3,
        },
    ),
}


OTHERS = {
    "t5": (
        "T5Config",
        "unigram",
        {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4, "pad_token_id": 0},
    ),
    "qwen3": (
        "Qwen3Config",
        "bytes",
        _SIZE
        | {
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
        },
    ),
}
"""An encoder of a model that decodes as well, and a decoder whose tokenizer fills on the left."""

MORE = {
    "gpt2": (
        "GPT2Config",
        "bytes",
        {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 64},
    ),
    "mistral": (
        "MistralConfig",
        "bytes",
        _SIZE
        | {
            "num_key_value_heads": 2,
            "head_dim": 12,
            "max_position_embeddings": 64,
            "sliding_window": 6,
            "pad_token_id": 0,
        },
    ),
    "electra": ("ElectraConfig", "wordpiece", _SIZE | {"max_position_embeddings": 64}),
    "albert": (
        "AlbertConfig",
        "wordpiece",
        _SIZE | {"embedding_size": 16, "max_position_embeddings": 64, "num_hidden_groups": 1},
    ),
    "deberta": (
        "DebertaConfig",
        "bytes",
        _SIZE
        | {
            "max_position_embeddings": 64,
            "relative_attention": True,
            "pos_att_type": ["c2p", "p2c"],
            "position_biased_input": False,
            "type_vocab_size": 0,
            "pad_token_id": 0,
        },
    ),
    "gte": ("GteConfig", "xlm", _SIZE | {"max_position_embeddings": 64, "pad_token_id": 1}),
    "nomic_bert": (
        "NomicBertConfig",
        "wordpiece",
        _SIZE | {"max_position_embeddings": 64, "pad_token_id": 0},
    ),
}
"""Decoders with a table of positions and with windows, and encoders that are less common."""


def make_tokenizer(kind: str, truncation_side: str = "right") -> PreTrainedTokenizerFast:
    """Trains a small tokenizer: wordpiece, mpnet, unigram, xlm, bytes or bare (no specials)."""
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    if kind in ("xlm", "mpnet"):
        names = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pad, unk, cls, sep, mask = (
        names
        if kind not in ("xlm", "mpnet")
        else [names[1], names[3], names[0], names[2], names[4]]
    )
    if kind in ("wordpiece", "mpnet", "bare"):
        tokenizer = Tokenizer(models.WordPiece(unk_token=unk))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=kind != "bare")
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=names)
    elif kind in ("unigram", "xlm"):
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.NFKC(), normalizers.Replace("  ", " ")]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=names, unk_token=unk)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=400,
            special_tokens=names,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if kind != "bare":
        ends = [(cls, tokenizer.token_to_id(cls)), (sep, tokenizer.token_to_id(sep))]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{cls} $A {sep}", pair=f"{cls} $A {sep} $B {sep}", special_tokens=ends
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unk,
        cls_token=cls,
        sep_token=sep,
        mask_token=mask,
        truncation_side=truncation_side,
        model_max_length=64,
    )


def save_transformer(directory: Path, architecture: str, seed: int = 0) -> str:
    """Saves a tiny transformer with its tokenizer as a plain model directory."""
    config_name, kind, settings = (CONFIGURATIONS | OTHERS | MORE)[architecture]
    tokenizer = make_tokenizer(kind)
    tokenizer.padding_side = "left" if architecture == "qwen3" else "right"
    config = getattr(transformers, config_name)(vocab_size=len(tokenizer), **settings)
    torch.manual_seed(seed)
    auto = AutoModelForTextEncoding if architecture == "t5" else AutoModel
    model = auto.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
            elif "bias" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return str(directory)
