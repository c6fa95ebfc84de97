"""The toy kind, as the registry takes it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tiny_models import make_tokenizer

from embedkit.config import ModelConfig
from embedkit.encoders.checked import CheckedEncoder
from embedkit.encoders.hardware import Machine
from embedkit.encoders.spec import ModelIdentity, ModelSpec, Placement, VectorSpec
from embedkit.encoders.weights import file_hash, tokenizer_hash
from embedkit.tokens.text_tokenizer import TokenizerSpec
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch


@dataclass(frozen=True)
class ToySpec(ModelSpec):
    """What only this kind knows of a model."""

    kind: ClassVar[str] = "toy"
    scale: float

    def own_ingredients(self) -> dict[str, str | int | bool]:
        return {"scale": str(self.scale)}

    def description(self) -> dict[str, str]:
        return {"toy_scale": str(self.scale)}


class ToyKind:
    def recognises(self, directory: Path) -> bool:
        return (directory / "toy.json").is_file()

    def read(
        self, directory: Path, revision: str | None, config: ModelConfig, machine: Machine
    ) -> ToySpec:
        said = json.loads((directory / "toy.json").read_text())
        tokenizer = TokenizerSpec(
            str(directory), config.max_tokens or said["max_tokens"], config.prompt or ""
        )
        room = load_tokenizer(tokenizer).max_content_tokens
        return ToySpec(
            identity=ModelIdentity(
                directory=str(directory),
                model_id=config.model,
                revision=revision,
                weights=("model.safetensors",),
                weights_hash=file_hash(directory / "model.safetensors"),
                config_hash=file_hash(directory / "toy.json"),
                tokenizer_hash=tokenizer_hash(directory),
            ),
            tokenizer=replace(tokenizer, max_content_tokens=room),
            vectors=VectorSpec(said["dimension"], normalize=True, metric="cosine"),
            placement=Placement("numpy", "cpu", "float32", config.batch_tokens or 4096),
            scale=said["scale"],
        )

    def load(self, spec: ToySpec) -> CheckedEncoder:
        backend = ToyBackend(spec)
        return CheckedEncoder(backend, lambda: backend, spec.vectors.dimension, normalize=True)

    def tokens_per_second(self, spec: ToySpec, gpu: str = "") -> float:
        return 1e6

    def query_config(self, model: str, described: Mapping[str, Any]) -> ModelConfig:
        return ModelConfig(model=model, max_tokens=described["max_tokens"], prompt="")


class ToyBackend:
    """Sums rows of the table with numpy."""

    device = "numpy"

    def __init__(self, spec: ToySpec) -> None:
        file = Path(spec.identity.directory) / spec.identity.weights[0]
        self._table = load_file(file)["table"] * np.float32(spec.scale)
        self.computed_tokens = 0
        self.device_seconds = None

    def run(self, batch: TokenBatch) -> NDArray[np.float32]:
        self.computed_tokens += len(batch.input_ids)
        sums = np.add.reduceat(self._table[batch.input_ids], batch.offsets[:-1])
        means: NDArray[np.float32] = sums / batch.lengths[:, None].astype(np.float32)
        return means


def save_toy(directory: Path, dimension: int = 6, scale: float = 0.5) -> str:
    """Saves a seeded model of this kind and returns its directory."""
    tokenizer = make_tokenizer("wordpiece")
    tokenizer.save_pretrained(directory)
    table = np.random.default_rng(0).standard_normal((len(tokenizer), dimension))
    save_file({"table": table.astype(np.float32)}, directory / "model.safetensors")
    said = {"max_tokens": 24, "dimension": dimension, "scale": scale}
    (directory / "toy.json").write_text(json.dumps(said))
    return str(directory)
