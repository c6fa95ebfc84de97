"""The registry of kinds of encoders: nobody outside a kind asks what kind a model is.

A kind is a folder beside this file and a line below. Only what is listed here ever runs: a model
directory chooses among the kinds, and no code of its own is loaded.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from embedkit.config import ModelConfig, RecordConfig
from embedkit.encoders.base import Encoder, ObservedEncoder
from embedkit.encoders.cross.kind import CrossKind, is_classifier, is_cross_encoder
from embedkit.encoders.hardware import HERE, Machine
from embedkit.encoders.model_source import model_directory
from embedkit.encoders.spec import ModelSpec
from embedkit.encoders.static.kind import StaticKind
from embedkit.encoders.strange_files import check_files
from embedkit.encoders.transformer.kind import TransformerKind
from embedkit.encoders.transformer.onnx_files import usual_files
from embedkit.errors import ConfigError, EncoderError
from embedkit.errors.wrong_kinds import check_kind

_log = logging.getLogger(__name__)

_Spec = TypeVar("_Spec", bound=ModelSpec)


class EncoderKind(Protocol[_Spec]):
    """A kind of encoder; imports what is heavy no earlier than in the method that needs it."""

    def recognises(self, directory: Path) -> bool:
        """Tells whether a model directory is one of this kind."""
        ...

    def read(
        self, directory: Path, revision: str | None, config: ModelConfig, machine: Machine
    ) -> _Spec:
        """Reads a model's files, all but the values of its weights, and settles how it runs.

        Args:
            directory: A directory that it recognises.
            revision: The hub's commit hash, or None for a directory of the user's own.
            config: The model and the job's wishes.
            machine: What is to run it.

        Raises:
            ConfigError: The model is damaged, would need foreign code, or cannot do what the job
                asks of it.
        """
        ...

    def load(self, spec: _Spec) -> Encoder:
        """Loads a model: the heavy work, done where the encoder lives.

        Raises:
            ConfigError: The weights are not those of the model, or the backend cannot run it.
            EncoderError: The files are not what they were when the job was planned.
        """
        ...

    def tokens_per_second(self, spec: _Spec, gpu: str = "") -> float | None:
        """Guesses an encoder's speed; None where nothing is known of the device.

        Args:
            spec: The model, placed on this machine's CPU or on a GPU.
            gpu: The GPU's name, as far as it is known.
        """
        ...

    def query_config(self, model: str, described: Mapping[str, Any]) -> ModelConfig:
        """Returns how queries to a dataset are encoded: as its rows were, and most exactly.

        Args:
            model: The model's directory or hub id.
            described: What the dataset's manifest says of its vectors.

        Returns:
            Settings for the CPU and without a prompt.
        """
        ...


KINDS: dict[str, EncoderKind[Any]] = {
    "static": StaticKind(),
    "transformer": TransformerKind(),
}
"""Every kind by its name; a directory is of the first that recognises it, else of the last."""

SCORERS: dict[str, EncoderKind[Any]] = {
    "cross": CrossKind(),
}
"""Kinds that score pairs of texts: asked for where rows are pairs, whatever else a directory is."""


def read_model(config: ModelConfig, machine: Machine = HERE) -> ModelSpec:
    """Reads a model's files, all but the values of its weights, and settles how it runs.

    Args:
        config: The model and the job's wishes.
        machine: What is to run it, if that is not this machine.

    Raises:
        ConfigError: The model cannot be found, is damaged, would need foreign code, or cannot do
            what the job asks of it.
    """
    check_kind("config", config, ModelConfig)
    onnx_files = () if config.backend != "onnx" else usual_files(config.onnx_file)
    directory, revision = model_directory(config.model, onnx_files=onnx_files)
    check_files(directory)
    if is_cross_encoder(directory):
        raise ConfigError(
            f"{directory}: a cross-encoder, which scores pairs of texts and gives no vectors; "
            "embedkit rerank scores pairs with it"
        )
    if is_classifier(directory):
        _log.warning(
            "%s has a classification head, of which vectors make no use; if it is a cross-encoder, "
            "embedkit rerank scores pairs with it",
            directory,
        )
    spec: ModelSpec = _kind_of(directory).read(directory, revision, config, machine)
    return spec


def read_scorer(config: ModelConfig, machine: Machine = HERE) -> ModelSpec:
    """Reads the files of a model that scores pairs of texts, see ``read_model``.

    Raises:
        ConfigError: The model cannot be found, scores no pairs, is damaged, would need foreign
            code, or cannot do what the job asks of it.
    """
    directory, revision = model_directory(config.model)
    check_files(directory)
    for kind in SCORERS.values():
        if kind.recognises(directory):
            spec: ModelSpec = kind.read(directory, revision, config, machine)
            return spec
    raise ConfigError(
        f"{directory}: no cross-encoder: its config.json names no architecture that ends in "
        "ForSequenceClassification; take a model that scores pairs of texts"
    )


def read_job_model(
    config: ModelConfig, records: RecordConfig, machine: Machine = HERE
) -> ModelSpec:
    """Reads the model of a job: one that scores pairs where its records are such.

    Args:
        config: The model and the job's wishes.
        records: How records become rows.
        machine: What is to run it, if that is not this machine.

    Raises:
        ConfigError: See ``read_model`` and ``read_scorer``.
    """
    read = read_model if records.query_column is None else read_scorer
    return read(config, machine)


def query_config(model: str, described: Mapping[str, Any]) -> ModelConfig:
    """Returns how queries to a dataset are encoded, see ``EncoderKind.query_config``.

    Raises:
        ConfigError: The model cannot be found.
    """
    directory, _ = model_directory(model)
    return _kind_of(directory).query_config(model, described)


def load_encoder(spec: ModelSpec) -> Encoder:
    """Loads a model on its backend and device: the heavy work, done where the encoder lives.

    Args:
        spec: The model, as ``read_model`` settled it.

    Raises:
        ConfigError: The weights are not those of the model, or the backend cannot run it.
        EncoderError: The files are not what they were when the job was planned.
    """
    return _kind(spec).load(spec)


def load_observed(spec: ModelSpec) -> ObservedEncoder:
    """Loads a model in float32 that sees what its layers are given, as int8 needs to be told.

    Args:
        spec: A model that needs ranges.

    Raises:
        ConfigError: The weights are not those of the model.
        EncoderError: The files are not what they were when the job was planned.
    """
    return TransformerKind().observe(spec)


def tokens_per_second(spec: ModelSpec, gpu: str = "") -> float | None:
    """Guesses an encoder's speed, see ``EncoderKind.tokens_per_second``."""
    return _kind(spec).tokens_per_second(spec, gpu)


def _kind(spec: ModelSpec) -> EncoderKind[Any]:
    known = {**KINDS, **SCORERS}
    if spec.kind not in known:
        raise EncoderError(
            f"{spec.identity.directory}: kind of encoder {spec.kind!r} is not known in this "
            f"process, which knows {', '.join(known)}; install the same release everywhere"
        )
    return known[spec.kind]


def _kind_of(directory: Path) -> EncoderKind[Any]:
    # The last says best what a directory lacks that no kind recognises.
    *others, last = KINDS.values()
    return next((kind for kind in others if kind.recognises(directory)), last)
