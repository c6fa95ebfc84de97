"""Reads a transformer's directory, all but the values of its weights."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedkit.config import ModelConfig
from embedkit.encoders.hardware import Machine
from embedkit.encoders.spec import ModelIdentity, VectorSpec
from embedkit.encoders.transformer.architecture import (
    attends_by_interface,
    check_architecture,
    transformer_config,
)
from embedkit.encoders.transformer.foreign_code import TOKENIZER_FILES, foreign_classes
from embedkit.encoders.transformer.hidden_layers import HiddenLayers, read_layers
from embedkit.encoders.transformer.kept_model import NOWHERE, ReadModel, kept_or_read
from embedkit.encoders.transformer.model_modules import ModelLayout, read_layout
from embedkit.encoders.transformer.module_files import POOLING_FLAGS
from embedkit.encoders.transformer.onnx_files import OnnxFiles, onnx_files
from embedkit.encoders.transformer.placement import choose_placement
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.encoders.transformer.tokenizer_choice import check_match, choose_tokenizer
from embedkit.encoders.weights import (
    file_hash,
    has_weights,
    read_json,
    tokenizer_hash,
    weight_files,
    weight_name,
    weights_hash,
)
from embedkit.errors import ConfigError, MissingSettingError
from embedkit.tokens.span_rules import span_rules
from embedkit.tokens.text_tokenizer import TextTokenizer, TokenizerSpec
from embedkit.tokens.tokenization import fast_tokenizer, text_tokenizer

_log = logging.getLogger(__name__)

_SHIFTED_POSITIONS = frozenset(
    {"camembert", "longformer", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
_RELATIVE_POSITIONS = frozenset({"deberta", "deberta-v2", "modernbert", "mt5", "t5", "umt5"})
_NO_LIMIT = 1 << 24


def read_transformer(
    root: Path, revision: str | None, config: ModelConfig, machine: Machine
) -> TransformerSpec:
    """Reads a model's files, all but the values of its weights, and settles how it runs.

    Args:
        root: The model directory.
        revision: The hub's commit hash, or None for a directory of the user's own.
        config: The model and the job's wishes.
        machine: What is to run it.

    Raises:
        ConfigError: The model is damaged, would need foreign code, or cannot do what the job asks
            of it.
    """
    read = kept_or_read(root, revision, config, lambda: _read(root, revision, config))
    placement = choose_placement(config, read.spec.architecture, machine, read.can_stream)
    return replace(read.spec, placement=placement)


def _read(root: Path, revision: str | None, config: ModelConfig) -> ReadModel:
    """Reads a model's files; where it is to run is left open."""
    layout = read_layout(root, config.route)
    ignored = foreign_classes(layout.transformer, config.ignore_auto_map)
    if layout.own_tokenizer is not None:
        ignored += foreign_classes(layout.own_tokenizer, config.ignore_auto_map, TOKENIZER_FILES)
    transformer = transformer_config(layout.transformer)
    layers = _layers(config, transformer, layout.transformer)
    spans = span_rules(config)
    if spans is not None:
        # Neither belongs to a token.
        layout = replace(layout, dense=(), normalize=False, dimensions=None)
    chosen = choose_tokenizer(config, layout.tokenizer)
    tokenizer = text_tokenizer(
        fast_tokenizer(chosen.loaded),
        TokenizerSpec(
            directory=str(chosen.directory),
            max_tokens=max_tokens_of(config, layout, transformer, chosen.loaded.model_max_length),
            prompt=_prompt(config, layout),
            lower_case=layout.lower_case,
            prompts=layout.prompts,
            spans=spans,
        ),
    )
    check_vocabulary(tokenizer, transformer, layout.transformer)
    _warn_of_missing_end(tokenizer, chosen.loaded.eos_token, chosen.directory)
    pooling = () if spans else _pooling(config, layout, root)
    width = _joined_width(transformer.hidden_size, layers, layout, root) * max(1, len(pooling))
    onnx = _onnx(config, layout, layers, root)
    own_files = (
        [] if onnx and not has_weights(layout.transformer) else weight_files(layout.transformer)
    )
    if own_files:
        check_architecture(transformer, layout.transformer, own_files)
    mismatch = check_match(chosen, config, transformer, layout, own_files)
    others = layout.other_weights(root)
    files = [*(onnx.files if onnx else own_files), *others]
    spec = TransformerSpec(
        identity=ModelIdentity(
            directory=str(root),
            model_id=config.model,
            revision=revision,
            weights=tuple(weight_name(file, root, layout.base) for file in files),
            weights_hash=weights_hash(files, root, layout.base),
            config_hash=file_hash(layout.transformer / "config.json"),
            tokenizer_hash=tokenizer_hash(chosen.directory),
            base=None if layout.base is None else str(layout.base),
        ),
        tokenizer=replace(tokenizer.spec, max_content_tokens=tokenizer.max_content_tokens),
        vectors=VectorSpec(
            dimension=_dimension(config, layout, width, root),
            normalize=layout.normalize if config.normalize is None else config.normalize,
            metric=layout.metric,
            of="row" if spans is None else spans.of,
            # A token is its own first.
            span_pooling="first" if config.granularity == "token" else config.word_pooling,
        ),
        placement=NOWHERE,
        transformer=str(layout.transformer),
        architecture=transformer.model_type,
        pad_id=tokenizer.pad_id,
        pooling=pooling,
        prompt_length=0 if layout.include_prompt else tokenizer.prompt_length,
        dense=layout.dense,
        layers=layers,
        adapter=layout.adapter,
        route=layout.route,
        query_weights=_query_weights(layout, root),
        ignored_code=tuple(sorted({*ignored, *chosen.ignored_code})),
        given_tokenizer=chosen.given,
        tokenizer_mismatch=mismatch,
        onnx_file=_below(root, [onnx.model])[0] if onnx else "",
        onnx_precision=onnx.precision if onnx else "float32",
        beside_onnx=_below(root, [*own_files, *others]) if onnx and own_files else (),
    )
    return ReadModel(spec, attends_by_interface(transformer, str(layout.transformer)))


