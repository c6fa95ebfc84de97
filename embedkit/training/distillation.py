"""A sentence model distilled into static vectors by model2vec.

Each token, and each word of the corpus, goes through the model alone; the vectors are reduced by
PCA and weighted by the rank of their words (Tulkens and van Dongen, Model2Vec, 2024).
"""

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from embedkit import __version__
from embedkit.config import CorpusConfig, ModelConfig
from embedkit.encoders.kinds import read_model
from embedkit.encoders.transformer.spec import TransformerSpec
from embedkit.errors import ConfigError, InputError, MissingSettingError
from embedkit.errors.foreign import one_line
from embedkit.errors.wrong_kinds import check_kind
from embedkit.tokens.tokenization import load_tokenizer
from embedkit.tokens.transformers_library import quiet_transformers, transformers_library
from embedkit.training.config import DistillConfig
from embedkit.training.output import Trained, check_output, new_model, warn_of_rejects
from embedkit.training.texts import CorpusTexts
from embedkit.training.vocabulary import frequent_words

_LOG = logging.getLogger("embedkit")
_POOLINGS: dict[tuple[str, ...], str] = {
    ("mean",): "mean",
    ("cls",): "first",
    ("lasttoken",): "last",
}
"""What model2vec calls the poolings that it has."""


def distill_static(config: DistillConfig, corpus: CorpusConfig | None = None) -> Trained:
    """Distills a sentence model into static vectors and writes them as a model directory.

    Model2Vec, sentence-transformers and embedkit read it. No code of the model's directory runs,
    and nothing is asked of a network.

    Args:
        config: The model, and how it is distilled.
        corpus: Texts whose most frequent words get vectors of their own, beside the tokens of the
            model; None for the tokens alone.

    Returns:
        What was distilled; ``training.json`` in the directory says it too.

    Raises:
        ConfigError: A setting or the model cannot be used, the directory exists, or model2vec is
            not installed.
        InputError: An input cannot be read, or holds no word.
    """
    check_kind("config", config, DistillConfig)
    if corpus is not None:
        check_kind("corpus", corpus, CorpusConfig)
    directory = check_output(config.output)
    if importlib.util.find_spec("model2vec") is None:
        raise ConfigError(
            "model2vec is not installed, which distills models; install the extra train of "
            "embedkit-batch"
        )
    spec = _read(config.model)
    texts = None if corpus is None else CorpusTexts(corpus)
    words = [] if texts is None else _words(texts, spec, config.vocabulary_size)
    static = _distilled(config, spec, words)
    manifest = {
        "kind": "model2vec",
        "model": Path(config.model).name,
        "weights_hash": spec.identity.weights_hash,
        "pooling": _pooling(spec),
        "settings": config.model_dump(mode="json", exclude={"model", "output"}),
        "corpus": {} if texts is None else texts.fingerprint(),
        "words_of_corpus": len(words),
        "words": len(static.tokens),
        "dimension": int(static.dim),
        "versions": {
            "embedkit": __version__,
            **{
                name: importlib.metadata.version(name)
                for name in ("model2vec", "torch", "transformers", "tokenizers")
            },
        },
    }
    with new_model(directory, manifest) as draft:
        static.save_pretrained(draft)
        # A form that names a licence and a place on the hub, whatever the model's are.
        (draft / "README.md").unlink(missing_ok=True)
    return Trained(config.output, manifest)


def _read(model: str) -> TransformerSpec:
    """Reads and checks a model's files, as for a run."""
    asked = ModelConfig(model=model, device="cpu")
    try:
        spec = read_model(asked)
    except MissingSettingError as error:
        spec = read_model(asked.model_copy(update={error.setting: "mean"}))
    if not isinstance(spec, TransformerSpec):
        raise ConfigError(
            f"model {model}: not a transformer, from which alone vectors are distilled"
        )
    if spec.dense:
        _LOG.warning("the layers behind the pooling of %s are left out of what is distilled", model)
    if spec.pooling not in _POOLINGS:
        _LOG.warning("pooling %s is none of model2vec's, mean is taken", "+".join(spec.pooling))
    return spec


def _pooling(spec: TransformerSpec) -> str:
    return _POOLINGS.get(spec.pooling, "mean")


def _words(texts: CorpusTexts, spec: TransformerSpec, most: int) -> list[str]:
    tokenizer = load_tokenizer(spec.tokenizer).tokenizer
    words = frequent_words(texts, tokenizer, most)
    if texts.account is not None:
        warn_of_rejects(texts.account)
    if not words:
        raise InputError(f"{texts.plan.base}: no word in it; give text, or no input at all")
    return words


def _distilled(config: DistillConfig, spec: TransformerSpec, words: list[str]) -> Any:
    from model2vec.distill import distill_from_model

    from embedkit.encoders.transformer.network import load_network

    # It warns of every word that is a token already.
    logging.getLogger("model2vec").setLevel(logging.ERROR)
    logging.getLogger("skeletoken").setLevel(logging.ERROR)
    _LOG.info("distilling the tokens of %s and %d words", config.model, len(words))
    with quiet_transformers():
        tokenizer = transformers_library().AutoTokenizer.from_pretrained(
            spec.transformer, trust_remote_code=False, local_files_only=True
        )
    # Else words are padded to the length that many a tokenizer.json names, and so are all texts
    # later: the mean would be that of the padding.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.no_truncation()
    transformer = load_network(spec).transformer
    try:
        with _bar_on_a_terminal():
            static = distill_from_model(
                transformer,
                tokenizer,
                vocabulary=words or None,
                pca_dims=config.dimensions or None,
                sif_coefficient=config.sif_coefficient,
                pooling=_pooling(spec),
            )
    # What it and the libraries below it stumble over in a tokenizer or architecture.
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        ValueError,
        RuntimeError,
    ) as error:
        raise ConfigError(
            f"model {config.model}: model2vec cannot distill it ({one_line(error)}); take another "
            "model"
        ) from error
    static.tokenizer.no_padding()
    static.tokenizer.no_truncation()
    # PCA's are column by column, which safetensors 0.8 writes as if they were row by row (its
    # issue 825).
    static.embedding = np.ascontiguousarray(static.embedding)
    # Else the place of the model on this machine.
    static.config["tokenizer_name"] = Path(config.model).name
    return static


@contextlib.contextmanager
def _bar_on_a_terminal() -> Iterator[None]:
    """Keeps model2vec's progress bar off a stderr that is no terminal."""
    with contextlib.ExitStack() as stack:
        if not sys.stderr.isatty():
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
        yield
