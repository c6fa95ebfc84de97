"""ONNX files of model directories, as optimum and sentence-transformers export them."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForTextEncoding


class _TokenVectors(nn.Module):
    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.model(**dict(zip(self.names, inputs, strict=True))).last_hidden_state


def transformer_of(directory: str | Path) -> Path:
    """The folder of the transformer in a directory of either layout."""
    listing = Path(directory, "modules.json")
    modules = json.loads(listing.read_text()) if listing.is_file() else [{"path": ""}]
    return Path(directory, modules[0]["path"])


_exported: dict[str, Path] = {}


def exported(directory: str | Path) -> str | Path:
    """Gives a directory its ONNX file, exported once for all that have the same weights."""
    file = Path(directory, "onnx/model.onnx")
    if not file.exists():
        weights = (transformer_of(directory) / "model.safetensors").read_bytes()
        same = hashlib.sha256(weights).hexdigest()
        if same in _exported:
            file.parent.mkdir()
            shutil.copy(_exported[same], file)
        else:
            _exported[same] = export(directory)
    return directory


def export(
    directory: str | Path,
    name: str = "onnx/model.onnx",
    inputs: Sequence[str] = ("input_ids", "attention_mask"),
    output: str = "last_hidden_state",
    **settings: Any,
) -> Path:
    """Writes a model's ONNX file into its directory."""
    folder = transformer_of(directory)
    kind = json.loads((folder / "config.json").read_text())["model_type"]
    auto = AutoModelForTextEncoding if kind == "t5" else AutoModel
    model = auto.from_pretrained(folder, attn_implementation="eager").eval()
    model.config.use_cache = False
    file = Path(directory, name)
    file.parent.mkdir(exist_ok=True, parents=True)
    axes = {one: {0: "batch", 1: "sequence"} for one in (*inputs, output)}
    example = torch.ones((2, 5), dtype=torch.int64)
    given = {"opset_version": 17, "dynamic_axes": axes, "dynamo": False} | settings
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _TokenVectors(model, inputs),
            tuple(example.clone() for _ in inputs),
            str(file),
            input_names=list(inputs),
            output_names=[output],
            **given,
        )
    return file