def _onnx(
    config: ModelConfig, layout: ModelLayout, layers: HiddenLayers | None, root: Path
) -> OnnxFiles | None:
    if config.backend != "onnx":
        return None
    if layout.adapter is not None:
        raise ConfigError(
            f"{root}: an adapter is merged into safetensors, and not into an ONNX file; take "
            "backend torch"
        )
    if layers is not None:
        raise ConfigError(
            f"layers is {config.layers}, but an ONNX file gives its last layer alone; take backend "
            "torch"
        )
    return onnx_files(root, layout.transformer, config.onnx_file)


def _below(root: Path, files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(file.relative_to(root).as_posix() for file in files)


def first_position(transformer: Any) -> int:
    """Returns the number of a row's first position, by the transformer's configuration."""
    if transformer.model_type not in _SHIFTED_POSITIONS:
        return 0
    return (getattr(transformer, "pad_token_id", None) or 0) + 1


def max_tokens_of(
    config: ModelConfig, layout: ModelLayout, transformer: Any, tokenizer_limit: int
) -> int:
    """Returns how many tokens of a row a model sees, special tokens and prompt included.

    Args:
        config: The job's wishes.
        layout: What the directory says beside the transformer's own files.
        transformer: The transformer's configuration.
        tokenizer_limit: What the tokenizer names as its longest text.

    Raises:
        ConfigError: The model cannot see as many as the job asks for, or names no limit.
    """
    positions = getattr(transformer, "max_position_embeddings", None) or -1
    usable = positions - first_position(transformer)
    relative = transformer.model_type in _RELATIVE_POSITIONS and not getattr(
        transformer, "position_biased_input", False
    )
    unlimited = positions < 1 or relative
    if config.max_tokens is not None:
        if not unlimited and config.max_tokens > usable:
            raise ConfigError(
                f"max_tokens is {config.max_tokens}, but {layout.transformer} has {usable} "
                "positions; take fewer tokens, or chunk the documents"
            )
        return config.max_tokens
    limit = layout.max_tokens
    if limit is None:
        if not isinstance(tokenizer_limit, int | float) or tokenizer_limit < 1:
            raise ConfigError(
                f"{layout.transformer}: model_max_length of the tokenizer is "
                f"{str(tokenizer_limit)[:100]!r}, expected a number; download the model again"
            )
        limit = min(tokenizer_limit, positions if positions > 0 else _NO_LIMIT)
    if not unlimited:
        limit = min(limit, usable)
    if limit >= _NO_LIMIT:
        raise ConfigError(
            f"{layout.transformer}: the model names no maximum length; give max_tokens"
        )
    return int(limit)


def _prompt(config: ModelConfig, layout: ModelLayout) -> str:
    prompts = dict(layout.prompts)
    if config.prompt is not None:
        if config.prompt_name is not None:
            raise ConfigError("both prompt and prompt_name are given; take one of them")
        return config.prompt
    name = config.prompt_name or layout.default_prompt
    if name is None:
        known = sorted(name for name, text in prompts.items() if text)
        if known:
            _log.warning(
                "the model knows the prompts %s and uses none of them by itself; choose one with "
                "prompt_name if documents need it",
                ", ".join(known),
            )
        return ""
    if name not in prompts:
        raise ConfigError(
            f"{config.model}: no prompt named {name!r}; expected one of "
            f"{', '.join(sorted(prompts)) or 'none, for it has no prompts'}"
        )
    return prompts[name]


def check_vocabulary(tokenizer: TextTokenizer, transformer: Any, directory: Path) -> None:
    """Checks that a tokenizer's ids are the model's.

    Raises:
        ConfigError: Some are not, or a single text has token types.
    """
    probe = tokenizer.tokenizer.encode("a")
    # A post-processor puts ids around a text that need not be in the vocabulary.
    ids = {*tokenizer.tokenizer.get_vocab(with_added_tokens=True).values(), *probe.ids}
    known = sum(number < transformer.vocab_size for number in ids)
    if known < len(ids):
        other = tokenizer.spec.directory
        which = "" if other == str(directory) else f" {other}"
        raise ConfigError(
            f"{directory}: the tokenizer{which} has ids up to {max(ids)}, but the model knows only "
            f"{transformer.vocab_size} of them ({known / len(ids):.1%} of the tokens are in its "
            "range); the two do not belong together, and no setting allows it"
        )
    if any(probe.type_ids):
        raise ConfigError(
            f"{directory}: the tokenizer gives a single text a token type other than 0, which is "
            "not supported"
        )


def _query_weights(layout: ModelLayout, root: Path) -> str:
    """Returns the hash of what queries are encoded by, where they take a way of their own."""
    if not layout.route:
        return ""
    try:
        of_queries = read_layout(root, "query")
        files = [*weight_files(of_queries.transformer), *of_queries.other_weights(root)]
        return weights_hash(files, root, of_queries.base)
    except ConfigError as error:
        _log.warning("no query will be encoded for a search in these vectors, as %s", error)
        return ""


def _warn_of_missing_end(tokenizer: TextTokenizer, end: str | None, directory: Path) -> None:
    """Says where a text ends without the token that a decoder's vectors are taken from."""
    file = directory / "tokenizer_config.json"
    wanted = file.is_file() and read_json(file, dict).get("add_eos_token") is True
    if wanted and end is not None and tokenizer.tokenizer.encode("a").tokens[-1:] != [end]:
        _log.warning(
            "%s: add_eos_token is true, but tokenizer.json puts no %r behind a text, and its word "
            "counts, as it does for transformers; add it to the post-processor there if the model "
            "needs it",
            file,
            end,
        )


def _pooling(config: ModelConfig, layout: ModelLayout, root: Path) -> tuple[str, ...]:
    known = tuple(POOLING_FLAGS.values())
    if config.pooling is None:
        if layout.pooling:
            return layout.pooling
        raise MissingSettingError(
            f"{root}: the model names no pooling; give one, of {', '.join(known)}, or several "
            "joined by '+'",
            setting="pooling",
            usual="mean",
        )
    modes = tuple(mode.strip() for mode in config.pooling.split("+"))
    unknown = [mode for mode in modes if mode not in known]
    if unknown:
        raise ConfigError(f"pooling {unknown[0]!r} is unknown; expected some of {', '.join(known)}")
    if layout.pooling not in ((), modes):
        raise ConfigError(
            f"pooling is {config.pooling}, but {root} is made for {'+'.join(layout.pooling)}; "
            "leave the setting out"
        )
    return modes


def _layers(config: ModelConfig, transformer: Any, directory: Path) -> HiddenLayers | None:
    number = getattr(transformer, "num_hidden_layers", None)
    if config.layers.strip() == "-1" or not isinstance(number, int):
        return None
    return read_layers(config.layers, number, str(directory))


def _joined_width(width: int, layers: HiddenLayers | None, layout: ModelLayout, root: Path) -> int:
    if layers is None or layers.joined == 1:
        return width
    if layout.dense:
        raise ConfigError(
            f"layers is {layers}, but dense layers of {root} take {width} components and not "
            f"{layers.joined} times as many; join them by :sum or :mean"
        )
    return width * layers.joined


def _dimension(config: ModelConfig, layout: ModelLayout, pooled: int, root: Path) -> int:
    width = pooled
    for layer in layout.dense:
        if layer.in_features not in (None, width):
            raise ConfigError(
                f"{root}/{layer.weights}: takes {layer.in_features} components, but gets {width}"
            )
        width = layer.out_features or width
    wanted = config.dimensions or layout.dimensions or width
    if wanted > width:
        raise ConfigError(
            f"dimensions is {wanted}, but vectors of {root} have {width} components; take fewer"
        )
    return wanted
