"""Reads a directory of static vectors, all but their values, and settles how it is used."""

from dataclasses import replace
from pathlib import Path

from embedkit.config import ModelConfig
from embedkit.encoders.spec import ModelIdentity, Placement, VectorSpec
from embedkit.encoders.static.layout import StaticLayout, read_layout
from embedkit.encoders.static.pooling import check_pooling
from embedkit.encoders.static.spec import StaticSpec
from embedkit.encoders.static.vectors import VectorTable, open_table
from embedkit.encoders.weights import file_hash, tokenizer_hash, weights_hash
from embedkit.errors import ConfigError
from embedkit.tokens.bare import BareTokenizer, bare_tokenizer
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer

_MAX_TOKENS = 1_000_000
_BATCH_TOKENS = 1 << 16
_NO_MEANING: dict[str, tuple[object, str]] = {
    "backend": ("auto", "nothing is computed but a mean"),
    "layers": ("-1", "there are no layers"),
    "tokenizer": (None, "each belongs to a token of its own tokenizer"),
    "route": (None, "all texts go the same way"),
    "precision": ("auto", "the mean is taken in float32"),
    "device": ("auto", "a GPU would wait for the vectors to reach it"),
}
"""Settings of encoders that compute: what stands for none of them, and why there is no other."""
_SAME = {"precision": "float32", "device": "cpu"}


def read_static(root: Path, revision: str | None, config: ModelConfig) -> StaticSpec:
    """Reads a model's files, all but the values of its vectors.

    Args:
        root: The model directory.
        revision: The hub's commit hash, or None for a directory of the user's own.
        config: The model and the job's wishes.

    Raises:
        ConfigError: The model is damaged, or cannot do what the job asks of it.
    """
    _check_settings(config, root)
    layout = read_layout(root)
    table = open_table(layout)
    bare = bare_tokenizer(layout.tokenizer)
    _check_vocabulary(bare, table, layout)
    drops_unknown = bare.drops_unknown and (layout.drops_unknown or bare.of_words)
    tokenizer = load_tokenizer(
        TokenizerSpec(
            directory=str(layout.tokenizer.parent),
            max_tokens=config.max_tokens or bare.max_tokens or _MAX_TOKENS,
            prompt=_prompt(config, layout),
            prompts=layout.prompts,
            bare=True,
            drops_unknown=drops_unknown,
        )
    )
    pooling = config.pooling or "mean"
    return StaticSpec(
        identity=ModelIdentity(
            directory=str(root),
            model_id=config.model,
            revision=revision,
            weights=(layout.weights.relative_to(root).as_posix(),),
            weights_hash=weights_hash([layout.weights], root),
            config_hash=file_hash(layout.config),
            tokenizer_hash=tokenizer_hash(layout.tokenizer.parent),
        ),
        tokenizer=replace(tokenizer.spec, max_content_tokens=tokenizer.max_content_tokens),
        vectors=VectorSpec(
            dimension=_dimension(config, layout, table, root),
            normalize=layout.normalize if config.normalize is None else config.normalize,
            metric=layout.metric,
        ),
        placement=Placement("numpy", "cpu", "float32", config.batch_tokens or _BATCH_TOKENS, 1),
        pooling=pooling,
        unknown_id=bare.unknown_id if drops_unknown else None,
        statistics_hash=check_pooling(
            pooling, root, bare.unknown_id if bare.of_words else None, table.dimension
        ),
    )


def _check_settings(config: ModelConfig, root: Path) -> None:
    for name, (neutral, why) in _NO_MEANING.items():
        value = getattr(config, name)
        if value not in (neutral, _SAME.get(name)):
            raise ConfigError(
                f"{name} is {value}, but {root} holds static vectors, of which {why}; leave --"
                f"{name} out"
            )
    if config.granularity in ("word", "token"):
        raise ConfigError(
            f"granularity is {config.granularity}, but {root} holds static vectors: a word has the "
            "same one everywhere; 'embedkit words' shows them, and texts get theirs without "
            "--granularity"
        )


def _check_vocabulary(bare: BareTokenizer, table: VectorTable, layout: StaticLayout) -> None:
    size = bare.tokenizer.get_vocab_size()
    if size > len(table):
        raise ConfigError(
            f"{layout.weights}: {len(table):,} vectors, but {layout.tokenizer} has {size:,} "
            "tokens; download the model again"
        )


def _prompt(config: ModelConfig, layout: StaticLayout) -> str:
    if config.prompt is not None:
        if config.prompt_name is not None:
            raise ConfigError("both prompt and prompt_name are given; take one of them")
        return config.prompt
    prompts = dict(layout.prompts)
    name = config.prompt_name or layout.default_prompt
    if name is not None and name not in prompts:
        raise ConfigError(
            f"{config.model}: no prompt named {name!r}; expected one of "
            f"{', '.join(sorted(prompts)) or 'none, for it has no prompts'}"
        )
    return prompts[name] if name else ""


def _dimension(config: ModelConfig, layout: StaticLayout, table: VectorTable, root: Path) -> int:
    wanted = config.dimensions or layout.dimensions or table.dimension
    if wanted > table.dimension:
        raise ConfigError(
            f"dimensions is {wanted}, but vectors of {root} have {table.dimension} components; "
            "take fewer"
        )
    return wanted
