"""Tokenizers whose offsets differ in kind, made like those of well-known models."""

from tiny_models import SENTENCES, make_tokenizer
from tokenizers import (
    Regex,
    Tokenizer,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast

_NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_QWEN = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SINGLE_SPACES = normalizers.Replace(Regex(" {2,}"), " ")

KINDS = (
    "wordpiece", "bare", "unigram", "bytes", "roberta", "roberta-prefix", "modernbert", "qwen",
    "llama", "xlm-r", "t5", "deberta-v3",
)  # fmt: skip


def span_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """Makes a tokenizer like that of a well-known model, or one of ``make_tokenizer``."""
    if kind in ("roberta", "roberta-prefix"):
        prefix = kind == "roberta-prefix"
        made = _byte_level(None, pre_tokenizers.ByteLevel(add_prefix_space=prefix))
        ends = [("[SEP]", 3), ("[CLS]", 2)]
        made.post_processor = processors.RobertaProcessing(
            *ends, trim_offsets=True, add_prefix_space=prefix
        )
        return _fast(made)
    if kind == "modernbert":
        level = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return _fast(_byte_level(normalizers.NFC(), level))
    if kind == "qwen":
        level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        split = pre_tokenizers.Split(_QWEN, "isolated")
        return _fast(_byte_level(normalizers.NFC(), pre_tokenizers.Sequence([split, level])))
    if kind == "llama":
        return _fast(_without_pre_tokenizer())
    if kind in ("xlm-r", "t5", "deberta-v3"):
        return _fast(_sentence_piece(kind))
    return make_tokenizer(kind)


def _byte_level(normalizer, pre_tokenizer) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=_NAMES,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _without_pre_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="[UNK]", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=500, special_tokens=_NAMES + _BYTES, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _sentence_piece(kind: str) -> Tokenizer:
    letters = {char for sentence in SENTENCES for char in sentence if not char.isspace()}
    pieces = [(name, 0.0) for name in _NAMES]
    pieces += [("\u2581", -3.0), ("\u2581the", -2.0), ("\u2581a", -2.5), ("or", -3.0)]
    tokenizer = Tokenizer(models.Unigram([*pieces, *((one, -6.0) for one in sorted(letters))], 1))
    steps = [normalizers.Nmt(), normalizers.NFKC(), _SINGLE_SPACES]
    before = {
        "xlm-r": [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()],
        "t5": [pre_tokenizers.Metaspace(prepend_scheme="first")],
        "deberta-v3": [pre_tokenizers.Punctuation("isolated"), pre_tokenizers.Metaspace()],
    }[kind]
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Strip(), *steps] if kind == "deberta-v3" else steps
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(before)
    tokenizer.add_special_tokens(_NAMES)
    return tokenizer


def _fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    if tokenizer.post_processor is None:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    pad, unk, cls, sep, mask = _NAMES
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        unk_token=unk,
        cls_token=cls,
        sep_token=sep,
        mask_token=mask,
        model_max_length=64,
    )
