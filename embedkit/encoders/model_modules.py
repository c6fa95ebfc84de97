"""What a model directory says of itself, in sentence-transformers' layout or as a plain model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.encoders.weights import below, read_json, tensor_shapes, weight_files
from embedkit.errors import ConfigError

POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
"""Old names of the pooling modes; several that are true are joined in this order."""

ACTIVATIONS = frozenset(
    {
        *("ELU", "GELU", "Hardswish", "Hardtanh", "Identity", "LeakyReLU", "Mish", "ReLU", "ReLU6"),
        *("SELU", "SiLU", "Sigmoid", "Softplus", "Softsign", "Tanh", "Tanhshrink"),
    }
)
"""Classes of ``torch.nn`` that a Dense module may name; each stands for its defaults."""

_IGNORED_ARGUMENTS = frozenset(
    {"trust_remote_code", "attn_implementation", "dtype", "torch_dtype", "use_cache"}
)
_TRANSFORMER_CONFIGS = (
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
)


@dataclass(frozen=True)
class DenseLayer:
    """A linear layer after the pooling.

    Attributes:
        weights: Its safetensors file, relative to the model directory.
        in_features: Components it takes.
        out_features: Components it gives.
        bias: Whether it adds a bias.
        activation: Name of a class in ``torch.nn``, from ``ACTIVATIONS``.
        residual: Whether its input is added to its output.
    """

    weights: str
    in_features: int
    out_features: int
    bias: bool
    activation: str
    residual: bool


@dataclass(frozen=True)
class ModelLayout:
    """A model directory's own word on how texts become vectors.

    Attributes:
        transformer: Directory of the transformer and its tokenizer.
        pooling: Pooling modes, joined in this order; empty where the model names none.
        include_prompt: Whether the prompt's tokens are pooled.
        dense: Layers after the pooling.
        normalize: Whether vectors have length 1.
        max_tokens: Tokens that the model sees, where it says so here.
        lower_case: Whether text is lower-cased first.
        prompts: Names and texts of its prompts.
        default_prompt: Name of the prompt that it uses unless told otherwise.
        metric: How its vectors are compared.
        dimensions: Leading components that it keeps, where not all.
    """

    transformer: Path
    pooling: tuple[str, ...] = ()
    include_prompt: bool = True
    dense: tuple[DenseLayer, ...] = ()
    normalize: bool = False
    max_tokens: int | None = None
    lower_case: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None
    metric: str = "cosine"
    dimensions: int | None = None


def read_layout(root: Path) -> ModelLayout:
    """Reads ``modules.json`` and the files it names, or takes the directory as a plain model.

    Args:
        root: The model directory.

    Raises:
        ConfigError: A module is of an unknown kind, out of place, or would need foreign code.
    """
    listing = root / "modules.json"
    if not listing.is_file():
        return ModelLayout(transformer=root)
    modules = [(_kind(entry, listing), entry) for entry in read_json(listing)]
    modules = [(kind, entry) for kind, entry in modules if kind != "Dropout"]
    kinds = [kind for kind, _ in modules]
    _check_order(kinds, listing)
    places = {kind: below(root, entry["path"], listing) for kind, entry in modules}
    fields = _transformer(places["Transformer"]) | _model(root)
    if "Pooling" in places:
        fields |= _pooling(places["Pooling"] / "config.json")
    if "Normalize" in places:
        _check_names(_optional(places["Normalize"] / "config.json"), places["Normalize"])
    return ModelLayout(
        transformer=places["Transformer"],
        dense=tuple(
            _dense(root, below(root, entry["path"], listing))
            for kind, entry in modules
            if kind == "Dense"
        ),
        normalize="Normalize" in places,
        **fields,
    )


def _kind(entry: Any, listing: Path) -> str:
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise ConfigError(f"{listing}: expected modules with a type and a path, found {entry!r}")
    kind: str
    package, _, kind = entry["type"].rpartition(".")
    known = {"Transformer", "Pooling", "Dense", "Normalize", "Dropout"}
    if package.split(".")[0] != "sentence_transformers" or kind not in known:
        raise ConfigError(
            f"{listing}: module {entry['type']} is not supported, and no code of a model directory "
            f"runs; expected {', '.join(sorted(known))} of sentence_transformers"
        )
    return kind


def _check_order(kinds: list[str], listing: Path) -> None:
    rest = kinds[1:]
    rest = rest[1:] if rest[:1] == ["Pooling"] else rest
    rest = rest[:-1] if rest[-1:] == ["Normalize"] else rest
    if kinds[:1] != ["Transformer"] or set(rest) - {"Dense"}:
        raise ConfigError(
            f"{listing}: modules {', '.join(kinds)}; expected Transformer, Pooling, any number of "
            "Dense, and at the end Normalize or nothing"
        )


def _transformer(directory: Path) -> dict[str, Any]:
    if (directory / "adapter_config.json").is_file():
        raise ConfigError(
            f"{directory / 'adapter_config.json'}: adapters are not supported; merge it into its "
            "model and save that"
        )
    names = [name for name in _TRANSFORMER_CONFIGS if (directory / name).is_file()]
    if not names:
        return {}
    file = directory / names[0]
    config = _optional(file)
    _check_arguments(config, file)
    text = (config.get("modality_config") or {}).get("text", _PLAIN_OUTPUT)
    if set(config.get("modality_config") or {}) - {"text"} or text != _PLAIN_OUTPUT:
        raise ConfigError(
            f"{file}: modality_config {config['modality_config']} is not supported; expected text "
            "that gives token embeddings (last_hidden_state)"
        )
    return {
        "max_tokens": config.get("max_seq_length"),
        "lower_case": bool(config.get("do_lower_case", False)),
    }


_PLAIN_OUTPUT = {"method": "forward", "method_output_name": "last_hidden_state"}


def _check_arguments(config: dict[str, Any], file: Path) -> None:
    # Arguments for the constructors of other libraries: ignoring one could change every vector.
    if config.get("transformer_task", "feature-extraction") != "feature-extraction":
        raise ConfigError(
            f"{file}: transformer_task {config['transformer_task']} gives no embeddings; "
            "expected feature-extraction"
        )
    for group in ("model", "tokenizer", "processor", "config", "processing"):
        for name in (f"{group}_args", f"{group}_kwargs"):
            unknown = set(config.get(name) or {}) - _IGNORED_ARGUMENTS
            if unknown:
                raise ConfigError(
                    f"{file}: {name} sets {', '.join(sorted(unknown))}, which is not supported; "
                    "bake it into config.json or tokenizer_config.json"
                )
    if config.get("query_expansion") or config.get("tokenizer_name_or_path"):
        raise ConfigError(f"{file}: query_expansion and tokenizer_name_or_path are not supported")


def _pooling(file: Path) -> dict[str, Any]:
    config = read_json(file)
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    modes = (modes,) if isinstance(modes, str) else tuple(modes)
    unknown = [mode for mode in modes if mode not in POOLING_FLAGS.values()]
    if unknown or not modes:
        raise ConfigError(
            f"{file}: pooling {unknown or 'of no mode'} is unknown; expected some of "
            f"{', '.join(POOLING_FLAGS.values())}"
        )
    return {"pooling": modes, "include_prompt": bool(config.get("include_prompt", True))}


def _dense(root: Path, directory: Path) -> DenseLayer:
    file = directory / "config.json"
    config = read_json(file)
    _check_names(config, directory)
    (weights,) = weight_files(directory)
    layer = DenseLayer(
        weights=weights.relative_to(root).as_posix(),
        in_features=config["in_features"],
        out_features=config["out_features"],
        bias=bool(config.get("bias", True)),
        activation=_activation(config.get("activation_function", "torch.nn.Tanh"), file),
        residual=bool(config.get("use_residual", False)),
    )
    found = tensor_shapes(weights).get("linear.weight")
    if found != (layer.out_features, layer.in_features):
        raise ConfigError(
            f"{weights}: linear.weight has shape {found}, but {file.name} says "
            f"{(layer.out_features, layer.in_features)}; download the model again"
        )
    return layer


def _activation(name: str, file: Path) -> str:
    package, _, kind = name.rpartition(".")
    if package.split(".")[:2] != ["torch", "nn"] or kind not in ACTIVATIONS:
        raise ConfigError(
            f"{file}: activation_function {name} is not allowed; expected one of torch.nn's "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
    return kind


def _check_names(config: dict[str, Any], directory: Path) -> None:
    for key in ("module_input_name", "module_output_name"):
        if (config.get(key) or "sentence_embedding") != "sentence_embedding":
            raise ConfigError(
                f"{directory / 'config.json'}: {key} is {config[key]!r}; only modules over "
                "sentence_embedding are supported"
            )


def _model(root: Path) -> dict[str, Any]:
    file = root / "config_sentence_transformers.json"
    config = _optional(file)
    if config.get("model_type", "SentenceTransformer") != "SentenceTransformer":
        raise ConfigError(
            f"{file}: a {config['model_type']} does not give one vector per text; expected a "
            "SentenceTransformer"
        )
    return {
        "prompts": tuple(
            (name, text or "") for name, text in (config.get("prompts") or {}).items()
        ),
        "default_prompt": config.get("default_prompt_name"),
        "metric": config.get("similarity_fn_name") or "cosine",
        "dimensions": config.get("truncate_dim"),
    }


def _optional(file: Path) -> dict[str, Any]:
    config = read_json(file) if file.is_file() else {}
    if not isinstance(config, dict):
        raise ConfigError(f"{file}: expected a JSON object, found a {type(config).__name__}")
    return config
