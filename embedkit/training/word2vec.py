"""word2vec: vectors of words, trained on the texts of a corpus by gensim.

Mikolov et al., Distributed Representations of Words and Phrases and their Compositionality, 2013.
"""

import importlib.metadata
import importlib.util
import logging
from dataclasses import asdict
from typing import Any

import numpy as np

from embedkit import __version__
from embedkit.config import CorpusConfig
from embedkit.encoders.static.directory import write_directory
from embedkit.errors import ConfigError, InputError
from embedkit.errors.urls import public_url
from embedkit.errors.wrong_kinds import check_kind
from embedkit.training.config import Word2VecConfig
from embedkit.training.epochs import Progress
from embedkit.training.output import Trained, check_output, new_model, warn_of_rejects
from embedkit.training.sentences import Sentences, word_splitter
from embedkit.training.texts import CorpusTexts

_LOG = logging.getLogger("embedkit")
_LEAST_RATE = 0.0001
_FEWEST = 2
"""Words of a model, as every word is trained against others."""


def train_word2vec(config: Word2VecConfig) -> Trained:
    """Trains word vectors on a corpus and writes them as a model directory.

    The corpus is read ``epochs`` + 1 times and is never in memory; its vocabulary is. With one
    worker the vectors are those of gensim's ``Word2Vec`` for the same sentences and seed, bit by
    bit, on the same machine.

    Args:
        config: What is read, how it is trained, and where the model goes.

    Returns:
        What was trained; ``training.json`` in the directory says it too.

    Raises:
        ConfigError: A setting cannot be used, the directory exists, or gensim is not installed.
        InputError: An input cannot be read, or holds too few words.
    """
    check_kind("config", config, Word2VecConfig)
    directory = check_output(config.output)
    if importlib.util.find_spec("gensim") is None:
        raise ConfigError(
            "gensim is not installed, which trains word2vec; install the extra train of "
            "embedkit-batch"
        )
    texts = CorpusTexts(config)
    sentences = Sentences(texts, word_splitter(config.lowercase))
    model = _begin(config, sentences)
    account = texts.account
    assert account is not None
    warn_of_rejects(account)
    words = list(model.wv.index_to_key)
    if len(words) < _FEWEST:
        raise InputError(_too_few(config, model, account.texts))
    _LOG.info(
        "training %d words on %d words of %d texts",
        len(words),
        model.corpus_total_words,
        account.texts,
    )
    _train(config, model, sentences)
    counts = [int(model.wv.get_vecattr(word, "count")) for word in words]
    manifest = {
        "kind": "word2vec",
        "settings": _settings(config),
        "corpus": texts.fingerprint(),
        "words": len(words),
        "words_in_corpus": model.corpus_total_words,
        "words_of_vocabulary": sum(counts),
        "epochs": [
            asdict(epoch) | {"loss_of_a_word": epoch.loss_of_a_word} for epoch in model.epochs_done
        ],
        "versions": {
            "embedkit": __version__,
            **{
                name: importlib.metadata.version(name) for name in ("gensim", "numpy", "tokenizers")
            },
        },
    }
    with new_model(directory, manifest) as draft:
        write_directory(
            draft, model.wv.vectors, words, counts=np.array(counts), lower_case=config.lowercase
        )
    return Trained(config.output, manifest)


def _begin(config: Word2VecConfig, sentences: Sentences) -> Any:
    from embedkit.training.gensim_model import CountingWord2Vec

    # It warns of small corpora, and of sentences that end early, whose reason is told.
    logging.getLogger("gensim").setLevel(logging.ERROR)
    model = CountingWord2Vec(
        on_words=lambda *_: None,
        vector_size=config.dimensions,
        sg=int(config.algorithm == "skipgram"),
        window=config.window,
        min_count=config.min_count,
        negative=config.negative,
        sample=config.subsample,
        epochs=config.epochs,
        alpha=config.learning_rate,
        min_alpha=min(_LEAST_RATE, config.learning_rate),
        seed=config.seed,
        workers=config.workers,
    )
    model.build_vocab(corpus_iterable=sentences)
    sentences.check()
    return model


def _train(config: Word2VecConfig, model: Any, sentences: Sentences) -> None:
    from embedkit.training.gensim_model import AfterEachEpoch

    model.on_words = Progress(config.epochs, model.corpus_total_words)
    model.train(
        corpus_iterable=sentences,
        total_examples=model.corpus_count,
        total_words=model.corpus_total_words,
        epochs=config.epochs,
        compute_loss=True,
        callbacks=[AfterEachEpoch(sentences.check)],
    )


def _settings(config: Word2VecConfig) -> dict[str, Any]:
    """Returns the settings of the training, and those of the corpus that are not the defaults."""
    corpus = CorpusConfig.model_fields
    others = {name for name in type(config).model_fields if name not in corpus} - {"output"}
    given = {name for name in corpus if getattr(config, name) != corpus[name].get_default()}
    return config.model_dump(mode="json", include=others | (given - {"inputs", "base"}))


def _too_few(config: Word2VecConfig, model: Any, texts: int) -> str:
    inputs = ", ".join(map(public_url, config.inputs))
    return (
        f"{inputs}: {len(model.wv):,} words occur {config.min_count} times or more, of "
        f"{model.corpus_total_words:,} words in {texts:,} texts; give more text, or a smaller "
        "--min-count"
    )
