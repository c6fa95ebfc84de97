"""A text to the rows nearest to it."""

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embedkit.config import ModelConfig
from embedkit.corpus.names import is_unicode
from embedkit.dataset.manifest import Manifest, read_manifest
from embedkit.dataset.recipe import NUMERICS
from embedkit.dataset.version import Version, find_version
from embedkit.encoders.kinds import query_config, read_model
from embedkit.encoders.local_client import LocalConnection
from embedkit.encoders.spec import ModelSpec
from embedkit.errors import ConfigError
from embedkit.errors.wrong_kinds import check_text
from embedkit.flow.line_numbers import LineNumbers, place_of
from embedkit.search.exact import Hit, check_one_vector_per_row, search
from embedkit.search.indexed import open_index, say_index
from embedkit.search.rerank import Reranker, candidates_of, check_texts
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.vectors import TokenBatch

_LOG = logging.getLogger("embedkit")


def search_text(
    root: str | os.PathLike[str],
    text: str,
    k: int = 10,
    model: str | os.PathLike[str] | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
    rerank: str | os.PathLike[str] | None = None,
    rerank_candidates: int | None = None,
    index: str | os.PathLike[str] | None = None,
    exact: bool = False,
) -> list[Hit]:
    """Finds the rows of a dataset nearest to a text.

    Where ``embedkit export`` has put an index into the version's own folder, it is searched; else
    all rows are compared.

        >>> from embedkit import search_text
        >>> [hit.id for hit in search_text("embeddings", "0 one", k=1, model="model")]
        ['doc-00000']

    Args:
        root: The dataset's root, or one version of it.
        text: What to look for.
        k: Number of rows.
        model: The model's directory, where it is no longer where the run found it.
        prompt_name: Name of another prompt of the model's.
        prompt: The prompt itself.
        rerank: Directory or hub id of a cross-encoder, which scores the nearest rows, without the
            prompt, and puts them in order.
        rerank_candidates: How many rows it scores; 50, or ``k`` if that is more, unless given.
        index: Folder of another index of the version.
        exact: Whether all rows are compared, whatever indexes there are.

    Raises:
        ConfigError: The text is empty or none, there is no such dataset or model, or the model is
            another one; or the dataset stores no texts for a cross-encoder to read; or the index
            is not of this version.
    """
    _check_text(text)
    if exact and index is not None:
        raise ConfigError("both exact and index are given; take one of them")
    version = find_version(root)
    manifest = read_manifest(version)
    if rerank is None:
        if rerank_candidates is not None:
            raise ConfigError("rerank_candidates is given without rerank; name a cross-encoder")
        most, reranker = k, None
    else:
        check_one_vector_per_row(manifest)
        check_texts(manifest)
        most, reranker = candidates_of(k, rerank_candidates), Reranker(rerank)
    opened = None if exact else open_index(version, manifest, index)
    query = QueryEncoder(version, manifest, model, prompt_name, prompt).encode(text)
    if opened is None:
        hits = search(version, query, most)[0]
    else:
        say_index(opened)
        hits = opened.search(version, manifest, query, most)[0]
    if reranker is not None:
        hits = reranker.rerank(text, hits)[:k]
    return with_places(hits, manifest)


def with_places(hits: list[Hit], manifest: Manifest) -> list[Hit]:
    """Returns hits with the line of each in its file, and its place for a person."""
    numbers = LineNumbers.of_version(manifest)
    return [_in_its_file(hit, numbers, manifest.input_format) for hit in hits]


def _in_its_file(hit: Hit, numbers: LineNumbers, input_format: str) -> Hit:
    line = numbers.line_of(hit.source, hit.row_index, hit.line)
    return replace(hit, line=line, place=place_of(hit.source, hit.row_index, line, input_format))


