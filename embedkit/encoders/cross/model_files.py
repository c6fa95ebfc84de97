"""Reads a cross-encoder's directory, all but the values of its weights."""

import inspect
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedkit.config import ModelConfig
from embedkit.encoders.cross.network import scoring_class
from embedkit.encoders.cross.spec import CrossSpec
from embedkit.encoders.hardware import Machine
from embedkit.encoders.spec import ModelIdentity, Placement, VectorSpec
from embedkit.encoders.transformer.architecture import check_architecture, transformer_config
from embedkit.encoders.transformer.foreign_code import foreign_classes
from embedkit.encoders.transformer.model_files import check_vocabulary, max_tokens_of
from embedkit.encoders.transformer.model_modules import ModelLayout
from embedkit.encoders.transformer.module_files import (
    ClassifierFile,
    CrossEncoderFile,
    activation_name,
    read_file,
    read_modules,
)
from embedkit.encoders.transformer.placement import choose_placement
from embedkit.encoders.weights import (
    below,
    file_hash,
    read_json,
    tokenizer_hash,
    weight_files,
    weights_hash,
)
from embedkit.errors import ConfigError
from embedkit.tokens.pair_rules import PairRules
from embedkit.tokens.pairs import PairTokenizer
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import fast_tokenizer, read_tokenizer, text_tokenizer

_log = logging.getLogger(__name__)

_OF_VECTORS = {
    "pooling": "scores are not pooled",
    "dimensions": "a score has no components",
    "normalize": "a score has no length",
    "prompt": "a cross-encoder reads the query as it is",
    "prompt_name": "a cross-encoder reads the query as it is",
    "granularity": "a score is of a whole pair",
    "onnx_file": "torch runs cross-encoders",
    "tokenizer": "a cross-encoder has its own",
    "route": "all pairs go the same way",
}
"""Settings that a job cannot have where rows get scores, and why."""


@dataclass(frozen=True)
class _Saved:
    """What the files say that CrossEncoder writes beside those of the transformers library."""

    layout: ModelLayout
    activation: str | None = None


def read_cross_encoder(
    root: Path, revision: str | None, config: ModelConfig, machine: Machine
) -> CrossSpec:
    """Reads a model's files, all but the values of its weights, and settles how it runs.

    Args:
        root: The model directory.
        revision: The hub's commit hash, or None for a directory of the user's own.
        config: The model and the job's wishes.
        machine: What is to run it.

    Raises:
        ConfigError: The model is damaged, would need foreign code, is no cross-encoder, or cannot
            do what the job asks of it.
    """
    for name, reason in _OF_VECTORS.items():
        if getattr(config, name) is not None:
            raise ConfigError(f"{name}: {reason}; leave the setting out")
    if config.layers != "-1":
        raise ConfigError("layers: a cross-encoder scores by its last layer; leave the setting out")
    saved = _saved(root)
    head = "AutoModelForSequenceClassification"
    ignored = foreign_classes(root, config.ignore_auto_map, head=head)
    transformer = transformer_config(root)
    found_class = scoring_class(transformer, str(root))
    loaded = read_tokenizer(str(root))
    if getattr(loaded, "chat_template", None):
        raise ConfigError(
            f"{root}: reads its pairs through the tokenizer's chat template, which is not "
            "supported; take a cross-encoder that joins query and text itself"
        )
    typed = (
        "token_type_ids" in loaded.model_input_names
        and "token_type_ids" in inspect.signature(found_class.forward).parameters
        and (getattr(transformer, "type_vocab_size", None) or 0) > 1
    )
    limit = max_tokens_of(config, saved.layout, transformer, loaded.model_max_length)
    tokenizer = text_tokenizer(
        fast_tokenizer(loaded),
        TokenizerSpec(str(root), limit, lower_case=saved.layout.lower_case, pairs=PairRules(typed)),
    )
    check_vocabulary(tokenizer, transformer, root)
    pairs = PairTokenizer(tokenizer, PairRules(typed))
    files = weight_files(root)
    check_architecture(transformer, root, files, find_class=scoring_class)
    labels = tuple(str(name) for _, name in sorted(transformer.id2label.items()))
    return CrossSpec(
        identity=ModelIdentity(
            directory=str(root),
            model_id=config.model,
            revision=revision,
            weights=tuple(file.relative_to(root).as_posix() for file in files),
            weights_hash=weights_hash(files, root),
            config_hash=file_hash(root / "config.json"),
            tokenizer_hash=tokenizer_hash(root),
        ),
        tokenizer=replace(tokenizer.spec, max_content_tokens=pairs.max_content_tokens),
        vectors=VectorSpec(len(labels), normalize=False, metric="none", of="pair"),
        placement=_placement(config, transformer.model_type, machine),
        architecture=transformer.model_type,
        pad_id=tokenizer.pad_id,
        activation=saved.activation or _activation(root, len(labels)),
        labels=labels,
        ignored_code=ignored,
    )


def _saved(root: Path) -> _Saved:
    """Reads the files of CrossEncoder; a model that it has not saved has none of them."""
    file = root / "config_sentence_transformers.json"
    model = read_file(CrossEncoderFile, file) if file.is_file() else None
    prompts = {name: text for name, text in ((model and model.prompts) or {}).items() if text}
    if model is not None and prompts.get(model.default_prompt_name or ""):
        raise ConfigError(
            f"{file}: default_prompt_name is {model.default_prompt_name!r}, a prompt before every "
            "query, which is not supported; put it into the queries and take it out there"
        )
    if prompts:
        _log.warning("the model knows the prompts %s, none of which is used", ", ".join(prompts))
    layout = ModelLayout(transformer=root)
    listing = root / "modules.json"
    if listing.is_file():
        modules = [
            (entry.kind, below(root, entry.path, listing)) for entry in read_modules(listing)
        ]
        if modules != [("Transformer", root)]:
            kinds = ", ".join(kind for kind, _ in modules)
            raise ConfigError(
                f"{listing}: modules {kinds}; expected one Transformer with a classification head "
                "at the directory's own place"
            )
        said = read_file(ClassifierFile, root / "sentence_bert_config.json")
        layout = replace(layout, max_tokens=said.max_seq_length, lower_case=said.do_lower_case)
    return _Saved(layout, model.activation_fn if model else None)


def _activation(root: Path, labels: int) -> str:
    """Returns the activation that ``config.json`` names, or CrossEncoder's usual one."""
    file = root / "config.json"
    found = read_json(file, dict)
    saved = found.get("sentence_transformers")
    named = saved.get("activation_fn") if isinstance(saved, dict) else None
    named = named or found.get("sbert_ce_default_activation_function")
    if named is None:
        return "Sigmoid" if labels == 1 else "Identity"
    try:
        return activation_name(str(named))
    except ValueError as error:
        raise ConfigError(f"{file}: activation_fn: {error}") from error


def _placement(config: ModelConfig, architecture: str, machine: Machine) -> Placement:
    if config.backend not in ("auto", "torch"):
        raise ConfigError(
            f"backend {config.backend} runs no cross-encoders; take backend torch, or leave it out"
        )
    if config.precision in ("float8", "int8"):
        raise ConfigError(f"precision {config.precision} is not for cross-encoders; take bfloat16")
    on_torch: dict[str, Any] = {"backend": "torch"}
    return choose_placement(config.model_copy(update=on_torch), architecture, machine)
