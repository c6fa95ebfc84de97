"""Models for the tests of the encoders: tiny ones in sentence-transformers' layout."""

from collections.abc import Callable
from typing import Any

import pytest
from tiny_models import MAX_TOKENS, save_transformer

from embedkit.config import ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.errors import ConfigError


@pytest.fixture(scope="session")
def openvino_has_bf16(bf16_units: bool) -> Callable[[str], bool]:
    """Whether OpenVINO computes in bfloat16 here; where it does not, it must say so of a model."""

    def has(model: str) -> bool:
        if not bf16_units:
            config = ModelConfig(
                model=model, pooling="mean", device="cpu", backend="openvino", precision="bfloat16"
            )
            with pytest.raises(ConfigError, match="no bf16 units; take precision float32"):
                read_model(config)
        return bf16_units

    return has


@pytest.fixture(scope="session")
def plain_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Gives the directory of a tiny plain transformer, by architecture."""
    root = tmp_path_factory.mktemp("plain")
    made: dict[str, str] = {}

    def plain(architecture: str) -> str:
        if architecture not in made:
            made[architecture] = save_transformer(root / architecture, architecture)
        return made[architecture]

    return plain


@pytest.fixture(scope="session")
def sentence_model(
    plain_model: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., str]:
    """Saves a tiny model with sentence-transformers and gives its directory."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Normalize, Transformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    def save(
        architecture: str = "bert",
        pooling: Any = "mean",
        dense: tuple[Any, ...] = (),
        normalize: bool = True,
        include_prompt: bool = True,
        max_tokens: int = MAX_TOKENS,
        do_lower_case: bool = False,
        **model_arguments: Any,
    ) -> str:
        transformer = Transformer(
            plain_model(architecture), max_seq_length=max_tokens, do_lower_case=do_lower_case
        )
        modules = [transformer, Pooling(32, pooling, include_prompt=include_prompt), *dense]
        if normalize:
            modules.append(Normalize())
        directory = tmp_path_factory.mktemp("sentence") / "model"
        SentenceTransformer(modules=modules, device="cpu", **model_arguments).save(str(directory))
        return str(directory)

    return save