def encode_query(
    root: str | os.PathLike[str],
    text: str,
    model: str | os.PathLike[str] | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> NDArray[np.float32]:
    """Encodes a text to be compared with the vectors of a dataset, see ``QueryEncoder``.

    Returns:
        The vector, shape (dimension,).

    Raises:
        ConfigError: The text is empty or none, there is no such dataset or model, or the model is
            another one.
    """
    _check_text(text)
    version = find_version(root)
    encoder = QueryEncoder(version, read_manifest(version), model, prompt_name, prompt)
    return encoder.encode(text)


def _check_text(text: str) -> None:
    check_text("the text to look for", text)
    if not text.strip():
        raise ConfigError("the text to look for is empty; give some words")
    _check_unicode("the text to look for", text)


def _check_unicode(what: str, text: str) -> None:
    if not is_unicode(text):
        raise ConfigError(f"{what} holds half a character, which is no text; give it in UTF-8")


class QueryEncoder:
    """Encodes texts to be compared with the vectors of a version.

    They are encoded by the version's model, in float32, with the prompt that the model has for
    queries, if it has one. Where prompts play a part, the log says which.

    Args:
        version: The version.
        manifest: Its manifest.
        model: The model's directory, where it is no longer where the run found it.
        prompt_name: Name of another prompt of the model's.
        prompt: The prompt itself.

    Raises:
        ConfigError: There is no such model or prompt, or the model is another one; or the version
            has other than one vector per row.
    """

    def __init__(
        self,
        version: Version,
        manifest: Manifest,
        model: str | os.PathLike[str] | None = None,
        prompt_name: str | None = None,
        prompt: str | None = None,
    ) -> None:
        spec = query_model(version, manifest, model, prompt_name, prompt)
        self._tokenizer = load_tokenizer(spec.tokenizer)
        self._client = LocalConnection(spec.one_by_one())()

    def encode(self, text: str) -> NDArray[np.float32]:
        """Returns the vector of a text, shape (dimension,).

        Raises:
            ConfigError: The text is empty, or none, or has no word that the model knows.
        """
        _check_text(text)
        ids, offsets, _ = self._tokenizer.encode([text])
        dropped = self._tokenizer.spec.drops_unknown
        if dropped and self._tokenizer.unknown_rows(ids, offsets).all():
            raise ConfigError(
                "no word of the text to look for has a vector, so nothing is near it; give other "
                "words"
            )
        vector: NDArray[np.float32] = next(self._client.encode_all([TokenBatch(ids, offsets)]))[0]
        return vector


def query_model(
    version: Version,
    manifest: Manifest,
    model: str | os.PathLike[str] | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> ModelSpec:
    """Reads the model that encodes queries to a version, see ``QueryEncoder``.

    Raises:
        ConfigError: There is no such model or prompt, or the model is another one; or the version
            has other than one vector per row.
    """
    if prompt is not None and prompt_name is not None:
        raise ConfigError("both prompt and prompt_name are given; take one of them")
    check_one_vector_per_row(manifest)
    _check_unicode("the prompt", prompt or "")
    described = manifest.description
    config, spec = _model_of(version, described, model)
    if prompt_name is not None or (prompt is None and dict(spec.tokenizer.prompts).get("query")):
        prompt_name = prompt_name or "query"
        changed = {"prompt": None, "prompt_name": prompt_name}
        spec = read_model(config.model_copy(update=changed))
    elif prompt:
        spec = read_model(config.model_copy(update={"prompt": prompt}))
    _say_prompts(described["prompt"], spec.tokenizer.prompt, given=prompt is not None)
    return spec


def document_model(
    version: Version, manifest: Manifest, model: str | os.PathLike[str] | None = None
) -> ModelSpec:
    """Reads the model that encodes documents as the rows of a version were, in float32.

    Args:
        version: The version.
        manifest: Its manifest.
        model: The model's directory, where it is no longer where the run found it.

    Raises:
        ConfigError: There is no such model, or it is another one; or the version has other than one
            vector per row.
    """
    check_one_vector_per_row(manifest)
    described = manifest.description
    config, _ = _model_of(version, described, model)
    settings: dict[str, Any] = {
        "prompt": described["prompt"],
        "max_tokens": described["max_tokens"],
    }
    settings["pooling"] = described["pooling"]
    if "route" in described:
        settings |= {"route": described["route"], "onnx_file": described.get("onnx_file")}
    backend = described["backend"]
    if backend not in ("torch", "onnx"):
        # Of openvino, torch takes the place where that is not installed.
        backend = "auto"
    settings |= {"backend": backend, "device": "cpu" if backend == "onnx" else "auto"}
    spec = read_model(config.model_copy(update=settings))
    recorded, ours = described.get("ingredients", {}), spec.vector_ingredients()
    others = [
        name
        for name, value in recorded.items()
        if name in ours and name not in NUMERICS and ours[name] != value
    ]
    if others:
        raise ConfigError(
            f"{config.model}: its {', '.join(sorted(others))} is not what {version.url} was made "
            "with; restore the model, or give the right --model"
        )
    return spec


def _model_of(
    version: Version, described: Mapping[str, Any], model: str | os.PathLike[str] | None
) -> tuple[ModelConfig, ModelSpec]:
    try:
        config = query_config(os.fspath(model or described["model"]), described)
        spec = read_model(config)
    except ConfigError as error:
        moved = str(error).startswith("tokenizer ")
        if model is not None and not moved:
            raise
        remedy = "put it back there" if moved else "give its place now as --model"
        raise ConfigError(f"{error}; {version.url} was made with it: {remedy}") from error
    # A directory may hold another model by now, under the same name.
    expected = described.get("query_weights_hash", described["weights_hash"])
    if spec.identity.weights_hash != expected:
        raise ConfigError(
            f"{config.model}: its weights are not those that {version.url} was made with "
            f"({spec.identity.weights_hash[:12]}, expected {expected[:12]}); "
            "give the right --model"
        )
    _check_tokenizer(version, described, spec)
    _check_adapter(version, described, spec)
    return config, spec


def _check_tokenizer(version: Version, described: Mapping[str, Any], spec: ModelSpec) -> None:
    """Holds the tokenizer of a directory of its own, where there is one, to be what it was."""
    expected = described["ingredients"]["tokenizer"] if "tokenizer" in described else None
    if expected not in (None, spec.identity.tokenizer_hash):
        raise ConfigError(
            f"{described['tokenizer']}: its tokenizer is not the one that {version.url} was made "
            f"with ({spec.identity.tokenizer_hash[:12]}, expected {expected[:12]}); restore it "
            "there"
        )


def _check_adapter(version: Version, described: Mapping[str, Any], spec: ModelSpec) -> None:
    """Holds an adapter to be merged as it was, where queries take the way of documents."""
    expected = described.get("ingredients", {}).get("adapter")
    if "route" not in described and spec.own_ingredients().get("adapter") != expected:
        raise ConfigError(
            f"{spec.identity.directory}: its adapter_config.json does not say what it did when "
            f"{version.url} was made (lora_alpha, alpha_pattern, use_rslora or use_dora); restore "
            "it, or give the right --model"
        )


def _say_prompts(of_documents: str, of_query: str, given: bool) -> None:
    if of_query:
        _LOG.info(
            "the query is encoded with the prompt %r, the documents were with %s",
            of_query,
            repr(of_documents) if of_documents else "none",
        )
    elif of_documents and not given:
        _LOG.warning(
            "the query is encoded without a prompt, as the model names none for queries, but the "
            "documents were with %r; if the model wants one, give it with --prompt, such as "
            "'query: '",
            of_documents,
        )
