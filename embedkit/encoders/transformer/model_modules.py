"""Reads which modules a model consists of, from sentence-transformers' layout or a plain model."""

from dataclasses import dataclass, replace
from pathlib import Path

from embedkit.encoders.transformer.adapter_files import Adapter, read_adapter
from embedkit.encoders.transformer.head_layers import (
    HEAD_MODULES,
    HeadLayer,
    UnitLayer,
    read_head,
)
from embedkit.encoders.transformer.module_files import (
    ModelFile,
    PoolingFile,
    TransformerFile,
    read_file,
    read_modules,
)
from embedkit.encoders.transformer.routes import along_route
from embedkit.encoders.weights import (
    BASE,
    below,
    weight_file,
)
from embedkit.errors import ConfigError

_TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")
_OF_ADAPTED = ("transformer", "own_tokenizer", "adapter", "base")


@dataclass(frozen=True)
class ModelLayout:
    """What a model directory says of how texts become vectors.

    Attributes:
        transformer: Directory of the transformer.
        pooling: Pooling modes, joined in this order; empty where the model names none.
        include_prompt: Whether the prompt's tokens are pooled.
        dense: Layers after the pooling, but for a last one that makes vectors of length 1.
        normalize: Whether vectors have length 1.
        max_tokens: Tokens that the model sees, where it says so here.
        lower_case: Whether text is lower-cased first.
        prompts: Names and texts of its prompts.
        default_prompt: Name of the prompt that it uses unless told otherwise.
        metric: How its vectors are compared.
        dimensions: Leading components that it keeps, where not all.
        own_tokenizer: Directory of the tokenizer, if that is not the transformer's.
        adapter: What is merged into the transformer's weights, if there is something.
        base: Directory of the model that the adapter is for.
        route: Name of the way that texts take; empty where the model has one only.
    """

    transformer: Path
    pooling: tuple[str, ...] = ()
    include_prompt: bool = True
    dense: tuple[HeadLayer, ...] = ()
    normalize: bool = False
    max_tokens: int | None = None
    lower_case: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None
    metric: str = "cosine"
    dimensions: int | None = None
    own_tokenizer: Path | None = None
    adapter: Adapter | None = None
    base: Path | None = None
    route: str = ""

    @property
    def tokenizer(self) -> Path:
        """Directory of the tokenizer."""
        return self.own_tokenizer or self.transformer

    def other_weights(self, root: Path) -> list[Path]:
        """Returns the safetensors files of all but the transformer itself.

        Args:
            root: The model directory.
        """
        named = [layer.weights for layer in self.dense if layer.weights is not None]
        added = [] if self.adapter is None else [Path(self.adapter.weights)]
        heads = [weight_file(name, root, self.base) for name in named]
        return [*heads, *added]


def read_layout(root: Path, route: str | None = None) -> ModelLayout:
    """Reads ``modules.json`` and the files it names, or takes the directory as a plain model.

    Args:
        root: The model directory.
        route: Which way texts take through a model with several; that of documents unless given.

    Raises:
        ConfigError: A module is of an unknown kind, out of place, or would need foreign code.
    """
    listing = root / "modules.json"
    if not listing.is_file():
        _check_route(root, route, "")
        changed = read_adapter(root)
        return ModelLayout(transformer=root) if changed is None else _adapted(root, *changed)
    entries = [(entry.kind, below(root, entry.path, listing)) for entry in read_modules(listing)]
    on_route, taken = along_route(entries, route or "document")
    _check_route(root, route, taken)
    modules = [(kind, place) for kind, place in on_route if kind != "Dropout"]
    _check_order([kind for kind, _ in modules], listing)
    places = dict(modules)
    transformer = _transformer(places["Transformer"])
    model = read_file(ModelFile, root / "config_sentence_transformers.json", missing_ok=True)
    head = read_head(root, modules[2:] if "Pooling" in places else modules[1:])
    normalize = head[-1:] == (UnitLayer(),)
    pooling = (
        read_file(PoolingFile, places["Pooling"] / "config.json") if "Pooling" in places else None
    )
    layout = ModelLayout(
        transformer=places["Transformer"],
        pooling=pooling.pooling_mode if pooling else (),
        include_prompt=pooling.include_prompt if pooling else True,
        dense=head[:-1] if normalize else head,
        normalize=normalize,
        max_tokens=transformer.max_seq_length,
        lower_case=transformer.do_lower_case,
        prompts=tuple((name, text or "") for name, text in (model.prompts or {}).items()),
        default_prompt=model.default_prompt_name,
        metric=model.similarity_fn_name or "cosine",
        dimensions=model.truncate_dim,
        route=taken,
    )
    changed = read_adapter(places["Transformer"])
    if changed is None:
        return layout
    under = _adapted(places["Transformer"], *changed)
    return replace(layout, **{name: getattr(under, name) for name in _OF_ADAPTED})


def _adapted(directory: Path, adapter: Adapter, base: Path) -> ModelLayout:
    """Reads the model that an adapter is for: all that the adapter's directory does not have."""
    layout = read_layout(base)
    own_tokenizer = any((directory / name).is_file() for name in _TOKENIZER_FILES)
    return replace(
        layout,
        own_tokenizer=directory if own_tokenizer else layout.tokenizer,
        dense=tuple(layer.elsewhere(BASE) for layer in layout.dense),
        adapter=adapter,
        base=base,
    )


def _check_route(root: Path, wanted: str | None, taken: str) -> None:
    if wanted is not None and not taken:
        raise ConfigError(
            f"route is {wanted}, but {root} takes all texts the same way; leave the setting out"
        )


def _check_order(kinds: list[str], listing: Path) -> None:
    rest = kinds[1:]
    rest = rest[1:] if rest[:1] == ["Pooling"] else rest
    if kinds[:1] != ["Transformer"] or set(rest) - HEAD_MODULES:
        raise ConfigError(
            f"{listing}: modules {', '.join(kinds)}; expected Transformer, Pooling, and any number "
            f"of {', '.join(sorted(HEAD_MODULES))}"
        )


def _transformer(directory: Path) -> TransformerFile:
    found = [name for name in _TRANSFORMER_FILES if (directory / name).is_file()]
    name = found[0] if found else _TRANSFORMER_FILES[0]
    return read_file(TransformerFile, directory / name, missing_ok=True)
