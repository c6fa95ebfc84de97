"""The JSON files of a sentence-transformers directory, as types that check what they say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from embedkit.encoders.weights import read_json
from embedkit.errors import ConfigError
from embedkit.errors.settings import sentence, what_is_wrong

PoolingMode = Literal["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]

POOLING_FLAGS: dict[str, PoolingMode] = {
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

MODULES = frozenset(
    {"Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout", "Router", "Asym"}
)
"""Classes of sentence-transformers that a model may consist of."""

_WITHOUT_EFFECT = frozenset(
    {"trust_remote_code", "attn_implementation", "dtype", "torch_dtype", "use_cache"}
)
_TOKEN_VECTORS = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}

_LOGITS = {"text": {"method": "forward", "method_output_name": "logits"}}


def _module(reference: str) -> str:
    package, _, kind = reference.rpartition(".")
    if package.split(".")[0] != "sentence_transformers" or kind not in MODULES:
        raise ValueError(
            f"module {reference} is not supported, and no code of a model directory runs; expected "
            f"{', '.join(sorted(MODULES))} of sentence_transformers"
        )
    return "Router" if kind == "Asym" else kind


def activation_name(reference: str) -> str:
    """Returns the class of ``torch.nn`` that a reference names, from ``ACTIVATIONS``.

    Raises:
        ValueError: It is another one.
    """
    package, _, kind = reference.rpartition(".")
    if package.split(".")[:2] != ["torch", "nn"] or kind not in ACTIVATIONS:
        raise ValueError(
            f"{reference} is not allowed; expected one of torch.nn's "
            f"{', '.join(sorted(ACTIVATIONS))}"
        )
    return kind


def _without_effect(arguments: dict[str, Any] | None) -> None:
    # Arguments for the constructors of other libraries: ignoring one could change every vector.
    unknown = sorted(set(arguments or {}) - _WITHOUT_EFFECT)
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)} is not supported; bake it into config.json or "
            "tokenizer_config.json"
        )


_Arguments = Annotated[dict[str, Any] | None, AfterValidator(_without_effect)]
_Components = Literal["sentence_embedding"]


class ModelDirectoryFile(BaseModel):
    """A JSON file of a model directory; settings that it does not know are let be."""

    model_config = ConfigDict(frozen=True, protected_namespaces=())


class ModuleEntry(ModelDirectoryFile):
    """An entry of ``modules.json``."""

    kind: Annotated[str, AfterValidator(_module)] = Field(alias="type")
    path: str


class _TransformerFile(ModelDirectoryFile):
    output: ClassVar[dict[str, Any]]

    max_seq_length: PositiveInt | None = None
    do_lower_case: bool = False
    modality_config: dict[str, Any] | None = None
    model_arguments: _Arguments = Field(
        None, validation_alias=AliasChoices("model_args", "model_kwargs")
    )
    tokenizer_arguments: _Arguments = Field(
        None, validation_alias=AliasChoices("tokenizer_args", "processor_kwargs")
    )
    config_arguments: _Arguments = Field(
        None, validation_alias=AliasChoices("config_args", "config_kwargs")
    )
    processing_kwargs: _Arguments = None
    query_expansion: None = None
    tokenizer_name_or_path: None = None

    @model_validator(mode="after")
    def _gives_what_is_used(self) -> Self:
        if self.modality_config not in (None, self.output):
            raise ValueError(
                f"modality_config {self.modality_config} is not supported; expected {self.output}"
            )
        return self


class RouterParameters(ModelDirectoryFile):
    """What a Router module was made with; older ones have no mappings."""

    route_mappings: dict[str, str] | None = None


class RouterFile(ModelDirectoryFile):
    """``router_config.json``, or ``config.json`` of an Asym module."""

    types: dict[str, str]
    structure: dict[str, list[str]]
    parameters: RouterParameters = RouterParameters()


class TransformerFile(_TransformerFile):
    """``sentence_bert_config.json``."""

    output: ClassVar[dict[str, Any]] = _TOKEN_VECTORS
    transformer_task: Literal["feature-extraction"] = "feature-extraction"


class ClassifierFile(_TransformerFile):
    """``sentence_bert_config.json`` of a cross-encoder."""

    output: ClassVar[dict[str, Any]] = _LOGITS
    transformer_task: Literal["sequence-classification"]


class PoolingFile(ModelDirectoryFile):
    """``config.json`` of a Pooling module, old or new."""

    pooling_mode: tuple[PoolingMode, ...] = Field(min_length=1)
    include_prompt: bool = True

    @model_validator(mode="before")
    @classmethod
    def _as_tuple(cls, found: Any) -> Any:
        modes = found.get("pooling_mode")
        if modes is None:
            modes = [mode for flag, mode in POOLING_FLAGS.items() if found.get(flag)] or ["mean"]
        return found | {"pooling_mode": [modes] if isinstance(modes, str) else modes}


class DenseFile(ModelDirectoryFile):
    """``config.json`` of a Dense module."""

    in_features: PositiveInt
    out_features: PositiveInt
    bias: bool = True
    activation_function: Annotated[str, AfterValidator(activation_name)] = "Tanh"
    use_residual: bool = False
    module_input_name: _Components = "sentence_embedding"
    module_output_name: _Components | None = None


class LayerNormFile(ModelDirectoryFile):
    """``config.json`` of a LayerNorm module."""

    dimension: PositiveInt


class NormalizeFile(ModelDirectoryFile):
    """``config.json`` of a Normalize module; older ones have none."""

    module_input_name: _Components = "sentence_embedding"
    module_output_name: _Components | None = None


class ModelFile(ModelDirectoryFile):
    """``config_sentence_transformers.json``."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    similarity_fn_name: Literal["cosine", "dot", "euclidean", "manhattan"] | None = None
    truncate_dim: PositiveInt | None = None
    model_type: Literal["SentenceTransformer"] = "SentenceTransformer"


class CrossEncoderFile(ModelDirectoryFile):
    """``config_sentence_transformers.json`` of a cross-encoder."""

    prompts: dict[str, str | None] | None = None
    default_prompt_name: str | None = None
    activation_fn: Annotated[str, AfterValidator(activation_name)] | None = None
    model_type: Literal["CrossEncoder"]


F = TypeVar("F", bound=ModelDirectoryFile)


def read_file(kind: type[F], file: Path, missing_ok: bool = False) -> F:
    """Reads a file of a model directory into its type.

    Args:
        kind: What the file holds.
        file: The file.
        missing_ok: Whether a missing file stands for the defaults.

    Raises:
        ConfigError: The file is missing, no JSON, or says something that is not supported.
    """
    found = {} if missing_ok and not file.is_file() else read_json(file, dict)
    return parsed(kind, found, file)


def read_modules(file: Path) -> list[ModuleEntry]:
    """Reads ``modules.json``.

    Raises:
        ConfigError: It is no list of modules that are supported.
    """
    return [parsed(ModuleEntry, entry, file) for entry in read_json(file, list)]


def parsed(kind: type[F], found: Any, file: Path) -> F:
    """Reads what a file of a model directory says into its type.

    Raises:
        ConfigError: It says something that is not supported.
    """
    try:
        return kind.model_validate(found)
    except ValidationError as error:
        raise ConfigError(f"{file}: {sentence(error, _problem, most=1)}") from error


def _problem(one: Mapping[str, Any]) -> str:
    place = "".join(f"{step}." for step in one["loc"]).removesuffix(".")
    value = "" if one["type"] in ("value_error", "missing") else f", found {one['input']!r}"
    return f"{place}{': ' if place else ''}{what_is_wrong(one)}{value}"
