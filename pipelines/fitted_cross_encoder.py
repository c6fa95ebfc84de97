"""A small cross-encoder for the lessons: a head on a sentence model, fitted to a corpus.

Published cross-encoders have read millions of judged pairs. This one reads some hundred pairs of a
summary and the text behind it, beside texts of other summaries, and its encoder stays as it is.
"""

import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from transformers import AutoTokenizer, BertForSequenceClassification

from embedkit.tokens.transformers_library import quiet_transformers

Pair = tuple[str, str, str]
"""A document's name, a summary of it, and the text below that."""

_TOKENS = 96
_BATCH = 32


def summary_and_text(documents: Iterable[Mapping[str, str]]) -> list[Pair]:
    """Parts documents into their first sentence and the rest.

    Args:
        documents: Documents with ``name`` and ``text``, below whose first line stands the name;
            those with little text are left out.

    Returns:
        The pairs, in an order by chance that is always the same.
    """
    pairs = []
    for document in documents:
        text = " ".join(document["text"].partition("\n\n")[2].split())
        summary, _, rest = text.partition(". ")
        if 20 < len(summary) < 150 and len(rest) > 100:
            pairs.append((document["name"], summary, rest[:400]))
    random.Random(0).shuffle(pairs)
    return pairs


def fit_cross_encoder(
    model: str, directory: Path, pairs: list[Pair], most: int = 150
) -> tuple[str, int]:
    """Fits the head of a cross-encoder, and writes its directory.

    Args:
        model: Directory of a BERT model.
        directory: Where it is written.
        pairs: Summaries and the texts behind them.
        most: How many of them it is fitted to.

    Returns:
        The directory, and how many pairs of a summary and a text it was fitted to.
    """
    tokenizer = AutoTokenizer.from_pretrained(model)
    with quiet_transformers():
        network = BertForSequenceClassification.from_pretrained(model, num_labels=1).eval()
    some = pairs[:most]
    # Beside each stands its neighbour by name, which is harder to tell apart than any other.
    some.sort()
    others = [*some[1:], *some[:1]]
    examples = [(summary, text) for _, summary, text in some]
    examples += [(one[1], other[2]) for one, other in zip(some, others, strict=True)]
    truth = np.repeat([1, 0], len(some))
    head = LogisticRegression(C=0.1, max_iter=1000).fit(
        _pooled(network, tokenizer, examples), truth
    )
    with torch.no_grad():
        network.classifier.weight.copy_(torch.from_numpy(head.coef_))
        network.classifier.bias.copy_(torch.from_numpy(head.intercept_))
    with quiet_transformers():
        network.save_pretrained(directory)
    tokenizer.model_max_length = _TOKENS
    tokenizer.save_pretrained(directory)
    return str(directory), len(examples)


def _pooled(network: Any, tokenizer: Any, pairs: list[tuple[str, str]]) -> NDArray[np.float32]:
    """Returns what the head is given of each pair, shape (pairs, width)."""
    found = []
    with torch.inference_mode():
        for start in range(0, len(pairs), _BATCH):
            titles, texts = zip(*pairs[start : start + _BATCH], strict=True)
            inputs = tokenizer(
                list(titles),
                list(texts),
                truncation=True,
                max_length=_TOKENS,
                padding=True,
                return_tensors="pt",
            )
            found.append(network.bert(**inputs).pooler_output.numpy())
    return np.concatenate(found)
