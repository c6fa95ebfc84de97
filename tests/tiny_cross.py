"""Tiny cross-encoders of real architectures, whose tokenizers join pairs as real ones do."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tiny_models import CONFIGURATIONS, make_tokenizer
from tokenizers import processors
from transformers import AutoModelForSequenceClassification

PAIRS = [
    ("what becomes of a corpus", "A corpus becomes vectors, and vectors become neighbours."),
    ("fox", "The quick brown fox jumps over the lazy dog."),
    ("The quick brown fox jumps over the lazy dog.", "fox"),
    ("rain", ""),
    ("", "Rain"),
    ("Zürich", "Zürich liegt am See; Genève est au bord du lac."),
    ("one two three four five six seven " * 6, "the weights of a model, its tokenizer " * 6),
    ("one two", "the weights of a model, its tokenizer, its prompt and its pooling " * 8),
    ("the weights of a model, its tokenizer, its prompt and its pooling " * 8, "one two"),
    ("日本語", "日本語のテキスト 中文文本 русский текст"),
    ("a [SEP] b", "special </s> tokens <s> inside"),
]
"""Pairs of many lengths, some of them longer than the models see, in both orders."""

_PAIR_TEMPLATES = {
    "bert": "{cls} $A {sep} $B:1 {sep}:1",
    "deberta-v3": "{cls} $A {sep} $B:1 {sep}:1",
    "modernbert": "{cls} $A {sep} $B {sep}",
}


# It is trained anew each time, which takes as long as all the rest.
_tokenizer = lru_cache(make_tokenizer)


def save_cross_encoder(
    directory: Path, architecture: str = "bert", labels: int = 1, seed: int = 0, **said: Any
) -> str:
    """Saves a tiny model for sequence classification as a plain directory.

    Args:
        directory: Where to.
        architecture: One of ``CONFIGURATIONS``.
        labels: Labels of its head.
        seed: Of its weights.
        said: Further entries of ``config.json``.
    """
    config_name, kind, settings = CONFIGURATIONS[architecture]
    tokenizer = _tokenizer(kind)
    cls, sep = tokenizer.cls_token, tokenizer.sep_token
    pair = _PAIR_TEMPLATES.get(architecture, "{cls} $A {sep} {sep} $B {sep}")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=pair.format(cls=cls, sep=sep),
        special_tokens=[(cls, tokenizer.cls_token_id), (sep, tokenizer.sep_token_id)],
    )
    config = getattr(transformers, config_name)(
        vocab_size=len(tokenizer), num_labels=labels, **settings
    )
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.25)
            elif "bias" in name:
                parameter.normal_(std=0.1)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    change_json(directory / "config.json", **said)
    if architecture in ("bert", "deberta-v3"):
        names = ["input_ids", "token_type_ids", "attention_mask"]
        change_json(directory / "tokenizer_config.json", model_input_names=names)
    return str(directory)


def change_json(file: Path, **said: Any) -> None:
    """Changes entries of a JSON file."""
    file.write_text(json.dumps(json.loads(file.read_text()) | said))
